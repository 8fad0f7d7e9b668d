"""Numbers as JSON writes them, within exact bounds.

An integer has no exponent and no fraction. A number without bounds may have an exponent
of two digits; one with bounds has at most six decimals and no exponent, so that reading
it as a float cannot carry it over a bound.
"""

import dataclasses
import math
from fractions import Fraction

from jaxdecode.transforms.patterns import charset
from jaxdecode.transforms.patterns.building import build
from jaxdecode.transforms.patterns.byte_automaton import intersection
from jaxdecode.transforms.patterns.errors import PatternError
from jaxdecode.transforms.patterns.language import (
    NEVER,
    NOTHING,
    Built,
    Node,
    chars,
    choices,
    optional,
    repeat,
    sequence,
    text,
)
from jaxdecode.transforms.patterns.regex import parse

DECIMALS_MAX = 6
BOUND_MAX = 10**9  # of numbers that are not integers
_DIGIT = chars(charset.of("0123456789"))


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What a number may be; None is no bound; `open_` bounds are not reached."""

    low: Fraction | None = None
    high: Fraction | None = None
    low_open: bool = False
    high_open: bool = False


def integer(bounds: Bounds) -> Node:
    """Return the integers within bounds."""
    low, high = bounds.low, bounds.high
    if low is not None:
        low = math.floor(low) + 1 if bounds.low_open else math.ceil(low)
    if high is not None:
        high = math.ceil(high) - 1 if bounds.high_open else math.floor(high)
    options = [_whole(max(low or 0, 0), high)]
    if low is None or low < 0:
        nearest = 1 if high is None or high >= 0 else -high
        furthest = None if low is None else -low
        options.append(sequence(text("-"), _whole(nearest, furthest)))
    return choices(options)


def number(bounds: Bounds) -> Node:
    """Return the numbers within bounds.

    Raises:
      PatternError: for a bound beyond 10**9, or bounds that hold no such number.
    """
    if bounds.low is None and bounds.high is None:
        return parse(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,2})?")
    for bound in (bounds.low, bounds.high):
        if bound is not None and abs(bound) > BOUND_MAX:
            raise PatternError("bounds of numbers must be within -10**9 and 10**9.")
    turned = Bounds(
        low=None if bounds.high is None else -bounds.high,
        high=None if bounds.low is None else -bounds.low,
        low_open=bounds.high_open,
        high_open=bounds.low_open,
    )
    both = choices(
        [_at_least_zero(bounds), sequence(text("-"), _at_least_zero(turned))]
    )
    if both == NEVER:
        return NEVER
    form = parse(rf"-?\d+(\.\d{{1,{DECIMALS_MAX}}})?")
    return Built(intersection(build(both), build(form)))


def _whole(low: int, high: int | None) -> Node:
    """Return the whole numbers from `low` >= 0 to `high`; None is without end."""
    if high is not None and high < low:
        return NEVER
    size = len(str(low))
    options = []
    if high is None:
        more = sequence(chars(charset.of("123456789")), repeat(_DIGIT, size, None))
        options.append(more)
        high = 10**size - 1
    for count in range(size, len(str(high)) + 1):
        first = max(low, 10 ** (count - 1) if count > 1 else 0)
        last = min(high, 10**count - 1)
        options.append(_between(str(first), str(last)))
    return choices(options)


def _between(low: str, high: str) -> Node:
    """Return the digits between two numbers of one length, place by place."""
    size = len(low)
    if set(low) <= {"0"} and set(high) <= {"9"}:
        return repeat(_DIGIT, size, size)
    if low[0] == high[0]:
        return sequence(text(low[0]), _between(low[1:], high[1:]))
    rest = size - 1
    return choices(
        [
            sequence(text(low[0]), _between(low[1:], "9" * rest)),
            sequence(_digits(int(low[0]) + 1, int(high[0]) - 1), _any(rest)),
            sequence(text(high[0]), _between("0" * rest, high[1:])),
        ]
    )


def _any(count: int) -> Node:
    return repeat(_DIGIT, count, count)


def _digits(low: int, high: int) -> Node:
    return (
        chars(charset.of("0123456789"[max(low, 0) : high + 1]))
        if low <= high
        else NEVER
    )


def _at_least_zero(bounds: Bounds) -> Node:
    """Return the decimal numbers within bounds that have no sign."""
    low, low_open = bounds.low, bounds.low_open
    if low is None or low < 0:
        low, low_open = Fraction(0), False
    high = bounds.high
    if high is not None and high < 0:
        return NEVER
    above = _from(low, open_=low_open)
    if high is None:
        return above
    below = _up_to(high, open_=bounds.high_open)
    if NEVER in (above, below):
        return NEVER
    try:
        return Built(intersection(build(above), build(below)))
    except PatternError as error:
        if "matches none" in str(error):
            return NEVER
        raise


def _from(low: Fraction, *, open_: bool) -> Node:
    whole, rest = _split(low)
    more = sequence(_whole(whole + 1, None), optional(parse(r"\.\d+")))
    return choices([more, sequence(text(str(whole)), _fraction_from(rest, open_))])


def _up_to(high: Fraction, *, open_: bool) -> Node:
    whole, rest = _split(high)
    less = sequence(_whole(0, whole - 1), optional(parse(r"\.\d+")))
    return choices([less, sequence(text(str(whole)), _fraction_up_to(rest, open_))])


def _fraction_from(rest: str, open_: bool) -> Node:
    more = parse(r"0*[1-9]\d*") if open_ else parse(r"\d*")
    if not rest:
        return sequence(text("."), more) if open_ else optional(parse(r"\.\d+"))
    for digit in reversed(rest):
        larger = sequence(_digits(int(digit) + 1, 9), parse(r"\d*"))
        more = choices([sequence(text(digit), more), larger])
    return sequence(text("."), more)


def _fraction_up_to(rest: str, open_: bool) -> Node:
    if not rest:
        return NEVER if open_ else optional(parse(r"\.0+"))
    less = NEVER if open_ else parse("0*")
    for place in reversed(range(len(rest))):
        digit = rest[place]
        smaller = sequence(_digits(0, int(digit) - 1), parse(r"\d*"))
        stop = NOTHING if place else NEVER  # a point is followed by a digit
        less = choices([sequence(text(digit), less), smaller, stop])
    return optional(sequence(text("."), less))


def _split(value: Fraction) -> tuple[int, str]:
    """Return the whole part of a number >= 0, and its decimals without zeros behind."""
    whole, rest = divmod(value, 1)
    digits = ""
    while rest:
        rest *= 10
        digits += str(rest.numerator // rest.denominator)
        rest %= 1
    return int(whole), digits
