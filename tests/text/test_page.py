"""The page of text that a model reads before it is rounded."""

import numpy as np
import pytest

from jaxdecode.text.page import PAGE, ROW_MAX, page_tokens


class Bytes:
    """A tokenizer of one token a byte."""

    def encode(self, text):
        return list(text.encode())


@pytest.mark.parametrize("max_length", [7, 100, 8192])
def test_rows_are_the_page_in_order_and_fit_the_model(max_length):
    rows = page_tokens(Bytes(), max_length)
    assert rows.shape[1] == min(max_length, ROW_MAX)
    data = np.frombuffer(PAGE.encode(), np.uint8)
    np.testing.assert_array_equal(rows.reshape(-1), data[: rows.size])
    assert len(data) - rows.size < rows.shape[1]
