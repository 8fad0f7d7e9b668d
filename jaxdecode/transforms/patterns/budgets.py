"""Which tokens fit, for each state and each number of tokens that are left.

A token fits while `left` tokens remain if a text can be ended after it within the others:
`1 + least[follows] <= left`. With more left, more fits, until it is what would fit
without a limit. Equal masks are kept once.
"""

import dataclasses

import numpy as np

from jaxdecode.transforms.patterns.errors import too_large
from jaxdecode.transforms.patterns.lifting import DEAD, NEVER_ENDS, TokenAutomaton

ENTRIES_MAX = 2**22
AT_ONCE = 2**24  # booleans


@dataclasses.dataclass(frozen=True, eq=False)
class Budgets:
    """Mask `chosen[first[s] + clip(left - least[s], 0, span[s])]` is the one of state s.

    Attributes:
      masks: bool [D, C], the classes of tokens that fit; mask 0 is empty.
      chosen: int32 [E], numbers of masks.
      first: int32 [S].
      span: int32 [S], after how many more tokens nothing new fits.
    """

    masks: np.ndarray
    chosen: np.ndarray
    first: np.ndarray
    span: np.ndarray


def budgets_of(automaton: TokenAutomaton) -> Budgets:
    """Return the masks of an automaton.

    Raises:
      PatternError: if there are too many.
    """
    least = automaton.least
    costs = np.where(
        automaton.follows.T == DEAD, NEVER_ENDS, least[automaton.follows.T] + 1
    )
    ordered = np.sort(costs, axis=1)
    is_new = np.ones(costs.shape, np.bool_)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    is_new &= ordered < NEVER_ENDS
    states, columns = np.nonzero(is_new)
    limits = ordered[states, columns]
    masks, numbers = _distinct(costs, states, limits)
    most = np.where(is_new, ordered, 0).max(axis=1)
    span = np.maximum(most - least, 0)
    span[DEAD] = 0
    first = 1 + np.append(0, np.cumsum(span[1:] + 1)[:-1])
    first = np.append(0, first) if len(span) > 1 else np.zeros(1, np.int64)
    total = int(first[-1] + span[-1] + 1)
    if total > ENTRIES_MAX:
        raise too_large("numbers of tokens left", ENTRIES_MAX)
    return Budgets(
        masks=masks,
        chosen=_chosen(first, span, least, states, limits, numbers, total),
        first=first.astype(np.int32),
        span=span.astype(np.int32),
    )


def _chosen(first, span, least, states, limits, numbers, total) -> np.ndarray:
    """Return the mask at every place: that of the last limit which is reached."""
    # A mask's place is where it begins; between two of a state the earlier one stays.
    begins = np.full(total, -1, np.int64)
    begins[first] = 0  # an accepting state begins with nothing but the end
    begins[first[states] + limits - least[states]] = numbers
    last = np.maximum.accumulate(np.where(begins >= 0, np.arange(total), 0))
    return begins[last].astype(np.int32)


def _distinct(costs, states, limits) -> tuple[np.ndarray, np.ndarray]:
    """Return masks without repeats, and the number of each state and limit's."""
    width = costs.shape[1]
    found: dict[bytes, int] = {np.packbits(np.zeros(width, np.bool_)).tobytes(): 0}
    numbers = []
    size = max(1, AT_ONCE // width)
    for start in range(0, len(states), size):
        part = slice(start, start + size)
        bits = np.packbits(costs[states[part]] <= limits[part, None], axis=1)
        numbers += [found.setdefault(row.tobytes(), len(found)) for row in bits]
    packed = np.frombuffer(b"".join(found), np.uint8).reshape(len(found), -1)
    masks = np.unpackbits(packed, axis=1, count=width).astype(np.bool_)
    return masks, np.asarray(numbers, np.int64)
