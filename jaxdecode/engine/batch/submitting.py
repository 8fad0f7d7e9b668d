"""From a checked line to a job: what the engine refuses is wrong with the line."""

import contextlib
from collections.abc import Iterator

from jaxdecode.engine.asking import PromptTooLong
from jaxdecode.engine.batch.lines import LineError
from jaxdecode.engine.batch.requests import Line
from jaxdecode.engine.engine import Engine
from jaxdecode.engine.job import Job


def submit_line(engine: Engine, line: Line) -> Job:
    """Submit what a line asks for.

    Raises:
      LineError: prompt_too_long, invalid_type or invalid_value.
    """
    with refusals():
        return engine.submit(
            line.prompt, key=line.seed, sampler=line.sampler, **line.options
        )


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Raise what the library refuses in the body as an error of the line.

    Raises:
      LineError: prompt_too_long, invalid_type or invalid_value.
    """
    try:
        yield
    except LineError:
        raise
    except PromptTooLong as error:
        raise LineError("prompt_too_long", str(error)) from None
    except TypeError as error:
        raise LineError("invalid_type", str(error)) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise LineError("invalid_value", str(error)) from None
