"""Compiled programs over any model: its arrays are data, all the rest is structure.

A model that is a pytree keeps its arrays as arguments of the compiled program. What is
not an array (functions, sizes, or a whole object that JAX cannot look into) is compared
by identity: another one is another program.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdecode.core import check, garbage
from jaxdecode.core.platform import Platform, known_options
from jaxdecode.core.protocol import Model, follows_platform, for_platform
from jaxdecode.decode import kept_programs
from jaxdecode.decode.recompiling import note_constants


def compiled(*, static: tuple[str, ...] = (), donate: tuple[int, ...] = ()):
    """Compile a function whose first argument is any model.

    Args:
      static: names of keyword arguments that are part of the structure.
      donate: positions of arguments, the model's being 0, whose memory the results may
        take.

    Returns:
      A decorator that makes a `Compiled`.
    """

    def decorate(function: Callable[..., Any]) -> Compiled:
        return Compiled(function, static, donate)

    return decorate


class Compiled:
    """A function of a model, compiled when it is first called with a new structure.

    Args:
      function: `(model, *args, **static) -> results`.
      static: names of its keyword arguments.
      donate: positions of arguments whose memory the results may take.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        static: tuple[str, ...],
        donate: tuple[int, ...],
    ):
        def program(arrays, *args, structure, **kwargs):
            with garbage.not_collected():
                return _run(function, arrays, args, structure, kwargs)

        program.__name__ = program.__qualname__ = function.__name__
        self.__doc__ = function.__doc__
        self._function = function
        self._ready: dict[Any, Callable[..., Any] | None] = {}
        self._jit = functools.partial(
            jax.jit,
            program,
            static_argnames=("structure", *static),
            donate_argnums=donate,
        )
        self._program = self._jit()

    def __call__(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the function, compiled."""
        arrays, structure = partition(model)
        note_constants(arrays, args)
        kept = self._kept(arrays, args, structure, kwargs)
        if kept is not None:
            return kept(arrays, *args)
        return self._outermost()(arrays, *args, structure=structure, **kwargs)

    def _outermost(self) -> Any:
        """Return the jit, with the platform's options if it is not inside another."""
        if not known_options() or check.is_traced(jnp.zeros(())):
            return self._program
        return self._with_options

    @functools.cached_property
    def _with_options(self) -> Any:
        return self._jit(compiler_options=known_options())

    def _kept(self, arrays, args, structure, kwargs) -> Callable[..., Any] | None:
        """Return the program from the folder of kept ones; None where none is used."""
        folder = kept_programs.folder_in_use()
        if folder is None:
            return None
        leaves, treedef = jax.tree.flatten(args)
        shapes = kept_programs.signature([*arrays, *leaves])
        if shapes is None:
            return None
        static = tuple(sorted(kwargs.items()))
        known = structure, treedef, shapes, static, folder, kept_programs.context()
        if known in self._ready:
            return self._ready[known]
        described = (structure.treedef, structure.rest, treedef, shapes, static)
        name, program = kept_programs.name_of(self._function, described), None
        if name is not None:
            program = kept_programs.load(folder, name)
            if program is None:
                given = (arrays, *args)
                traced = self._outermost().trace(*given, structure=structure, **kwargs)
                program = kept_programs.compile_and_keep(folder, name, _lowered(traced))
        if len(self._ready) >= kept_programs.READY_MAX:
            self._ready.clear()
        self._ready[known] = program
        return program

    def trace(self, model: Any, *args: Any, **kwargs: Any) -> jax.stages.Traced:
        """Return the program, traced; arrays may be `jax.ShapeDtypeStruct`."""
        arrays, structure = partition(model)
        return self._program.trace(arrays, *args, structure=structure, **kwargs)

    def lower(self, model: Any, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """Return the program, lowered; arrays may be `jax.ShapeDtypeStruct`."""
        return _lowered(self.trace(model, *args, **kwargs))


class Structure:
    """What of a model is not an array; hashable, so that it can be a static argument."""

    def __init__(self, treedef: Any, rest: tuple[Any, ...]):
        """Keep a tree's structure and its leaves that are not arrays, None elsewhere."""
        self.treedef, self.rest = treedef, rest

    def __hash__(self):
        return hash((self.treedef, tuple(id(leaf) for leaf in self.rest)))

    def __eq__(self, other):
        return (
            isinstance(other, Structure)
            and self.treedef == other.treedef
            and all(a is b for a, b in zip(self.rest, other.rest, strict=True))
        )


def partition(model: Any) -> tuple[list[Any], Structure]:
    """Split a model into its arrays and its structure."""
    leaves, treedef = jax.tree.flatten(model)
    arrays = [leaf for leaf in leaves if _is_array(leaf)]
    rest = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
    return arrays, Structure(treedef, rest)


def combine(arrays: list[Any], structure: Structure) -> Model:
    """Rebuild the model that `partition` split."""
    source = iter(arrays)
    leaves = [next(source) if leaf is None else leaf for leaf in structure.rest]
    return jax.tree.unflatten(structure.treedef, leaves)


def _run(function, arrays, args, structure: Structure, kwargs: dict[str, Any]) -> Any:
    """Call a function of a model, for the platform that the call names.

    A platform whose caches have no slope gives the results, and the same function on
    one that has them gives their slopes.
    """
    platform: Platform | None = kwargs.get("platform")
    if platform is None:
        return function(combine(arrays, structure), *args, **kwargs)

    def on(platform, arrays, args):
        model = for_platform(combine(arrays, structure), platform)
        return function(model, *args, **kwargs)

    if not platform.words or not follows_platform(combine(arrays, structure)):
        return on(platform, arrays, args)

    @jax.custom_jvp
    def run(arrays, args):
        return on(platform, arrays, args)

    @run.defjvp
    def _slopes(primals, tangents):
        given = functools.partial(on, platform.with_slopes())
        return jax.jvp(given, primals, tangents)

    return run(arrays, args)


def _lowered(traced: jax.stages.Traced) -> jax.stages.Lowered:
    with garbage.not_collected():
        return traced.lower()


def _is_array(leaf: Any) -> bool:
    kinds = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
    return isinstance(leaf, kinds)
