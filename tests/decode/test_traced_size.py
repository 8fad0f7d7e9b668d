"""How much Python has to trace and lower for a program: counted, not timed."""

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

import jaxdecode as jd
from jaxdecode.core.platform import CPU
from jaxdecode.decode import trace
from jaxdecode.sampling import draw, init_rows
from jaxdecode.transforms import Context
from tests import tiny

B, T, V = 3, 11, 2053
OPERATIONS_MAX = 2440  # 2359 (jax 0.10.2, 2026-11)


def operations(jaxpr, *, without=(), seen=None):
    """Return the names of all operations; what is called twice is there once.

    The insides of operations named in `without` are left out.
    """
    seen = set() if seen is None else seen
    jaxpr = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    if id(jaxpr) in seen:
        return []
    seen.add(id(jaxpr))
    found = []
    for equation in jaxpr.eqns:
        found.append(equation.primitive.name)
        if equation.primitive.name not in without:
            for part in jax.tree.leaves(list(equation.params.values())):
                if isinstance(part, (Jaxpr, ClosedJaxpr)):
                    found += operations(part, without=without, seen=seen)
    return found


def hashes_before_the_loop(sampler):
    """Return how many keys are hashed before anything is drawn."""
    traced = trace(tiny.bag(), [[1, 2], [3]], 0, sampler=sampler, max_new_tokens=5)
    # Each of the twenty rounds shifts to the left once.
    return operations(traced.jaxpr, without=("while",)).count("shift_left") / 20


def test_no_key_is_hashed_before_the_first_draw_but_for_links_that_read_it():
    assert hashes_before_the_loop(jd.joint()) == 0
    assert hashes_before_the_loop(jd.chain(jd.XTC(0.1, 0.5))) == 1


def test_a_draw_of_the_usual_links_is_of_few_operations():
    def run(chain, logits, keys):
        lengths = jnp.zeros((B,), jnp.int32)
        contexts = Context(jnp.zeros((B, T), jnp.int32), lengths, lengths, keys, V)
        states = init_rows(chain, contexts)
        return draw(chain, logits, contexts, states, own=True, platform=CPU)

    logits = jax.ShapeDtypeStruct((B, V), jnp.float32)
    keys = jax.random.split(jax.random.key(0), B)
    traced = jax.make_jaxpr(run)(jd.joint().per_row(B), logits, keys)
    assert len(operations(traced)) <= OPERATIONS_MAX
