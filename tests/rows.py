"""Rows of logits of every kind, and golden cases; shared by the tests of the links."""

import json
import pathlib

import numpy as np

from jaxdecode.testing.case import rows_of_every_kind as kinds

GOLDEN = pathlib.Path(__file__).parent / "golden"
V = 37


def batch(vocab=V, seed=0):
    """Return the rows of every kind as one array [12, vocab]."""
    return np.stack(list(kinds(vocab, seed).values()))


def golden(name):
    """Return the description and the arrays of one golden file."""
    described = json.loads((GOLDEN / f"{name}.json").read_text())
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return described, {key: stored[key] for key in stored.files}


def mask(packed, vocab):
    """Return the bits of a golden mask, bool [rows, vocab]."""
    return np.unpackbits(packed, axis=1)[:, :vocab].astype(bool)
