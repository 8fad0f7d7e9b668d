"""What an engine or a request must not be is refused before anything runs."""

import pytest

from jaxdecode.engine import PromptTooLong
from tests.engine.engine_cases import engine


@pytest.mark.parametrize(
    ("prompt", "options", "kind", "part"),
    [
        ("a" * 40, {"max_new_tokens": 9}, PromptTooLong, "40 . 9"),
        ("", {}, ValueError, "prompt"),
        ([], {}, ValueError, "empty"),
        ([37], {}, ValueError, "37"),
        ("a", {"key": None}, TypeError, "key"),
        ("a", {"key": -1}, ValueError, "seed"),
        ("a", {"key": [1, 2]}, TypeError, "seed"),
        ("a", {"max_new_tokens": 0}, ValueError, "max_new_tokens"),
        ("a", {"num_samples": 0}, ValueError, "num_samples"),
        ("a", {"stop": [[99]]}, ValueError, "99"),
        ("a", {"stop_strings": [""]}, ValueError, "empty"),
        ("a", {"samples": 2}, TypeError, "num_samples"),
        ([{"role": "user", "content": 5}], {}, TypeError, "content"),
    ],
)
def test_a_bad_request_is_refused_by_submit(prompt, options, kind, part):
    to = engine()
    with pytest.raises(kind, match=part):
        to.submit(prompt, **{"key": 0, "max_new_tokens": 4, **options})
    assert not to.is_busy


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"slots": 0}, "slots"),
        ({"length": 49}, "length"),
        ({"block": 48}, "power of two"),
        ({"chunk": 0}, "chunk"),
        ({"prefixes": -1}, "prefixes"),
    ],
)
def test_bad_sizes_are_refused(options, part):
    with pytest.raises(ValueError, match=part):
        engine(**options)
