"""A tokenizer from the metadata of a GGUF file.

GGUF stores the vocabulary, but only the name (`pre`) of the rule that cuts text into
words before merging (`word_rules`).
"""

from bisect import bisect_left
from typing import Any

from tokenizers import AddedToken, models, normalizers
from tokenizers import Tokenizer as Rust

from jaxdecode.core.check import short
from jaxdecode.core.refusing import refusing
from jaxdecode.text.detokenizer import SPACE_MARK, Pieces
from jaxdecode.text.errors import TokenizerError, UnsupportedTokenizerError
from jaxdecode.text.special_tokens import Special
from jaxdecode.text.tokenizer import Tokenizer
from jaxdecode.text.word_rules import (
    BEGINS_WITH_BOS,
    SPACED,
    WHOLE_WORDS,
    lines,
)
from jaxdecode.text.word_rules import WORD_RULES as WORD_RULES
from jaxdecode.text.word_rules import pre_tokenizer as pre_tokenizer

# Characters looked at to find merges; the largest vocabularies in use need 2**24.
MERGING_MAX = 2**27
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def from_gguf(metadata: dict[str, Any]) -> Tokenizer:
    """Build a tokenizer from GGUF metadata.

    Args:
      metadata: the `tokenizer.ggml.*` entries without that prefix, as plain values.

    Returns:
      The tokenizer.

    Raises:
      TokenizerError: for an unknown `model` or `pre`, or metadata that is incomplete or
        inconsistent.
    """
    with refusing(TokenizerError, "tokenizer.ggml: cannot be built"):
        return _built(metadata)


def _built(metadata: dict[str, Any]) -> Tokenizer:
    kind = metadata.get("model")
    builders = {"gpt2": _byte_level, "llama": _sentence_piece, "gemma4": _spaced}
    if not isinstance(kind, str) or kind not in builders:
        known = ", ".join(builders)
        raise UnsupportedTokenizerError(
            f"tokenizer.ggml.model: must be one of {known}, got {short(kind)}."
        )
    tokens = _strings(metadata, "tokens")
    types = _types(metadata, len(tokens))
    if metadata.get("pre") in SPACED and SPACE_MARK in "".join(tokens):
        kind = "gemma4" if kind == "gpt2" else kind
    rust, pieces = builders[kind](metadata, tokens, types)
    _add_words(rust, tokens, types)
    prefix, suffix, bos = _around(metadata, kind, len(tokens))
    special = [
        Special(text, i)
        for i, (text, type_) in enumerate(zip(tokens, types, strict=True))
        if type_ in (CONTROL, UNKNOWN)
    ]
    return Tokenizer(
        rust,
        rust,
        pieces,
        special=special,
        prefix=prefix,
        suffix=suffix,
        bos_id=bos,
        vocab_size=len(tokens),
    )


def _byte_level(metadata: dict[str, Any], tokens: list[str], types: list[int]):
    pre = metadata.get("pre")
    rust_pre = pre_tokenizer(pre)
    vocab = _vocabulary(tokens, types, (NORMAL, USER_DEFINED))
    merges = _merges(metadata, tokens, types)
    rust = Rust(
        models.BPE(vocab=vocab, merges=merges, ignore_merges=pre in WHOLE_WORDS)
    )
    rust.pre_tokenizer = rust_pre
    literal = frozenset(i for i, t in enumerate(types) if t != NORMAL)
    return rust, Pieces(dict(enumerate(tokens)), "bytes", literal=literal)


def _spaced(metadata: dict[str, Any], tokens: list[str], types: list[int]):
    """Build merges of characters, with a mark for the space and tokens for bytes."""
    vocab = _vocabulary(tokens, types, (NORMAL, USER_DEFINED, BYTE))
    merges = _merges(metadata, tokens, types)
    rust = Rust(_with_unknown(metadata, tokens, vocab, merges))
    rust.normalizer = normalizers.Replace(" ", SPACE_MARK)
    rust.pre_tokenizer = lines()
    literal = frozenset(i for i, t in enumerate(types) if t not in (NORMAL, BYTE))
    pieces = dict(enumerate(tokens))
    return rust, Pieces(pieces, "spaces", literal=literal, byte_tokens=True)


def _sentence_piece(metadata: dict[str, Any], tokens: list[str], types: list[int]):
    vocab = _vocabulary(tokens, types, (NORMAL, USER_DEFINED, BYTE))
    words = {t: i for t, i in vocab.items() if types[i] == NORMAL}
    merges = merges_from_scores(words, _scores(metadata, len(tokens)))
    rust = Rust(_with_unknown(metadata, tokens, vocab, merges))
    prefix = metadata.get("add_space_prefix", True)
    rust.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE_MARK)] * bool(prefix)
        + [normalizers.Replace(" ", SPACE_MARK)]
    )
    literal = frozenset(i for i, t in enumerate(types) if t not in (NORMAL, BYTE))
    style = Pieces(
        dict(enumerate(tokens)),
        "spaces",
        literal=literal,
        byte_tokens=True,
        strip=int(bool(prefix)),
    )
    return rust, style


