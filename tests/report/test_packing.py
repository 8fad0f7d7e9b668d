"""Data inside a page: it comes back as it was, and HTML cannot misread it."""

import base64
import html.parser
import json

import numpy as np
import pytest

from jaxdecode.report.packing import pack, safe_json
from jaxdecode.report.page import render
from tests.report.cases import HOSTILE


@pytest.mark.parametrize(
    ("values", "kind", "dtype"),
    [
        (np.asarray([[0.1, -np.inf], [3e38, 1e-45]], np.float32), "f4", "<f4"),
        (np.asarray([0, 65535], np.int32), "u2", "<u2"),
        (np.asarray([-1, 70000], np.int32), "i4", "<i4"),
        (np.asarray([2**32 - 1], np.uint32), "u4", "<u4"),
        (np.zeros((0,), np.float32), "f4", "<f4"),
    ],
)
def test_arrays_come_back_bit_for_bit_in_as_few_bytes_as_they_need(values, kind, dtype):
    packed = json.loads(safe_json(pack(values)))
    assert packed["kind"] == kind
    back = np.frombuffer(base64.b64decode(packed["bytes"]), dtype)
    np.testing.assert_array_equal(back.reshape(packed["shape"]), values)


@pytest.mark.parametrize("text", [*HOSTILE, "\ud800", "<!--", "]]>", "\u2029"])
def test_text_comes_back_and_is_never_markup(text):
    written = safe_json({"text": text})
    assert written.isascii()
    assert not set("<>&") & set(written)
    assert json.loads(written) == {"text": text}


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError):
        safe_json([float("nan")])


class Elements(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]


def test_a_page_asks_for_nothing_and_has_the_same_elements_whatever_the_data():
    plain, hostile = Elements(), Elements()
    plain.feed(render({"text": "a"}))
    hostile.feed(render({"text": " ".join(HOSTILE), "\ud800": "%%script%%"}))
    assert hostile.found == plain.found
    outside = {"src", "action", "srcset", "data", "poster", "formaction"}
    assert not [a for a in hostile.attributes if a[1] in outside]
    links = [value for _, name, value in hostile.attributes if name == "href"]
    assert links == ["#text"]
