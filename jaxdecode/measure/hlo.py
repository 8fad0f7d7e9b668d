"""Reading a compiled program: what it computes, moves and asks, and XLA's own estimate.

A program is text: computations, each a list of instructions, that call each other. On
TPU an instruction carries an estimate of its cycles. Nothing here runs anything.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

_HEAD = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^(?:ROOT )?%([\w.\-]+) = (.*)$")
_KIND = re.compile(r"[\]})] ([\w\-]+)\(")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:body|condition|to_apply|calls)=%?([\w.\-]+)")
_BRANCHES = re.compile(
    r"branch_computations=\{([^}]*)\}|"
    r"(?:true|false)_computation=%?([\w.\-]+)"
)
_BITS = re.compile(r"\d+$")
WEIGHT_AXIS = 256  # both axes of what is taken for a matrix of weights
KERNELS = ("fusion", "custom-call", "copy", "sort", "dot")  # what CUDA starts
# What only names, groups or waits for arrays that others write.
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while")
FREE += ("conditional", "call", "copy-done", "slice-done", "after-all", "async-done")
FREE += ("iota", "broadcast", "optimization-barrier", "copy-start", "slice-start")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: its own.
      kind: such as "fusion".
      text: the line.
      shapes: element type and axes of every array that it returns.
      operands: names of what it reads.
    """

    name: str
    kind: str
    text: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    operands: tuple[str, ...]

    @property
    def cycles(self) -> int:
        """XLA's estimate, 0 where it gives none."""
        found = _CYCLES.search(self.text)
        return int(found[1]) if found else 0

    @property
    def trips(self) -> int | None:
        """How often a loop turns, None if only the run can tell."""
        found = _TRIPS.search(self.text)
        return int(found[1]) if found else None

    @property
    def called(self) -> list[str]:
        """Names of the computations it calls always."""
        return _CALLED.findall(self.text)

    @property
    def branches(self) -> list[str]:
        """Names of the computations of which it calls one."""
        names = []
        for several, one in _BRANCHES.findall(self.text):
            names += [n.strip().removeprefix("%") for n in several.split(",") if n]
            names += [one] if one else []
        return names

    @property
    def bytes(self) -> int:
        """Bytes of the largest array it returns."""
        return max((_bytes(*shape) for shape in self.shapes), default=0)


class Program:
    """A compiled program.

    Args:
      text: what `compiled.as_text()` says.
    """

    def __init__(self, text: str):
        self.computations: dict[str, list[Instruction]] = {}
        name = ""
        for line in text.split("\n"):  # a kernel's bytes may hold other breaks
            if head := _HEAD.match(line):
                name = head[1]
                self.computations[name] = []
                if line.startswith("ENTRY"):
                    self.entry = name
            elif name and (found := _instruction(line.strip())):
                self.computations[name].append(found)

    def __getitem__(self, name: str) -> list[Instruction]:
        return self.computations[name]

    def reached(self, name: str, *, fused: bool = False) -> list[Instruction]:
        """Return all instructions that a computation runs.

        Args:
          name: the computation.
          fused: whether those inside fusions count, too, which write no array.
        """
        return [line for part in self._parts(name, fused) for line in self[part]]

    def step(self) -> str:
        """Return the computation of one decode step.

        It is the body of the entry's last loop; or, where several steps are taken
        between two looks, of the loop inside that makes up most of it.
        """
        name = _body([line for line in self[self.entry] if line.kind == "while"][-1])
        inner = [_body(line) for line in self[name] if line.kind == "while"]
        largest = max(inner, key=lambda body: len(self.reached(body)), default=name)
        half = len(self.reached(name)) / 2
        return largest if len(self.reached(largest)) > half else name

    def step_cycles(self) -> collections.Counter[str]:
        """Return XLA's estimate of a usual decode step by kind of work.

        Every row reads a token, and none needs more than its window of candidates.

        Returns:
          Cycles of "weights" (products that read them), "attention" (other products),
          "other" (the rest of the model) and "draw" (all but the model).
        """
        name = self.step()
        total = self._cycles(name)
        model = collections.Counter[str]()
        for line in self[name]:
            if line.kind == "conditional":
                model += max(map(self._cycles, line.branches), key=_weights)
        if not model["weights"]:  # the model is called without a condition
            return total
        draw = total.total() - model.total()
        return model + collections.Counter(draw=draw)

    def _cycles(self, name: str) -> collections.Counter[str]:
        """Return the estimate of a computation; loops of unknown length turn once.

        Of a conditional the branch that reads weights counts; where none does, the
        cheapest.
        """
        total = collections.Counter[str]()
        lines = {line.name: line for line in self[name]}
        for line in self[name]:
            total[_kind_of_work(line, lines)] += line.cycles
            if line.kind == "while":
                for kind, cycles in self._cycles(_body(line)).items():
                    total[kind] += cycles * (line.trips or 1)
            elif line.kind == "call":
                for part in line.called:
                    total += self._cycles(part)
            elif line.kind == "conditional":
                branches = [self._cycles(part) for part in line.branches]
                dear = max(branches, key=_weights)
                cheap = min(branches, key=lambda branch: branch.total())
                total += dear if dear["weights"] else cheap
        return total

    def _parts(self, name: str, fused: bool) -> Iterator[str]:
        seen, todo = set(), [name]
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            yield name
            for line in self[name]:
                if fused or line.kind in ("while", "call", "conditional"):
                    todo += line.called + line.branches


def _instruction(line: str) -> Instruction | None:
    found = _LINE.match(line)
    kind = _KIND.search(line)
    if not found or not kind:
        return None
    result, rest = line[: kind.start(1)], line[kind.end(1) :]
    shapes = tuple(
        (kind, tuple(int(axis) for axis in axes.split(",") if axis))
        for kind, axes in _ARRAY.findall(result.split(" = ", 1)[1])
    )
    operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0])
    return Instruction(found[1], kind[1], line, shapes, tuple(operands))


def _body(line: Instruction) -> str:
    found = re.search(r"body=%?([\w.\-]+)", line.text)
    assert found is not None
    return found[1]


def _weights(cycles: collections.Counter[str]) -> int:
    return cycles["weights"]


def _kind_of_work(line: Instruction, others: dict[str, Instruction]) -> str:
    if "dot_general" not in line.text and line.kind not in ("dot", "convolution"):
        return "other"
    read = [_source(name, others) for name in line.operands if name in others]
    shapes = [axes for other in read for _, axes in other.shapes]
    is_matrix = any(len(axes) == 2 and min(axes) >= WEIGHT_AXIS for axes in shapes)
    return "weights" if is_matrix else "attention"


def _source(name: str, others: dict[str, Instruction]) -> Instruction:
    """Return the instruction that made an array, whatever shape it is seen in."""
    line = others[name]
    while line.kind == "bitcast" and line.operands[0] in others:
        line = others[line.operands[0]]
    return line


def bytes_of(array: Any) -> int:
    """Return the bytes of an array, abstract or not."""
    return math.prod(array.shape) * array.dtype.itemsize


def _bytes(kind: str, axes: tuple[int, ...]) -> int:
    bits = _BITS.search(kind)
    width = int(bits[0]) if bits else 8
    return math.prod(axes) * max(width // 8, 1)
