"""The library keeps compiled programs only where a caller asks for it."""

import subprocess
import sys

PROGRAM = """
import sys
import jax, jax.monitoring
import jaxdecode as jd
assert jax.config.jax_compilation_cache_dir is None
folder = jd.enable_compilation_cache(sys.argv[1])
hits = []
jax.monitoring.register_event_listener(
    lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None
)
print(folder.parent, int(jax.jit(lambda x: x * 3)(4)), len(hits) > 0)
"""


def start(folder):
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_it_is_off_until_asked_for_and_then_a_second_start_compiles_nothing(tmp_path):
    folder = tmp_path / "mine"
    assert start(folder) == [str(folder), "12", "False"]
    assert start(folder) == [str(folder), "12", "True"]
