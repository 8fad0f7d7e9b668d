"""Folders without a tokenizer.json: the ids are those of the libraries behind them."""

import json

import pytest
import sentencepiece
from tokenizers import ByteLevelBPETokenizer, Regex, pre_tokenizers

from jaxdecode.text.load import load_tokenizer
from jaxdecode.weights import CheckpointError, open_checkpoint
from tests.weights.makers import LLAMA_JSON, llama_tensors, write_folder

WORDS = "the cat sat on the mat, the dog's hat; 123 cats ate that bat at 10:45. "
LINES = [WORDS, "A thin man thinks the hen then ran.", "été, 猫 & Hund"] * 20
TEXTS = [
    "the cat",
    " the  hat\n\n\tthat",
    "thinks 1234567 the",
    "été 猫🙂",
    "",
    "it's The<s>",
    "a" * 7,
]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Return a function that trains a SentencePiece model."""
    place = tmp_path_factory.mktemp("pieces")

    def train(**options):
        path = place / f"{len(list(place.iterdir()))}"
        options = {
            "model_type": "bpe",
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "vocab_size": 330,
            "minloglevel": 2,
        } | options
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(LINES), model_prefix=str(path), **options
        )
        return path.with_suffix(".model").read_bytes()

    return train


def folder_of(place, files, *, raw=None, **json_files):
    folder = write_folder(
        place, LLAMA_JSON | (raw or {}), llama_tensors(), **json_files
    )
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def tokenizer_of(folder):
    return load_tokenizer(open_checkpoint(folder).tokenizer)


@pytest.mark.parametrize("prefix", [True, False])
def test_a_tokenizer_model_gives_the_ids_of_sentencepiece(tmp_path, pieces, prefix):
    model = pieces(add_dummy_prefix=prefix)
    reference = sentencepiece.SentencePieceProcessor(model_proto=model)
    found = tokenizer_of(folder_of(tmp_path, {"tokenizer.model": model}))
    for text in TEXTS:
        ids = reference.encode(text)
        assert list(found.encode(text)) == ([reference.bos_id(), *ids] if ids else [1])
        assert found.decode(ids) == reference.decode(ids)


def test_added_tokens_stand_behind_those_of_the_model(tmp_path, pieces):
    model = pieces()
    decoder = {
        "1": {"content": "<s>", "special": True},
        "330": {"content": "<|end|>", "special": True},
        "331": {"content": "<think>", "special": False},
    }
    settings = {"added_tokens_decoder": decoder, "add_bos_token": False}
    found = tokenizer_of(
        folder_of(tmp_path, {"tokenizer.model": model}, tokenizer_config=settings)
    )
    assert found.token(330) == "<|end|>"
    assert 330 not in found.encode("the<|end|>")
    assert 331 in found.encode("the<think>")
    assert found.encode("the")[0] != 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "unigram"}, "must be a BPE"),
        ({"byte_fallback": False, "vocab_size": 80}, "byte fallback"),
        ({"normalization_rule_name": "nmt_nfkc"}, "must leave text as it is"),
        ({"remove_extra_whitespaces": True}, "must leave text as it is"),
    ],
)
def test_other_sentencepiece_models_are_named(tmp_path, pieces, options, reason):
    if options.get("model_type") == "unigram":
        options = options | {"vocab_size": 300}
    folder = folder_of(tmp_path, {"tokenizer.model": pieces(**options)})
    source = open_checkpoint(folder).tokenizer
    assert source.kind == "unsupported"
    assert reason in source.reason
    with pytest.raises(ValueError, match=reason):
        load_tokenizer(source)


MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module")
def merges(tmp_path_factory):
    """The files of a byte-level BPE, and what the library that wrote them gives."""
    place = tmp_path_factory.mktemp("merges")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        LINES, vocab_size=310, special_tokens=["<|endoftext|>"], show_progress=False
    )
    trained.save_model(str(place))
    files = {n: (place / n).read_bytes() for n in ("vocab.json", "merges.txt")}
    return files, trained


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
RULES = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "qwen2": pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(MODERN), "isolated"), BYTES]
    ),
}


@pytest.mark.parametrize(
    ("raw", "settings", "rule"),
    [
        ({"model_type": "gpt2"}, {}, "gpt2"),
        ({}, {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>"}, "gpt2"),
        ({"model_type": "qwen2"}, {}, "qwen2"),
        ({"model_type": "gpt2"}, {"tokenizer_class": "Qwen2Tokenizer"}, "qwen2"),
    ],
)
def test_vocab_and_merges_give_the_ids_of_tokenizers(
    tmp_path, merges, raw, settings, rule
):
    files, reference = merges
    reference._tokenizer.pre_tokenizer = RULES[rule]
    found = tokenizer_of(folder_of(tmp_path, files, raw=raw, tokenizer_config=settings))
    for text in TEXTS:
        assert list(found.encode(text)) == reference.encode(text).ids, text
        assert found.decode(list(found.encode(text))) == text
    end = reference.token_to_id("<|endoftext|>")
    assert end not in found.encode("the<|endoftext|>")


@pytest.mark.parametrize(
    ("raw", "settings"),
    [({}, {}), ({}, {"tokenizer_class": "MyTokenizer"}), ({"model_type": ["x"]}, {})],
)
def test_a_vocabulary_whose_words_are_not_known_is_named(
    tmp_path, merges, raw, settings
):
    folder = folder_of(tmp_path, merges[0], raw=raw, tokenizer_config=settings)
    assert "how that cuts text" in open_checkpoint(folder).tokenizer.reason


def test_tekken_is_named(tmp_path):
    source = open_checkpoint(folder_of(tmp_path, {"tekken.json": b"{}"})).tokenizer
    with pytest.raises(ValueError, match="tekken.json is not supported"):
        load_tokenizer(source)


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        ({"tokenizer.model": b"\xff" * 9}, {}, "not a SentencePiece model"),
        ({"tokenizer.model": b""}, {}, "must have 1 to"),
        ({"vocab.json": b'{"a": 0, "b": 2}'}, {}, "each id from 0 to 1 once"),
        ({"vocab.json": b'{"a": "0"}'}, {}, "must map tokens to ids"),
        ({"merges.txt": b"\xff"}, {}, "not UTF-8"),
        ({}, {"added_tokens_decoder": [1]}, "`added_tokens_decoder` must be an object"),
        ({}, {"added_tokens_decoder": {"x": "y"}}, "must map ids to tokens"),
        ({}, {"added_tokens_decoder": {"9": {"content": "y"}}}, "must have the id 1"),
        ({}, {"added_tokens_decoder": {"0": {"content": "y"}}}, "has the id of"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path, files, settings, message):
    plain = {"vocab.json": b'{"a": 0}', "merges.txt": b""}
    folder = folder_of(
        tmp_path,
        files if "tokenizer.model" in files else plain | files,
        raw={"model_type": "gpt2"},
        tokenizer_config=settings,
    )
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


def test_a_tokenizer_json_comes_first(tmp_path, pieces):
    folder = folder_of(tmp_path, {"tokenizer.model": pieces()}, tokenizer={})
    assert open_checkpoint(folder).tokenizer.kind == "json"
    assert json.loads((folder / "tokenizer.json").read_text()) == {}