def _with_unknown(metadata, tokens: list[str], vocab, merges) -> models.BPE:
    """Return merges of characters; what has no token is its bytes, or unknown."""
    unknown = metadata.get("unknown_token_id", 0)
    if not _is_id(unknown, len(tokens)):
        raise TokenizerError(
            f"tokenizer.ggml.unknown_token_id: must be a token id, got "
            f"{short(unknown)}."
        )
    vocab.setdefault(tokens[unknown], unknown)
    return models.BPE(
        vocab=vocab,
        merges=merges,
        unk_token=tokens[unknown],
        fuse_unk=True,
        byte_fallback=True,
    )


def _merges(metadata, tokens, types) -> list[tuple[str, str]]:
    control = {t for t, type_ in zip(tokens, types, strict=True) if type_ == CONTROL}
    merges = []
    for merge in _strings(metadata, "merges"):
        left, _, right = merge.partition(" ")
        if not (left and right):
            raise TokenizerError(
                f"tokenizer.ggml.merges: must be two tokens and a space, got "
                f"{short(merge)}."
            )
        if control.isdisjoint((left, right, left + right)):
            merges.append((left, right))
    return merges


def merges_from_scores(
    words: dict[str, int], scores: list[float]
) -> list[tuple[str, str]]:
    """Return the BPE merges equivalent to a SentencePiece vocabulary with scores.

    SentencePiece joins the two neighbours whose union has the highest score. So every
    way to cut a token into two tokens is a merge, ranked by the score of the whole. At
    equal scores SentencePiece takes the leftmost pair in the text; merges have one fixed
    order, by id and then with the shorter left part first.

    A token is cut only where both parts have the length of some token: one token of a
    megabyte among short ones costs nothing.

    Args:
      words: ordinary tokens and their ids.
      scores: one score per id.

    Raises:
      TokenizerError: if the tokens are so many and long that it would take too long.
    """
    ranked = sorted(words, key=lambda word: (-scores[words[word]], words[word]))
    lengths = sorted(set(map(len, words)))
    same = {word: word for word in words}  # one copy of each text, however many merges
    merges, work = [], 0
    for word in ranked:
        parts = lengths[: bisect_left(lengths, len(word))]
        cuts = sorted({len(word) - size for size in parts}.intersection(parts))
        work += len(cuts) * len(word)
        if work > MERGING_MAX:
            raise TokenizerError(
                "tokenizer.ggml.tokens: must not be so long that cutting each of them "
                f"in two takes more than {MERGING_MAX} steps."
            )
        pairs = ((word[:cut], word[cut:]) for cut in cuts)
        merges += [(same[a], same[b]) for a, b in pairs if a in same and b in same]
    return merges


def _vocabulary(tokens, types, kinds) -> dict[str, int]:
    # Without control tokens: no text can be cut into one.
    vocab: dict[str, int] = {}
    for i, (text, type_) in enumerate(zip(tokens, types, strict=True)):
        if type_ in kinds and text:
            vocab.setdefault(text, i)
    return vocab


def _add_words(rust: Any, tokens: list[str], types: list[int]) -> None:
    words = [t for t, type_ in zip(tokens, types, strict=True) if type_ == USER_DEFINED]
    rust.add_tokens([AddedToken(t, normalized=False, special=False) for t in words])


def _around(metadata, kind, size):
    pre = metadata.get("pre")
    bos = metadata.get("bos_token_id", 1 if kind == "llama" else None)
    eos = metadata.get("eos_token_id", 2 if kind == "llama" else None)
    begins = kind == "llama" or (pre in BEGINS_WITH_BOS and bos is not None)
    prefix = _edge("bos", bos, size) if metadata.get("add_bos_token", begins) else ()
    suffix = _edge("eos", eos, size) if metadata.get("add_eos_token", False) else ()
    return prefix, suffix, bos if _is_id(bos, size) else None


def _edge(name: str, token: Any, size: int) -> tuple[int, ...]:
    if not _is_id(token, size):
        raise TokenizerError(
            f"tokenizer.ggml.{name}_token_id: must be a token id below {size}, as "
            f"add_{name}_token is set, got {short(token)}."
        )
    return (token,)


def _types(metadata: dict[str, Any], size: int) -> list[int]:
    types = metadata.get("token_type")
    if types is None:
        named = ("bos", "eos", "padding", "unknown")
        control = [metadata.get(f"{name}_token_id") for name in named]
        return [CONTROL if i in control else NORMAL for i in range(size)]
    return _numbers("token_type", types, size)


def _scores(metadata: dict[str, Any], size: int) -> list[float]:
    return _numbers("scores", metadata.get("scores"), size)


def _numbers(name: str, values: Any, size: int) -> list[Any]:
    if not isinstance(values, (list, tuple)) or len(values) != size:
        got = "nothing" if values is None else f"{len(values)} values"
        raise TokenizerError(
            f"tokenizer.ggml.{name}: must have one value per token ({size}), got {got}."
        )
    if not all(isinstance(v, (int, float)) and v == v for v in values):
        raise TokenizerError(f"tokenizer.ggml.{name}: must be numbers.")
    return list(values)


def _strings(metadata: dict[str, Any], name: str) -> list[str]:
    values = metadata.get(name)
    if not isinstance(values, (list, tuple)) or not all(
        isinstance(v, str) for v in values
    ):
        raise TokenizerError(f"tokenizer.ggml.{name}: must be a list of strings.")
    if name == "tokens" and not values:
        raise TokenizerError("tokenizer.ggml.tokens: must not be empty.")
    return list(values)


def _is_id(token: Any, size: int) -> bool:
    return type(token) is int and 0 <= token < size
