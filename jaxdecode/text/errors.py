"""What can be wrong with a tokenizer or a chat template.

Both are ValueErrors of our own, so that a caller can tell a bad file from a mistake in a
program, and the command line can print one line.
"""


class TokenizerError(ValueError):
    """A tokenizer that is broken or of a kind that is not supported, or missing."""


class ChatTemplateError(ValueError):
    """A chat template that is broken, missing, went beyond its limits, or refused."""
