"""Errors of tokenizers and chat templates.

Both are ValueErrors. Their own types let a caller tell a bad file from a programming
mistake.
"""


class TokenizerError(ValueError):
    """A tokenizer is broken, not supported, or missing."""


class UnsupportedTokenizerError(TokenizerError):
    """A tokenizer is of a kind that is not known; its model runs on token ids."""


class ChatTemplateError(ValueError):
    """A chat template is broken or missing, exceeded a limit, or refused the messages."""
