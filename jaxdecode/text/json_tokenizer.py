"""A tokenizer from a tokenizer.json file, in which no text becomes a control token.

The Rust library matches the added tokens of such a file anywhere in a text. Here that is
switched off. Where merges of ordinary tokens could still produce a control token, its
text in the vocabulary is replaced by a secret one that no text contains.
"""

import json
import secrets
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Rust
from tokenizers import models

from jaxdecode.core.refusing import refusing
from jaxdecode.core.shapes import NO_ID
from jaxdecode.text.detokenizer import Pieces
from jaxdecode.text.errors import TokenizerError, UnsupportedTokenizerError
from jaxdecode.text.special_tokens import Special
from jaxdecode.text.tokenizer import Tokenizer

SIZE_MAX = 2**28  # bytes; the largest files in use have 35 million


def from_json(path: str | Path) -> Tokenizer:
    """Build a tokenizer from a tokenizer.json file.

    Args:
      path: the file.

    Returns:
      The tokenizer. Truncation and padding in the file are ignored.

    Raises:
      FileNotFoundError: if there is no such file.
      TokenizerError: if it is broken, or its decoder is not supported.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    if path.stat().st_size > SIZE_MAX:
        raise TokenizerError(f"{path}: must be at most {SIZE_MAX} bytes.")
    try:
        with refusing(TokenizerError, "cannot be read"):
            return _built(path.read_text(encoding="utf-8"))
    except TokenizerError as error:
        raise type(error)(f"{path}: {error}") from error.__cause__


def _built(text: str) -> Tokenizer:
    spec = json.loads(text)
    text = _without_limits(spec, text)
    rust = _plain(Rust.from_str(text))
    added = _added(spec, rust)
    special = [_special(token, i) for i, token in added if token["special"]]
    pieces = _pieces(spec, rust, added)
    prefix, suffix = _around(rust)
    first, rest = _without_control(spec, text, {s.text for s in special})
    return Tokenizer(
        first,
        rest,
        pieces,
        special=special,
        prefix=prefix,
        suffix=suffix,
        bos_id=prefix[0] if prefix else None,
        vocab_size=1 + max(pieces.tokens, default=-1),
    )


def _without_limits(spec: dict[str, Any], text: str) -> str:
    """Switch truncation and padding off in `spec`; return its text.

    They were saved by whoever used the tokenizer last. Every prompt would be cut or
    padded, and a length that means "no limit" would be allocated by the first probe.
    """
    if spec.get("truncation") is None and spec.get("padding") is None:
        return text
    spec |= {"truncation": None, "padding": None}
    return json.dumps(spec)


def _added(spec: dict[str, Any], rust: Any) -> list[tuple[int, dict[str, Any]]]:
    # The library ignores the id in the file if it does not fit the token's place.
    added = []
    for token in spec.get("added_tokens") or []:
        given = rust.token_to_id(token["content"])
        if given != token["id"]:
            raise TokenizerError(
                f"added token {token['content']!r} must have the id {given} that its "
                f"place gives it, got {token['id']}."
            )
        added.append((given, token))
    return added


def _special(token: dict[str, Any], token_id: int) -> Special:
    flags = {
        name: bool(token.get(name)) for name in ("lstrip", "rstrip", "single_word")
    }
    return Special(token["content"], token_id, **flags)


def _pieces(spec, rust, added) -> Pieces:
    tokens = {i: text for text, i in rust.get_vocab(with_added_tokens=True).items()}
    if max(tokens, default=0) >= NO_ID:
        raise TokenizerError(f"token ids must be < 2**31 - 1, got {max(tokens)}.")
    literal = frozenset(i for i, _ in added)
    style = _style(spec.get("decoder"))
    return Pieces(tokens, literal=literal, **style)


def _style(decoder: dict[str, Any] | None) -> dict[str, Any]:
    parts = decoder.get("decoders", [decoder]) if decoder else []
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"]:
        return {"style": "bytes"}
    if kinds == ["Metaspace"] and parts[0].get("replacement") == "\u2581":
        scheme = parts[0].get("prepend_scheme", "always")
        return {"style": "spaces", "strip": int(scheme != "never")}
    spaces = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    if kinds[:3] == ["Replace", "ByteFallback", "Fuse"] and parts[0] == spaces:
        if kinds[3:] == []:
            return {"style": "spaces", "byte_tokens": True}
        strip = parts[3]
        if kinds[3:] == ["Strip"] and strip["content"] == " " and not strip["stop"]:
            return {"style": "spaces", "byte_tokens": True, "strip": strip["start"]}
    raise UnsupportedTokenizerError(
        f"the decoder {'+'.join(kinds) or None} is not supported; known are ByteLevel, "
        "Metaspace, and Replace+ByteFallback+Fuse with or without Strip."
    )


def _around(rust: Any) -> tuple[list[int], list[int]]:
    """Return the ids that the file's template puts before and after a text."""
    # One token of no vocabulary in particular: the file's own may lack any given text.
    one = Rust(models.WordLevel({"a": 0}, "a")).encode("a")
    probe = rust.post_process(one, add_special_tokens=True)
    mask = probe.special_tokens_mask
    if 0 not in mask:
        return [], []
    begin, end = mask.index(0), len(mask) - mask[::-1].index(0)
    return probe.ids[:begin], probe.ids[end:]


