"""What XLA makes of a draw on CPU: read in the compiled program, not timed."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import pytest

import jaxdecode as jd
from jaxdecode.native import is_available
from jaxdecode.sampling import draw, init_rows
from jaxdecode.transforms import Context

B, V = 5, 49152
MANY = 8192  # entries that are never sorted, but for the rows that need it

# Of the two ways, the other one is that of machines without kernels.
pytestmark = [
    pytest.mark.parametrize(
        "way", ["kernel", pytest.param("XLA", marks=pytest.mark.slow)], indirect=True
    ),
    pytest.mark.usefixtures("way"),
    pytest.mark.reads_program,
    pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the CPU's program"),
]


def program(fresh=False):
    """The computations of the compiled draw: {name: lines}, and the entry's name.

    With `fresh` logits are made by the program, as in decoding.
    """
    return _program(is_available(), fresh)


@functools.cache
def _program(native, fresh):
    del native  # the environment says it, too
    chain = jd.joint().per_row(B)

    def run(chain, logits, keys):
        lengths = jnp.zeros((B,), jnp.int32)
        contexts = Context(jnp.zeros((B, 3), jnp.int32), lengths, lengths, keys, V)
        states = init_rows(chain, contexts)
        logits = jnp.tanh(logits) if fresh else logits
        return draw(chain, logits, contexts, states, own=True)

    logits = jax.ShapeDtypeStruct((B, V), jnp.float32)
    keys = jax.random.split(jax.random.key(0), B)
    text = jax.jit(run).lower(chain, logits, keys).compile().as_text()
    found, name, entry = {}, None, None
    for line in text.splitlines():
        header = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if header:
            name = header[2]
            found[name] = []
            entry = name if header[1] else entry
        elif name and line.startswith(" "):
            found[name].append(line)
    return found, entry


def lines(pattern):
    """Lines of the program that match, each with its computation."""
    return [
        (name, line)
        for name, body in program()[0].items()
        for line in body
        if re.search(pattern, line)
    ]


def entries(line):
    """How many numbers the operands' largest shape holds along its longest axis."""
    shapes = re.findall(r"\w+\[([\d,]+)\]", line.split("metadata")[0])
    return max(max(int(n) for n in shape.split(",")) for shape in shapes)


def gates_above(name):
    """How many conditionals stand between a computation and the entry."""
    found, entry = program()
    gates = 0
    while name != entry:
        users = [
            (user, line)
            for user, body in found.items()
            for line in body
            if re.search(rf"%{re.escape(name)}[,}} ]|%{re.escape(name)}$", line)
            and "=" in line
        ]
        assert users, f"nothing calls {name}"
        name, line = users[0]
        gates += " conditional(" in line
    return gates


def test_only_rows_that_need_it_are_sorted():
    large = [(n, s) for n, s in lines(r" sort\(") if entries(s) >= MANY]
    shape = r"u64\[([\d,]+)\]"  # a plain integer sort is six times as fast as others
    if is_available():
        assert not large
        large, shape = lines('custom_call_target="jaxdecode_sort"'), r"f32\[([\d,]+)\]"
    assert len(large) == 1
    name, line = large[0]
    assert gates_above(name) >= 2, "one for the batch, one for a group of rows"
    assert math.prod(map(int, re.search(shape, line)[1].split(","))) <= 2 * V, (
        "a group is two rows"
    )


def test_the_best_of_many_are_found_by_top_k():
    target = "jaxdecode_best" if is_available() else "TopK"
    assert len(lines(f'custom_call_target="{target}"')) >= (2 if is_available() else 4)


def test_a_plain_draw_takes_no_logarithm_of_every_entry():
    logs = [line.split("metadata")[0] for _, line in lines(r" log\(")]
    assert logs
    for line in logs:
        shape = re.search(r"f32\[([\d,]*)\]", line)[1]
        size = math.prod(map(int, filter(None, shape.split(","))))
        assert size <= 2 * V, "more than a group of rows that are sorted"


def test_random_numbers_are_no_rolled_loop():
    rolled = [s for _, s in lines(r" while\(") if "threefry" in s or "random" in s]
    assert not rolled


def test_whole_rows_are_not_scanned_by_an_argmax():
    serial = [s for _, s in lines(r" reduce\(") if re.search(rf"s32\[\d+,{V}\]", s)]
    assert not serial


def test_rows_that_are_not_read_again_are_not_copied():
    if not is_available():
        pytest.skip("needs the kernels")
    found, entry = program(fresh=True)
    copied = [s for body in found.values() for s in body if re.search(r" copy\(", s)]
    assert not [line for line in copied if f"f32[{B},{V}]" in line.split("metadata")[0]]
    puts = [line for line in found[entry] if '"jaxdecode_put"' in line]
    assert len(puts) == 1
    assert "output_to_operand_aliasing" in puts[0]
