"""Text one token at a time: the same text, and never half a character."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdecode.text.gguf_tokenizer import from_gguf
from tests.text.vocabularies import byte_level, sentence_piece

BYTES = from_gguf(byte_level(words=["<think>", " é "]))
SPACES = from_gguf(sentence_piece(words=["<think>", "  "]))
BARE = from_gguf(sentence_piece(add_space_prefix=False))
VOCABULARIES = [BYTES, SPACES, BARE]


def pushed(tokenizer, ids, **options):
    text = tokenizer.stream(**options)
    pieces = [text.push(i) for i in ids]
    return [*pieces, text.finish()]


@pytest.mark.parametrize("tokenizer", VOCABULARIES)
@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_pushed_pieces_join_to_the_decoded_whole(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 3), max_size=31))
    options = {
        "skip_special": data.draw(st.booleans()),
        "continues": data.draw(st.booleans()),
    }
    pieces = pushed(tokenizer, ids, **options)
    assert "".join(pieces) == tokenizer.decode(ids, **options)


@pytest.mark.parametrize("tokenizer", VOCABULARIES)
@given(text=st.text())
@settings(deadline=None, max_examples=50)
def test_what_was_pushed_is_always_a_prefix_of_the_text(tokenizer, text):
    ids = tokenizer.encode(text, add_special=False)
    whole, shown = tokenizer.decode(ids), ""
    stream = tokenizer.stream()
    for i in ids:
        shown += stream.push(i)
        assert whole.startswith(shown)


def test_a_character_in_several_byte_level_tokens_comes_out_whole():
    pieces = pushed(BYTES, BYTES.encode("🙂!"))
    assert pieces == ["", "", "", "🙂", "!", ""]


def test_a_character_in_several_byte_tokens_comes_out_whole():
    tokens = sentence_piece()["tokens"]
    ids = [tokens.index(f"<0x{byte:02X}>") for byte in "你a".encode()]
    assert pushed(BARE, ids) == ["", "", "你", "a", ""]


def test_an_unfinished_character_is_shown_as_replaced_at_the_end():
    ids = BYTES.encode("🙂")[:2]
    assert pushed(BYTES, ids) == ["", "", "\ufffd"]


def test_an_unfinished_character_is_replaced_when_other_text_follows():
    ids = [*BYTES.encode("é")[:1], *BYTES.encode("a")]
    assert pushed(BYTES, ids) == ["", "\ufffda", ""]


def test_a_stream_of_byte_tokens_is_not_held_back_until_it_ends():
    tokens = sentence_piece()["tokens"]
    ids = [tokens.index(f"<0x{byte:02X}>") for byte in "你好吗".encode()]
    assert [p for p in pushed(BARE, ids) if p] == ["你", "好", "吗"]


def test_only_the_one_space_that_was_put_there_is_left_out_at_the_start():
    ids = SPACES.encode("  hello", add_special=False)
    assert SPACES.decode(ids) == "  hello"
    assert "".join(pushed(SPACES, ids)) == "  hello"


def test_a_text_that_continues_keeps_its_first_space():
    ids = SPACES.encode("hello", add_special=False)
    assert SPACES.decode(ids, continues=True) == " hello"
    assert "".join(pushed(SPACES, ids, continues=True)) == " hello"


def test_control_tokens_before_the_first_word_do_not_count_as_text():
    ids = SPACES.encode("hello")
    assert ids[0] in SPACES.special_ids
    assert "".join(pushed(SPACES, ids)) == "hello"
    assert SPACES.decode(ids, skip_special=False) == "<s> hello"


def test_a_finished_detokenizer_starts_a_new_text():
    stream = SPACES.stream()
    ids = SPACES.encode("hello", add_special=False)
    first = "".join(map(stream.push, ids)) + stream.finish()
    assert "".join(map(stream.push, ids)) + stream.finish() == first == "hello"


def test_an_id_without_a_token_adds_nothing():
    assert BYTES.decode([BYTES.vocab_size + 5]) == ""


def test_arrays_of_ids_are_read_like_lists():
    ids = BYTES.encode("hello 日")
    assert BYTES.decode(np.asarray(ids, np.int32)) == "hello 日"
    assert pushed(BYTES, np.asarray(ids, np.int32)) == pushed(BYTES, ids)


@pytest.mark.parametrize("ids", [[1.0], ["a"], [True], [None], "12", 5])
def test_what_is_no_token_id_is_refused(ids):
    with pytest.raises(TypeError, match=r"Tokenizer\.decode: `ids` must be"):
        BYTES.decode(ids)


def test_negative_ids_are_refused():
    with pytest.raises(ValueError, match="must be >= 0"):
        BYTES.decode([-1])
    with pytest.raises(ValueError, match="must be >= 0"):
        BYTES.stream().push(-1)
