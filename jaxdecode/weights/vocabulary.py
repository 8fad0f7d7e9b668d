"""A folder's tokenizer without a tokenizer.json: its older files, read as metadata.

`tokenizer.model` (SentencePiece) and `vocab.json` with `merges.txt` (byte-level BPE) hold
what the metadata of a GGUF file holds, and become just that. What they do not say, such
as how text is cut into words, is known for some classes of tokenizers only. Where it is
not, or the file is of another kind, the reason is kept: the model runs on token ids.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxdecode.core.check import short
from jaxdecode.core.extras import needs
from jaxdecode.weights.errors import CheckpointError

SIZE_MAX = 2**26  # bytes; the largest files in use have 5 million
TOKENS_MAX = 2**22
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4  # SentencePiece and GGUF number types alike
BPE = 2  # of SentencePiece's kinds of models
# How text is cut into words (`pre` of GGUF), by class of tokenizer and by model type.
WORDS = {
    "GPT2Tokenizer": "gpt-2",
    "GPT2TokenizerFast": "gpt-2",
    "Qwen2Tokenizer": "qwen2",
    "Qwen2TokenizerFast": "qwen2",
}
WORDS_OF_MODEL = {
    "gpt2": "gpt-2",
    "qwen2": "qwen2",
    "qwen3": "qwen2",
    "qwen3_moe": "qwen2",
}
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token")
END_OF_TEXT = "<|endoftext|>"


class Unknown(Exception):
    """Why a vocabulary cannot be read, though nothing need be wrong with it."""


def from_sentencepiece(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that a GGUF file made from a `tokenizer.model` would have.

    Args:
      path: the file.
      settings: the folder's tokenizer_config.json; {} without one.

    Raises:
      CheckpointError: if the file is broken.
      Unknown: if it is of a kind that is not supported.
    """
    model = _parsed(path)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    if trainer.model_type != BPE or not trainer.byte_fallback:
        raise Unknown(f"{path.name} must be a BPE with byte fallback")
    if normalizer.precompiled_charsmap or normalizer.remove_extra_whitespaces:
        raise Unknown(f"{path.name} must leave text as it is before it is cut")
    tokens = [piece.piece for piece in model.pieces]
    types = [int(piece.type) for piece in model.pieces]
    scores = [float(piece.score) for piece in model.pieces]
    _add(tokens, types, _added(settings))
    scores += [0.0] * (len(tokens) - len(scores))
    ids = {"bos_token_id": trainer.bos_id, "eos_token_id": trainer.eos_id}
    return {
        "model": "llama",
        "tokens": tokens,
        "token_type": types,
        "scores": scores,
        "unknown_token_id": trainer.unk_id,
        "add_space_prefix": bool(normalizer.add_dummy_prefix),
        **{name: i for name, i in ids.items() if i >= 0},
        **_edges(settings, begins=True),
    }


