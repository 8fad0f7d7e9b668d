"""A finished program is found on disk without tracing, and only where it is the same."""

import contextlib
import dataclasses
import functools
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import jaxdecode as jd
from jaxdecode.core import kept_file
from jaxdecode.core.pytree import pytree
from jaxdecode.decode import kept_programs, programs, streaming
from jaxdecode.models import build, random_params
from tests import tiny

# The suite's own memory of programs, out of which none can be written, is off.
pytestmark = pytest.mark.reads_program
SAMPLER, OTHER = jd.Temperature(0.9), jd.LogitBias({3: 1.0})
PROGRAM = """
import sys
import jaxdecode as jd
from jaxdecode.decode import programs
from tests import tiny
jd.enable_compilation_cache(sys.argv[1])
run, traced = programs._run, []
programs._run = lambda *args: traced.append(1) or run(*args)
sampler = jd.Temperature(0.9)
pieces = jd.stream(tiny.llama(), [[1, 2, 3], [4]], 3, sampler=sampler, max_new_tokens=8)
print(len(traced), [piece.tokens.tolist() for piece in pieces], len(traced))
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Return a place with the programs of one start, and the tokens that it drew."""
    place = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch, cache_in(place) as folder:
        count, tokens = start(patch)
        assert count == len(list(folder.iterdir())) == 2
    return place, tokens


@pytest.fixture
def folder(tmp_path):
    """Return where programs are kept for one test; there are none yet."""
    with cache_in(tmp_path) as found:
        yield found


@pytest.fixture
def again(request, tmp_path):
    """Return where programs are kept, those of `kept` among them, and its tokens."""
    # Made within the first test that asks for it, so that it compiles as that does.
    place, tokens = request.getfixturevalue("kept")
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    with cache_in(tmp_path) as found:
        yield found, tokens


@contextlib.contextmanager
def cache_in(place):
    names = ("jax_compilation_cache_dir", "jax_compilation_cache_max_size")
    names += ("jax_persistent_cache_min_compile_time_secs",)
    names += ("jax_persistent_cache_min_entry_size_bytes",)
    before = {name: jax.config.values[name] for name in names}
    try:
        yield jd.enable_compilation_cache(place) / "programs"
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        forget()


@functools.cache
def model():
    """Return a small model of the library's: a user's is not kept."""
    config = dataclasses.replace(tiny.llama().thaw().config, num_layers=1)
    return build(config, random_params(config))


def forget():
    """Forget every program, as the end of a process does."""
    jax.clear_caches()
    for program in (streaming._start, streaming._advance):
        program._ready.clear()


def start(monkeypatch, sampler=SAMPLER):
    """Return how many programs a start traces, and the tokens that it draws."""
    forget()
    run, traced = programs._run, []
    with monkeypatch.context() as patched:
        patched.setattr(programs, "_run", lambda *args: traced.append(1) or run(*args))
        prompts = [[1, 2, 3], [4, 5, 6, 7], [8]]
        pieces = jd.stream(model(), prompts, 3, sampler=sampler, max_new_tokens=8)
        tokens = np.concatenate([piece.tokens for piece in pieces], axis=1)
    return len(traced), tokens.tolist()


def test_a_second_start_traces_nothing_and_draws_the_same(again, monkeypatch):
    folder, tokens = again
    assert start(monkeypatch) == (0, tokens)
    damaged, deleted = folder.iterdir()
    damaged.write_bytes(damaged.read_bytes()[:-7] + b"damaged")
    deleted.unlink()  # JAX's own cache holds it: that is passed by
    assert start(monkeypatch) == (2, tokens)
    assert start(monkeypatch) == (0, tokens)


def test_settings_structures_and_sources_are_other_programs(again, monkeypatch):
    _, tokens = again
    assert start(monkeypatch, jd.Temperature(0.8))[0] == 0
    with jax.default_matmul_precision("highest"):
        assert start(monkeypatch) == (2, tokens)
    assert start(monkeypatch, OTHER)[0] == 2
    known = kept_programs._surroundings()
    monkeypatch.setattr(kept_programs, "_surroundings", lambda: (*known, "edited"))
    assert start(monkeypatch) == (2, tokens)


@pytest.mark.slow
def test_a_program_at_hand_is_of_the_settings_of_the_moment(folder, monkeypatch):
    run, traced = programs._run, []
    monkeypatch.setattr(programs, "_run", lambda *args: traced.append(1) or run(*args))
    for precision, count in ((None, 1), ("highest", 2), (None, 2)):
        with jax.default_matmul_precision(precision):
            next(iter(jd.stream(model(), [[1]], 3, max_new_tokens=1)))
        assert len(traced) == 2 * count


@pytree
class Mine(jd.Temperature):
    """A link of the user's, whose code may change."""


def test_a_link_of_the_users_is_traced(folder, monkeypatch):
    assert start(monkeypatch, Mine(0.9))[0] == 2
    assert start(monkeypatch, Mine(0.9))[0] == 2
    assert list(folder.iterdir()) == []


def test_nothing_is_kept_for_several_devices(folder, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    start(monkeypatch)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_no_error(folder, monkeypatch):
    def refuse(*args, **options):
        raise OSError

    monkeypatch.setattr(kept_file, "write", refuse)
    assert start(monkeypatch)[0] == 2


@pytest.mark.slow
def test_the_least_recently_used_programs_are_deleted(folder, monkeypatch):
    start(monkeypatch)
    old = min(folder.iterdir(), key=lambda path: path.stat().st_size)
    os.utime(old, (1, 1))
    total = sum(path.stat().st_size for path in folder.iterdir())
    monkeypatch.setattr(kept_programs, "SIZE_MAX", total + 1)
    start(monkeypatch, OTHER)  # two more, for which the others make room
    assert not old.exists()
    assert sum(path.stat().st_size for path in folder.iterdir()) <= total + 1


@pytest.mark.slow  # soon: `forget`, and that a name is the same in another process
def test_another_process_finds_them(tmp_path):
    def run():
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == 0, done.stderr
        text, count = done.stdout.rsplit(" ", 1)
        return text, int(count)

    text, count = run()
    assert count == 2
    assert run() == (text, 0)
