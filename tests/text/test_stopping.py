"""Stops in texts: found across tokens, cut out or kept, and never shown by a stream."""

import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.text import LanguageModel
from jaxdecode.text.gguf_tokenizer import from_gguf
from jaxdecode.text.stopping import StoppedText, as_stopping
from tests import tiny
from tests.text.vocabularies import byte_level, sentence_piece

WORDS = ["ab", "bab", "Us", "er", ":", "Ċ", "ĊĊ", "æĹ", "¥", "Ġ", *"abUser"]


def vocabulary():
    """A byte-level vocabulary of 37 tokens; the first two are control tokens."""
    rest = [chr(0x23 + i) for i in range(tiny.VOCAB - 2 - len(WORDS))]
    tokens = ["<|end|>", "<|start|>", *WORDS, *rest]
    metadata = byte_level("smollm", merges=[])
    types = [3, 3] + [1] * (len(tokens) - 2)
    return from_gguf(metadata | {"tokens": tokens, "token_type": types})


TOKENIZER = vocabulary()
MODEL = LanguageModel(tiny.bag(), tokenizer=TOKENIZER, eos_ids=(0,), name="tiny")


def ids(*words):
    names = {TOKENIZER.token(i): i for i in range(2, TOKENIZER.vocab_size)}
    names |= {"<|end|>": 0, "<|start|>": 1}
    return [names[word] for word in words]


def script(*words, least=0):
    """Return a sampler that writes these tokens; all of them share their programs."""
    forced = jd.ForcedTokens(dict(enumerate(ids(*words))), count_prompt=False)
    return jd.chain(forced, jd.MinNewTokens(least, [0]))


def written(words, least=0, **options):
    """Return what `generate`, and a stream, make of a text of these tokens."""
    options |= {
        "sampler": script(*words, least=least),
        "max_new_tokens": len(words),
        "key": 0,
    }
    whole = MODEL.generate("a", **options)
    pieces = list(MODEL.stream("a", **options))
    assert "".join(pieces) == whole
    return whole


@pytest.mark.parametrize(
    ("words", "stop", "cut", "kept"),
    [
        (["a", "Us", "er", ":", "b"], "User:", "a", "aUser:"),
        (["a", "U", "s", "e", "r", ":"], ["User:"], "a", "aUser:"),
        (["a", "ab", "bab", "a"], "abba", "a", "aabba"),  # ends inside a token
        (["ab", "bab", "Ġ"], "bba", "a", "abba"),
        (["a", "bab", "ab"], "ba", "a", "aba"),  # one that a second one overlaps
        (["a", "Ċ", "Ċ", "b"], "\n\n", "a", "a\n\n"),
        (["a", "ĊĊ", "b"], "\n\n", "a", "a\n\n"),
        (["æĹ", "¥", "a"], "日", "", "日"),
        (["a", "æĹ", "¥", "b"], ["a日b"], "", "a日b"),
        # control tokens count, whether they are shown or not
        (["U", "<|start|>", "s", "e"], "Us", "Use", "Use"),
        (["a", "<|start|>", "b"], "<|start|>", "a", "a<|start|>"),
        (["a", "<|start|>", "b"], ["x", "<|start|>"], "a", "a<|start|>"),
        (["a", "<|start|>", "b"], "<|start|>b", "a", "a<|start|>b"),
        (["a", "<|start|>", "bab"], ["t|>ba"], "a", "at|>ba"),
        (["U", "ab", "<|start|>"], "b<|start|>", "Ua", "Uab<|start|>"),
        (["a", "<|start|>", "s", "b"], "<|start|>b", "asb", "asb"),
        (["<|start|>", "<|start|>", "b"], "<|start|>b", "", "<|start|>b"),
        # one that ends in the eos
        (["a", "<|end|>"], "<|end|>", "a", "a<|end|>"),
        (["U", "a", "<|end|>"], "a<|end|>", "U", "Ua<|end|>"),
        (["U", "a", "<|end|>"], "b<|end|>", "Ua", "Ua"),
        (["U", "s", "a"], "User", "Usa", "Usa"),  # begun and not completed
        (["a", "b", "U"], ["bU", "abU"], "", "abU"),  # both end there: the longer one
        (["U", "ab"], ["b", "ab"], "U", "Uab"),
        (["bab"], ["a", "bab"], "b", "ba"),  # the one that is complete first
    ],
)
def test_a_stop_string_is_cut_out_or_ends_the_text(words, stop, cut, kept):
    assert written(words, stop_strings=stop) == cut
    assert written(words, stop_strings=stop, keep_stop=True) == kept


def test_a_stop_sequence_is_cut_out_or_ends_the_text():
    words = ["ab", "U", "s", "a"]
    assert written(words, stop=[ids("U", "s")]) == "ab"
    assert written(words, stop=[ids("U", "s")], keep_stop=True) == "abUs"
    assert written(["U", "U", "s"], stop=[ids("U", "s")]) == "U"
    assert written(["U", "a", "U"], stop=[ids("U", "s")]) == "UaU"


