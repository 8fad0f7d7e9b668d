"""A model on several devices: who holds which part of its arrays, by their names.

Along the axis `tensor` of a mesh a layer is cut as Megatron cuts it: attention by heads,
the MLP by its hidden units, tables by tokens. Each device works on its part, and two sums
a layer put the parts together. Along `data` the rows of a batch are cut, and with them
the cache. XLA's partitioner does the rest, in the same program as for one device.

Reference: Shoeybi et al., Megatron-LM, 2019, arXiv 1909.08053.
"""

import dataclasses
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxdecode.core.pytree import replace
from jaxdecode.models.frozen import Frozen

# The axis that is cut, by the last steps of a name; the others lie whole everywhere.
CUTS = {
    "attention.q": 0,
    "attention.k": 0,
    "attention.v": 0,
    "attention.o": 1,
    "mlp.gate": 0,
    "mlp.up": 0,
    "mlp.down": 1,
    "embedding": 0,
    "head": 0,
}
TABLES = ("embedding", "head")  # of any number of tokens; whole if it does not divide


@dataclasses.dataclass(frozen=True)
class Split:
    """How a model lies on a mesh; part of the structure of a program.

    Args:
      mesh: the devices.
      data: the axis along which rows are cut, or None.
      tensor: the axis along which layers are cut, or None.
    """

    mesh: Mesh
    data: str | None
    tensor: str | None

    def place(self, name: str, leaf: Any) -> Any:
        """Return one array of a model, or its outline, laid on the mesh."""
        part, _, kind = name.rpartition(".")
        owner = next((o for o in CUTS if part == o or part.endswith(f".{o}")), None)
        axes: list[str | None] = [None] * leaf.ndim
        axis = None if owner is None or kind == "unit" else CUTS[owner]
        if axis is not None and axis < leaf.ndim and self.tensor is not None:
            if leaf.shape[axis] % self._size(self.tensor) == 0:
                axes[axis] = self.tensor
            elif owner not in TABLES:
                raise ValueError(
                    f"shard: the axis {self.tensor!r} of `mesh` must divide axis {axis} "
                    f"of {name!r} ({leaf.shape[axis]}), got {self._size(self.tensor)}."
                )
        where = NamedSharding(self.mesh, P(*axes))
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
        return jax.device_put(leaf, where)

    def cut(self, tree: Any, *axes: str | None) -> Any:
        """Return traced arrays cut along their first axes, where these divide.

        Args:
          tree: arrays of at least as many axes.
          *axes: "data", "tensor" or None for each of the first axes.
        """

        def constrain(leaf):
            wanted = [self.data if axis == "data" else self.tensor for axis in axes]
            wanted = [
                name
                if axis and name and leaf.shape[i] % self._size(name) == 0
                else None
                for i, (axis, name) in enumerate(zip(axes, wanted, strict=True))
            ]
            where = NamedSharding(self.mesh, P(*wanted))
            return jax.lax.with_sharding_constraint(leaf, where)

        return jax.tree.map(constrain, tree)

    def _size(self, axis: str) -> int:
        return self.mesh.shape[axis]


def shard(
    model: Frozen, mesh: Mesh, *, data: str | None = None, tensor: str | None = None
) -> Frozen:
    """Lay a model on the devices of a mesh; it is then used like any other.

    `generate`, `beam_search`, `score` and every sampler run on it, with the tokens of
    one device up to the rounding of sums. Rows are cut along `data` if their number
    divides, heads, hidden units and tokens of the vocabulary along `tensor`. Works with
    several processes after `jax.distributed.initialize`: all make the same calls with
    the same arguments, and each gets the whole result.

    Args:
      model: a model of this package, as `load`, `build` or `freeze` return it; its
        arrays may be `jax.ShapeDtypeStruct`, for programs that are only compiled.
      mesh: the devices.
      data: name of the axis of `mesh` along which rows are cut; None for no such axis.
      tensor: name of the axis along which layers are cut; None for no such axis.

    Returns:
      The same model, its arrays on the devices of `mesh` (as plain matrices: kernels
      for the CPU read no parts, and matrices that were joined are cut one by one).

    Raises:
      TypeError: if `model` is of another kind.
      ValueError: if the mesh has no axis of that name, or its size does not divide the
        key and value heads or the hidden units.
    """
    if not isinstance(model, Frozen):
        raise TypeError(
            "shard: `model` must be a model of this package (`lm.model`, or the result "
            f"of `build` or `freeze`), got {type(model).__name__}."
        )
    for name, axis in (("data", data), ("tensor", tensor)):
        if axis is not None and axis not in mesh.axis_names:
            raise ValueError(
                f"shard: `{name}` must be an axis of `mesh`, one of "
                f"{mesh.axis_names}, got {axis!r}."
            )
    # Axes of another type would make every operation say where its result lies.
    auto = (AxisType.Auto,) * len(mesh.axis_names)
    split = Split(Mesh(mesh.devices, mesh.axis_names, axis_types=auto), data, tensor)
    _check_heads(model, split)
    leaves = [
        split.place(name, leaf)
        for name, leaf in zip(model.definition.names, model.plain_leaves(), strict=True)
    ]
    return replace(model, leaves=tuple(leaves), split=split)


def _check_heads(model: Frozen, split: Split) -> None:
    config = model.config
    if split.tensor is None or config is None:
        return
    size, heads = split.mesh.shape[split.tensor], config.kv_heads
    if heads % size:
        raise ValueError(
            f"shard: the axis {split.tensor!r} of `mesh` must divide the model's key and "
            f"value heads ({heads}), got {size}."
        )
