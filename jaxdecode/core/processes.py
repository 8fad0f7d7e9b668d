"""Results of programs that run on the devices of several processes.

Each process sees a part of an array that lies across them. What a person reads, tokens
and log-probs, is small: it is laid whole into every process.
"""

from typing import Any, TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxdecode.core import check

T = TypeVar("T")


def in_every_process(tree: T) -> T:
    """Return arrays that this process can read as a whole.

    Where there is one process, and inside a `jit`, nothing changes. All processes must
    call it with the same arrays.
    """
    return jax.tree.map(_readable, tree)


def _readable(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or check.is_traced(leaf):
        return leaf
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
        return leaf
    if not isinstance(leaf.sharding, NamedSharding):
        return leaf  # of another owner, who knows how it lies
    return jax.device_put(leaf, NamedSharding(leaf.sharding.mesh, PartitionSpec()))