def test_a_stop_sequence_may_hold_control_tokens():
    words = ["a", "<|start|>", "b", "U"]
    stop = [ids("<|start|>", "b")]
    assert written(words, stop=stop) == "a"
    assert written(words, stop=stop, keep_stop=True) == "ab"
    assert written(["a", "b", "<|end|>"], stop=[ids("b", "<|end|>")]) == "ab"


def test_the_earlier_beginning_wins_where_both_kinds_end():
    stops = {"stop": [ids("b", "U")], "stop_strings": "abU"}
    assert written(["s", "a", "b", "U"], **stops) == "s"
    assert (
        written(["s", "a", "b", "U"], stop=[ids("a", "b", "U")], stop_strings="U")
        == "s"
    )


def test_a_stop_that_min_new_tokens_passes_over_stays_in_the_text():
    words = ["a", "b", "U", "a", "b"]
    assert written(words, stop_strings="ab", least=2) == "abU"
    assert written(words, stop_strings="ab", least=5) == "abUab"


def test_the_prompt_does_not_count():
    assert written(["b", "U"], stop_strings="ab") == "bU"  # the prompt is "a"


def test_a_list_of_prompts_and_samples_is_cut_row_by_row():
    options = {"key": 3, "max_new_tokens": 12, "num_samples": 2}
    options["sampler"] = tiny.PLAIN
    whole = MODEL.generate(["a", "b"], **options)
    cut = MODEL.generate(["a", "b"], stop_strings=["e", "U"], **options)

    def first(text):
        return min([text.find(s) for s in "eU" if s in text] + [len(text)])

    flat = [text for row in whole for text in row]
    assert [text for row in cut for text in row] == [t[: first(t)] for t in flat]
    assert any(first(text) < len(text) for text in flat)


@pytest.mark.parametrize("seed", range(4))
def test_streamed_bytes_are_never_taken_back(seed):
    """Whatever the tokens: pieces join to the text, and stop where the text stops."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 12, 40).tolist()
    stopping = as_stopping(
        "x", TOKENIZER, tiny.VOCAB, stop=[[3, 4, 5], [4, 4]],
        stop_strings=["abab", "User", "日\n"], keep_stop=False,
    )  # fmt: skip
    whole = StoppedText(stopping, continues=True)
    wanted = whole.push(tokens, stopped=False) + whole.finish()
    assert wanted == TOKENIZER.decode(tokens, continues=True)
    text = StoppedText(stopping, continues=True)
    shown = "".join(text.push([token], stopped=False) for token in tokens)
    assert wanted.startswith(shown)
    assert shown + text.finish() == wanted


def test_an_answer_in_a_chat_is_cut_too():
    from jaxdecode.text import ChatTemplate

    model = LanguageModel(
        tiny.bag(), tokenizer=TOKENIZER, eos_ids=(0,),
        chat_template=ChatTemplate("{{ messages[0].content }}"),
    )  # fmt: skip
    sampler = script("a", "Us", "er", "a")
    options = {"key": 0, "sampler": sampler, "max_new_tokens": 4}
    message = [{"role": "user", "content": "b"}]
    assert model.chat(message, stop_strings="ser", **options) == "aU"
    pieces = model.stream_chat(message, stop_strings="ser", keep_stop=True, **options)
    assert "".join(pieces) == "aUser"


def test_sentence_piece_vocabularies_have_bytes_too():
    tokenizer = from_gguf(sentence_piece())
    known = {tokenizer.token(i): i for i in range(tokenizer.vocab_size)}
    for word, data in (("▁he", b" he"), ("<0xE6>", b"\xe6"), ("日", "日".encode())):
        assert tokenizer.token_bytes[known[word]] == data
    assert tokenizer.token_bytes[1] == b""  # <s>
    assert tokenizer.stop_bytes[1] == b"<s>"


def test_stops_of_the_library_find_control_tokens_too():
    strings = jd.Stops.of((), ["<|start|>b"], TOKENIZER.stop_bytes)
    sampler = script("a", "<|start|>", "bab", "a")
    asked = {"sampler": sampler, "max_new_tokens": 4, "stop": strings}
    out = jd.generate(MODEL.model, [ids("a")], 0, **asked)
    assert int(out.lengths[0]) == 3
    assert out.status[0] == jd.Status.STOP


BAD = [
    ({"stop_strings": ""}, ValueError, "`stop_strings` must not hold an empty text"),
    ({"stop_strings": ["a", ""]}, ValueError, "empty text"),
    ({"stop_strings": [3]}, TypeError, "must be a str"),
    ({"stop_strings": b"a"}, TypeError, "a str or a list of str"),
    ({"stop_strings": "\ud800"}, ValueError, "lone surrogates"),
    ({"stop": [[]]}, ValueError, "empty sequence"),
    ({"stop": ["a"]}, TypeError, "lists of token ids"),
    ({"stop": [[37]]}, ValueError, "vocabulary size 37"),
    ({"keep_stop": "yes"}, TypeError, "`keep_stop` must be True or False"),
    ({"keep_stop": [True]}, TypeError, "`keep_stop` must be True or False"),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD)
def test_a_bad_stop_is_refused(options, kind, message):
    with pytest.raises(kind, match=message):
        MODEL.generate("a", key=0, max_new_tokens=3, **options)
    with pytest.raises(kind, match=message):
        MODEL.stream("a", key=0, max_new_tokens=3, **options)
