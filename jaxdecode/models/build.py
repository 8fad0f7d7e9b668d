"""From named weights to a model: every name and shape must be the config's own.

Knows our dotted names only; other naming schemes are translated where files are read.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check
from jaxdecode.core.platform import Platform
from jaxdecode.models import kept_outlines
from jaxdecode.models.config import ModelConfig
from jaxdecode.models.definition import Definition, Plan, take_apart
from jaxdecode.models.families.catalog import family_named
from jaxdecode.models.frozen import Frozen
from jaxdecode.models.joined import join
from jaxdecode.models.matrix import DTYPES
from jaxdecode.native import (
    WORDS,
    Panels,
    current_platform,
    is_available,
    pack,
    packed_shape,
    why_unavailable,
)


def build(
    config: ModelConfig,
    params: Mapping[str, Any],
    dtype: str = "float32",
    *,
    native: bool | None = None,
    calibration: np.ndarray | None = None,
    put: Callable[[str, Any], Any] | None = None,
) -> Frozen:
    """Make a model of given weights.

    Weights are copied one at a time, so a lazy mapping is never in memory as a whole;
    a JAX array that already has its storage type is taken as it is.
    Matrices are stored in `dtype`; norms and biases stay float32.

    Args:
      config: sizes and switches.
      params: arrays of float16, bfloat16, float32 or float64 by name; the names and
        shapes must be exactly those of `parameter_shapes(config)`.
      dtype: "float32" or "bfloat16", the type of matrices and cache; or "int8", for
        matrices with a scale per row and a bfloat16 cache.
      native: whether matrices are laid out for the kernels of `jaxdecode.native`; None
        is where they are available. Such a model runs on CPU only.
      calibration: for int8, tokens [B, S] of some text, read once before the matrices
        are rounded; None for random tokens, which serve a little less well.
      put: `(name, array) -> array`, called for every array in the layout in which it is
        kept, to place or shard it; an array of the kernels' layout is a `Panels`. None
        leaves arrays on JAX's default device, where an accelerator keeps matrices that
        read the same rows as one.

    Returns:
      The model.

    Raises:
      ValueError: for a missing or unknown name or a wrong shape; it names the tensor;
        or if `native` is asked for where the kernels are not available.
      TypeError: for a tensor that is not of real floating-point numbers.
    """
    wanted, definition, params = _prepared(config, params, dtype, calibration)
    lay_out = _in_panels if _is_native(native) else _as_it_is
    leaves = []
    for name, shape in wanted.items():
        array = lay_out(name, _checked(name, params[name], shape))
        leaves.append(array if put is None else put(name, array))
    if current_platform().joins and put is None:
        leaves = join(definition.names, leaves)
    return Frozen(leaves=tuple(leaves), definition=definition)


def laid_out(
    config: ModelConfig,
    params: Mapping[str, Any],
    dtype: str,
    *,
    calibration: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return a model's arrays as the kernels read them, which need not be there yet.

    Args:
      config: as in `build`.
      params: as in `build`.
      dtype: as in `build`.
      calibration: as in `build`.

    Returns:
      Arrays by name, of the shapes and types of `stored_arrays`.

    Raises:
      ValueError: as `build`.
      TypeError: as `build`.
    """
    wanted, definition, params = _prepared(config, params, dtype, calibration)
    leaves = (
        _in_panels(name, _checked(name, params[name], shape))
        for name, shape in wanted.items()
    )
    return words_of(Frozen(leaves=tuple(leaves), definition=definition))


