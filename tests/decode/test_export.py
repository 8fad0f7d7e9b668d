"""An exported program writes the same tokens in a process that knows only jax."""

import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxdecode as jd
from tests import tiny

ROWS, COLUMNS = 3, 11
OPTIONS = {
    "sampler": jd.joint(top_k=20, top_p=0.9, temperature=0.8, frequency_penalty=0.3),
    "max_new_tokens": 5,
    "eos_ids": 7,
}
ALONE = """
import sys
import jax, numpy as np
given = dict(np.load(sys.argv[2]))
weights = [given[f"w{i}"] for i in range(sum(name[0] == "w" for name in given))]
run = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read())).call
out = run(weights, given["tokens"], given["lengths"], np.uint32(5))
assert "jaxdecode" not in sys.modules
np.savez(sys.argv[3], **{name: np.asarray(value) for name, value in out.items()})
"""


def prompts():
    random = np.random.default_rng(0)
    lengths = np.asarray([3, 11, 6], np.int32)
    return random.integers(0, tiny.VOCAB, (ROWS, COLUMNS)).astype(np.int32), lengths


@pytest.mark.slow
@pytest.mark.parametrize("platforms", [("cpu",), ("cpu", "cuda", "tpu")], ids="-".join)
def test_a_process_with_jax_alone_writes_the_same_tokens(platforms, tmp_path):
    model, (tokens, lengths) = tiny.llama(), prompts()
    sizes = {"rows": ROWS, "prompt_columns": COLUMNS}
    data = jd.export(model, **sizes, platforms=platforms, **OPTIONS)
    assert jax.export.deserialize(bytearray(data)).platforms == platforms
    paths = [tmp_path / name for name in ("program", "given.npz", "found.npz")]
    paths[0].write_bytes(data)
    weights = {f"w{i}": x for i, x in enumerate(jd.exported_weights(model))}
    np.savez(paths[1], tokens=tokens, lengths=lengths, **weights)
    command = [sys.executable, "-c", "import jax.export\n" + ALONE, *map(str, paths)]
    subprocess.run(command, check=True, cwd=tmp_path, env={"JAX_PLATFORMS": "cpu"})
    found = np.load(paths[2])
    expected = jd.generate(model, (tokens, lengths), 5, **OPTIONS)
    assert found["tokens"].tolist() == expected.tokens.tolist()
    assert found["status"].tolist() == expected.status.tolist()
    np.testing.assert_allclose(
        found["sampling_logprobs"], expected.sampling_logprobs, atol=1e-5
    )


def test_a_platform_of_another_name_is_refused():
    with pytest.raises(ValueError, match=r"export: `platforms` must be one of"):
        jd.export(tiny.llama(), rows=1, prompt_columns=4, platforms=("gpu",))
