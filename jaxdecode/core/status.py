"""How a row ended: the reasons, as small integers that live in an int8 array."""

import enum


class Status(enum.IntEnum):
    """Why a row stopped.

    `RUNNING` is seen only in streams; a returned result has one of the others.
    """

    RUNNING = 0
    EOS = 1  # it drew an end-of-sequence id, which is its last token
    LENGTH = 2  # it drew as many tokens as it was allowed
    STOP = 3  # a stop sequence was completed
    INVALID = 4  # its logits held NaN or +inf, or every token was banned
