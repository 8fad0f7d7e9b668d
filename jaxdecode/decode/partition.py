"""Any model as JAX sees it: arrays that go into the program, and all the rest.

A model that is a pytree keeps its arrays as arguments of the compiled program. Whatever
is not an array (functions, sizes, or a whole object that JAX cannot look into) is part
of the structure and is compared by identity.
"""

from typing import Any

import jax
import numpy as np

from jaxdecode.core.protocol import Model


class Fixed:
    """What of a model is not an array; hashable, so that it can be a static argument."""

    def __init__(self, treedef: Any, rest: tuple[Any, ...]):
        """Keep a tree's structure and its leaves that are no arrays (None elsewhere)."""
        self.treedef, self.rest = treedef, rest

    def __hash__(self):
        return hash((self.treedef, tuple(id(leaf) for leaf in self.rest)))

    def __eq__(self, other):
        return (
            isinstance(other, Fixed)
            and self.treedef == other.treedef
            and all(a is b for a, b in zip(self.rest, other.rest, strict=True))
        )


def partition(model: Any) -> tuple[list[Any], Fixed]:
    """Split a model into its arrays and the rest.

    Raises:
      TypeError: if it does not satisfy the `Model` protocol.
    """
    for name in ("vocab_size", "max_length", "init_cache", "__call__"):
        if isinstance(model, type) or not hasattr(model, name):
            raise TypeError(
                "generate: `model` must have vocab_size, max_length, init_cache and "
                f"__call__ (see jaxdecode.Model); {type(model).__name__} has no {name}."
            )
    leaves, treedef = jax.tree.flatten(model)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    return arrays, Fixed(
        treedef, tuple(None if _is_array(leaf) else leaf for leaf in leaves)
    )


def combine(arrays: list[Any], fixed: Fixed) -> Model:
    """Rebuild the model that `partition` split."""
    source = iter(arrays)
    leaves = [next(source) if leaf is None else leaf for leaf in fixed.rest]
    return jax.tree.unflatten(fixed.treedef, leaves)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic))
