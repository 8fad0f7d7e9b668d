"""Top-k, then top-p, then temperature equal the exact distribution of the golden file."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from tests.rows import golden

DESCRIBED, ARRAYS = golden("joint_sampling")
CASES = {case["id"]: case for case in DESCRIBED["cases"]}


def expected_probs(case):
    stored = ARRAYS[case["probs"]]
    logits = ARRAYS[case["logits"]]
    if stored.shape == logits.shape:
        return stored
    probs = np.zeros(logits.shape, np.float32)  # stored as (row, id, probability)
    probs[stored[:, 0].astype(int), stored[:, 1].astype(int)] = stored[:, 2]
    return probs


@pytest.mark.parametrize("name", CASES)
def test_joint_sampling_has_the_exact_distribution(name):
    case = CASES[name]
    sampler = jd.joint(
        top_k=case["top_k"], top_p=case["top_p"], temperature=case["temperature"]
    )
    processed = jd.apply(sampler, ARRAYS[case["logits"]])
    got = np.asarray(jax.nn.softmax(processed, axis=1))
    sure = (np.asarray(case["margin"]) >= 1e-6) | (case["top_p"] == 1)
    np.testing.assert_allclose(
        got[sure], expected_probs(case)[sure], rtol=2e-4, atol=1e-6
    )
