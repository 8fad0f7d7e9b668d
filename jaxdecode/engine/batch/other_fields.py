"""Fields of OpenAI's interface that have one meaning here, or none.

Clients send many of them with the value that asks for nothing: that is taken. Any other
value is refused with the reason, since an answer that silently leaves out what was asked
for looks like a right one.
"""

import json
from collections.abc import Mapping
from typing import Any

from jaxdecode.engine.batch.lines import LineError

# They decide nothing about a text.
IGNORED = {
    "metadata",
    "model",
    "parallel_tool_calls",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "store",
    "stream_options",
    "user",
}
_TOOLS = "models here do not call tools"
# The values that ask for nothing, and why there is no other.
FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "audio": ((), "there is text only"),
    "echo": ((False,), "a text is what follows its prompt"),
    "function_call": (("none", "auto"), _TOOLS),
    "functions": (([],), _TOOLS),
    "modalities": ((["text"],), "there is text only"),
    "prediction": ((), "texts are not predicted"),
    "reasoning_effort": (("none",), "no model here takes an effort"),
    "suffix": (("",), "a text is what follows its prompt"),
    "tool_choice": (("none", "auto"), _TOOLS),
    "tools": (([],), _TOOLS),
    "web_search_options": ((), "nothing is searched for"),
}
KNOWN = IGNORED | set(FIXED) | {"best_of"}


def without_other_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body without fields that ask for nothing.

    Raises:
      LineError: unsupported, for one that asks for something.
    """
    for name, (allowed, reason) in FIXED.items():
        value = body.get(name)
        if value is not None and not any(_same(value, one) for one in allowed):
            says = " or ".join(json.dumps(one) for one in allowed) or "absent"
            raise LineError("unsupported", f"`{name}` must be {says}: {reason}")
    best, samples = body.get("best_of"), body.get("n")
    if best is not None and not _same(best, 1 if samples is None else samples):
        reason = "all texts that are written are given out"
        raise LineError("unsupported", f"`best_of` must be equal to `n`: {reason}")
    return {name: value for name, value in body.items() if name not in KNOWN}


def _same(one: Any, two: Any) -> bool:
    """Whether values are equal and of one type: 0 is not false."""
    return type(one) is type(two) and one == two