def stored_arrays(
    config: ModelConfig, dtype: str
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Return shape and type of each array of a model in the layout of the kernels.

    Args:
      config: sizes and switches.
      dtype: as in `build`.
    """
    wanted, _ = _outline(config, dtype)
    return {name: _stored(name, leaf) for name, leaf in wanted.items()}


def assemble(config: ModelConfig, dtype: str, arrays: Mapping[str, Any]) -> Frozen:
    """Make a model of arrays that lie as the kernels read them.

    Args:
      config: sizes and switches.
      dtype: as in `build`.
      arrays: those of `words_of` for a model of this config; they must not change, for
        an aligned one is used where it is.
    """
    wanted, definition = _outline(config, dtype)

    def leaf(name, outline):
        array = jax.device_put(arrays[name])
        if not _is_matrix(name, outline):
            return array
        return Panels(array, shape=outline.shape, kind=outline.dtype.name)

    leaves = tuple(leaf(name, outline) for name, outline in wanted.items())
    return Frozen(leaves=leaves, definition=definition)


def words_of(model: Frozen) -> dict[str, np.ndarray]:
    """Return the arrays of a model that was built for the kernels, by name."""
    names = model.definition.names
    words = [x.words if isinstance(x, Panels) else x for x in model.leaves]
    return {name: np.asarray(each) for name, each in zip(names, words, strict=True)}


def parameter_shapes(
    config: ModelConfig, dtype: str = "float32"
) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of a model, by our dotted names.

    Matrices are [outputs, inputs], tables [entries, width].

    Args:
      config: sizes and switches.
      dtype: as in `build`; int8 weights have scales besides.

    Returns:
      Shapes by name, such as `layers.0.attention.q.weight`.
    """
    wanted, _ = _outline(config, dtype)
    return {name: leaf.shape for name, leaf in wanted.items()}


def outline(
    config: ModelConfig, dtype: str = "float32", *, platform: Platform | None = None
) -> Frozen:
    """Return a model of abstract arrays: to trace and compile programs without weights.

    Args:
      config: sizes and switches.
      dtype: as in `build`.
      platform: what it is used on; its arrays are those of a model that was built there
        without kernels. None is this process's, with every matrix on its own.
    """
    check.choice("outline", "dtype", dtype, tuple(DTYPES))
    wanted, definition = _outline(config, dtype)
    leaves = list(wanted.values())
    if platform is not None and platform.joins:
        leaves = join(definition.names, leaves)
    return Frozen(leaves=tuple(leaves), definition=definition, platform=platform)


def random_params(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random float32 weights, for benchmarks and tests of any shape.

    Matrices and tables are normal with deviation 1 / sqrt(last axis); norm weights lie
    about 1 and biases about 0, but not at them, so that no switch goes unnoticed.

    Args:
      config: sizes and switches.
      seed: seed of numpy's generator; the same seed gives the same weights.

    Returns:
      Arrays by name, fit for `build`.
    """
    generator = np.random.default_rng(check.seed("random_params", seed))
    shapes = parameter_shapes(config)
    return {name: _draw(generator, name, shape) for name, shape in shapes.items()}


@functools.lru_cache(maxsize=64)
def _outline(
    config: ModelConfig, dtype: str
) -> tuple[dict[str, jax.ShapeDtypeStruct], Definition]:
    # Cached, so that two models of one config compare their definitions by identity.
    plan = Plan(family_named(config.family).module, config, dtype)
    wanted, parts = kept_outlines.load(plan), None
    if wanted is None:
        names, leaves, parts = take_apart(plan.make())
        leaves = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        wanted = dict(zip(names, leaves, strict=True))
        kept_outlines.keep(plan, wanted)
    definition = Definition(
        tuple(wanted),
        vocab_size=config.vocab_size,
        max_length=config.max_length,
        plan=plan,
        parts=parts,
    )
    return wanted, definition


def _prepared(config, params, dtype, calibration):
    """Check what `build` was given; return outlines, definition, and int8 parameters."""
    check.choice("build", "dtype", dtype, tuple(DTYPES))
    wanted, definition = _outline(config, dtype)
    _check_names(set(params), set(parameter_shapes(config)))
    if dtype == "int8":
        from jaxdecode.models.balance import quantized  # it calibrates on nnx modules

        params = quantized(config, params, calibration)
    return wanted, definition, params


def _check_names(given: set[str], wanted: set[str]) -> None:
    for rule, names in (
        ("the model needs", wanted - given),
        ("the model does not have", given - wanted),
    ):
        if names:
            first, rest = min(names), len(names) - 1
            more = f" (and {rest} more)" if rest else ""
            verb = "must hold" if rule == "the model needs" else "must not hold"
            raise ValueError(f"build: `params` {verb} {first!r}{more}: {rule} it.")


def _is_native(asked: bool | None) -> bool:
    if asked is None:
        return is_available()
    if asked and why_unavailable():
        raise ValueError(f"build: `native` must be False here: {why_unavailable()}.")
    return asked


def _as_it_is(name: str, value: Any) -> jax.Array:
    del name
    if isinstance(value, jax.Array):
        return value  # it cannot change; one over a mapped file stays there
    # A copy: on CPU an alias of the caller's buffer would change when that does.
    return jnp.array(value, copy=True)


def _in_panels(name: str, value: Any) -> Panels | jax.Array:
    return pack(value) if _is_matrix(name, value) else _as_it_is(name, value)


def _is_matrix(name: str, value: Any) -> bool:
    return len(value.shape) == 2 and name.endswith(".weight")


def _stored(name: str, leaf: Any) -> tuple[tuple[int, ...], np.dtype]:
    if not _is_matrix(name, leaf):
        return leaf.shape, np.dtype(leaf.dtype)
    kind = leaf.dtype.name
    return packed_shape(leaf.shape, kind), np.dtype(WORDS[kind])


def _checked(name: str, value: Any, wanted: jax.ShapeDtypeStruct) -> Any:
    if tuple(value.shape) != wanted.shape:
        raise ValueError(
            f"build: `params[{name!r}]` must have shape {wanted.shape}, "
            f"got {tuple(value.shape)}."
        )
    if not jnp.issubdtype(value.dtype, np.floating) and wanted.dtype != jnp.int8:
        raise TypeError(
            f"build: `params[{name!r}]` must be floating-point numbers, "
            f"got {value.dtype}."
        )
    same = value.dtype == wanted.dtype
    return value if same else value.astype(wanted.dtype)


def _draw(
    generator: np.random.Generator, name: str, shape: tuple[int, ...]
) -> np.ndarray:
    draw = generator.standard_normal(shape, np.float32)
    if len(shape) > 1:
        draw *= np.float32(shape[-1] ** -0.5)
    elif name.endswith("norm.weight"):
        draw = np.float32(1.0) + np.float32(0.1) * draw
    else:
        draw *= np.float32(0.1)
    return draw
