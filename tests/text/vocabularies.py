"""Tiny vocabularies, as the metadata of a GGUF file or as a tokenizer.json."""

import json

from tests.reference.bpe import byte_letters

MERGES = [
    ("h", "e"),
    ("l", "l"),
    ("he", "ll"),
    ("hell", "o"),
    ("Ġ", "w"),
    ("Ġw", "o"),
    ("r", "l"),
    ("rl", "d"),
    ("Ġwo", "rld"),
    ("Ġ", "Ġ"),
    ("1", "2"),
    ("<", "|"),
    ("|", ">"),
]
CONTROL = ["<|end|>", "<|start|>"]
NORMAL, UNKNOWN, CONTROL_TYPE, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def byte_level(pre="gpt-2", merges=MERGES, control=CONTROL, words=(), **more):
    """GGUF metadata of a byte-level vocabulary: control tokens, words, bytes, merges."""
    letters = list(byte_letters().values())
    joined = ["".join(pair) for pair in merges]
    tokens = [*control, *words, *letters, *joined]
    types = [CONTROL_TYPE] * len(control) + [USER] * len(words)
    types += [NORMAL] * (len(letters) + len(joined))
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": types,
        "merges": [" ".join(pair) for pair in merges],
        "eos_token_id": 0,
        "bos_token_id": 1,
        **more,
    }


SCORED = {
    "▁": -9.0,
    "h": -10.0,
    "e": -11.0,
    "l": -12.0,
    "o": -13.0,
    "a": -14.0,
    "s": -14.5,
    "<": -14.6,
    ">": -14.7,
    "ll": -1.0,
    "he": -2.0,
    "hell": -3.0,
    "hello": -4.0,
    "▁hello": -5.0,
    "▁h": -1.5,
    "▁he": -2.5,
    "aa": -6.0,
    "aaa": -7.0,
    "s>": -0.5,
    "日": -15.0,
}


def sentence_piece(bytes_too=True, words=(), **more):
    """GGUF metadata of a SentencePiece vocabulary with scores."""
    tokens, types = ["<unk>", "<s>", "</s>"], [UNKNOWN, CONTROL_TYPE, CONTROL_TYPE]
    if bytes_too:
        tokens += [f"<0x{byte:02X}>" for byte in range(256)]
        types += [BYTE] * 256
    tokens += [*words, *SCORED]
    types += [USER] * len(words) + [NORMAL] * len(SCORED)
    return {
        "model": "llama",
        "tokens": tokens,
        "token_type": types,
        "scores": [SCORED.get(token, 0.0) for token in tokens],
        "unknown_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


def added(token_id, content, special=True, **flags):
    """An entry of `added_tokens` in a tokenizer.json."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": content, "special": special, **plain, **flags}


def write_json(path, vocab, merges, *, added_tokens=(), **parts):
    """Write a tokenizer.json with a BPE model, and return its path."""
    model = {
        "type": "BPE",
        "vocab": vocab,
        "merges": [list(pair) for pair in merges],
        **parts.pop("model", {}),
    }
    spec = {"version": "1.0", "added_tokens": list(added_tokens), "model": model}
    path.write_text(json.dumps(spec | parts), encoding="utf-8")
    return path


def byte_level_json(path, *, merges=MERGES, control=CONTROL, **parts):
    """Write a byte-level tokenizer.json; control tokens stand first, as in GPT-2."""
    letters = list(byte_letters().values())
    tokens = [*control, *letters, *("".join(pair) for pair in merges)]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    defaults = {
        "added_tokens": [added(vocab[token], token) for token in control],
        "pre_tokenizer": {**bytes_, "use_regex": True},
        "decoder": bytes_,
    }
    return write_json(path, vocab, merges, **(defaults | parts))
