"""Reading compiled programs: what they move, sort and loop over. No timing."""

import math
import re

MOVES = ("copy", "transpose", "concatenate", "convert")
_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_KIND = re.compile(r"[\]})] ([\w\-]+)\(")
_NAMED = re.compile(
    r"(?:body|condition|to_apply|calls|true_computation|false_computation)="
    r"%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


def moves_as_large_as(text, elements):
    """Instructions of the kinds in `MOVES` whose result has that many elements."""
    found = []
    for line in text.splitlines():
        match = re.search(r"= \w+\[([\d,]+)\]\S* ([\w-]+)\(", line)
        if match and match[2] in MOVES and size_of(match[1]) >= elements:
            found.append(line.strip()[:120])
    return found


def size_of(axes):
    """Return how many elements the shape "3,5" has."""
    return math.prod(int(axis) for axis in axes.split(",") if axis)


class Program:
    """A compiled program as computations that call each other.

    Args:
      text: what `compiled.as_text()` says.
    """

    def __init__(self, text):
        self.lines, name = {}, None
        for line in text.splitlines():
            if head := _HEAD.match(line):
                name = head[1]
                self.lines[name] = []
                if line.startswith("ENTRY"):
                    self.entry = name
            elif name is not None and " = " in line:
                self.lines[name].append(line.strip())

    def reached(self, name, *, through_branches=True):
        """Return the names of all computations that one calls, itself included."""
        seen, todo = set(), [name]
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for line in self.lines[name]:
                todo += _called(line, branches=through_branches)
        return seen

    def loops_holding(self, shape):
        """Return the bodies of the entry's loops that carry an array such as "3,5"."""
        return [
            re.search(r"body=%?([\w.\-]+)", line)[1]
            for line in self.of_kind("while", self.reached(self.entry))
            if f"[{shape}]" in line.split(" while(")[0]
        ]

    def of_kind(self, kind, names):
        """Return the instructions of one kind in some computations."""
        return [
            line
            for name in names
            for line in self.lines[name]
            if (found := _KIND.search(line)) and found[1] == kind
        ]

    def text_of(self, names):
        """Return the instructions of some computations."""
        return "\n".join(line for name in names for line in self.lines[name])


def _called(line, *, branches):
    is_branch = " conditional(" in line
    if is_branch and not branches:
        return []
    named = _NAMED.findall(line)
    for group in _BRANCHES.findall(line):
        named += [name.strip().removeprefix("%") for name in group.split(",")]
    return named


def axes_of(line):
    """Return the axes of an instruction's result, an array."""
    return [int(axis) for axis in re.search(r"= \w+\[([\d,]+)\]", line)[1].split(",")]


def widths(line):
    """Return the last axis of every array in an instruction's result."""
    result = line.split("(%")[0]
    return [
        int(axes.split(",")[-1]) for _, axes in re.findall(r"(\w+)\[([\d,]+)\]", result)
    ]
