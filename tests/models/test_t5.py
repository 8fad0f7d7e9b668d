"""T5 in Flax, as the example has it, does what its own `generate` does."""

import importlib.util
import json
import pathlib

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.testing import check_model
from tests.golden import make_t5
from tests.golden.make_t5 import BEAMS, KINDS, NEW_TOKENS, OUTPUTS, PROMPTS, SIZES

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "t5.json").read_text())
ENDS = {"max_new_tokens": NEW_TOKENS, "eos_ids": SIZES["eos_token_id"]}


@pytest.fixture(autouse=True)
def _promote_as_users_do():
    """The suite refuses silent casts; a user's own code may have them."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")


def example():
    path = ROOT / "scripts" / "examples" / "t5.py"
    spec = importlib.util.spec_from_file_location("t5", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


T5 = example()


def weights_of(kind):
    return make_t5.weights_of(GOLDEN[kind]["shapes"])


# The program of the example writes and searches with the other kind.
@pytest.fixture(
    scope="module",
    params=[
        "relu, scaled",
        pytest.param("gated, unscaled", marks=pytest.mark.slow),
    ],
)
def case(request):
    weights = weights_of(request.param)
    return T5.as_model(
        {**SIZES, **KINDS[request.param]}, weights, max_length=48
    ), GOLDEN[request.param]


def real(tokens, lengths):
    return [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)]


def test_greedy_text_is_its_own(case):
    model, expected = case
    out = jd.generate(model, PROMPTS, 0, sampler=jd.Temperature(0), **ENDS)
    assert real(out.tokens, out.lengths) == expected["greedy"]


def test_a_search_of_three_beams_is_its_own(case):
    model, expected = case
    found = jd.beam_search(model, PROMPTS, num_beams=BEAMS, **ENDS)
    assert real(found.tokens[:, 0], found.lengths[:, 0]) == expected["beams"]
    np.testing.assert_allclose(found.scores[:, 0], expected["beam_scores"], atol=2e-5)


def test_scores_of_several_outputs_are_its_own(case):
    model, expected = case
    found = jd.score(model, PROMPTS, OUTPUTS * len(PROMPTS))
    for row, logprobs in enumerate(expected["logprobs"]):
        got = found.model_logprobs[row, : len(logprobs)]
        np.testing.assert_allclose(got, logprobs, atol=2e-4)


def test_it_keeps_the_protocol():
    check_model(T5.as_model(SIZES, weights_of("relu, scaled"), max_length=48))


def test_the_program_reads_a_folder_as_it_is_stored(tmp_path, capsys):
    from safetensors.numpy import save_file

    kind = "gated, unscaled"
    save_file(weights_of(kind), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, **KINDS[kind]}))
    prompt = [str(token) for token in PROMPTS[0]]
    asked = ["--beams", str(BEAMS), "--max-new-tokens", str(NEW_TOKENS)]
    written = T5.main([str(tmp_path), "--prompt", *prompt, *asked])
    assert written == (GOLDEN[kind]["greedy"][0], GOLDEN[kind]["beams"][0])
    with pytest.raises(SystemExit):
        T5.main([str(tmp_path / "none"), "--prompt", "1"])
    assert "there is no file" in capsys.readouterr().err
