"""What the benchmarks share: the model, its precisions and the usual sampler."""

from typing import Any

import jaxdecode as jd
from jaxdecode.models import SHAPES, build, random_params

# Ours, and what llama.cpp and torch call the same.
PRECISIONS = {
    "float32": ("F32", "float32"),
    "bfloat16": ("BF16", "bfloat16"),
    "int8": ("Q8_0", None),
}
SAMPLER = {"top_k": 50, "top_p": 0.9, "temperature": 0.8}


def model_of(shape: str | None, dtype: str) -> Any:
    if shape is not None:
        return build(SHAPES[shape], random_params(SHAPES[shape]), dtype)
    kind = {"quantize": "int8"} if dtype == "int8" else {"dtype": dtype}
    return jd.load("smollm2-135m", **kind).model
