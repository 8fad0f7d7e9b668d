"""Folders with the tiny models of `cases.py`, and how to run one."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from tests.families.cases import weights

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
TABLE = json.loads((GOLDEN / "families.json").read_text())
COLUMNS = 48


def tensors_of(name):
    """Return the tensors of a case, by stored names."""
    golden = TABLE[name]
    is_offset = golden["config"]["model_type"].startswith("gemma")
    return weights(golden["shapes"], is_offset)


def write(place, name, *, tensors=None, **options):
    """Write the folder of a case and return its path.

    Args:
      place: the folder.
      name: the case.
      tensors: what to write instead of its own.
      **options: changes of its config.json; `...` takes an option away.
    """
    place.mkdir(exist_ok=True)
    raw = {k: v for k, v in (TABLE[name]["config"] | options).items() if v is not ...}
    (place / "config.json").write_text(json.dumps(raw))
    tensors = tensors_of(name) if tensors is None else tensors
    save_file(tensors, place / "model.safetensors")
    return place


@jax.jit
def run(model, tokens, positions, cache):
    return model(tokens, positions, cache)


def empty(model, rows):
    """Return an empty cache for prompts of the cases and what comes behind."""
    return model.init_cache(rows, min(COLUMNS, model.max_length))


def together(model, rows):
    """Return the logits of each prompt, read side by side."""
    width = max(map(len, rows))
    tokens = jnp.asarray([row + [0] * (width - len(row)) for row in rows], jnp.int32)
    columns = jnp.arange(width, dtype=jnp.int32)
    columns = jnp.broadcast_to(columns, tokens.shape)
    logits, _ = run(model, tokens, columns, empty(model, len(rows)))
    return [
        found[: len(row)] for found, row in zip(np.asarray(logits), rows, strict=True)
    ]
