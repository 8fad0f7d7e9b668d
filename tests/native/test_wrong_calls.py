"""A kernel that is given something else says so, and reads nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdecode.native import is_available

pytestmark = pytest.mark.skipif(not is_available(), reason="the kernels are missing")

F, S, U, H = np.float32, np.int32, np.uint32, np.uint16
WINDOW, CHUNK = {"window": np.int64(0)}, {"chunk": np.int64(16)}
EPS = {"eps": F(-1), "gate": np.int64(0), "onto": np.int64(0)}
PANELS = (1, 4, 32)
KEYS = (1, 2, 1, 8, 32)
ROW, CHUNKS, ONE = ((32,), F), ((2,), F), ((), F)
SURVEY = [CHUNKS, ONE]


def call(name, operands, result, attributes):
    arrays = [jnp.zeros(shape, dtype) for shape, dtype in operands]
    results = result if isinstance(result, list) else [result]
    wanted = [jax.ShapeDtypeStruct(*one) for one in results]
    return jax.ffi.ffi_call(f"jaxdecode_{name}", wanted)(*arrays, **attributes)


RIGHT = {
    "product": ([((2, 4), F), ((), S), (PANELS, F)], ((2, 32), F), EPS),
    "attend": (
        [((1, 2, 32), F), (KEYS, F), (KEYS, F), ((1,), S), ((), S)],
        ((1, 2, 32), F),
        WINDOW,
    ),
    "best": ([((32,), F), ((2,), F)], ((3,), S), CHUNK),
    "survey": ([ROW], SURVEY, CHUNK),
    "put": ([ROW, ((3,), S), ((3,), F)], [ROW, ONE, ONE, *SURVEY], CHUNK),
    "search": (
        [ROW, CHUNKS, ((2,), U), ((), S), ONE],
        [((3,), S), ((3,), U), ((), S)],
        CHUNK,
    ),
    "hash": ([((2,), U), ((3,), S)], ((3,), U), {}),
}
WRONG = {
    "product": [(1, ((), F)), (2, (PANELS, S)), (2, ((4, 32), F)), (2, (PANELS, H))],
    "attend": [(0, ((1, 2, 32), S)), (1, (KEYS, S)), (2, (KEYS[2:], F)), (4, ((), F))],
    "best": [(0, ((32,), S)), (1, ((), F))],
    "survey": [(0, ((32,), S)), (0, ONE)],
    "put": [(0, ((32,), S)), (1, ((3,), F)), (2, ONE)],
    "hash": [(0, ((2,), S)), (1, ((), S))],
    "search": [(0, ONE), (2, ((2,), S)), (3, ((), F))],
}
CASES = [(name, *change) for name, changes in WRONG.items() for change in changes]


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_call_passes(name):
    assert all(np.isfinite(result).all() for result in call(name, *RIGHT[name]))


@pytest.mark.parametrize(("name", "place", "operand"), CASES)
def test_another_type_or_too_few_axes_are_refused(name, place, operand):
    operands, result, attributes = RIGHT[name]
    changed = [*operands[:place], operand, *operands[place + 1 :]]
    with pytest.raises(Exception, match=f"jaxdecode_{name}: other operands or results"):
        call(name, changed, result, attributes)


@pytest.mark.parametrize("name", RIGHT)
def test_missing_operands_and_other_results_are_refused(name):
    operands, result, attributes = RIGHT[name]
    first, *others = result if isinstance(result, list) else [result]
    other = [(first[0], np.int8), *others]
    for given, wanted in ((operands[:-1], result), (operands, other)):
        with pytest.raises(Exception, match=f"jaxdecode_{name}: other operands"):
            call(name, given, wanted, attributes)


def test_panels_beyond_whole_choices_are_refused():
    operands, result, attributes = RIGHT["product"]
    normed = EPS | {"eps": F(1e-5)}  # a weight for each choice is missing
    with pytest.raises(Exception, match="jaxdecode_product: other operands"):
        call("product", operands, result, normed)
    mixed = [*operands, ((1, 4, 32), U)]
    with pytest.raises(Exception, match="jaxdecode_product: other operands"):
        call("product", mixed, result, attributes)


@pytest.mark.parametrize("chunk", [0, -16, 17, 2048])
@pytest.mark.parametrize("name", ["survey", "put", "search"])
def test_chunks_of_another_size_are_refused(name, chunk):
    operands, result, _ = RIGHT[name]
    with pytest.raises(Exception, match=f"jaxdecode_{name}: chunks of another size"):
        call(name, operands, result, {"chunk": np.int64(chunk)})


def test_operands_whose_sizes_do_not_fit_are_refused():
    operands, result, _ = RIGHT["put"]
    with pytest.raises(Exception, match="jaxdecode_put: other sizes"):
        call("put", [*operands[:2], ((2,), F)], result, CHUNK)
    with pytest.raises(Exception, match="jaxdecode_put: other sizes"):
        call("put", operands, [((48,), F), *result[1:]], CHUNK)
    operands, result, _ = RIGHT["search"]
    for many, bits in ((0, 0), (65, 65), (3, 2)):
        results = [((many,), S), ((bits,), U), result[2]]
        with pytest.raises(Exception, match="jaxdecode_search: other sizes"):
            call("search", operands, results, CHUNK)
    short = [operands[0], ((1,), F), *operands[2:]]
    with pytest.raises(Exception, match="jaxdecode_search: chunks of another size"):
        call("search", short, result, CHUNK)
    operands, result, _ = RIGHT["hash"]
    for given, results in (([((3,), U), operands[1]], result), (operands, ((4,), U))):
        with pytest.raises(Exception, match="jaxdecode_hash: other sizes"):
            call("hash", given, results, {})


def test_a_gate_needs_factors_like_the_rows_and_is_one_that_is_known():
    operands, result, attributes = RIGHT["product"]
    silu = attributes | {"gate": np.int64(1)}
    factors = ((2, 4), F)
    assert np.isfinite(call("product", [*operands, factors], result, silu)).all()
    wrong = [(silu, other) for other in (((2, 3), F), ((1, 4), F), ((2, 4), S))]
    wrong += [(silu | {"gate": np.int64(gate)}, factors) for gate in (-1, 3)]
    wrong += [(attributes, factors)]
    for changed, last in wrong:
        with pytest.raises(Exception, match="jaxdecode_product: other operands"):
            call("product", [*operands, last], result, changed)


def test_no_call_has_both_a_gate_and_a_norm():
    operands, result, attributes = RIGHT["product"]
    both = attributes | {"eps": F(1e-5), "gate": np.int64(1)}
    given = [*operands, ((4,), F), ((2, 4), F)]
    with pytest.raises(Exception, match="jaxdecode_product: other operands"):
        call("product", given, result, both)


def test_what_results_are_added_to_is_like_them():
    operands, result, attributes = RIGHT["product"]
    added = attributes | {"onto": np.int64(1)}
    onto = ((2, 32), F)
    assert np.isfinite(call("product", [*operands, onto], result, added)).all()
    for changed, more in (
        (added, [((2, 31), F)]),
        (added, [((1, 32), F)]),
        (added, [((2, 32), S)]),
        (added, []),
        (attributes, [onto]),
    ):
        with pytest.raises(Exception, match="jaxdecode_product: other operands"):
            call("product", [*operands, *more], result, changed)


def test_a_call_of_an_earlier_version_is_refused():
    operands, result, attributes = RIGHT["product"]
    with pytest.raises(Exception, match="jaxdecode_product: other attributes"):
        call("product", operands, result, {"eps": attributes["eps"]})
