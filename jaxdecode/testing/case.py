"""What the laws are tried on: a link, and rows of every kind with their histories."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxdecode.sampling import apply
from jaxdecode.transforms import Chain, Context, Link

LENGTH = 11
Oracle = Callable[[list[float], list[int], list[int]], list[float]]


@dataclasses.dataclass(frozen=True)
class Case:
    """A link with what is known about it.

    Attributes:
      link: the link or chain, with parameters that act.
      neutral: the same with its neutral parameters, or None if there are none.
      varied: the same structure with other values, or None.
      oracle: what one row should become, from its logits (a list of floats), its prompt
        and its generated tokens; None if there is nothing to compare with.
      keeps_argmax: whether the best token of a row is still the best afterwards.
      names_tokens: whether it knows tokens by their ids, so that a permuted vocabulary
        is another one.
      bans: whether it may ban all tokens of a row that had few.
      feedback: whether its state depends on more than the tokens.
      tolerance: relative difference allowed between the link and its oracle.
      vocab_size: V.
    """

    link: Link | Chain
    neutral: Link | Chain | None = None
    varied: Link | Chain | None = None
    oracle: Oracle | None = None
    keeps_argmax: bool = False
    names_tokens: bool = False
    bans: bool = False
    feedback: bool = False
    tolerance: float = 2e-5
    vocab_size: int = 37

    @property
    def rows(self) -> np.ndarray:
        """Rows of every kind, float32 [12, V]."""
        return np.stack(list(rows_of_every_kind(self.vocab_size).values()))

    @property
    def distinct(self) -> np.ndarray:
        """Which rows have no two equal logits, bool [12]."""
        return np.asarray([np.unique(row).size == row.size for row in self.rows])

    @property
    def histories(self) -> tuple[list[list[int]], list[list[int]]]:
        """A prompt and generated tokens for each row, of one length together."""
        rng = np.random.default_rng(7)
        size = min(5, self.vocab_size)
        tokens = rng.integers(0, size, size=(len(self.rows), LENGTH)).tolist()
        splits = [3 + i % 6 for i in range(len(tokens))]
        pairs = list(zip(tokens, splits, strict=True))
        return [row[:s] for row, s in pairs], [row[s:] for row, s in pairs]

    def process(
        self, link: Link | Chain, rows: Any = None, *, at: Any = None, names: Any = None
    ) -> np.ndarray:
        """Return processed rows.

        Args:
          link: what to process them with.
          rows: [12, V]; None is `rows`.
          at: which rows to take; None is all.
          names: the new id of each token [V], for the histories; None keeps them.
        """
        rows = self.rows if rows is None else rows
        at = range(len(rows)) if at is None else at
        prompts, generated = (
            [[t if names is None else int(names[t]) for t in history[i]] for i in at]
            for history in self.histories
        )
        keys = self.keys[np.asarray(at)]
        taken = rows[np.asarray(at)]
        done = apply(link, taken, prompts=prompts, generated=generated, key=keys)
        return np.asarray(done)

    @property
    def keys(self) -> jax.Array:
        """The step key of each row, [12]."""
        return jax.random.split(jax.random.key(3), len(self.rows))

    def contexts(self, length: int = LENGTH) -> Context:
        """Return the contexts of all rows after the first `length` of their tokens."""
        prompts, generated = self.histories
        pairs = zip(prompts, generated, strict=True)
        tokens = np.asarray([p + g for p, g in pairs], np.int32)
        count = len(tokens)
        return Context(
            tokens=np.pad(tokens, ((0, 0), (0, 2))),
            length=np.full(count, length, np.int32),
            prompt_length=np.asarray([len(p) for p in prompts], np.int32),
            key=self.keys,
            vocab_size=self.vocab_size,
        )


def rows_of_every_kind(vocab: int = 37, seed: int = 0) -> dict[str, np.ndarray]:
    """Return {kind: float32 row [V]}: ordinary ones and those that break code."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=vocab)
    ids = np.arange(vocab)
    banned = rng.uniform(size=vocab) < 0.8
    rows = {
        "normal": normal,
        "wide": 6 * rng.normal(size=vocab),
        "peaked": 9.0 * (ids == vocab // 2) + 0.3 * normal,
        "flat": np.full(vocab, 0.75),
        "tied": rng.integers(-3, 4, size=vocab) / 2,
        "two best": np.where((ids == 2) | (ids == vocab - 2), 4.0, normal),
        "huge": np.where(ids % 3 == 0, 3e38, -3e38) * rng.uniform(0.1, 1, size=vocab),
        "far": -5e4 + 10 * normal,
        "mostly banned": np.where(banned & (ids != vocab // 5), -np.inf, normal),
        "one allowed": np.where(ids == vocab // 3, -1.0, -np.inf),
        "falling": np.linspace(3.0, -9.0, vocab),
        "plateau": np.where(ids % 2 == 0, 1.0, -1.0),
    }
    return {kind: row.astype(np.float32) for kind, row in rows.items()}
