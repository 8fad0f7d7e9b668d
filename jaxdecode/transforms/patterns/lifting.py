"""From bytes to tokens: an automaton that reads a token a step.

What a token does is a column: the state it leads to from every state. A longer token's
column is that of its beginning, followed by one byte; many tokens do the same, so a few
hundred columns stand for a whole vocabulary. They are the classes of the tokens.
"""

import dataclasses

import numpy as np

from jaxdecode.transforms.patterns.byte_automaton import ByteAutomaton, expand
from jaxdecode.transforms.patterns.errors import LIFTED_MAX, PatternError, too_large
from jaxdecode.transforms.patterns.trie import Trie

DEAD, START = 0, 1
NEVER_ENDS = 2**30  # tokens; no text has as many
AT_ONCE = 2**22  # entries of columns that are made together
COMPOSED_MAX = 2**28  # entries of all columns that are looked at


@dataclasses.dataclass(frozen=True, eq=False)
class TokenAutomaton:
    """State `DEAD` is behind a token that fits nothing; `START` is the start.

    Attributes:
      follows: uint16 [C, S], where a token of each class leads from each state.
      classes: int32 [V], the class of each token; class 0 leads to `DEAD` from all.
      accepts: bool [S], whether a text may end in a state.
      least: int32 [S], the fewest tokens to an end, the one that ends the text counted.
    """

    follows: np.ndarray
    classes: np.ndarray
    accepts: np.ndarray
    least: np.ndarray


def lift(automaton: ByteAutomaton, trie: Trie) -> TokenAutomaton:
    """Return the automaton over tokens, without states that no tokens lead on from.

    Raises:
      PatternError: if the vocabulary spells no text that fits, or it is too large.
    """
    columns, of_node = _columns(automaton, trie)
    of_token = np.where(trie.is_text, of_node[trie.node], 0)
    used, classes = np.unique(np.append(0, of_token), return_inverse=True)
    follows = columns[used]
    if follows.size > LIFTED_MAX:
        raise too_large("entries (states times kinds of tokens)", LIFTED_MAX)
    accepts = np.append(False, automaton.accepts)
    least = _least(follows, accepts)
    if least[START] >= NEVER_ENDS:
        raise PatternError(
            "the vocabulary must spell a text that fits, and no tokens do."
        )
    follows = np.where(least[follows] < NEVER_ENDS, follows, DEAD)
    kept = np.flatnonzero(_reached(follows))
    number = np.zeros(len(accepts), np.uint16)
    number[kept] = np.arange(len(kept))
    follows, renamed = _distinct(number[follows[:, kept]])
    return TokenAutomaton(
        follows=follows,
        classes=renamed[classes[1:]].astype(np.int32),
        accepts=accepts[kept],
        least=least[kept].astype(np.int32),
    )


def _columns(automaton: ByteAutomaton, trie: Trie) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct columns [C, S + 1], and the column of each node of the trie."""
    states, kinds = automaton.follows.shape
    step = np.zeros((kinds, states + 1), np.uint16)  # state i is i + 1, DEAD is 0
    step[:, 1:] = automaton.follows.T + 1
    book = _Columns(step)
    of_node = [np.asarray([book.add(np.arange(states + 1, dtype=np.uint16))])]
    before = 0  # the first node of the level above
    for parents, letters in trie.levels:
        above = of_node[-1][parents - before]
        before += len(of_node[-1])
        alive = np.flatnonzero(above)
        below = np.zeros(len(parents), np.int64)
        if alive.size:
            keys = above[alive] * kinds + automaton.classes[letters[alive]]
            below[alive] = book.follow(keys)
        of_node.append(below)
    return np.stack(book.columns), np.concatenate(of_node)


class _Columns:
    """Columns by number; 0 leads to `DEAD` from everywhere.

    Args:
      step: uint16 [K, S + 1], the column of a byte of each class.
    """

    def __init__(self, step: np.ndarray):
        self.step = step
        self.columns: list[np.ndarray] = []
        self.numbers: dict[bytes, int] = {}
        self.known: dict[int, int] = {}
        self.work = 0
        self.add(np.zeros(step.shape[1], np.uint16))

    def add(self, column: np.ndarray) -> int:
        """Return the number of a column."""
        number = self.numbers.setdefault(column.tobytes(), len(self.columns))
        if number == len(self.columns):
            self.columns.append(column)
            if number * column.size > 2 * LIFTED_MAX:
                raise too_large("entries of columns", 2 * LIFTED_MAX)
        return number

    def follow(self, keys: np.ndarray) -> np.ndarray:
        """Return the columns of (column, class) pairs, given as column * K + class."""
        unique, inverse = np.unique(keys, return_inverse=True)
        fresh = [key for key in unique.tolist() if key not in self.known]
        kinds, width = self.step.shape
        self.work += len(fresh) * width
        if self.work > COMPOSED_MAX:
            raise too_large("steps over its tokens", COMPOSED_MAX)
        size = max(1, AT_ONCE // width)
        for start in range(0, len(fresh), size):
            part = fresh[start : start + size]
            old = np.stack([self.columns[key // kinds] for key in part])
            kind = np.asarray(part) % kinds
            for key, column in zip(part, self.step[kind[:, None], old], strict=True):
                self.known[key] = self.add(column)
        return np.asarray([self.known[key] for key in unique.tolist()])[inverse]


def _least(follows: np.ndarray, accepts: np.ndarray) -> np.ndarray:
    """Return the fewest tokens from each state to an end, the last one counted."""
    states = len(accepts)
    sources = np.argsort(follows, axis=None, kind="stable")  # radix: 16 bits
    sizes = np.bincount(follows.reshape(-1), minlength=states)
    ends = np.cumsum(sizes)
    sources %= states
    least = np.where(accepts, 1, NEVER_ENDS)
    edge = np.flatnonzero(accepts)
    count = 1
    while edge.size:
        count += 1
        before = sources[expand(ends[edge] - sizes[edge], ends[edge])]
        least[before] = np.minimum(least[before], count)
        edge = np.flatnonzero(least == count)
    least[DEAD] = NEVER_ENDS
    return least


def _reached(follows: np.ndarray) -> np.ndarray:
    """Return which states the start reaches, `DEAD` among them, bool [S]."""
    found = np.zeros(follows.shape[1], np.bool_)
    found[[DEAD, START]] = True
    edge = np.asarray([START])
    while edge.size:
        after = np.zeros_like(found)
        after[follows[:, edge]] = True
        edge = np.flatnonzero(after & ~found)
        found |= after
    return found


def _distinct(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns without repeats, and the new number of each, in order."""
    numbers: dict[bytes, int] = {}
    renamed = [numbers.setdefault(c.tobytes(), len(numbers)) for c in columns]
    first = np.unique(renamed, return_index=True)[1]
    return columns[first], np.asarray(renamed)