def from_merges(
    vocab: Any, merges: Path, settings: Mapping[str, Any], raw: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the metadata that a GGUF file made from a byte-level BPE would have.

    Args:
      vocab: the parsed vocab.json.
      merges: the merges.txt.
      settings: the folder's tokenizer_config.json; {} without one.
      raw: the model's config.json.

    Raises:
      CheckpointError: if a file is broken.
      Unknown: if it is not known how the tokenizer cuts text into words.
    """
    kind = settings.get("tokenizer_class")
    known = WORDS if kind is not None else WORDS_OF_MODEL
    pre = known.get(str(kind or raw.get("model_type")))
    if pre is None:
        raise Unknown(
            f"vocab.json is of {short(kind or raw.get('model_type'))}, and it is not "
            "known how that cuts text into words; a tokenizer.json says it"
        )
    tokens = _in_order(vocab)
    types = [NORMAL] * len(tokens)
    _add(tokens, types, _added(settings))
    control = {_text(settings.get(name)) for name in NAMED} | {END_OF_TEXT}
    extra = settings.get("additional_special_tokens")
    control |= {_text(token) for token in extra} if isinstance(extra, list) else set()
    types = [
        CONTROL if t in control else kind for t, kind in zip(tokens, types, strict=True)
    ]
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": types,
        "merges": _merges(merges),
        **_named_ids(tokens, settings),
        **_edges(settings, begins=False),
    }


def _parsed(path: Path) -> Any:
    if path.stat().st_size > SIZE_MAX:
        raise CheckpointError(f"{path.name} must have at most {SIZE_MAX} bytes.")
    with needs("a tokenizer.model"):
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto()  # pyright: ignore
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise CheckpointError(f"{path.name} is not a SentencePiece model.") from error
    if not model.pieces or len(model.pieces) > TOKENS_MAX:
        raise CheckpointError(f"{path.name} must have 1 to {TOKENS_MAX} tokens.")
    return model


def _added(settings: Mapping[str, Any]) -> dict[int, tuple[str, bool]]:
    """Return the tokens that were added later: id to text and whether it is control."""
    decoder = settings.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise CheckpointError("`added_tokens_decoder` must be an object.")
    added = {}
    for key, token in decoder.items():
        text = _text(token)
        if not (key.isascii() and key.isdigit() and len(key) < 10) or not text:
            raise CheckpointError(
                f"`added_tokens_decoder` must map ids to tokens, got {short(key)}."
            )
        added[int(key)] = text, bool(token.get("special"))
    return added


def _add(
    tokens: list[str], types: list[int], added: Mapping[int, tuple[str, bool]]
) -> None:
    """Put later tokens into their places; those behind the vocabulary extend it."""
    for place, (text, is_control) in sorted(added.items()):
        if place > len(tokens):
            raise CheckpointError(
                f"the added token {short(text)} must have the id {len(tokens)} or one "
                f"of the vocabulary, got {place}."
            )
        if place == len(tokens):
            tokens.append(text)
            types.append(CONTROL if is_control else USER_DEFINED)
        elif tokens[place] != text:
            raise CheckpointError(
                f"the added token {short(text)} has the id of {short(tokens[place])}."
            )
        elif is_control:
            types[place] = CONTROL


def _in_order(vocab: Any) -> list[str]:
    """Return the tokens of a vocabulary by id, which must have no gaps."""
    ids = list(vocab.values()) if isinstance(vocab, dict) else []
    if not ids or any(type(i) is not int for i in ids):
        raise CheckpointError("vocab.json must map tokens to ids.")
    if sorted(ids) != list(range(len(ids))):
        raise CheckpointError(
            f"vocab.json must have each id from 0 to {len(ids) - 1} once."
        )
    return sorted(vocab, key=vocab.__getitem__)


def _merges(path: Path) -> list[str]:
    if path.stat().st_size > SIZE_MAX:
        raise CheckpointError(f"{path.name} must have at most {SIZE_MAX} bytes.")
    try:
        lines = path.read_text("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path.name} is not UTF-8.") from error
    lines = lines[1:] if lines[0].startswith("#version") else lines
    return [line.rstrip("\r") for line in lines if line.strip()]


def _named_ids(tokens: list[str], settings: Mapping[str, Any]) -> dict[str, int]:
    places = {text: i for i, text in enumerate(tokens)}
    texts = {name: _text(settings.get(f"{name}_token")) for name in ("bos", "eos")}
    return {
        f"{name}_token_id": places[text]
        for name, text in texts.items()
        if text in places
    }


def _edges(settings: Mapping[str, Any], *, begins: bool) -> dict[str, bool]:
    """Return whether a text gets a begin and an end."""

    def switch(name: str, default: bool) -> bool:
        value = settings.get(name)
        return value if isinstance(value, bool) else default

    return {
        "add_bos_token": switch("add_bos_token", begins),
        "add_eos_token": switch("add_eos_token", False),
    }


def _text(token: Any) -> str:
    """Return the text of a token that is named by itself or by its settings."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""
