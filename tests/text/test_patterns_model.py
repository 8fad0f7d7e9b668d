"""The default model writes texts that fit at any temperature, 200 of 200."""

import functools
import json
import re

import jsonschema
import pytest

import jaxdecode as jd

pytestmark = [pytest.mark.model, pytest.mark.slow]
ROWS, DATE = 17, r"\d{4}-(0[1-9]|1[0-2])-\d{2}"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
}
NAMES = ["yes", "no", "I do not know"]


def is_person(text):
    jsonschema.validate(json.loads(text), PERSON)
    return True


KINDS = {
    "date": ({"regex": DATE}, lambda text: re.fullmatch(DATE, text)),
    "mail": ({"regex": r"[\w.]+@\w+\.com"}, lambda t: re.fullmatch(r".+@.+\.com", t)),
    "person": ({"schema": PERSON}, is_person),
    "choice": ({"choices": NAMES}, lambda text: text in NAMES),
}


@functools.cache
def model():
    return jd.load("smollm2-135m")


@pytest.mark.parametrize("temperature", [0.0, 0.8, 1.5])
@pytest.mark.parametrize("name", KINDS)
def test_every_text_fits(name, temperature):
    options, fits = KINDS[name]
    prompts = [f"Example number {i}: " for i in range(ROWS)]
    sampler = jd.joint(temperature=temperature)
    given = {"key": 0, "sampler": sampler, "max_new_tokens": [24, *[40] * (ROWS - 1)]}
    texts = model().generate(prompts, **given, **options)
    assert len(texts) == ROWS
    assert all(fits(text) for text in texts), texts
