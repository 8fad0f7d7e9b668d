"""Vocabularies that somebody made to hang, to crash or to fill the memory."""

import json
import random
import re
import time

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.text.chat_template import ChatTemplate, chat_pieces
from jaxdecode.text.detokenizer import Pieces
from jaxdecode.text.errors import ChatTemplateError, TokenizerError
from jaxdecode.text.gguf_tokenizer import from_gguf, merges_from_scores
from jaxdecode.text.json_tokenizer import from_json
from jaxdecode.text.language_model import LanguageModel
from jaxdecode.text.special_tokens import Special, SpecialTokens
from jaxdecode.text.stopping import as_stopping
from jaxdecode.transforms.automaton import Automaton, token_table
from tests import tiny
from tests.text.vocabularies import (
    added,
    byte_level,
    byte_level_json,
    sentence_piece,
    write_json,
)

SOON = 2.0  # seconds of CPU; what is linear here takes a tenth
LONG = "a" * 400_000


def seconds(run):
    begin = time.process_time()
    run()
    return time.process_time() - begin


def more(metadata, tokens, kind):
    """Return a vocabulary with further tokens."""
    metadata["tokens"] += tokens
    metadata["token_type"] += [kind] * len(tokens)
    metadata["scores"] = [*metadata.get("scores", []), *[-1.0] * len(tokens)]
    return metadata


@pytest.mark.parametrize("make", [sentence_piece, byte_level])
@pytest.mark.parametrize("kind", [1, 3, 4])
@pytest.mark.parametrize(
    "tokens",
    [
        [LONG],
        [LONG, "b" * 400_000, LONG + "b" * 400_000],
        [LONG[: 2 * i] for i in range(1, 300)],
    ],
    ids=["one", "two and their sum", "many of one letter"],
)
def test_long_tokens_take_no_long_time(make, kind, tokens):
    metadata = more(make(), tokens, kind)
    found = []
    assert seconds(lambda: found.append(from_gguf(metadata))) < SOON
    (tokenizer,) = found
    assert seconds(lambda: tokenizer.encode("hello", parse_special=True)) < SOON
    stops = {"stop": None, "stop_strings": ["lo w", "aab"], "keep_stop": False}
    assert (
        seconds(lambda: as_stopping("x", tokenizer, len(tokens) + 300, **stops)) < SOON
    )


def test_tokens_too_long_for_merges_are_refused_soon():
    metadata = more(sentence_piece(), ["b" * i for i in range(1, 3000)], 1)

    def run():
        with pytest.raises(TokenizerError, match="cutting each of them in two"):
            from_gguf(metadata)

    assert seconds(run) < SOON


def test_merges_are_those_of_every_cut():
    rng = random.Random(3)
    words = {"".join(rng.choices("ab", k=rng.randint(1, 9))) for _ in range(150)}
    words = {word: i for i, word in enumerate(sorted(words))}
    scores = [rng.choice((-1.0, -2.0, -3.5)) for _ in words]
    ranked = sorted(words, key=lambda word: (-scores[words[word]], words[word]))
    expected = [
        (word[:cut], word[cut:])
        for word in ranked
        for cut in range(1, len(word))
        if word[:cut] in words and word[cut:] in words
    ]
    assert merges_from_scores(words, scores) == expected
    assert len(expected) > 200


def test_a_hundred_thousand_control_tokens_are_found_as_soon_as_ten():
    words = [f"<|reserved_{i}|>" for i in range(100_000)]
    metadata = more(byte_level(), words, 3)
    text = "<|reserved_ <|reserved_7|> <|" * 300
    found = []

    def run():
        tokenizer = from_gguf(metadata)
        found.extend(tokenizer.split(text))
        template = ChatTemplate("{{ messages[0]['content'] }}<|end|>")
        chat_pieces(template, [{"role": "user", "content": text}], tokenizer)

    assert seconds(run) < 2 * SOON
    ids = [piece for piece in found if isinstance(piece, int)]
    assert ids == [metadata["tokens"].index("<|reserved_7|>")] * 300


@pytest.mark.parametrize("seed", range(40))
def test_control_tokens_are_found_as_a_regular_expression_finds_them(seed):
    rng = random.Random(seed)
    texts = {"".join(rng.choices("ab<", k=rng.randint(1, 4))) for _ in range(6)}
    flags = ("lstrip", "rstrip", "single_word")
    tokens = [
        Special(text, i, **{flag: rng.random() < 0.3 for flag in flags})
        for i, text in enumerate(sorted(texts))
    ]

    def pattern(token):
        word = r"(?<!\w){}(?!\w)" if token.single_word else "{}"
        left, right = (r"\s*" if f else "" for f in (token.lstrip, token.rstrip))
        return left + word.format(re.escape(token.text)) + right

    longest = sorted(tokens, key=lambda token: (-len(token.text), token.text))
    expected = re.compile("|".join(map(pattern, longest)))
    text = "".join(rng.choices("ab< _\n", k=60))
    found = list(SpecialTokens(tokens).find(text))
    assert [(b, e) for b, e, _ in found] == [m.span() for m in expected.finditer(text)]
    for begin, end, token in found:
        assert text[begin:end].strip() == token.text


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 66, 200])
def test_the_table_of_a_long_token_is_that_of_its_bytes(length):
    rng = random.Random(length)
    patterns = [b"ab", b"aab", b"b" * 70, b"aba" * 30]
    automaton = Automaton.of(patterns)
    tokens = [bytes(rng.choices(b"abbbb", k=length)), b"b" * length, b"aba" * length]
    tokens += [b"c" * length + b"ab", b"c" * length + b"abc" * 40]
    table = token_table(automaton, tokens)
    for state in range(automaton.depth.size):
        for column, data in enumerate(tokens):
            after, hit = state, False
            for byte in data:
                after = int(automaton.follows[after, byte])
                hit |= bool(automaton.found[after])
            assert table[state, column] == np.int32(after | (-(2**31) if hit else 0))


