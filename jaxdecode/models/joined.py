"""Matrices that read the same rows, kept under each other in one array.

One large product starts once and reads memory in one sweep, where several small ones
would each start and end: that is quicker on a GPU or a TPU (on a CPU, pieces that run
side by side are). Queries, keys and values are such matrices, and so are a gated MLP's
first two.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.pytree import pytree, static

# The last steps of the names of matrices that read the same rows.
GROUPS = (
    ("attention.q", "attention.k", "attention.v"),
    ("mlp.gate", "mlp.up"),
)


@pytree
class Joined:
    """Matrices [O_i, I] as one.

    Args:
      array: [O_0 + O_1 + ..., I].
      sizes: O_0, O_1, .... Static.
      places: where each stands among a model's arrays. Static.
    """

    array: jax.Array
    sizes: tuple[int, ...] = static()
    places: tuple[int, ...] = static()


@pytree
class Part:
    """One of several joined matrices.

    Args:
      array: all of them.
      sizes: as in `Joined`. Static.
      index: which one it is. Static.
    """

    array: jax.Array
    sizes: tuple[int, ...] = static()
    index: int = static()

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of this matrix."""
        return self.sizes[self.index], self.array.shape[1]

    @property
    def dtype(self) -> Any:
        """Type of its numbers."""
        return self.array.dtype


def join(names: Sequence[str], leaves: Sequence[Any]) -> list[Any]:
    """Return a model's arrays with those joined that read the same rows.

    Args:
      names: dotted name of each array.
      leaves: the arrays; they may be abstract. Arrays of the kernels' layout stay.

    Returns:
      As many: a `Joined` stands for its first matrix, None for each of the others.
    """
    leaves = list(leaves)
    for places in _groups(names):
        parts = [leaves[place] for place in places]
        if not all(isinstance(x, (jax.Array, jax.ShapeDtypeStruct)) for x in parts):
            continue
        sizes = tuple(part.shape[0] for part in parts)
        for place in places:
            leaves[place] = None  # so that no more than one group is held twice
        leaves[places[0]] = Joined(_stacked(parts), sizes=sizes, places=places)
    return leaves


def part(leaves: Sequence[Any]) -> list[Any]:
    """Return a model's arrays one by one: a `Part` for each matrix that was joined."""
    parted = list(leaves)
    for joined in leaves:
        if isinstance(joined, Joined):
            for index, place in enumerate(joined.places):
                parted[place] = Part(joined.array, sizes=joined.sizes, index=index)
    return parted


def alone(leaf: Any) -> Any:
    """Return the matrix of a `Part`, copied; anything else as it is."""
    if not isinstance(leaf, Part):
        return leaf
    if isinstance(leaf.array, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    start = sum(leaf.sizes[: leaf.index])
    return leaf.array[start : start + leaf.sizes[leaf.index]]


def are_all_of_one(parts: Sequence[Any]) -> bool:
    """Whether parts are all matrices of one array, in their order."""
    first = parts[0]
    return len(parts) == len(first.sizes) and all(
        other.array is first.array and other.index == index
        for index, other in enumerate(parts)
    )


def _stacked(parts: list[Any]) -> Any:
    if not isinstance(parts[0], jax.ShapeDtypeStruct):
        return jnp.concatenate(parts)
    rows = sum(part.shape[0] for part in parts)
    return jax.ShapeDtypeStruct((rows, parts[0].shape[1]), parts[0].dtype)


def _groups(names: Sequence[str]) -> list[tuple[int, ...]]:
    """Return the places of matrices that read the same rows."""
    places = {name: place for place, name in enumerate(names)}
    found = []
    for name in names:
        for first, *others in GROUPS:
            owner, is_first, _ = name.rpartition(f"{first}.weight")
            if not is_first or (owner and not owner.endswith(".")):
                continue
            wanted = [name, *(f"{owner}{other}.weight" for other in others)]
            if all(other in places for other in wanted):
                found.append(tuple(places[other] for other in wanted))
    return found
