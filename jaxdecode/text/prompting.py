"""From texts to token lists; bad ones are refused."""

from collections.abc import Sequence
from typing import Any

from jaxdecode.core import check
from jaxdecode.text.tokenizer import Tokenizer, check_text

PROMPT_KINDS = "a str or a list of str"


def encode_prompts(
    who: str, tokenizer: Tokenizer, prompt: str | Sequence[str], parse_special: bool
) -> list[list[int]]:
    """Return the tokens of a text, or of each text of a list.

    Raises:
      TypeError: for anything but a str or a list of str.
      ValueError: for an empty list, or a text without a token.
    """
    texts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(texts, (list, tuple)):
        raise wrong_kind(who, "prompt", PROMPT_KINDS, prompt)
    if not texts:
        raise ValueError(f"{who}: `prompt` must hold at least one text, got none.")
    prompts = []
    for i, text in enumerate(texts):
        name = "prompt" if isinstance(prompt, str) else f"prompt[{i}]"
        if not isinstance(text, str):
            raise wrong_kind(who, name, "a str", text)
        check_text(who, name, text)
        pieces = tokenizer.split(text) if parse_special else [text]
        prompts.append(tokenizer.encode_pieces(pieces, who=who))
        if not prompts[-1]:
            raise ValueError(
                f"{who}: `{name}` must have at least one token, got {text!r}."
            )
    return prompts


def wrong_kind(who: str, name: str, kind: str, value: Any) -> TypeError:
    """Return the error for an argument of the wrong kind."""
    return TypeError(
        f"{who}: `{name}` must be {kind}, got {check.short(value)} "
        f"({type(value).__name__})."
    )
