"""A model as plain arrays: what a compiled program takes in place of an nnx module.

Passing a module through `jit` walks its objects at every call. Here that walk is done
once: the definition is one hashable constant and the weights are a flat tuple. The
module is put together again inside the trace, where it costs nothing at run time.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax

from jaxdecode.core.platform import Platform
from jaxdecode.core.protocol import FollowsPlatform
from jaxdecode.core.pytree import pytree, replace, static
from jaxdecode.models.definition import Definition, take_apart
from jaxdecode.models.joined import alone, part
from jaxdecode.native import current_platform, unpacked

if TYPE_CHECKING:
    from flax import nnx


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
        if platform == self.platform:  # whose module may have been put together
            return self
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
        definition = self.definition
        if definition.plan is not None:
            return True
        return getattr(definition.kind, "keeps_protocol", False)

    @property
    def shares_prompts(self) -> bool:
        """Whether the module can keep a prompt once for several continuations."""
        return self.definition.has("share_prompts")

    @property
    def exposes_layers(self) -> bool:
        """Whether the module says what its earlier layers would say."""
        return self.definition.has("layer_logits")

    @property
    def ignores_unused_columns(self) -> bool:
        """Whether a cache may have more columns than rows need, at no price."""
        able = self.definition.has("ignores_unused_columns")
        return able and self._module.ignores_unused_columns

    @property
    def config(self) -> Any:
        """The module's sizes and switches; None for a module without."""
        plan = self.definition.plan
        return getattr(self._module, "config", None) if plan is None else plan.config

    @property
    def params(self) -> dict[str, jax.Array]:
        """The arrays under their dotted names, matrices as [outputs, inputs]."""
        return dict(zip(self.definition.names, self.plain_leaves(), strict=True))

    def plain_leaves(self) -> list[jax.Array]:
        """Return the arrays one by one, matrices as [outputs, inputs]."""
        return [alone(unpacked(leaf)) for leaf in part(self.leaves)]

    def thaw(self) -> "nnx.Module":
        """Return the nnx module, for inspection: `nnx.display(model.thaw())`."""
        return self._assemble(self.params.values())

    def _assemble(self, leaves: Iterable[Any]) -> Any:
        from flax import nnx

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
        kind = self.definition.kind.__name__
        count = sum(math.prod(leaf.shape) for leaf in part(self.leaves))
        return f"Frozen({kind}, {len(self.leaves)} arrays, {count:,} parameters)"


def freeze(module: "nnx.Module") -> Frozen:
    """Take an nnx language model apart into arrays and a definition.

    Args:
      module: any nnx module with the `Model` protocol; later changes to it do not
        show in the result.

    Returns:
      The same model as a `Frozen`.
    """
    names, leaves, parts = take_apart(module)
    model: Any = module
    definition = Definition(
        names, vocab_size=model.vocab_size, max_length=model.max_length, parts=parts
    )
    return Frozen(leaves=tuple(leaves), definition=definition)
