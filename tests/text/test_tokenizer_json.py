"""Tokenizers out of tokenizer.json files, against the Rust library on the whole file."""

import json
import random

import pytest
from tokenizers import Tokenizer as Rust

from jaxdecode.text.errors import TokenizerError
from jaxdecode.text.json_tokenizer import from_json
from tests.reference.bpe import byte_letters
from tests.text.vocabularies import MERGES, added, byte_level_json, write_json

LETTERS = "hello wrd12<|>\n\té日🙂"
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
LLAMA_DECODER = {
    "type": "Sequence",
    "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ],
}
LLAMA_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
LLAMA_TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    ],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {
        "<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]},
        "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]},
    },
}


def texts(count=53):
    draw = random.Random(7)
    return ["".join(draw.choices(LETTERS, k=draw.randrange(23))) for _ in range(count)]


def llama_json(path, **parts):
    """Write a SentencePiece-like file with byte fallback and a begin and end token."""
    words = ["▁", "h", "e", "l", "o", "he", "ll", "hell", "hello", "▁hello"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words]
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "hello")]
    defaults = {
        "added_tokens": [added(i, tokens[i]) for i in range(3)],
        "normalizer": LLAMA_NORMALIZER,
        "decoder": LLAMA_DECODER,
        "post_processor": LLAMA_TEMPLATE,
        "model": {"unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True},
    }
    vocab = {token: i for i, token in enumerate(tokens)}
    return write_json(path, vocab, merges, **(defaults | parts))


@pytest.fixture
def byte_file(tmp_path):
    return byte_level_json(tmp_path / "tokenizer.json")


def test_ordinary_text_gets_the_ids_that_the_library_gives(byte_file):
    tokenizer, rust = from_json(byte_file), Rust.from_file(str(byte_file))
    for text in texts():
        assert tokenizer.encode(text) == rust.encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_parsing_control_tokens_gives_the_ids_that_the_library_gives(tmp_path):
    path = llama_json(tmp_path / "tokenizer.json")
    tokenizer, rust = from_json(path), Rust.from_file(str(path))
    for text in ("<s>hello</s> hello", "hello<s>", " <unk>hello <s> <s>hello", "</s>"):
        expected = rust.encode(text, add_special_tokens=False).ids
        found = tokenizer.encode(text, parse_special=True, add_special=False)
        assert found == expected


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
def test_a_control_token_takes_what_is_around_it_as_in_the_library(tmp_path, flag):
    tokens = [added(0, "<|end|>", **{flag: True}), added(1, "<|start|>")]
    path = byte_level_json(tmp_path / "tokenizer.json", added_tokens=tokens)
    tokenizer, rust = from_json(path), Rust.from_file(str(path))
    for text in (
        "a <|end|> b",
        "a<|end|>b",
        "<|end|>",
        "a  <|end|><|start|>  <|end|>b",
    ):
        expected = rust.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, parse_special=True) == expected


def test_a_control_token_in_a_text_stays_text(byte_file):
    tokenizer = from_json(byte_file)
    ids = tokenizer.encode("a<|end|>b")
    assert tokenizer.special_ids.isdisjoint(ids)
    assert tokenizer.decode(ids) == "a<|end|>b"


@pytest.mark.parametrize("ignore_merges", [False, True])
def test_merges_that_spell_a_control_token_do_not_make_one(tmp_path, ignore_merges):
    merges = [("<", "x"), ("<x", ">"), ("<x>", "<x>")]
    path = byte_level_json(
        tmp_path / "tokenizer.json",
        merges=merges,
        control=["<x>"],
        model={"ignore_merges": ignore_merges},
        # Without its regular expression, the text is one word: only merges cut it.
        pre_tokenizer=LEVEL | {"use_regex": False},
    )
    tokenizer = from_json(path)
    assert 0 not in tokenizer.encode("<x>")
    assert tokenizer.decode(tokenizer.encode("<x><x>")) == "<x><x>"


def test_a_unigram_vocabulary_does_not_find_its_control_tokens_in_text(tmp_path):
    vocab = [["<s>", 0.0], ["<", -2.0], ["s", -2.0], [">", -2.0], ["▁", -1.0]]
    spec = {
        "version": "1.0",
        "added_tokens": [added(0, "<s>")],
        "decoder": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "never",
            "split": True,
        },
        "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab},
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(spec))
    assert from_json(path).encode("<s>") == [1, 2, 3]
    assert from_json(path).encode("<s>", parse_special=True) == [0]


def test_added_words_that_are_no_control_tokens_keep_their_ids(tmp_path):
    path = byte_level_json(tmp_path / "tokenizer.json")
    spec = json.loads(path.read_text())
    new = max(spec["model"]["vocab"].values()) + 1
    spec["added_tokens"] += [added(new, "<tool>", special=False)]
    spec["added_tokens"] += [added(new + 1, "<|late|>")]
    path.write_text(json.dumps(spec))
    tokenizer = from_json(path)
    assert tokenizer.encode("<tool>") == [new]
    assert tokenizer.encode("<|late|>", parse_special=True) == [new + 1]
    assert tokenizer.decode([new, new + 1]) == "<tool>"
    assert tokenizer.vocab_size == new + 2


