"""Special tokens and settings of sampling, as the small files beside the weights say it.

Pure functions of parsed JSON and of GGUF metadata; nothing here opens a file.
"""

import re
from collections.abc import Mapping
from typing import Any

from jaxdecode.core.check import short
from jaxdecode.weights.errors import CheckpointError

GGUF_PREFIX = "general.sampling."
GGUF_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
GGUF_ONLY = ("sequence", "mirostat", "xtc_probability")  # which have no name there
TEXTS = ("bos_token", "eos_token", "pad_token", "unk_token")
# What a tokenizer calls the end of a text, of a turn, or of a message that calls a tool.
# A GGUF file names one or two of them, and its model may write another; llama.cpp goes
# by the spelling.
_ENDS = """
    <|eot_id|> <|eom_id|> <|im_end|> <|end|> <|endoftext|> <|end_of_text|> <|return|>
    <|call|> <|calls|> <|flush|> <|eot|> <|eom|> <|end_of_turn|> <end_of_turn> <turn|>
    <end_of_utterance> <|endofturn|> <EOT> _<EOT> <\uff5cend\u2581of\u2581sentence\uff5c>
"""
END_SPELLINGS = frozenset([*_ENDS.split(), "< EOT >"])
SURROGATES = re.compile("[\ud800-\udfff]")
CONTROL = 3  # the type of a control token in GGUF files
# Settings of a generation_config.json that change which token is drawn.
SAMPLING = (
    *("do_sample", "temperature", "top_h", "top_k", "top_p", "min_p", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff", "repetition_penalty", "no_repeat_ngram_size"),
    *("encoder_repetition_penalty", "bad_words_ids", "sequence_bias", "min_new_tokens"),
    *("suppress_tokens", "begin_suppress_tokens", "exponential_decay_length_penalty"),
)


def named_texts(*files: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return the texts of the special tokens, such as {"eos_token": "</s>"}.

    Args:
      *files: tokenizer_config.json and special_tokens_map.json, the first one first;
        None for a file that is not there. A token is a text, or an object with a
        "content"; null is absent.

    Returns:
      The texts by name; None if there is no file.

    Raises:
      CheckpointError: for a token that is neither.
    """
    found = [file for file in files if file is not None]
    if not found:
        return None
    texts: dict[str, str] = {}
    for name in TEXTS:
        token = next((file[name] for file in found if name in file), None)
        text = token.get("content") if isinstance(token, dict) else token
        if text is not None and not _is_text(text):
            raise CheckpointError(
                f"tokenizer_config.json: `{name}` must be a text, an object with "
                f"`content`, or null, got {short(token)}."
            )
        if text is not None:
            texts[name] = text
    return texts


def _is_text(value: Any) -> bool:
    # JSON can spell half of a surrogate pair, which is a str and no text.
    return isinstance(value, str) and not SURROGATES.search(value)


def sampling_settings(generation: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a generation_config.json says about sampling, without nulls."""
    return {k: generation[k] for k in SAMPLING if generation.get(k) is not None}


def gguf_sampling(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a GGUF file says about sampling, by generation_config.json's names.

    The keys are those of the model's generation_config.json under other names. A file
    that asks for more than it can say there is not followed by halves: it gives nothing.

    Args:
      metadata: all of it.
    """
    given = {
        key.removeprefix(GGUF_PREFIX): value
        for key, value in metadata.items()
        if key.startswith(GGUF_PREFIX)
    }
    if any(given.get(name) for name in GGUF_ONLY):
        return {}
    settings = {
        ours: given[theirs] for theirs, ours in GGUF_SAMPLING.items() if theirs in given
    }
    # 0.6, not 0.6000000238418579: a file has single precision.
    return {
        name: float(f"{value:.7g}") if isinstance(value, float) else value
        for name, value in settings.items()
    }


def all_ids(*files: Mapping[str, Any]) -> list[Any]:
    """Return the eos ids of several files, in the order of the files."""
    ids: list[Any] = []
    for file in files:
        value = file.get("eos_token_id")
        ids += value if isinstance(value, list) else [value]
    return ids


def spelled_ends(tokenizer: Mapping[str, Any]) -> list[int]:
    """Return the control tokens of a GGUF vocabulary that are spelled like an end.

    Args:
      tokenizer: the `tokenizer.ggml.*` entries without that prefix.
    """
    tokens, types = tokenizer.get("tokens"), tokenizer.get("token_type")
    if not isinstance(tokens, list):
        return []
    if not isinstance(types, list) or len(types) != len(tokens):
        types = [CONTROL] * len(tokens)  # nothing but the spelling tells
    found = {
        i: text
        for i, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind == CONTROL and isinstance(text, str) and text in END_SPELLINGS
    }
    # Where answers and calls have ends of their own, this one ends a message of several.
    several = {"<|return|>", "<|call|>"} <= set(found.values())
    return [i for i, text in found.items() if not (several and text == "<|end|>")]


def texts_of_ids(tokenizer: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the texts of the special tokens that a GGUF file names by their ids."""
    tokens = tokenizer.get("tokens")
    if not isinstance(tokens, list):
        return None
    keys = ("bos", "eos", "padding", "unknown")
    texts = {}
    for name, key in zip(TEXTS, keys, strict=True):
        token = tokenizer.get(f"{key}_token_id")
        if type(token) is int and 0 <= token < len(tokens):
            texts[name] = tokens[token]
    return texts
