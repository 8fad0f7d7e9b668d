"""Products by the kernel against the same sums in numpy, in float64."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.models.quantize import quantize_matrix
from jaxdecode.native import Choice, look_up, pack, panel_products, unpack
from jaxdecode.native.product import GATES, INT14

KINDS = ["float32", "bfloat16", "int8"]
SHAPES = [(32, 64), (37, 24), (1, 2), (101, 33), (96, 1)]
LONG = [(37, 331), (5, 2311)]  # several blocks of steps; int8 sums in two pieces
GATE_NAMES = list(
    dict.fromkeys({number: name for name, number in GATES.items()}.values())
)
EVERY_GATE = pytest.mark.parametrize("gate", GATE_NAMES)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def matrix_of(kind, shape, seed=0):
    """A stored matrix, its scale (or None), and the numbers they stand for."""
    draw = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    if kind == "int8":
        stored, scale = quantize_matrix(draw)
        return stored, scale, stored.astype(np.float64) * scale[:, None]
    stored = np.asarray(jnp.asarray(draw).astype(kind))
    return stored, None, stored.astype(np.float64)


def rows_of(count, inputs, seed=1):
    return np.random.default_rng(seed).standard_normal((count, inputs), np.float32)


def rounded(rows, kind):
    """What a kind keeps of rows, in float64."""
    if kind == "bfloat16":
        return np.asarray(jnp.asarray(rows).astype(kind)).astype(np.float64)
    if kind == "int8":
        step = np.abs(rows).max(1, keepdims=True).astype(np.float64) / INT14
        return np.rint(rows / step) * step
    return rows.astype(np.float64)


def multiply(rows, stored, scale):
    return panel_products(rows, [pack(stored)], [scale])[0]


@EVERY_KIND
@pytest.mark.parametrize("shape", SHAPES + LONG)
@pytest.mark.parametrize(
    "count",
    [
        *(1, 7, 12, 13, 131),
        *(pytest.param(count, marks=pytest.mark.slow) for count in (2, 19)),
    ],
)
def test_a_product_equals_the_sum_of_its_terms(kind, shape, count):
    stored, scale, numbers = matrix_of(kind, shape)
    rows = rows_of(count, shape[1])
    got = multiply(jnp.asarray(rows), stored, scale)
    wanted = rounded(rows, kind) @ numbers.T
    bound = np.abs(rounded(rows, kind)) @ np.abs(numbers.T)
    # A unit in the last place of each partial sum; int8 rounds halves either way.
    slack = 1e-6 if kind != "int8" else 2.0 / INT14
    assert (np.abs(got - wanted) <= slack * bound + 1e-6).all()


@EVERY_KIND
def test_a_row_has_the_same_bits_in_every_company(kind):
    stored, scale, _ = matrix_of(kind, (101, 601))
    rows = rows_of(150, 601)
    whole = np.asarray(multiply(jnp.asarray(rows), stored, scale))
    for first, count in [(0, 1), (3, 2), (7, 8), (9, 12), (11, 13), (20, 130)]:
        part = multiply(jnp.asarray(rows[first : first + count]), stored, scale)
        np.testing.assert_array_equal(part, whole[first : first + count])


def test_int8_sums_do_not_overflow_at_their_largest():
    stored = np.full((33, 9001), 127, np.int8)
    scale = np.full((33,), 0.5, np.float32)
    got = multiply(jnp.ones((3, 9001), jnp.float32), stored, scale)
    np.testing.assert_allclose(got, 127 * 0.5 * 9001, rtol=1e-6)


@EVERY_KIND
@pytest.mark.parametrize("shape", SHAPES)
def test_unpacking_gives_the_matrix_back(kind, shape):
    stored, _, _ = matrix_of(kind, shape)
    panels = pack(stored)
    np.testing.assert_array_equal(unpack(panels), stored)
    ids = np.arange(shape[0])[::-1].reshape(1, -1)
    np.testing.assert_array_equal(look_up(panels, jnp.asarray(ids)), stored[ids])
    traced = jax.jit(lambda m: pack(m).words)(stored)
    np.testing.assert_array_equal(traced, panels.words)


@EVERY_KIND
def test_matrices_of_one_call_equal_calls_of_their_own(kind):
    kept = [matrix_of(kind, (outputs, 48), outputs) for outputs in (96, 37, 5)]
    rows = jnp.asarray(rows_of(9, 48))
    together = panel_products(rows, [pack(k[0]) for k in kept], [k[1] for k in kept])
    for got, (stored, scale, _) in zip(together, kept, strict=True):
        np.testing.assert_array_equal(got, multiply(rows, stored, scale))


@EVERY_KIND
def test_vmap_over_rows_and_over_matrices_equals_a_loop(kind):
    kept = [matrix_of(kind, (37, 24), seed) for seed in range(3)]
    panels = [pack(k[0]) for k in kept]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *panels)
    scales = None if kept[0][1] is None else jnp.stack([k[1] for k in kept])
    rows = jnp.asarray(rows_of(10, 24).reshape(2, 5, 24))

    def one(panels, scale, rows):
        return panel_products(rows, [panels], [scale])[0]

    over_rows = jax.vmap(one, in_axes=(None, None, 0))
    got = jax.vmap(over_rows, in_axes=(0, 0, None))(stacked, scales, rows)
    for m, (panel, (_, scale, _)) in enumerate(zip(panels, kept, strict=True)):
        for r in range(2):
            np.testing.assert_array_equal(got[m, r], one(panel, scale, rows[r]))


@EVERY_KIND
def test_slopes_by_the_rows_are_those_of_the_plain_product(kind):
    stored, scale, numbers = matrix_of(kind, (37, 24))
    rows, push = jnp.asarray(rows_of(5, 24)), rows_of(5, 37, seed=2)

    def pushed(rows):
        return (multiply(rows, stored, scale) * push).sum()

    np.testing.assert_allclose(jax.grad(pushed)(rows), push @ numbers, atol=1e-4)


def test_slopes_by_a_float32_matrix_are_those_of_the_plain_product():
    stored, _, _ = matrix_of("float32", (37, 24))
    rows, push = jnp.asarray(rows_of(5, 24)), rows_of(5, 37, seed=2)

    def pushed(panels):
        return (panel_products(rows, [panels], [None])[0] * push).sum()

    slope = jax.grad(pushed)(pack(stored))
    np.testing.assert_allclose(unpack(slope), push.T @ rows, atol=1e-4)


@EVERY_KIND
def test_a_broken_number_stays_in_its_row(kind):
    stored, scale, _ = matrix_of(kind, (37, 24))
    rows = rows_of(9, 24)
    sound = multiply(jnp.asarray(rows), stored, scale)
    rows[4, 3] = np.nan
    broken = np.asarray(multiply(jnp.asarray(rows), stored, scale))
    assert np.isnan(broken[4]).all()
    others = np.arange(9) != 4
    np.testing.assert_array_equal(broken[others], np.asarray(sound)[others])


@EVERY_KIND
def test_the_chosen_of_several_is_the_one_that_multiplies(kind):
    kept = [[matrix_of(kind, (37, 24), 9 * m + c) for c in range(4)] for m in range(2)]
    norms = [jnp.asarray(rows_of(1, 24, seed)[0]) for seed in range(4)]
    rows = jnp.asarray(rows_of(5, 24))

    def products(chosen):
        def of(values):
            return Choice(tuple(values), chosen)

        panels = [of(pack(k[0]) for k in alike) for alike in kept]
        scales = [None if kind != "int8" else of(k[1] for k in a) for a in kept]
        return panel_products(rows, panels, scales, norm=of(norms), eps=1e-5)

    looped = jax.lax.map(products, jnp.asarray([2, 0, 3, 1, 9, -1], jnp.int32))
    for place, chosen in enumerate([2, 0, 3, 1, 3, 0]):  # the nearest, if outside
        panels = [pack(alike[chosen][0]) for alike in kept]
        scales = [alike[chosen][1] for alike in kept]
        wanted = panel_products(rows, panels, scales, norm=norms[chosen], eps=1e-5)
        for got, one in zip(looped, wanted, strict=True):
            np.testing.assert_array_equal(got[place], one)


def test_slopes_reach_the_chosen_matrix_and_norm_only():
    kept = [matrix_of("float32", (37, 24), seed)[0] for seed in range(3)]
    rows, push = jnp.asarray(rows_of(5, 24)), rows_of(5, 37, seed=2)

    def pushed(panels, norms, chosen):
        choice = Choice(tuple(panels), chosen)
        norm = Choice(tuple(norms), chosen)
        return (panel_products(rows, [choice], [None], norm=norm)[0] * push).sum()

    panels, norms = (
        [pack(k) for k in kept],
        [jnp.full((24,), 0.5 + c) for c in range(3)],
    )
    slopes = jax.grad(pushed, argnums=(0, 1))(panels, norms, jnp.int32(1))

    def lone(panels, norm):
        return (panel_products(rows, [panels], [None], norm=norm)[0] * push).sum()

    wanted = jax.grad(lone, argnums=(0, 1))(panels[1], norms[1])
    np.testing.assert_allclose(slopes[0][1].words, wanted[0].words, atol=1e-5)
    np.testing.assert_allclose(slopes[1][1], wanted[1], atol=1e-5)
    for other in (0, 2):
        assert not slopes[0][other].words.any()
        assert not slopes[1][other].any()


def gated(rows, factors, gate):
    """`activation(rows) * factors` in float64."""
    x = rows.astype(np.float64)
    bent = x if gate == "silu" else 2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    with np.errstate(over="ignore"):  # 1 / inf is right
        return x / (1 + np.exp(-bent)) * factors


def gate_and_multiply(rows, factors, stored, scale, gate):
    given = jnp.asarray(rows), [pack(stored)], [scale]
    return panel_products(*given, gate=gate, factors=jnp.asarray(factors))[0]


@EVERY_GATE
@EVERY_KIND
@pytest.mark.parametrize("count", [1, 7, 19])
def test_gated_rows_are_activated_and_multiplied_first(kind, gate, count):
    stored, scale, numbers = matrix_of(kind, (37, 331))
    rows, factors = 4 * rows_of(count, 331), rows_of(count, 331, seed=2)
    rows[0, :6] = [0.0, -0.0, 80.0, -80.0, 1e4, -1e4]
    rows[0, 330] = 3.0  # beyond the last whole register
    got = gate_and_multiply(rows, factors, stored, scale, gate)
    exact = gated(rows, factors, gate)
    wanted = rounded(exact.astype(np.float32), kind) @ numbers.T
    bound = np.abs(exact) @ np.abs(numbers.T)
    # The gate's own error may round a number to the neighbour of what was wanted.
    slack = {"float32": 2e-6, "bfloat16": 1e-4, "int8": 2.0 / INT14}[kind]
    assert (np.abs(got - wanted) <= slack * bound + 1e-6).all()


@EVERY_GATE
def test_a_gate_is_as_exact_as_float32_allows(gate):
    rows = np.linspace(-20, 20, 4001, dtype=np.float32)[None]
    ones = np.eye(1, dtype=np.float32)
    got = jax.vmap(
        lambda x: gate_and_multiply(
            x[None], np.ones((1, 1), np.float32), ones, None, gate
        )
    )(jnp.asarray(rows.T))
    wanted = gated(rows.T, 1.0, gate)
    np.testing.assert_allclose(got[:, 0], wanted, rtol=6e-6, atol=1e-30)


@EVERY_GATE
@EVERY_KIND
def test_a_gated_row_has_the_same_bits_in_every_company(kind, gate):
    stored, scale, _ = matrix_of(kind, (37, 331))
    rows, factors = rows_of(40, 331), rows_of(40, 331, seed=2)
    whole = np.asarray(gate_and_multiply(rows, factors, stored, scale, gate))
    for first, count in [(0, 1), (3, 2), (7, 8), (11, 13)]:
        part = slice(first, first + count)
        got = gate_and_multiply(rows[part], factors[part], stored, scale, gate)
        np.testing.assert_array_equal(got, whole[part])


@EVERY_KIND
def test_a_broken_number_of_a_gate_stays_in_its_row(kind):
    stored, scale, _ = matrix_of(kind, (37, 24))
    rows, factors = rows_of(9, 24), rows_of(9, 24, seed=2)
    sound = gate_and_multiply(rows, factors, stored, scale, "silu")
    rows[4, 3], factors[6, 23] = np.nan, np.nan
    broken = np.asarray(gate_and_multiply(rows, factors, stored, scale, "silu"))
    assert np.isnan(broken[[4, 6]]).all()
    others = ~np.isin(np.arange(9), [4, 6])
    np.testing.assert_array_equal(broken[others], np.asarray(sound)[others])


@EVERY_GATE
def test_slopes_of_gated_rows_are_those_of_the_plain_product(gate):
    stored, _, numbers = matrix_of("float32", (37, 24))
    rows, factors = jnp.asarray(rows_of(5, 24)), jnp.asarray(rows_of(5, 24, seed=2))
    push = rows_of(5, 37, seed=3)
    act = jax.nn.silu if gate == "silu" else jax.nn.gelu

    def pushed(rows, factors):
        return (gate_and_multiply(rows, factors, stored, None, gate) * push).sum()

    def plain(rows, factors):
        return ((act(rows) * factors) @ numbers.T.astype(np.float32) * push).sum()

    got, wanted = (jax.grad(f, argnums=(0, 1))(rows, factors) for f in (pushed, plain))
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_vmap_over_gated_rows_and_shared_factors_equals_a_loop():
    stored, _, _ = matrix_of("float32", (37, 24))
    rows, factors = rows_of(10, 24).reshape(2, 5, 24), rows_of(5, 24, seed=2)

    def one(rows, factors):
        return gate_and_multiply(rows, factors, stored, None, "silu")

    got = jax.vmap(one, in_axes=(0, None))(jnp.asarray(rows), jnp.asarray(factors))
    for r in range(2):
        np.testing.assert_array_equal(got[r], one(rows[r], factors))


@EVERY_KIND
@pytest.mark.parametrize("gate", [None, "silu"])
def test_a_product_is_added_to_what_is_given(kind, gate):
    # Two pieces of int8 sums, and a last panel that is not full.
    stored, scale, _ = matrix_of(kind, (37, 2311))
    rows, onto = jnp.asarray(rows_of(13, 2311)), rows_of(13, 37, seed=3)
    more = {} if gate is None else {"gate": gate, "factors": rows}
    alone = panel_products(rows, [pack(stored)], [scale], **more)[0]
    got = panel_products(rows, [pack(stored)], [scale], onto=jnp.asarray(onto), **more)
    np.testing.assert_allclose(got[0], onto + alone, rtol=1e-6, atol=1e-5)
    one = {
        name: value if name == "gate" else value[4:5] for name, value in more.items()
    }
    lone = panel_products(
        rows[4:5], [pack(stored)], [scale], onto=jnp.asarray(onto[4:5]), **one
    )
    np.testing.assert_array_equal(lone[0][0], got[0][4])


def test_slopes_pass_through_what_is_added_to():
    stored, _, _ = matrix_of("float32", (37, 24))
    rows, push = jnp.asarray(rows_of(5, 24)), rows_of(5, 37, seed=2)

    def pushed(onto):
        return (panel_products(rows, [pack(stored)], [None], onto=onto)[0] * push).sum()

    slope = jax.grad(pushed)(jnp.asarray(rows_of(5, 37, seed=3)))
    np.testing.assert_allclose(slope, push, rtol=1e-6)


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not LARGE_PAGES.exists(), reason="a system without large pages")
def test_a_large_matrix_lies_where_large_pages_were_asked_for():
    words = pack(np.ones((256, 8192), np.float32)).words  # 8 MB
    middle = words.unsafe_buffer_pointer() + words.nbytes // 2
    blocks = Path("/proc/self/smaps").read_text().split("VmFlags:")
    places = [re.findall(r"^([0-9a-f]+)-([0-9a-f]+) ", b, re.MULTILINE) for b in blocks]
    held = [any(int(a, 16) <= middle < int(z, 16) for a, z in at) for at in places]
    assert " hg" in blocks[held.index(True) + 1].splitlines()[0]
