"""One line of JSON: from bytes to an object, and back. Plain Python.

Everything that can be wrong with a line raises `LineError` with a code; nothing else is
raised, whatever the bytes.
"""

import json
from typing import Any

SIZE_MAX = 8 * 2**20  # bytes of a line
_OPENING = b'{"'


class LineError(ValueError):
    """A line that cannot be answered.

    Attributes:
      code: what is wrong, for programs.
      message: the same for people.
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


def parse(data: bytes) -> dict[str, Any]:
    """Return the object that a line holds.

    Raises:
      LineError: invalid_utf8, invalid_json, not_an_object or line_too_long.
    """
    if len(data) > SIZE_MAX:
        raise LineError("line_too_long", f"a line must be at most {SIZE_MAX} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"the JSON must be UTF-8, got byte 0x{data[error.start]:02x}"
        raise LineError("invalid_utf8", f"{message} at {error.start}") from None
    try:
        found = json.loads(
            text, parse_constant=_no_constant, object_pairs_hook=_no_repeats
        )
    except LineError:
        raise
    except RecursionError:
        raise LineError("invalid_json", "the JSON is nested too deeply") from None
    except ValueError as error:
        raise LineError("invalid_json", f"it is not JSON: {error}") from None
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise LineError("not_an_object", f"it must be a JSON object, got {kind}")
    return found


def dump(value: dict[str, Any]) -> bytes:
    """Return an object as a line, newline included; the same bytes for equal ones."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def could_begin(data: bytes) -> bool:
    """Whether some bytes may be the first of a line that `dump` wrote."""
    data = data.rstrip(b"\0")  # a file system may leave zeros after a power failure
    return data.startswith(_OPENING) or _OPENING.startswith(data)


def _no_constant(name: str) -> Any:
    raise LineError("invalid_json", f"{name} is not JSON")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(n for n in names if names.count(n) > 1)
        raise LineError("duplicate_field", f"a field must occur once, got {name!r:.60}")
    return found
