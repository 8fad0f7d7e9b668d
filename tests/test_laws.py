"""Every link keeps every law; a link that breaks one is found out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.core.pytree import pytree
from jaxdecode.testing import LAWS, Case, count_compiles, laws
from tests.link_cases import CASES, MATCHING

# Each is a program of its own, or many. A window does not know the edits in front of it:
# two of them are drawn from windows soon, and each way of knowing that one is whole.
WINDOW, EAGER = "a window is the sorted row", "eager is compiled"
WINDOWS = ("RepetitionPenalty", "LogitBias", "TopK ties", "TopP", "MinP", "EtaCutoff")
WINDOWS += (
    "Typical",
    "TopH",
    "TopNSigma",
    "TailFree",
    "XTC",
    "Mirostat 2",
    "AdaptiveP",
)
EAGERS = ("TopK", "TopP", "FrequencyPenalty window", "LogitBias", "Mirostat 2")
SOON = {WINDOW: WINDOWS, EAGER: EAGERS}


def with_laws():
    for law in LAWS:
        for name in CASES | MATCHING:
            later = name not in SOON.get(law, CASES | MATCHING)
            yield pytest.param(law, name, marks=[pytest.mark.slow] if later else [])


@pytest.mark.parametrize(("law", "name"), with_laws())
def test_a_link_keeps_the_law(law, name):
    LAWS[law]((CASES | MATCHING)[name])


@pytree
class LiftsBans(jd.Edit):
    """Broken: -inf becomes finite."""

    amount: float = 1.0

    def __call__(self, logits, context, state):
        return jnp.maximum(logits, -1e9)


@pytree
class Greedy(jd.Truncation):
    """Broken: it says that a window holds what it keeps where it does not."""

    n: int = np.int32(30)

    def keep(self, row):
        return row.rank < self.n

    def complete(self, row):
        return jnp.asarray(True)


@pytree
class Forgets(jd.Edit):
    """Broken: its update does not know the token."""

    amount: float = np.float32(1.0)

    def init(self, context):
        return context.length

    def __call__(self, logits, context, state):
        return logits


@pytest.mark.parametrize(
    ("link", "law"),
    [
        (LiftsBans(np.float32(1.0)), "a ban is never lifted"),
        (Greedy(), WINDOW),
        (Forgets(), "an updated state is that of the longer history"),
        (LiftsBans(1.0), "a link survives being a pytree"),
    ],
)
def test_laws_find_a_broken_link(link, law):
    with pytest.raises(AssertionError):
        LAWS[law](Case(link))


def test_laws_name_the_one_that_is_broken():
    with pytest.raises(AssertionError, match=r"LiftsBans.*a ban is never lifted"):
        laws(LiftsBans(np.float32(1.0)))


def test_laws_pass_a_sound_link():
    laws(jd.MinP(0.2), neutral=jd.MinP(0.0), varied=jd.MinP(0.5), keeps_argmax=True)


def test_count_compiles_counts_programs_and_names_them():
    @jax.jit
    def doubled(x):
        return x * 2

    x = np.float32(1.0)
    with count_compiles() as first:
        doubled(x)
    with count_compiles() as second:
        doubled(np.float32(7.0))
    assert (first.names, second.count) == (["jit(doubled)"], 0)
