"""Random damage: to bytes, to a JSON value, to a text. A generator decides everything."""

import copy
import json
import random
from typing import Any

NUMBERS = (0, 1, 2, 7, 255, 2**15, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
DEEP: Any = None
for _ in range(70):
    DEEP = [DEEP]
VALUES = (
    *(None, True, False, 0, 1, -1, 3, 2**24, 2**31, 2**63, -(2**63), 10**400),
    *(0.0, 0.5, -1.5, 1e-45, 1e308, float("inf"), float("nan")),
    *("", "a", " ", "\u2581", "\0", "\ud800", "é" * 5000, "llama", "../../etc", "a b"),
    *([], [[]], [1, "a"], ["a"], {}, {"a": 1}, {"": None}, DEEP),
)


def damaged_bytes(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with one to four changes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(BYTE_CHANGES)(rng, data)
    return data


def _flip(rng, data):
    if not data:
        return b"\0"
    at = _place(rng, data)
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _number(rng, data):
    size, at = rng.choice((1, 2, 4, 8)), _place(rng, data)
    number = rng.choice(NUMBERS) % 256**size
    return data[:at] + number.to_bytes(size, "little") + data[at + size :]


def _cut(rng, data):
    return data[: _place(rng, data)]


def _without(rng, data):
    at = _place(rng, data)
    return data[:at] + data[at + rng.choice((1, 2, 4, 8, 40)) :]


def _twice(rng, data):
    at, size = _place(rng, data), rng.choice((1, 4, 8, 60))
    return (
        data[:at] + data[at : at + size] * rng.choice((2, 3, 200)) + data[at + size :]
    )


def _place(rng, data):
    # Headers come first and are worth more than numbers of tensors.
    return rng.randrange(max(1, rng.choice((len(data), min(len(data), 400)))))


BYTE_CHANGES = (_flip, _flip, _number, _number, _cut, _without, _twice)


def damaged_json(rng: random.Random, value: Any, times: int | None = None) -> Any:
    """Return a copy of a JSON value with one or a few parts replaced, gone or moved."""
    value = copy.deepcopy(value)
    for _ in range(times or rng.choice((1, 1, 1, 2, 3))):
        value = _change(rng, value)
    return value


def _change(rng, value):
    spots = list(_spots(value))
    if not spots:
        return rng.choice(VALUES)
    box, key = rng.choice(spots)
    action = rng.randrange(12)
    if action > 7:
        box[key] = _alike(rng, box[key])
    elif action < 4:
        box[key] = copy.deepcopy(rng.choice(VALUES))
    elif action == 4:
        del box[key]
    elif action == 5:
        other, there = rng.choice(spots)
        box[key] = copy.deepcopy(other[there])
    elif isinstance(box, dict):
        names = [k for b, k in spots if isinstance(b, dict)]
        box[rng.choice((*names, "", "a"))] = box.pop(key)
    else:
        box.insert(key, copy.deepcopy(box[key]))
    return value


def _alike(rng, value):
    """Return another value of the same kind, which gets further into a reader."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, 2 * value, *NUMBERS))
    if isinstance(value, float):
        return rng.choice((-value, 2 * value, value / 7, 0.0, 1e30))
    if isinstance(value, str):
        at = rng.randrange(len(value) + 1)
        edits = (value[:at] + value[at + 1 :], value[:at] + "a" + value[at:])
        return rng.choice((*edits, value * 2, value.upper(), " " + value, value + "é"))
    if isinstance(value, list):
        return rng.sample(value, len(value))
    if isinstance(value, dict):
        return dict(rng.sample(list(value.items()), len(value)))
    return rng.choice((True, 0, "", {}))


def _spots(value):
    """Yield every container and key inside a value; few items of a long list."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value[:8]))
    else:
        return
    for key, part in items[:40]:
        yield value, key
        yield from _spots(part)


def damaged_json_text(rng: random.Random, value: Any) -> bytes:
    """Return a JSON text: with damaged parts, damaged bytes, or a repeated name."""
    kind = rng.randrange(10)
    if kind < 7:
        return json.dumps(damaged_json(rng, value)).encode()
    text = json.dumps(value).encode()
    if kind < 9:
        return damaged_bytes(rng, text)
    again = json.dumps({rng.choice(list(value)): rng.choice(VALUES)})
    return text[:-1] + b"," + again[1:].encode()


def damaged_text(rng: random.Random, text: str, pieces: tuple[str, ...]) -> str:
    """Return a text in which some pieces are put in, taken out, repeated or swapped."""
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(len(text) + 1)
        action, piece = rng.randrange(5), rng.choice(pieces)
        if action < 2:
            text = text[:at] + piece + text[at:]
        elif action == 2:
            text = text[:at] + text[at + rng.choice((1, 2, 5, 30)) :]
        elif action == 3:
            old = rng.choice(pieces)
            text = text.replace(old, piece, 1)
        else:
            part = text[at : at + rng.choice((3, 20, 80))]
            text = text[:at] + part * rng.choice((2, 3, 50)) + text[at:]
    return text