def _without_control(spec, text: str, control: set[str]) -> tuple[Any, Any]:
    """Return the Rust tokenizers for the start of a text and for the rest of it."""
    first = _plain(Rust.from_str(text))
    model = _hidden(spec["model"], control)
    if model is not None:
        # Only the model is taken from here: the added tokens keep their ids.
        bare = {"version": "1.0", "added_tokens": [], "model": model}
        first.model = Rust.from_str(json.dumps(bare)).model
    pre = spec.get("pre_tokenizer")
    later = _never_prepend(pre)
    if later == pre:
        return first, first
    rest = _plain(Rust.from_str(text))
    rest.model = first.model
    bare = {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel"}}
    bare["model"] |= {"vocab": {"a": 0}, "unk_token": "a"}
    rest.pre_tokenizer = Rust.from_str(
        json.dumps(bare | {"pre_tokenizer": later})
    ).pre_tokenizer
    return first, rest


def _plain(rust: Any) -> Any:
    rust.no_truncation()
    rust.no_padding()
    rust.encode_special_tokens = True  # as text: control tokens are not recognised
    if getattr(rust.model, "dropout", None):
        rust.model.dropout = None  # for training: it cuts a text at random
    return rust


def _hidden(model: dict[str, Any], control: set[str]) -> dict[str, Any] | None:
    """Return the model with secret texts for control tokens, or None if not needed."""
    if model.get("type", "BPE") != "BPE":
        return _with_secrets(model, control)
    merges = model.get("merges") or []
    pairs = [m.split(" ", 1) if isinstance(m, str) else m for m in merges]
    joined = any(left + right in control for left, right in pairs)
    if not joined and not (
        model.get("ignore_merges") and control & set(model["vocab"])
    ):
        return None
    kept = [p for p in pairs if control.isdisjoint((*p, "".join(p)))]
    return _with_secrets(model, control) | {"merges": kept}


def _with_secrets(model: dict[str, Any], control: set[str]) -> dict[str, Any]:
    # Nobody can type a secret text, and it is never printed.
    secret = secrets.token_hex(16)

    def replaced(text: str) -> str:
        return f"{secret}{text}" if text in control else text

    vocab = model["vocab"]
    if isinstance(vocab, dict):
        vocab = {replaced(text): i for text, i in vocab.items()}
    else:  # Unigram: pairs of word and score
        vocab = [[replaced(text), score] for text, score in vocab]
    unknown = model.get("unk_token")
    renamed = {"unk_token": replaced(unknown)} if isinstance(unknown, str) else {}
    return model | {"vocab": vocab} | renamed


def _never_prepend(pre: Any) -> Any:
    """Return a pre-tokenizer that adds no space, as "first" does after the start."""
    if isinstance(pre, list):
        return [_never_prepend(part) for part in pre]
    if not isinstance(pre, dict):
        return pre
    changed = {name: _never_prepend(value) for name, value in pre.items()}
    if changed.get("prepend_scheme") == "first":
        changed["prepend_scheme"] = "never"
    return changed
