"""Counting compilations, so that "new values never recompile" can be asserted."""

import contextlib
import dataclasses
from collections.abc import Iterator

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"


@dataclasses.dataclass
class Compiles:
    """The programs that were compiled inside `count_compiles`.

    Attributes:
      names: their names, in the order in which they were compiled; `jit(f)` for a
        function f, the name of the operation for a lone `jnp` call.
      seconds: how long all of them took.
    """

    names: list[str] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """How many programs were compiled."""
        return len(self.names)


@contextlib.contextmanager
def count_compiles() -> Iterator[Compiles]:
    """Count the programs that XLA is asked to compile inside a `with` block.

    A program found in the compilation cache on disk counts, one that this process has
    already compiled does not. Calls outside `jit` count too: each `jnp` operation of a
    new shape is a program of its own. Compilations of other threads are included.

        with count_compiles() as compiles:
            jd.generate(model, prompts, key, sampler=jd.joint(temperature=0.7))
        assert compiles.count == 0, compiles.names

    Yields:
      A `Compiles`, growing while the block runs.
    """
    compiles = Compiles()

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _COMPILED:
            compiles.seconds += duration_secs
            compiles.names.append(str(kwargs.get("fun_name", "?")))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiles
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