def test_the_template_of_the_file_puts_its_tokens_around_a_text(tmp_path):
    path = llama_json(tmp_path / "tokenizer.json")
    tokenizer, rust = from_json(path), Rust.from_file(str(path))
    assert tokenizer.encode("hello") == rust.encode("hello").ids
    assert tokenizer.encode("hello")[0] == 1
    assert tokenizer.encode("hello")[-1] == 2
    assert tokenizer.encode("hello", add_special=False) == [268]


def test_a_space_for_the_first_word_only_goes_to_the_start_of_the_text(tmp_path):
    first = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "first",
        "split": False,
    }
    path = llama_json(tmp_path / "tokenizer.json", normalizer=None, pre_tokenizer=first)
    tokenizer, rust = from_json(path), Rust.from_file(str(path))
    for text in ("hello<s>hello", "<s>hello", "hello<s> hello"):
        expected = rust.encode(text, add_special_tokens=False).ids
        found = tokenizer.encode(text, parse_special=True, add_special=False)
        assert found == expected


def test_decoding_agrees_with_the_library_on_valid_text(tmp_path):
    path = llama_json(tmp_path / "tokenizer.json")
    tokenizer, rust = from_json(path), Rust.from_file(str(path))
    for text in texts():
        ids = rust.encode(text).ids
        assert tokenizer.decode(ids) == rust.decode(ids)
        assert tokenizer.decode(ids, skip_special=False) == rust.decode(
            ids, skip_special_tokens=False
        )


def test_byte_level_decoding_agrees_with_the_library_on_any_ids(byte_file):
    tokenizer, rust = from_json(byte_file), Rust.from_file(str(byte_file))
    draw = random.Random(11)
    for _ in range(101):
        ids = [draw.randrange(tokenizer.vocab_size) for _ in range(draw.randrange(13))]
        assert tokenizer.decode(ids) == rust.decode(ids)


def test_truncation_and_padding_of_the_file_are_left_out(tmp_path):
    cut = {
        "max_length": 2,
        "strategy": "LongestFirst",
        "stride": 0,
        "direction": "Right",
    }
    path = byte_level_json(tmp_path / "tokenizer.json", truncation=cut)
    assert len(from_json(path).encode("1 2 3 4")) > 2


def test_a_byte_that_the_vocabulary_lacks_is_refused(tmp_path):
    letters = [c for c in byte_letters().values() if c != "z"]
    vocab = {token: i for i, token in enumerate(letters)}
    path = write_json(
        tmp_path / "tokenizer.json", vocab, [], pre_tokenizer=LEVEL, decoder=LEVEL
    )
    with pytest.raises(ValueError, match="no token for 'z'"):
        from_json(path).encode("zoo")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
        ('{"model": 3}', "cannot be read"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(TokenizerError, match=message) as caught:
        from_json(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("decoder", [None, {"type": "WordPiece", "prefix": "##"}])
def test_a_decoder_that_is_not_known_is_refused(tmp_path, decoder):
    if decoder:
        decoder = {**decoder, "cleanup": True}
    path = byte_level_json(tmp_path / "tokenizer.json", decoder=decoder)
    with pytest.raises(TokenizerError, match="is not supported; known are ByteLevel"):
        from_json(path)


def test_an_added_token_whose_id_cannot_be_kept_is_refused(tmp_path):
    tokens = [added(7, "<|end|>"), added(1, "<|start|>")]
    path = byte_level_json(tmp_path / "tokenizer.json", added_tokens=tokens)
    with pytest.raises(TokenizerError, match="must have the id 0"):
        from_json(path)


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        from_json(tmp_path / "tokenizer.json")


def test_merges_are_those_of_the_file(byte_file):
    vocab = json.loads(byte_file.read_text())["model"]["vocab"]
    assert from_json(byte_file).encode("hello world") == [
        vocab["hello"],
        vocab["Ġworld"],
    ]
    assert ("Ġwo", "rld") in MERGES


FIXED = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0}
FIXED |= {"pad_type_id": 0, "pad_token": "<|end|>"}
CUT = {"direction": "Right", "strategy": "LongestFirst", "stride": 0}
LIMITS = [
    {"padding": FIXED | {"strategy": {"Fixed": 9}}},
    {"padding": FIXED | {"strategy": {"Fixed": 9}, "direction": "Left"}},
    {"padding": FIXED | {"strategy": {"Fixed": 2**62}}},
    {"padding": FIXED | {"strategy": "BatchLongest", "pad_to_multiple_of": 2**40}},
    {"truncation": CUT | {"max_length": 2}},
    {"truncation": CUT | {"max_length": 0}},
    {"truncation": CUT | {"max_length": 3, "stride": 7}},
    {"truncation": CUT | {"max_length": 2**63, "direction": "Left"}},
    {"truncation": {"nonsense": 1}, "padding": "nonsense"},
]


@pytest.mark.parametrize("limits", LIMITS, ids=range(len(LIMITS)))
def test_padding_and_truncation_of_the_file_change_nothing(tmp_path, limits):
    around = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<|start|>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {
            "<|start|>": {"id": "<|start|>", "ids": [1], "tokens": ["<|start|>"]}
        },
    }
    parts = {"post_processor": around}
    plain = from_json(byte_level_json(tmp_path / "a.json", **parts))
    limited = from_json(byte_level_json(tmp_path / "b.json", **parts, **limits))
    text = "hello world 12 and more"
    assert plain.encode("hello")[0] == 1
    assert limited.encode(text) == plain.encode(text)
    assert limited.encode("") == plain.encode("") == [1]
