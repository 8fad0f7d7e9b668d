"""Plain data inside a page: arrays as base64, and JSON that HTML cannot misread."""

import base64
import json
from typing import Any

import numpy as np

from jaxdecode.core.shapes import Array

_KINDS = {"float32": "f4", "int32": "i4", "uint32": "u4", "uint16": "u2"}
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def pack(values: Array) -> dict[str, Any]:
    """Return an array as {"kind", "shape", "bytes"}, little-endian, bit for bit.

    Integers take two bytes each where all fit.
    """
    array = np.asarray(values)
    if array.dtype.kind in "iu" and array.size:
        small = array.min() >= 0 and array.max() < 2**16
        array = array.astype(np.uint16) if small else array
    kind = _KINDS[array.dtype.name]
    raw = np.ascontiguousarray(array).astype("<" + kind).tobytes()
    return {
        "kind": kind,
        "shape": list(array.shape),
        "bytes": base64.b64encode(raw).decode(),
    }


def safe_json(data: Any) -> str:
    """Return JSON in ASCII that neither ends a script element nor begins a comment.

    Raises:
      ValueError: for a NaN or an infinity, which JSON does not have.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign, escaped in _UNSAFE.items():
        text = text.replace(sign, escaped)
    return text