def test_a_table_of_stops_that_would_fill_the_memory_is_refused():
    with pytest.raises(ValueError, match="give shorter strings"):
        token_table(Automaton.of([b"a" * 30_000]), [b"a"] * 50_000)


def with_far_token(path, token):
    """Write a tokenizer.json with a token far beyond the others; return its path."""
    spec = json.loads(byte_level_json(path).read_text())
    spec["model"]["vocab"]["zz"] = token
    path.write_text(json.dumps(spec))
    return path


@pytest.fixture(params=[2**24, 2**31 - 2])
def far(request, tmp_path):
    """A tokenizer with a token far beyond the others, and its id."""
    path = with_far_token(tmp_path / "tokenizer.json", request.param)
    return from_json(path), request.param


def test_a_large_token_id_costs_nothing(far):
    tokenizer, token = far
    stops = {"stop": None, "stop_strings": ["zz", "lo"], "keep_stop": False}
    run = seconds(lambda: as_stopping("x", tokenizer, 300, **stops))
    run += seconds(lambda: tokenizer.token_bytes[token])
    assert run < SOON
    assert tokenizer.vocab_size == len(tokenizer.token_bytes) == token + 1
    assert tokenizer.token_bytes[token] == tokenizer.bytes_of(token) == b"zz"


@pytest.mark.parametrize("token", [2**31 - 1, 2**31, 2**32 - 1])
def test_a_token_id_that_no_array_can_hold_is_refused(tmp_path, token):
    path = with_far_token(tmp_path / "tokenizer.json", token)
    with pytest.raises(TokenizerError, match=f"must be < .* got {token}"):
        from_json(path)


def test_ids_without_a_token_take_no_memory():
    pieces = Pieces({5: "a"}, "bytes")
    assert [pieces[token] for token in range(1000)].count(b"a") == 1
    assert len(pieces._known) == 1


@pytest.mark.parametrize("far", [2**24], indirect=True)
def test_stop_strings_of_a_model_with_a_large_token_id(far):
    lm = LanguageModel(tiny.bag(), tokenizer=far[0], eos_ids=())
    options = {"key": 0, "sampler": tiny.PLAIN, "max_new_tokens": 5}
    begin = time.process_time()
    text = lm.generate("!!", stop_strings=["\0never"], **options)
    assert text
    assert lm.generate("!!", stop_strings=[text[-1]], **options) in text[:-1]
    assert time.process_time() - begin < 20  # it compiles


IDS = (2**24, 2**31 - 2, 2**31 - 1, 2**31, 2**63, 2**100, -1)
LINKS = {
    "LogitBias": lambda i: jd.LogitBias({i: 1.0}),
    "BanTokens": lambda i: jd.BanTokens([i]),
    "AllowTokens": lambda i: jd.AllowTokens([i]),
    "ForcedTokens": lambda i: jd.ForcedTokens({0: i}),
    "MinNewTokens": lambda i: jd.MinNewTokens(1, [i]),
    "SuppressAtBegin": lambda i: jd.SuppressAtBegin([i]),
    "ExponentialDecayLength": lambda i: jd.ExponentialDecayLength(0, 1.1, [i]),
}


@pytest.mark.parametrize("token", IDS)
@pytest.mark.parametrize("name", LINKS)
def test_a_link_refuses_an_id_beyond_the_vocabulary_at_once(name, token):
    logits = np.zeros((1, tiny.VOCAB), np.float32)

    def run():
        with pytest.raises(ValueError, match=r"vocabulary size 37|must be >= 0"):
            jd.apply(LINKS[name](token), logits)

    assert seconds(run) < SOON


@pytest.mark.parametrize("token", IDS)
@pytest.mark.parametrize("argument", ["eos_ids", "stop"])
def test_generate_refuses_an_id_beyond_the_vocabulary_at_once(argument, token):
    value = {"eos_ids": [token], "stop": [[1, token]]}[argument]

    def run():
        with pytest.raises(ValueError, match=argument):
            jd.generate(tiny.llama(), [[1]], 0, max_new_tokens=1, **{argument: value})

    assert seconds(run) < SOON


