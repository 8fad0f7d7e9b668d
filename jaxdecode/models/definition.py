"""What a model is beside its arrays, as one hashable constant.

A model of ours is known by what its module is made from: its family, config and storage
type. The module itself is made, and Flax imported, only where a program is traced.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from jaxdecode.models.config import ModelConfig

if TYPE_CHECKING:
    from flax import nnx

    from jaxdecode.models.decoder import Decoder


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an nnx module of ours is made from.

    Args:
      module: returns its class, as in the record of its family.
      config: sizes and switches.
      dtype: the type of matrices, as in `build`.
    """

    module: Callable[[], "type[Decoder]"]
    config: ModelConfig
    dtype: str

    def make(self) -> "Decoder":
        """Return the module, with shapes in place of matrices."""
        return self.module()(self.config, dtype=self.dtype, rngs=None)


class Definition:
    """Everything about an nnx module but its arrays.

    It is part of the key under which a compiled program is found, at every call: the
    hash is kept, and identity is tried before a comparison.

    Args:
      names: dotted name of each array, in the order of the leaves.
      vocab_size: number of token ids.
      max_length: positions the model can hold.
      plan: what a module of ours is made from, which decides all the rest; None for
        anybody else's.
      parts: the module's static graph, and the structure of its state; None for those
        that the plan gives, when they are first asked for.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        vocab_size: int,
        max_length: int,
        plan: Plan | None = None,
        parts: tuple[Any, Any] | None = None,
    ):
        self.names = names
        self.vocab_size = vocab_size
        self.max_length = max_length
        self.plan = plan
        self._given = parts
        # To look through the thousand parts of a module takes 60 ms.
        self._key = parts if plan is None else plan
        self._hash = hash(self._key)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells a definition from others, in any process."""
        return self._key, self.vocab_size, self.max_length

    @property
    def graphdef(self) -> Any:
        """The module's static graph."""
        return self._parts[0]

    @property
    def treedef(self) -> Any:
        """The structure of the module's state."""
        return self._parts[1]

    @property
    def kind(self) -> type:
        """The module's class."""
        return self.graphdef.nodes[0].type

    def has(self, ability: str) -> bool:
        """Whether the module has one of the abilities that `Decoder` has."""
        return self.plan is not None or hasattr(self.kind, ability)

    @functools.cached_property
    def _parts(self) -> tuple[Any, Any]:
        if self._given is not None:
            return self._given
        assert self.plan is not None  # one of the two is given
        names, _, parts = take_apart(self.plan.make())
        if names != self.names:
            raise RuntimeError(f"{self.plan}: the names of the arrays are others now.")
        return parts

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Definition)
            and self._hash == other._hash
            and self._key == other._key
        )


def take_apart(
    module: "nnx.Module",
) -> tuple[tuple[str, ...], list[Any], tuple[Any, Any]]:
    """Take a module apart.

    Returns:
      The dotted names of its arrays, the arrays (they may be abstract), and the `parts`
      of a `Definition`.
    """
    from flax import nnx

    graphdef, state = nnx.split(module)
    paths, treedef = jax.tree_util.tree_flatten_with_path(state)
    names = tuple(_dotted(path) for path, _ in paths)
    return names, [leaf for _, leaf in paths], (graphdef, treedef)


def _dotted(path: tuple[Any, ...]) -> str:
    # The last step of a path is the inside of an nnx variable: `.value`.
    return ".".join(str(step.key) for step in path if hasattr(step, "key"))
