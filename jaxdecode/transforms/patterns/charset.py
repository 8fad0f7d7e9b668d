"""Sets of characters, and the bytes that spell them in UTF-8.

A set is a sorted tuple of ranges (first, last) of code points that do not touch. There
are no surrogates: UTF-8 cannot spell them.
"""

import functools
from collections.abc import Iterable

Charset = tuple[tuple[int, int], ...]
ByteRange = tuple[int, int]

LAST = 0x10FFFF
ALL: Charset = ((0, 0xD7FF), (0xE000, LAST))
_SIZES = (0x7F, 0x7FF, 0xFFFF, LAST)  # last code points of 1, 2, 3 and 4 bytes


def union(ranges: Iterable[tuple[int, int]]) -> Charset:
    """Return the set of all code points in some ranges, without surrogates."""
    inside = [
        (max(first, low), min(last, high))
        for first, last in ranges
        for low, high in ALL
        if first <= high and last >= low
    ]
    merged: list[tuple[int, int]] = []
    for first, last in sorted(inside):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    # Neighbours across the surrogates do not touch.
    return tuple(merged)


def complement(chars: Charset) -> Charset:
    """Return the set of all other characters."""
    gaps, start = [], 0
    for first, last in chars:
        if first > start:
            gaps.append((start, first - 1))
        start = last + 1
    if start <= LAST:
        gaps.append((start, LAST))
    return union(gaps)


def intersection(one: Charset, other: Charset) -> Charset:
    """Return the set of characters that are in both."""
    return complement(union([*complement(one), *complement(other)]))


def of(text: str) -> Charset:
    """Return the set of the characters of a text."""
    return union((ord(c), ord(c)) for c in text)


def either_case(chars: Charset) -> Charset:
    """Return the set with the other case of each ASCII letter that is in it."""
    swapped = []
    for low, high, move in ((65, 90, 32), (97, 122, -32)):
        for first, last in chars:
            if first <= high and last >= low:
                swapped.append((max(first, low) + move, min(last, high) + move))
    return union([*chars, *swapped])


@functools.lru_cache(maxsize=1024)
def utf8(chars: Charset) -> tuple[tuple[ByteRange, ...], ...]:
    """Return byte ranges, one after the other, that spell exactly these characters."""
    found = []
    for first, last in chars:
        for low, high in _same_length(first, last):
            found.extend(_ranges(low, high))
    return tuple(found)


def _same_length(first: int, last: int) -> Iterable[tuple[int, int]]:
    start = 0
    for end in _SIZES:
        if first <= end and last >= start:
            yield max(first, start), min(last, end)
        start = end + 1


def _ranges(first: int, last: int) -> Iterable[tuple[ByteRange, ...]]:
    """Split a range of characters of one length where a continuation byte turns over."""
    size = len(chr(first).encode())
    for place in range(1, size):
        mask = (1 << (6 * place)) - 1
        if first & ~mask != last & ~mask:
            if first & mask:
                yield from _ranges(first, first | mask)
                yield from _ranges((first | mask) + 1, last)
                return
            if last & mask != mask:
                yield from _ranges(first, (last & ~mask) - 1)
                yield from _ranges(last & ~mask, last)
                return
    yield tuple(zip(chr(first).encode(), chr(last).encode(), strict=True))
