"""Twelve kinds of patterns that people ask for, over a vocabulary of bytes and words."""

import functools
import json
import re

import jsonschema

import jaxdecode as jd
from jaxdecode.transforms.matching import same_sizes
from tests.transforms.patterns.test_schemas import PERSON, TREE

WORDS = [
    '{"',
    '":',
    '": ',
    '",',
    '", "',
    '"}',
    "name",
    "value",
    "left",
    "right",
    "null",
    "true",
    "false",
    "SELECT ",
    " FROM ",
    " WHERE ",
    "20",
    "19",
    "-0",
    "@",
    ".com",
    "the ",
    "ing",
    "日本",
    "é",
    "\\n",
    "}}",
    "[]",
]
TOKENS = [*(bytes([b]) for b in range(256)), *(w.encode() for w in WORDS), None, None]
EOS = len(TOKENS) - 1
NAMES = sorted({f"{a}{b} {c}" for a in "AEO" for b in ("nn", "ll") for c in "xyzuvw"})
FIELDS = [
    {"type": "string", "maxLength": 20},
    {"type": "string", "format": "uuid"},
    {"type": "string", "format": "date-time"},
    {"type": "integer", "minimum": -5, "maximum": 1000},
    {"type": ["number", "null"]},
]
LARGE = {
    "type": "object",
    "properties": {f"field_{i}": FIELDS[i % 5] for i in range(20)},
    "required": [f"field_{i}" for i in range(20) if i % 3],
}
LISTS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
REGEXES = {
    "date": r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])",
    "email": r"[\w.+-]+@\w+(\.\w+)+",
    "phone": r"(\+\d{1,3} )?(\(\d{3}\) |\d{3}-)\d{3}-\d{4}",
    "sql": r"SELECT \w+(, \w+)* FROM \w+( WHERE \w+ (=|<|>) (\d+|'[^']*'))?",
    "float": r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?",
    "sentence": r"[A-Z][a-z]*( [a-zé日本]+){2,12}[.!?]",
}
SCHEMAS = {
    "person": PERSON,
    "tree": TREE,
    "large": LARGE,
    "list": LISTS,
    "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
}


@functools.cache
def links():
    """Return a link for each kind; their tables have equal sizes."""
    made = {name: jd.Regex(p, TOKENS, eos_ids=EOS) for name, p in REGEXES.items()}
    for name, schema in SCHEMAS.items():
        made[name] = jd.JsonSchema(schema, TOKENS, depth=3, eos_ids=EOS)
    made["choice"] = jd.Choice(NAMES, TOKENS, eos_ids=EOS)
    return dict(zip(made, same_sizes(list(made.values())), strict=True))


def check(name, text):
    """Assert that a text is a whole match of a kind."""
    if name in REGEXES:
        assert re.fullmatch(REGEXES[name], text, re.ASCII), text
    elif name == "choice":
        assert text in NAMES
    else:
        kind = jsonschema.Draft202012Validator
        validator = kind(SCHEMAS[name], format_checker=kind.FORMAT_CHECKER)
        validator.validate(json.loads(text))
