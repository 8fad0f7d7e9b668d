"""Reading prompts: in blocks from the start, a bounded number of tokens at a time.

    for start in range(0, tokens - 1, block):
        cache = model(prompt[start : start + block], cache)

The blocks of a prompt do not depend on anything else, so that a beginning which another
prompt has, too, may be taken over. The last token is left to the row's first step.
"""

import dataclasses
from typing import Any

import numpy as np

from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import Model, ReadsPrompts
from jaxdecode.core.shapes import bucket
from jaxdecode.decode.prompts import Prompts
from jaxdecode.engine import programs
from jaxdecode.engine.prefixes import Prefixes, digests
from jaxdecode.engine.statistics import Statistics


@dataclasses.dataclass
class Reading:
    """A prompt that is being read.

    Attributes:
      tokens: the prompt.
      digests: of its beginnings of whole blocks.
      done: how many of its tokens are in the cache.
      cache: of one row; None before the first block.
    """

    tokens: np.ndarray
    digests: tuple[bytes, ...]
    done: int = 0
    cache: Any = None

    @property
    def is_over(self) -> bool:
        """Whether all but the last token is in the cache."""
        return self.cache is not None and self.done >= len(self.tokens) - 1


class Reader:
    """Reads prompts into caches of one row.

    Args:
      model: the model.
      length: columns of a cache.
      block: columns that are read at once.
      room: beginnings that may be kept, >= 0.
      platform: what the programs are compiled for.
      statistics: where tokens and programs are counted.
    """

    def __init__(
        self,
        model: Model,
        *,
        length: int,
        block: int,
        room: int,
        platform: Platform,
        statistics: Statistics,
    ):
        self._model, self._length, self._block = model, length, block
        self._platform, self._statistics = platform, statistics
        self._whole = isinstance(model, ReadsPrompts)
        self.prefixes = Prefixes(0 if self._whole else room)

    def begin(self, tokens: np.ndarray) -> Reading:
        """Return a prompt to be read; its beginnings are known from now on."""
        count = (len(tokens) - 1) // self._block
        found = () if self._whole else digests(tokens.tolist(), self._block, count)
        self.prefixes.note(found)
        return Reading(tokens, found)

    def read(self, reading: Reading) -> int:
        """Read the next block, and return how many tokens that were."""
        if self._whole:
            return self._read_whole(reading)
        if reading.cache is None:
            self._open(reading)
            if reading.is_over:
                return 0
        start = reading.done
        width = min(self._block, len(reading.tokens) - 1 - start)
        columns = bucket(width, high=min(self._block, self._length - start))
        tokens = np.zeros((1, columns), np.int32)
        tokens[0, :width] = reading.tokens[start : start + width]
        self._statistics.programs.add(("read", columns))
        reading.cache = programs.read_block(
            self._model, reading.cache, tokens, np.int32(start)
        )
        reading.done += width
        if reading.done == self._block * self.prefixes.worth_keeping(reading.digests):
            self._statistics.programs.add("copied")
            kept = programs.copied(self._model, reading.cache)
            self.prefixes.keep(reading.digests[reading.done // self._block - 1], kept)
        return width

    def _open(self, reading: Reading) -> None:
        """Begin with the longest beginning that was kept, or with nothing."""
        blocks, kept = self.prefixes.longest(reading.digests)
        if blocks:
            self._statistics.programs.add("copied")
            reading.cache = programs.copied(self._model, kept)
            reading.done = blocks * self._block
            self._statistics.reused_tokens += reading.done
        else:
            reading.cache = programs.empty_cache(self._model, length=self._length)

    def _read_whole(self, reading: Reading) -> int:
        count = len(reading.tokens)
        columns = bucket(count, high=self._length)
        tokens = np.zeros((1, columns), np.int32)
        tokens[0, :count] = reading.tokens
        prompt = Prompts(tokens, np.asarray([count], np.int32))
        self._statistics.programs.add(("read", columns))
        reading.cache = programs.read_whole(
            self._model, prompt, length=self._length, platform=self._platform
        )
        reading.done = count
        return count
