"""Who gets a slot next: plain Python that knows neither JAX nor what a job is.

Jobs wait in the order in which they came. A job asks for one slot per sample, in a pool
of rows of its own structure. At most `pools_max` pools have rows at a time; a structure
without one takes the place of an idle pool. While none is idle, jobs that came later
overtake the waiting one a limited number of times: then its turn comes, however many of
them there are.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Hashable

OVERTAKEN = 4  # times the slots: how often a structure without a pool is overtaken


@dataclasses.dataclass
class _Pool:
    """The slots of one structure."""

    slots: list[int | None]  # the job in each
    free: list[int]  # kept in descending order: the lowest slot is taken first

    @property
    def is_idle(self) -> bool:
        return len(self.free) == len(self.slots)


@dataclasses.dataclass
class _Waiting:
    """A job that is not wholly in slots yet."""

    number: int
    samples: int
    placed: int = 0


class Scheduler:
    """Puts jobs into slots.

    Args:
      slots: rows of a pool, >= 1.
      pools_max: pools that may have rows at a time, >= 1.
    """

    def __init__(self, slots: int, pools_max: int):
        self.slots, self._pools_max = slots, pools_max
        self._pools: OrderedDict[Hashable, _Pool] = OrderedDict()
        self._queues: OrderedDict[Hashable, OrderedDict[int, _Waiting]] = OrderedDict()
        self._overtaken: dict[Hashable, int] = {}

    def add(self, number: int, structure: Hashable, samples: int) -> None:
        """Let a job wait. Numbers grow: a larger one came later."""
        queue = self._queues.setdefault(structure, OrderedDict())
        queue[number] = _Waiting(number, samples)

    def remove(self, number: int) -> None:
        """Let a job wait no longer; rows of it that run are freed one by one."""
        for structure, queue in list(self._queues.items()):
            if queue.pop(number, None) is not None and not queue:
                self._drop(structure)

    @property
    def is_waiting(self) -> bool:
        """Whether a job waits for a slot."""
        return bool(self._queues)

    @property
    def structures(self) -> list[Hashable]:
        """The structures that have a pool."""
        return list(self._pools)

    def next(self) -> int | None:
        """Return the job that gets the next slot, or None if none can have one.

        Its structure has a pool afterwards, with a free slot.
        """
        starving = None
        for structure, queue in sorted(self._queues.items(), key=_arrival):
            pool = self._pools.get(structure) or self._opened(structure)
            if pool is None:
                starving = structure if starving is None else starving
                continue
            if not pool.free:
                continue
            if starving is not None:
                if self._overtaken.get(starving, 0) >= OVERTAKEN * self.slots:
                    continue
                self._overtaken[starving] = self._overtaken.get(starving, 0) + 1
            return next(iter(queue))
        return None

    def place(self, number: int) -> tuple[Hashable, int, int]:
        """Put the next sample of a waiting job into a slot.

        Returns:
          Its structure, the slot, and which sample it is.
        """
        structure = self._structure_of(number)
        pool, queue = self._pools[structure], self._queues[structure]
        waiting = queue[number]
        slot = pool.free.pop()
        pool.slots[slot] = number
        sample, waiting.placed = waiting.placed, waiting.placed + 1
        if waiting.placed == waiting.samples:
            del queue[number]
            if not queue:
                self._drop(structure)
        return structure, slot, sample

    def has_room(self, number: int) -> bool:
        """Whether a job waits and a slot of its structure is free."""
        for structure, queue in self._queues.items():
            if number in queue:
                return structure in self._pools and bool(self._pools[structure].free)
        return False

    def free(self, structure: Hashable, slot: int) -> None:
        """Say that the row in a slot has ended."""
        pool = self._pools[structure]
        pool.slots[slot] = None
        pool.free.append(slot)
        pool.free.sort(reverse=True)

    def _opened(self, structure: Hashable) -> _Pool | None:
        """Return a new pool, in the place of an idle one if there must be one."""
        if len(self._pools) >= self._pools_max:
            idle = [key for key, pool in self._pools.items() if pool.is_idle]
            # A structure that waits itself keeps its pool if another can give way.
            idle.sort(key=lambda key: key in self._queues)
            if not idle:
                return None
            del self._pools[idle[0]]
        self._overtaken.pop(structure, None)
        free = list(range(self.slots))[::-1]
        pool = self._pools[structure] = _Pool([None] * self.slots, free)
        return pool

    def _structure_of(self, number: int) -> Hashable:
        return next(s for s, queue in self._queues.items() if number in queue)

    def _drop(self, structure: Hashable) -> None:
        del self._queues[structure]
        self._overtaken.pop(structure, None)


def _arrival(item: tuple[Hashable, OrderedDict[int, _Waiting]]) -> int:
    return next(iter(item[1]))
