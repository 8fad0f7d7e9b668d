"""Runs the example on a local Ray cluster with two actors; one dies on the way.

python -m tests.engine.ray_program source target marker
"""

import importlib.util
import os
import pathlib
import signal
import sys
import time

from jaxdecode.ray import Generate
from tests.engine.engine_cases import SHAPE, language_model

EXAMPLE = pathlib.Path(__file__).parents[2] / "scripts" / "examples" / "ray_dataset.py"
OPTIONS = {**SHAPE, "max_new_tokens": 7, "sampling": {"temperature": 0.9}, "seed": 4}


class Mortal(Generate):
    """A stage whose second call, in whichever actor is first, ends the process."""

    def __init__(self, marker, **options):
        super().__init__(language_model(), **options)
        self._marker, self._calls = pathlib.Path(marker), 0

    def __call__(self, batch):
        self._calls += 1
        if self._calls == 2:
            try:
                self._marker.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
            except FileExistsError:
                pass
        time.sleep(0.2)  # both actors get work
        return super().__call__(batch)


def main(source, target, marker):
    import ray

    spec = importlib.util.spec_from_file_location("ray_dataset", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    ray.init(
        num_cpus=4,  # two for the actors, two to read and write
        include_dashboard=False,
        object_store_memory=200_000_000,
        logging_level="ERROR",
    )
    files = pathlib.Path(source), pathlib.Path(target)
    example.write_texts(
        *files, actors=2, batch=4, stage=Mortal, marker=marker, **OPTIONS
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
