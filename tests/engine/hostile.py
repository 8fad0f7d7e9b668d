"""Lines that nobody should have written, as many as one likes."""

import json
import random

CODES = {
    "duplicate_field",
    "duplicate_id",
    "invalid_id",
    "invalid_json",
    "invalid_pattern",
    "invalid_type",
    "invalid_utf8",
    "invalid_value",
    "line_too_long",
    "missing_prompt",
    "not_an_object",
    "prompt_too_long",
    "unknown_field",
    "unsupported",
}
FIELDS = [
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "max_tokens",
    "n",
    "seed",
    "stop",
    "logit_bias",
    "ban_tokens",
    "regex",
    "response_format",
    "tokens",
    "logprobs",
    "ignore_eos",
    "messages",
    "prompt",
    "id",
]
# No field takes one of these.
VALUES = [
    {"a": 1},
    [[]],
    [None],
    [-1],
    [1.5],
    [{}],
    "\ud800",
    -(10**40),
    1e999,
    {"role": "user"},
    [{"role": "user"}],
    [{"role": 3, "content": "a"}],
    [{"role": "user", "content": [{"type": "image_url"}]}],
    [{"role": "user", "content": [{"type": "text", "text": 7}]}],
    ["", ""],
    {"5": "x"},
    {"99999999999999999999": 1},
    {"-3": 1},
]


def bad_line(rng: random.Random, index: int) -> bytes:
    """Return a line that cannot be answered."""
    return rng.choice(MAKERS)(rng, index)


def _json(value) -> bytes:
    return json.dumps(value).encode()


def _noise(rng, index):
    data = bytes(rng.choice(b'{}[]",:0aeE+-.\\\x00\x7f') for _ in range(9))
    return b"!" + data


def _invalid_utf8(rng, index):
    bad = rng.choice([b"\xff", b"\xc3(", b"\xed\xa0\x80", b"\xf8\x88\x80\x80"])
    return b'{"id": "u%d", "prompt": "' % index + bad + b'"}'


def _torn(rng, index):
    whole = _json({"id": f"t{index}", "prompt": "hello", "seed": 4})
    return whole[: rng.randrange(1, len(whole))]


def _nested(rng, index):
    depth = rng.choice([60, 3000, 100_000])
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    inside = opening * depth + b"1" + closing * depth
    return b'{"id": "n%d", "prompt": "a", "stop": ' % index + inside + b"}"


def _constant(rng, index):
    word = rng.choice([b"NaN", b"Infinity", b"-Infinity", b"nan", b"1e", b"01"])
    return b'{"id": "c%d", "prompt": "a", "temperature": ' % index + word + b"}"


def _huge(rng, index):
    digits = b"9" * rng.choice([20, 400, 5000])
    sign = rng.choice([b"", b"-"])
    field = rng.choice([b"seed", b"max_tokens", b"n", b"top_p"])
    start = b'{"id": "h%d", "prompt": "a", "' % index
    return start + field + b'": ' + sign + digits + b"}"


def _not_an_object(rng, index):
    return _json(rng.choice([1, None, True, "text", [], [1, {"prompt": "a"}], 1.5]))


def _unknown(rng, index):
    name = rng.choice(["", "Prompt", "max_token", "\x00", "__class__", "x" * 500])
    return _json({"id": f"x{index}", "prompt": "a", name: 1})


def _repeated_field(rng, index):
    return b'{"id": "r%d", "prompt": "a", "prompt": "b"}' % index


def _duplicate(rng, index):
    return _json({"id": "good-0", "prompt": "a"})


def _without_prompt(rng, index):
    both = {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}
    return _json({"id": f"w{index}"} | rng.choice([{}, both, {"prompt": None}]))


def _prompt(rng, index):
    wrong = [
        "",
        [],
        ["a", "b"],
        [37],
        [2**31],
        [2**63],
        "a" * 60,
        [5] * 60,
        "😀",
        "\ud800",
        True,
        {"text": "a"},
    ]
    return _json({"id": f"p{index}", "prompt": rng.choice(wrong)})


def _long(rng, index):
    return _json({"id": f"l{index}", "prompt": "a", "max_tokens": 48})


def _wrong_value(rng, index):
    field, value = rng.choice(FIELDS), rng.choice(VALUES)
    line = {"id": f"v{index}", "prompt": "a"} | {field: value}
    if field == "messages":
        del line["prompt"]
    return _json(line)


def _out_of_range(rng, index):
    field, value = rng.choice(
        [
            ("temperature", -0.5),
            ("top_k", -1),
            ("top_k", 2.5),
            ("top_p", 1.5),
            ("min_p", -0.1),
            ("repetition_penalty", 0),
            ("n", 0),
            ("n", 10**6),
            ("seed", -1),
            ("seed", 2**32),
            ("max_tokens", 0),
            ("max_tokens", 1.0),
            ("temperature", "hot"),
            ("temperature", True),
            ("top_p", None),
            ("stop", ""),
            ("stop", [""]),
            ("stop", ["\ud800"]),
            ("logit_bias", {"99": 1.0}),
            ("ban_tokens", [99]),
            ("id", 1.5),
            ("id", {}),
            ("id", "i" * 5000),
        ]
    )
    line = {"id": f"o{index}", "prompt": "a", field: value}
    if value is None:
        line["prompt"] = ""
    return _json(line)


def _pattern(rng, index):
    field, value = rng.choice(
        [
            ("regex", "("),
            ("regex", "a(?!b)"),
            ("regex", "[0-9]{3}"),  # no token has a digit
            ("regex", "(" * 9000 + "a" + ")" * 9000),
            ("regex", "a{40}"),
            ("regex", True),
            ("choices", []),
            ("choices", [5]),
            ("choices", ["\ud800"]),
            ("choices", ["5"]),
            ("choices", {"a": "b"}),
            ("response_format", {"type": "json_object"}),
            ("response_format", {"type": "json_schema"}),
            ("response_format", {"type": "json_schema", "json_schema": {"schema": 1}}),
        ]
    )
    line = {"prompt": "a", "max_tokens": 9, field: value}
    if rng.random() < 0.5:
        return _json({"custom_id": f"q{index}", "body": line})
    return _json({"id": f"q{index}", **line})


def _envelope(rng, index):
    body = {"prompt": "a"}
    wrong = [
        {"custom_id": f"e{index}"},
        {"custom_id": f"e{index}", "body": []},
        {"custom_id": f"e{index}", "body": {}},
        {"custom_id": f"e{index}", "body": {"prompt": "a", "stream": True}},
        {"custom_id": f"e{index}", "body": {"prompt": "a", "what": 1}},
        {"custom_id": f"e{index}", "body": {"prompt": "a", "logprobs": 6}},
        {"custom_id": f"e{index}", "body": body, "method": "GET"},
        {"custom_id": f"e{index}", "body": body, "url": "/v1/embeddings"},
        {"custom_id": f"e{index}", "body": body, "url": ["x"]},
        {"custom_id": f"e{index}", "body": body, "id": 1},
        {"custom_id": None, "body": body},
        {"custom_id": [1], "body": body},
        {"custom_id": f"e{index}", "body": {"messages": "hello"}},
        {"custom_id": f"e{index}", "body": {"messages": [{"content": "a"}]}},
    ]
    return _json(rng.choice(wrong))


MAKERS = [
    _noise,
    _invalid_utf8,
    _torn,
    _nested,
    _constant,
    _huge,
    _not_an_object,
    _unknown,
    _repeated_field,
    _duplicate,
    _without_prompt,
    _prompt,
    _long,
    _wrong_value,
    _out_of_range,
    _pattern,
    _envelope,
]
