"""Limits on running a chat template: time, size, steps.

A template is a program from a model's file and is not trusted. Python cannot stop one
operation half-way without signals, so the cost of each is bounded before it runs, and
the clock is checked between operations. Works in any thread. Compilation is bounded only
by the template's length: the longest take some seconds.
"""

import re
import time
from contextvars import ContextVar
from typing import Any, NoReturn

from jinja2 import Undefined

from jaxdecode.text.errors import ChatTemplateError

SECONDS_MAX = 2.0
STEPS_MAX = 200_000  # loop rounds, calls and filters together
TEMPLATE_MAX = 2**16  # characters of a template
VALUE_MAX = 2**20  # characters of one value; an item of a list counts as ITEM
WORK_MAX = 2**24  # characters of all values made while rendering
SHORT_MAX = 2**16  # characters of a value on which a filter takes more than linear time
ITEM = 16
INTEGER_BITS_MAX = 4096

_LONG_NUMBER = re.compile(r"\d{4}|\*")
_NESTED_FIELD = re.compile(r"\{[^{}]*\{")


class Budget:
    """The remaining time, steps and work of one rendering.

    Args:
      seconds: time from now on.
      steps: loop rounds, calls and filters.
      work: characters of all values made.
    """

    def __init__(
        self,
        seconds: float = SECONDS_MAX,
        steps: int = STEPS_MAX,
        work: int = WORK_MAX,
    ):
        self._seconds, self._steps_max, self._work_max = seconds, steps, work
        self._deadline = time.monotonic() + seconds
        self._steps, self._work = steps, work

    def step(self) -> None:
        """Count one step and check the clock.

        Raises:
          ChatTemplateError: if there are no steps or no time left.
        """
        self._steps -= 1
        if self._steps < 0:
            refuse(f"must take at most {self._steps_max} steps; it loops too much")
        if time.monotonic() > self._deadline:
            refuse(f"must render within {self._seconds:g} s")

    def made(self, value: Any) -> Any:
        """Count a value that an operation made, and return it.

        Raises:
          ChatTemplateError: if it is too large, or too much was made altogether.
        """
        self.step()
        if isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX:
            refuse(f"must not make an integer of more than {INTEGER_BITS_MAX} bits")
        if isinstance(value, (str, list, tuple, dict)):
            size = weight(value)
            within(size)
            self._work -= size
            if self._work < 0:
                refuse(f"must make at most {self._work_max} characters")
        return value


BUDGET: ContextVar[Budget | None] = ContextVar("budget", default=None)


def budget() -> Budget:
    """Return the budget of the current rendering."""
    return BUDGET.get() or Budget()


def refuse(rule: str) -> NoReturn:
    """Raise the error for a template that breaks a rule."""
    raise ChatTemplateError(f"chat template: {rule}.")


def within(size: int) -> None:
    """Refuse a value larger than a template may make."""
    if size > VALUE_MAX:
        refuse(f"must not make a value of more than {VALUE_MAX} characters")


def weight(value: Any) -> int:
    """Return the size of a value in characters; an item of a list or dict counts as ITEM.

    A part that occurs twice counts twice, as it does when printed or compared.

    Raises:
      ChatTemplateError: for a list that holds something that is not plain data.
    """
    total, stack = 0, [value]
    while stack and total <= VALUE_MAX:
        item = stack.pop()
        total += ITEM
        if isinstance(item, str):
            total += len(item) - ITEM * (item is value)
        elif isinstance(item, (list, tuple)):
            total += ITEM * len(item)
            stack.extend(item[: VALUE_MAX // ITEM])
        elif isinstance(item, dict):
            total += ITEM * len(item)
            stack.extend(item.keys())
            stack.extend(item.values())
        elif not isinstance(item, (int, float, Undefined, type(None))):
            refuse(f"must not put a {type(item).__name__} into a list or dict")
    return total


def check_binop(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation whose result could be too large.

    Raises:
      ChatTemplateError: if it could.
    """
    if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        if operator == "**":
            bits *= max(right, 1)
        if bits + right.bit_length() > INTEGER_BITS_MAX:
            refuse(f"must not make an integer of more than {INTEGER_BITS_MAX} bits")
    elif operator == "*":
        for sequence, times in ((left, right), (right, left)):
            if isinstance(sequence, (str, list, tuple)) and isinstance(times, int):
                within(weight(sequence) * max(times, 0))
    elif operator == "+":
        if isinstance(left, (str, list, tuple)) and isinstance(right, type(left)):
            within(weight(left) + weight(right))
    elif operator == "%" and isinstance(left, str):
        check_format(left, "%", right)


def check_format(pattern: str, sign: str, *values: Any) -> None:
    """Refuse a format whose result could be too wide or too long.

    Args:
      pattern: the format string.
      sign: the character that begins a field.
      values: the values that may be formatted, each any number of times.
    """
    if _LONG_NUMBER.search(pattern) or _NESTED_FIELD.search(pattern):
        refuse("must not format to a width of more than 3 digits")
    shown = 1000 + sum(weight(value) for value in values)
    within(len(pattern) + pattern.count(sign) * shown)


def check_replace(text: str, old: str, new: str) -> None:
    """Refuse a replacement whose result could be too large."""
    places = len(text) // len(old) if old else len(text) + 1
    within(len(text) + places * len(new))


def check_short(name: str, value: Any) -> None:
    """Refuse a long value for a filter that takes more than linear time."""
    if weight(value) > SHORT_MAX:
        refuse(f"must not apply {name} to more than {SHORT_MAX} characters")


def check_join(items: Any, between: str) -> None:
    """Refuse a join whose result would be too long."""
    if not hasattr(items, "__len__"):
        refuse(f"must not join a {type(items).__name__}")
    within(sum(len(str(item)) + len(between) for item in items))
