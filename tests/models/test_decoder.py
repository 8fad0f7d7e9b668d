"""What a decoder would say after fewer blocks is what it says when it has no more."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.models import build, random_params
from tests import tiny
from tests.models.model_cases import GPT2, run, varied

FAMILIES = {"llama": {}, "gpt2": GPT2}
TOKENS = jnp.asarray([[1, 2, 3, 4], [5, 6, 7, 8]], jnp.int32)
POSITIONS = jnp.broadcast_to(jnp.arange(4, dtype=jnp.int32), (2, 4))


@pytest.mark.parametrize("changes", FAMILIES.values(), ids=FAMILIES)
def test_earlier_logits_are_those_of_a_model_cut_short(changes):
    config = varied(**changes, num_layers=2)
    params = random_params(config)
    short = dataclasses.replace(config, num_layers=1, sliding_layers=None)
    kept = {n: p for n, p in params.items() if not n.startswith("layers.1.")}
    model, cut = build(config, params), build(short, kept)
    given = (TOKENS, POSITIONS)
    cache = model.init_cache(2, 4)
    read = jax.jit(lambda model, *given: model.layer_logits(*given, layers=(1,)))
    last, early, _ = read(model, *given, cache)
    np.testing.assert_allclose(last, run(model, *given, cache)[0], atol=1e-5)
    wanted = run(cut, *given, cut.init_cache(2, 4))[0]
    np.testing.assert_allclose(early[0], wanted, atol=1e-5)


@pytest.mark.parametrize("changes", FAMILIES.values(), ids=FAMILIES)
def test_every_family_can_contrast_its_layers(changes):
    config = varied(**changes)
    model = jd.dola(build(config, random_params(config)), [0, 1])
    out = jd.generate(model, [[1, 2]], 0, sampler=tiny.PLAIN, max_new_tokens=3)
    assert out.lengths.tolist() == [3]
