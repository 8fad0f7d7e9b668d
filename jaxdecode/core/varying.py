"""Inside `jax.shard_map`: along which axes of the mesh a value differs between devices.

JAX follows that in the types, and refuses a loop or a branch that makes a value differ
along an axis along which it was the same before: a buffer of zeros that rows are written
into. So such a buffer is first declared to vary like the rows. Outside a `shard_map`
nothing varies and nothing is done.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def axes_of(*trees: Any) -> frozenset[Any]:
    """Return the axes along which some array of the trees varies."""
    leaves = jax.tree.leaves(trees)
    kinds = (jax.Array, jax.ShapeDtypeStruct)  # nothing else can vary
    return frozenset().union(*(_axes(x) for x in leaves if isinstance(x, kinds)))


def vary_like(tree: T, *others: Any) -> T:
    """Return `tree` with every leaf varying at least as the leaves of `others` do."""
    axes = axes_of(*others)
    return jax.tree.map(lambda leaf: _vary(leaf, axes), tree) if axes else tree


def vary_alike(*trees: Any) -> tuple[Any, ...]:
    """Return the trees with every leaf varying as all of them together do."""
    return vary_like(trees, *trees)


def vary_as(tree: T, shapes: T) -> T:
    """Return `tree` with each leaf varying at least as the same leaf of `shapes`."""
    if not axes_of(shapes):
        return tree
    return jax.tree.map(lambda leaf, shape: vary_like(leaf, shape), tree, shapes)


def settled(step: Callable[[T], T], state: T, *others: Any) -> T:
    """Return a loop's first state, varying as it will after any number of steps.

    Args:
      step: from a state to the next.
      state: the first.
      others: what else the step reads.
    """
    if not axes_of(state, others):
        return state
    while True:
        before = [axes_of(leaf) for leaf in jax.tree.leaves(state)]
        state = vary_as(state, jax.eval_shape(step, state))
        if before == [axes_of(leaf) for leaf in jax.tree.leaves(state)]:
            return state


def scan(
    step: Callable[[T, Any], tuple[T, Any]],
    carry: T,
    xs: Any,
    *,
    given: Any = None,
    length: int | None = None,
) -> tuple[T, Any]:
    """Do `jax.lax.scan` for a carry that comes to vary; `given` is what `step` reads."""

    def one(carry):
        return step(carry, jax.tree.map(lambda leaf: leaf[0], xs))[0]

    return jax.lax.scan(step, settled(one, carry, xs, given), xs, length=length)


def cond(
    wanted: Any, work: Callable[..., T], rest: Callable[..., T], *operands: Any
) -> T:
    """Do `jax.lax.cond` for branches whose results vary along different axes."""
    if not axes_of(wanted, operands):
        return jax.lax.cond(wanted, work, rest, *operands)
    shapes = [jax.eval_shape(branch, *operands) for branch in (work, rest)]

    def alike(branch):
        def varied(*given):
            return vary_as(vary_as(branch(*given), shapes[0]), shapes[1])

        return varied

    return jax.lax.cond(wanted, alike(work), alike(rest), *operands)


def _vary(leaf: Any, axes: frozenset[Any]) -> Any:
    missing = axes - axes_of(leaf)
    return (
        jax.lax.pcast(leaf, tuple(sorted(missing)), to="varying") if missing else leaf
    )


def _axes(leaf: Any) -> frozenset[Any]:
    kind = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    found = getattr(kind, "manual_axis_type", None)  # its name since jax 0.10
    axes = getattr(kind, "vma", None) if found is None else found.varying
    return axes or frozenset()
