"""A model as plain arrays: what a compiled program takes in place of an nnx module.

Passing a module through `jit` walks its objects at every call. Here that walk is done
once: the definition is one hashable constant and the weights are a flat tuple. The
module is put together again inside the trace, where it costs nothing at run time.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any

import jax
from flax import nnx

from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import FollowsPlatform
from jaxdecode.core.pytree import pytree, replace, static
from jaxdecode.models.joined import alone, part
from jaxdecode.native import current_platform, unpacked


class Definition:
    """Everything about an nnx module but its arrays.

    It is part of the key under which a compiled program is found, at every call: the
    hash is kept, and identity is tried before a comparison.

    Args:
      graphdef: the module's static graph.
      treedef: structure of its state.
      names: dotted name of each array, in the order of the leaves.
      vocab_size: number of token ids.
      max_length: positions the model can hold.
      made_from: what decides all of this, where that is known, such as a class and its
        arguments.
    """

    __slots__ = (
        "_hash",
        "graphdef",
        "made_from",
        "max_length",
        "names",
        "treedef",
        "vocab_size",
    )

    def __init__(
        self,
        graphdef: Any,
        treedef: Any,
        names: tuple[str, ...],
        *,
        vocab_size: int,
        max_length: int,
        made_from: Any = None,
    ):
        self.graphdef = graphdef
        self.treedef = treedef
        self.made_from = made_from
        self.names = names
        self.vocab_size = vocab_size
        self.max_length = max_length
        self._hash = hash((graphdef, treedef))

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells a definition from others, in any process."""
        if self.made_from is not None:
            return self.made_from  # looking through a thousand parts takes 60 ms
        return self.graphdef, self.treedef, self.vocab_size, self.max_length

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Definition)
            and self._hash == other._hash
            and self.graphdef == other.graphdef
            and self.treedef == other.treedef
        )


@pytree
class Frozen:
    """A model with the `Model` protocol, as a pytree of plain arrays.

    Made by `freeze` or `build`. Two of one architecture share a compiled program,
    whatever their weights; another config or storage type is another program.

    Args:
      leaves: the arrays, in the order of `definition.names`; matrices may be `Panels`,
        or several of them `Joined`.
      definition: the rest, part of the structure.
      platform: what programs that use it are compiled for; None is this process's.
        Static.
      split: how it lies on several devices (`models.sharding.Split`); None for one.
        Static.
    """

    leaves: tuple[Any, ...]
    definition: Definition = static()
    platform: Platform | None = static(default=None)
    split: Any = static(default=None)

    def on(self, platform: Platform) -> "Frozen":
        """Return the same model, to be used in programs for `platform`."""
        return replace(self, platform=platform)

    @property
    def vocab_size(self) -> int:
        """Number of token ids, V."""
        return self.definition.vocab_size

    @property
    def max_length(self) -> int:
        """Positions the model can hold."""
        return self.definition.max_length

    @property
    def keeps_protocol(self) -> bool:
        """Whether the module is of a class of ours, which needs no examination."""
        return getattr(self.definition.graphdef.nodes[0].type, "keeps_protocol", False)

    @property
    def shares_prompts(self) -> bool:
        """Whether the module can keep a prompt once for several continuations."""
        return hasattr(self.definition.graphdef.nodes[0].type, "share_prompts")

    @property
    def exposes_layers(self) -> bool:
        """Whether the module says what its earlier layers would say."""
        return hasattr(self.definition.graphdef.nodes[0].type, "layer_logits")

    @property
    def config(self) -> Any:
        """The module's sizes and switches; None for a module without."""
        return getattr(self._module, "config", None)

    @property
    def params(self) -> dict[str, jax.Array]:
        """The arrays under their dotted names, matrices as [outputs, inputs]."""
        return dict(zip(self.definition.names, self.plain_leaves(), strict=True))

    def plain_leaves(self) -> list[jax.Array]:
        """Return the arrays one by one, matrices as [outputs, inputs]."""
        return [alone(unpacked(leaf)) for leaf in part(self.leaves)]

    def thaw(self) -> nnx.Module:
        """Return the nnx module, for inspection: `nnx.display(model.thaw())`."""
        return self._assemble(self.params.values())

    def _assemble(self, leaves: Iterable[Any]) -> Any:
        state = jax.tree.unflatten(self.definition.treedef, part(list(leaves)))
        return nnx.merge(self.definition.graphdef, state)

    @property
    def _module(self) -> Any:
        """The module; a new one each time if it may change itself when it is called."""
        return self._same_module if self.keeps_protocol else self._new_module()

    @functools.cached_property
    def _same_module(self) -> Any:
        return self._new_module()

    def _new_module(self) -> Any:
        module = self._assemble(self.leaves)
        platform = self.platform
        if self.split is not None:  # XLA's partitioner cannot cut the kernel
            platform = platform or current_platform()
            platform = dataclasses.replace(platform, token_kernel=False)
        if platform is None or not isinstance(module, FollowsPlatform):
            return module
        return module.on(platform)

    def init_cache(self, rows: int, length: int) -> Any:
        """Return the model's empty cache for `rows` sequences of `length` columns."""
        cache = self._module.init_cache(rows, length)
        return cache if self.split is None else self.split.cut(cache, "data", "tensor")

    def share_prompts(
        self, cache: Any, lengths: jax.Array, *, beams: int, columns: int
    ) -> Any:
        """Return the module's cache for `beams` continuations of each prompt."""
        share = self._module.share_prompts
        return share(cache, lengths, beams=beams, columns=columns)

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: Any,
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Read tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`)."""
        if self.split is None:
            return self._module(tokens, positions, cache, at=at)
        tokens, positions = self.split.cut((tokens, positions), "data")
        logits, cache = self._module(tokens, positions, cache, at=at)
        axes = ("data", *(None,) * (logits.ndim - 2), "tensor")
        return self.split.cut(logits, *axes), cache

    def layer_logits(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: Any,
        *,
        layers: tuple[int, ...],
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array, Any]:
        """Return the module's logits, those behind earlier layers, and the cache."""
        read = self._module.layer_logits
        return read(tokens, positions, cache, layers=layers, at=at)

    def __repr__(self) -> str:
        kind = self.definition.graphdef.nodes[0].type.__name__
        count = sum(math.prod(leaf.shape) for leaf in part(self.leaves))
        return f"Frozen({kind}, {len(self.leaves)} arrays, {count:,} parameters)"


def freeze(module: nnx.Module) -> Frozen:
    """Take an nnx language model apart into arrays and a definition.

    Args:
      module: any nnx module with the `Model` protocol; later changes to it do not
        show in the result.

    Returns:
      The same model as a `Frozen`.
    """
    leaves, definition = take_apart(module)
    return Frozen(leaves=tuple(leaves), definition=definition)


def take_apart(module: Any, made_from: Any = None) -> tuple[list[Any], Definition]:
    """Return the arrays (or abstract arrays) of a module, and its definition."""
    graphdef, state = nnx.split(module)
    paths, treedef = jax.tree_util.tree_flatten_with_path(state)
    names = tuple(_dotted(path) for path, _ in paths)
    definition = Definition(
        graphdef,
        treedef,
        names,
        vocab_size=module.vocab_size,
        max_length=module.max_length,
        made_from=made_from,
    )
    return [leaf for _, leaf in paths], definition


def _dotted(path: tuple[Any, ...]) -> str:
    # The last step of a path is the inside of an nnx variable: `.value`.
    return ".".join(str(step.key) for step in path if hasattr(step, "key"))
