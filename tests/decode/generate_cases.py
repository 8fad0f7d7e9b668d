"""Golden cases of Hugging Face `generate` on two tiny models, and the models."""

import functools
import json
import pathlib

import numpy as np

import jaxdecode as jd
from jaxdecode.weights.load import load_model

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
FAMILIES = ("llama", "gpt2")
NEW_TOKENS_MAX = 20  # one bucket of columns for all cases: fewer programs
EDITS = {
    "repetition_penalty": "RepetitionPenalty",
    "suppress_tokens": "BanTokens",
    "bad_words_ids": "BanSequences",
    "no_repeat_ngram_size": "NoRepeatNGram",
    "sequence_bias": "SequenceBias",
}


@functools.cache
def tiny(family):
    """Return a tiny model of Hugging Face's."""
    return load_model(GOLDEN / f"tiny_{family}").model


@functools.cache
def described(family):
    """Return the golden file of a family."""
    return json.loads((GOLDEN / f"hf_generate_{family}.json").read_text())


def cases(*groups):
    """Return (family, case) for the groups named."""
    return [
        (family, case)
        for family in FAMILIES
        for case in described(family)["cases"]
        if case["group"] in groups and _has_links(case["params"])
    ]


def name(family_and_case):
    family, case = family_and_case
    return f"{family}-{case['id']}"


def edits_of(params, eos_ids):
    """Return the links that stand for Hugging Face's processors, in its order."""
    links = []
    for key, link in EDITS.items():
        if key in params:
            links.append(getattr(jd, link)(params[key]))
    if "min_new_tokens" in params:
        links.append(jd.MinNewTokens(params["min_new_tokens"], eos_ids))
    return jd.chain(*links) if links else None


def _has_links(params):
    return all(hasattr(jd, EDITS[key]) for key in params if key in EDITS)


def eos_of(family, params):
    return params.get("eos_token_id", described(family)["eos_token_id"])


def robust_rows(case):
    """Yield (row, hypotheses) of the prompts whose tokens do not hang on rounding."""
    for row, hypotheses in enumerate(case["results"]):
        if case["robust"][row]:
            yield row, hypotheses


def tokens_of(found, *at):
    """Return the real tokens of one row of a result as a list."""
    return np.asarray(found.tokens)[at][: int(np.asarray(found.lengths)[at])].tolist()