@pytest.mark.parametrize("place", [2**24, 2**31 - 2])
def test_a_position_far_away_costs_nothing(place):
    logits = np.zeros((1, tiny.VOCAB), np.float32)
    run = seconds(lambda: jd.apply(jd.ForcedTokens({place: 0}), logits))
    assert run < SOON


def word_level(path, **parts):
    """Write a tokenizer.json of two words, with further parts."""
    model = {"type": "WordLevel", "vocab": {"hello": 0, "world": 1}}
    model |= {"unk_token": "<unk>"}
    spaces = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never"}
    spaces |= {"split": True}
    spec = {"version": "1.0", "added_tokens": [], "decoder": spaces, "model": model}
    path.write_text(json.dumps(spec | parts), encoding="utf-8")
    return path


LETTERS = [[letter, -9.0] for letter in "helo"]
UNIGRAM = {"type": "Unigram", "vocab": [["hello", -1.0], *LETTERS], "unk_id": None}
PIECES = {
    "type": "WordPiece",
    "vocab": {"hello": 0},
    "unk_token": "<unk>",
    "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
}
MERGED = {"type": "BPE", "vocab": {"hello": 0}, "merges": [], "unk_token": "<unk>"}
MERGED |= {"ignore_merges": True}


@pytest.mark.parametrize("model", [None, UNIGRAM, PIECES, MERGED])
def test_a_text_that_needs_a_missing_unknown_token_is_refused(tmp_path, model):
    parts = {} if model is None else {"model": model}
    tokenizer = from_json(word_level(tmp_path / "tokenizer.json", **parts))
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"
    with pytest.raises(TokenizerError, match="`text` cannot be encoded"):
        tokenizer.encode("zebra")


FIXED = {"type": "FixedLength", "length": 0}
ENDLESS = {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="}


@pytest.mark.parametrize("parts", [{"pre_tokenizer": FIXED}, {"normalizer": ENDLESS}])
def test_a_panic_at_encode_is_a_tokenizer_error(tmp_path, parts, capfd):
    tokenizer = from_json(word_level(tmp_path / "tokenizer.json", **parts))
    with pytest.raises(TokenizerError, match="PanicException"):
        tokenizer.encode("hello")


SINGLE = [
    {"SpecialToken": {"id": "x", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}},
]
AROUND = {"type": "TemplateProcessing", "single": SINGLE, "pair": []}


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
        {"post_processor": AROUND | {"special_tokens": {}}},
        {"post_processor": AROUND | {"single": SINGLE[:1] * 2, "special_tokens": {}}},
        {"model": {"type": "WordLevel", "vocab": {"a": 2**70}, "unk_token": "a"}},
        {"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 5}},
        {"model": None},
        {"model": []},
        {"decoder": ["Metaspace"]},
        {"decoder": {"type": "Sequence", "decoders": [5]}},
        {"added_tokens": {"a": 1}},
        {"added_tokens": [["a"]]},
        {"added_tokens": [added(2, "\ud800")]},
    ],
)
def test_a_tokenizer_json_that_a_library_chokes_on_is_a_tokenizer_error(
    tmp_path, parts, capfd
):
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: "):
        from_json(word_level(tmp_path / "tokenizer.json", **parts))


@pytest.mark.parametrize(
    "wrong", [[], ["gpt2"], {"a": 1}, 5, 2.5, True, None, "\ud800"]
)
@pytest.mark.parametrize(
    "name",
    ["model", "pre", "tokens", "merges", "token_type", "bos_token_id", "eos_token_id"],
)
@pytest.mark.parametrize("make", [byte_level, sentence_piece])
def test_gguf_metadata_of_the_wrong_kind_is_refused_or_ignored(make, name, wrong):
    metadata = make() | {name: wrong, "add_bos_token": False, "add_eos_token": False}
    try:
        tokenizer = from_gguf(metadata)
    except TokenizerError:
        return
    assert tokenizer.decode(tokenizer.encode("hello")) == "hello"


def test_dropout_of_training_is_switched_off(tmp_path):
    path = byte_level_json(tmp_path / "tokenizer.json", model={"dropout": 1.0})
    plain = byte_level_json(tmp_path / "plain.json")
    assert from_json(path).encode("hello") == from_json(plain).encode("hello")


def test_a_limit_of_padding_is_never_allocated(tmp_path):
    padding = {"strategy": {"Fixed": 2**40}, "direction": "Right", "pad_id": 0}
    padding |= {"pad_to_multiple_of": None, "pad_type_id": 0, "pad_token": "a"}
    path = byte_level_json(tmp_path / "tokenizer.json", padding=padding)
    assert from_json(path).encode("h") == from_json(byte_level_json(path)).encode("h")


def test_a_vocabulary_without_the_letter_a_loads(tmp_path):
    path = write_json(
        tmp_path / "x.json",
        {"h": 0, "i": 1},
        [],
        decoder={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
    )
    assert from_json(path).encode("hi") == [0, 1]


def test_a_template_with_a_lone_surrogate_is_a_template_error():
    with pytest.raises(ChatTemplateError, match="lone surrogates"):
        ChatTemplate("{{ messages }}\ud800")
    with pytest.raises(TypeError, match="must be a str"):
        ChatTemplate(["{{ messages }}"])
