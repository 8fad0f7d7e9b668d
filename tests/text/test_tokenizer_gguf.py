"""Tokenizers out of GGUF metadata, against plain loops and by hand."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxdecode.text.errors import TokenizerError
from jaxdecode.text.gguf_tokenizer import WORD_RULES, from_gguf, pre_tokenizer
from tests.reference.bpe import encode_scored, encode_words
from tests.text.vocabularies import MERGES, SCORED, byte_level, sentence_piece

BYTES = {pre: from_gguf(byte_level(pre)) for pre in WORD_RULES}
SPACES = from_gguf(sentence_piece())
LETTERS = "hello wrd12<|>\n\té日🙂'"


def expected_ids(pre, text):
    metadata = byte_level(pre)
    ids = {token: i for i, token in enumerate(metadata["tokens"])}
    cut = pre_tokenizer(pre).pre_tokenize_str(text)
    words = [text[begin:end] for _, (begin, end) in cut]
    return encode_words(words, MERGES, ids)


def random_texts(count, seed):
    draw = random.Random(seed)
    return ["".join(draw.choices(LETTERS, k=draw.randrange(23))) for _ in range(count)]


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "qwen2"])
def test_byte_level_ids_are_those_of_plain_merging(pre):
    for text in random_texts(101, seed=3):
        assert BYTES[pre].encode(text) == expected_ids(pre, text)


def test_ids_worked_out_by_hand():
    tokens = byte_level()["tokens"]
    ids = [tokens.index(t) for t in ("hello", "Ġworld", "Ġ", "Ġw", "e", "hell", "Ċ")]
    assert BYTES["gpt-2"].encode("hello world  wehell\n") == ids


SPACED = {
    "model": "gemma4",
    "pre": "gemma4",
    "tokens": [
        *("<pad>", "<eos>", "<bos>", "<unk>", "<0xC3>", "<0xA9>", "▁", "a", "b", "\n"),
        *("▁a", "\n\n", "▁▁", "<|x|>"),
    ],
    "token_type": [3, 3, 3, 2, 6, 6, 1, 1, 1, 1, 1, 1, 1, 3],
    "merges": ["▁ a", "\n \n", "▁ ▁"],
    "bos_token_id": 2,
    "eos_token_id": 1,
    "unknown_token_id": 3,
}


@pytest.mark.parametrize("model", ["gemma4", "gpt2"])
def test_merges_of_characters_with_a_mark_for_the_space(model):
    tokenizer = from_gguf(SPACED | {"model": model})
    ids = tokenizer.encode("a a  b\n\naé")
    words = ["a", "▁a", "▁▁", "b", "\n\n", "a", "<0xC3>", "<0xA9>"]
    assert [tokenizer.token(i) for i in ids] == words
    assert tokenizer.decode(ids) == "a a  b\n\naé"
    assert tokenizer.encode("<|x|>", parse_special=True) == [13]
    assert tokenizer.encode("x") == [3]  # neither a token nor bytes


@pytest.mark.parametrize("pre", ["llama-bpe", "llama-v3", "tekken"])
def test_some_recipes_look_up_a_whole_word_before_they_merge(pre):
    metadata = byte_level(pre)
    metadata["tokens"].append("cde")  # no merges lead to it
    metadata["token_type"].append(1)
    whole = len(metadata["tokens"]) - 1
    assert from_gguf(metadata).encode("cde", add_special=False) == [whole]
    assert len(from_gguf(metadata | {"pre": "qwen2"}).encode("cde")) == 3


@pytest.mark.parametrize("pre", sorted(WORD_RULES))
@given(text=st.text())
@example(text="<|im_end|> <|end|>\x00\u2028 12")
@settings(deadline=None, max_examples=50)
def test_byte_level_text_comes_back_unchanged(pre, text):
    tokenizer = BYTES[pre]
    assert tokenizer.decode(tokenizer.encode(text, add_special=False)) == text


@pytest.mark.parametrize("pre", sorted(WORD_RULES))
def test_a_control_token_in_a_text_stays_text(pre):
    ids = BYTES[pre].encode("a<|end|>b", add_special=False)
    assert BYTES[pre].special_ids.isdisjoint(ids)
    assert BYTES[pre].decode(ids) == "a<|end|>b"


def test_parse_special_turns_control_tokens_into_their_ids():
    tokenizer = BYTES["gpt-2"]
    hello = tokenizer.encode("hello")
    assert tokenizer.encode("<|start|>hello<|end|>", parse_special=True) == [
        1,
        *hello,
        0,
    ]


def test_merges_that_would_spell_a_control_token_are_left_out():
    merges = [("<", "x"), ("<x", ">")]
    tokenizer = from_gguf(byte_level(merges=merges[:1], control=["<x>"]))
    assert tokenizer.encode("<x>") == tokenizer.encode("<x") + tokenizer.encode(">")
    metadata = byte_level(merges=merges[:1], control=["<x>"])
    metadata["merges"] = ["< x", "<x >"]
    assert from_gguf(metadata).encode("<x>") == tokenizer.encode("<x>")


def test_the_longest_of_two_control_tokens_wins():
    tokenizer = from_gguf(byte_level(control=["<|a|>", "<|a|><|b|>"]))
    assert tokenizer.encode("<|a|><|b|><|a|>", parse_special=True) == [1, 0]


def test_added_words_that_are_no_control_tokens_are_always_found():
    tokenizer = from_gguf(byte_level(words=["<think>", "  é"]))
    assert tokenizer.encode("<think>  é") == [2, 3]
    assert tokenizer.decode([2, 3]) == "<think>  é"


@pytest.mark.parametrize(
    ("pre", "more", "edges"),
    [
        ("gpt-2", {}, ([], [])),
        ("llama-bpe", {}, ([1], [])),
        ("llama3", {}, ([1], [])),
        ("tekken", {}, ([1], [])),
        ("smaug-bpe", {}, ([], [])),
        ("default", {}, ([], [])),
        ("llama-bpe", {"add_bos_token": False}, ([], [])),
        ("gpt-2", {"add_bos_token": True, "add_eos_token": True}, ([1], [0])),
    ],
)
def test_the_file_says_whether_a_text_gets_begin_and_end_tokens(pre, more, edges):
    tokenizer = from_gguf(byte_level(pre, **more))
    plain = tokenizer.encode("hello", add_special=False)
    assert tokenizer.encode("hello") == [*edges[0], *plain, *edges[1]]


def test_add_special_puts_a_begin_token_where_the_file_does_not():
    assert BYTES["gpt-2"].encode("hello", add_special=True)[0] == 1


def test_a_vocabulary_without_begin_token_cannot_be_asked_for_one():
    metadata = byte_level()
    del metadata["bos_token_id"]
    with pytest.raises(ValueError, match="has no token that begins a text"):
        from_gguf(metadata).encode("hello", add_special=True)


def test_a_byte_that_the_vocabulary_lacks_is_refused_and_not_dropped():
    metadata = byte_level()
    at = metadata["tokens"].index("z")
    metadata["tokens"][at] = "unused"
    with pytest.raises(ValueError, match=r"no token for 'z' \(U\+007A\), at index 2"):
        from_gguf(metadata).encode("oozo")


@pytest.mark.parametrize("text", ["\ud800", "a\udfff b"])
def test_lone_surrogates_are_refused(text):
    with pytest.raises(ValueError, match="without lone surrogates, got"):
        BYTES["gpt-2"].encode(text)


@pytest.mark.parametrize("text", [None, b"hello", ["hello"], 3])
def test_what_is_not_a_str_is_refused(text):
    with pytest.raises(TypeError, match="`text` must be a str, got"):
        BYTES["gpt-2"].encode(text)


def test_scored_ids_are_those_of_plain_joining():
    ids = {token: i for i, token in enumerate(sentence_piece()["tokens"])}
    draw = random.Random(5)
    for _ in range(101):
        text = "".join(draw.choices("hello a日é<>s", k=draw.randrange(1, 23)))
        marked = "▁" + text.replace(" ", "▁")
        expected = encode_scored(marked, SCORED, ids, unknown=0)
        assert SPACES.encode(text, add_special=False) == expected


def test_scored_text_begins_with_bos_and_the_mark_of_a_space():
    tokens = sentence_piece()["tokens"]
    # ll (-1), ▁h (-1.5) and ▁he (-2.5) come before anything that leads to ▁hello.
    assert SPACES.encode("hello") == [1, *map(tokens.index, ("▁he", "ll", "o"))]


def test_without_a_space_prefix_the_first_word_is_bare():
    tokenizer = from_gguf(sentence_piece(add_space_prefix=False))
    tokens = sentence_piece()["tokens"]
    assert tokenizer.encode("hello")[1:] == [tokens.index("hello")]
    assert tokenizer.decode(tokenizer.encode(" hello")) == " hello"


def test_characters_without_a_token_become_bytes():
    tokens = sentence_piece()["tokens"]
    ids = [tokens.index(t) for t in ("▁", "<0xC3>", "<0xA9>")]
    assert SPACES.encode("é", add_special=False) == ids


def test_without_byte_tokens_they_become_one_unknown_token():
    tokenizer = from_gguf(sentence_piece(bytes_too=False))
    assert tokenizer.encode("éé", add_special=False)[1:] == [0]


@pytest.mark.parametrize("text", ["<s>", "</s>", "<unk>", "<0x41>"])
def test_scored_vocabularies_keep_control_and_byte_tokens_out_of_text(text):
    ids = SPACES.encode(text, add_special=False)
    assert SPACES.special_ids.isdisjoint(ids)
    assert SPACES.decode(ids) == text


@given(text=st.text(alphabet=st.characters(exclude_characters="▁", codec="utf-8")))
@settings(deadline=None, max_examples=100)
def test_scored_text_comes_back_unchanged(text):
    assert SPACES.decode(SPACES.encode(text)) == text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "bert"}, "tokenizer.ggml.model: must be one of gpt2, llama"),
        ({"pre": "nope"}, "tokenizer.ggml.pre: must be one of"),
        ({"tokens": None}, "tokenizer.ggml.tokens: must be a list of strings"),
        ({"tokens": []}, "tokenizer.ggml.tokens: must not be empty"),
        ({"merges": ["ab"]}, "must be two tokens and a space, got 'ab'"),
        ({"merges": ["a zzz"]}, "cannot be built"),
        ({"token_type": [1, 1]}, "token_type: must have one value per token"),
        ({"add_bos_token": True, "bos_token_id": 9999}, "bos_token_id: must be"),
    ],
)
def test_metadata_that_cannot_be_right_is_refused_by_name(changes, message):
    with pytest.raises(TokenizerError, match=message):
        from_gguf(byte_level() | changes)


def test_scores_must_be_numbers():
    metadata = sentence_piece()
    metadata["scores"][7] = float("nan")
    with pytest.raises(TokenizerError, match="scores: must be numbers"):
        from_gguf(metadata)
