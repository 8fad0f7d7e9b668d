"""What a line of output says: of a result, or of what was wrong with a line.

Answers hold no times and no random names, so that equal requests give equal bytes.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from jaxdecode.engine.batch.logprobs import BytesOf, logprobs_of, rounded
from jaxdecode.engine.batch.requests import Line
from jaxdecode.engine.results import Result, Sample


def answer(
    line: Line, result: Result, *, fingerprint: str, model: str, bytes_of: BytesOf
) -> dict[str, Any]:
    """Return the answer to a line.

    Args:
      line: what was asked.
      result: what became of it.
      fingerprint: of the settings of the run.
      model: the model's name.
      bytes_of: what one token is written as.
    """
    if line.kind == "plain":
        return _plain(line, result, fingerprint)
    made = body_head(line, model=model) | body_tail(line, result, bytes_of=bytes_of)
    made["system_fingerprint"] = fingerprint
    response = {"status_code": 200, "request_id": _name(line.id, "req"), "body": made}
    return _envelope(line.id, response, None)


def body_head(line: Line, *, model: str) -> dict[str, Any]:
    """Return what an answer in OpenAI's form says before the text is known."""
    return {
        "id": _name(line.id, "cmpl"),
        "object": "chat.completion" if line.kind == "chat" else "text_completion",
        "created": 0,
        "model": model,
    }


def body_tail(line: Line, result: Result, *, bytes_of: BytesOf) -> dict[str, Any]:
    """Return what an answer in OpenAI's form says of the texts."""
    choices = [
        _choice(line, index, sample, bytes_of)
        for index, sample in enumerate(result.samples)
    ]
    return {"choices": choices, "usage": usage_of(result)}


def usage_of(result: Result) -> dict[str, int]:
    """Return the tokens that were read and written."""
    return {
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.generated_tokens,
        "total_tokens": result.prompt_tokens + result.generated_tokens,
    }


def failure(
    name: Any, code: str, message: str, *, number: int, envelope: bool
) -> dict[str, Any]:
    """Return the answer to a line that cannot be answered.

    Args:
      name: its id; None where it has none that can be used.
      code: what is wrong, for programs.
      message: the same for people.
      number: the number of the line in its file, from 1.
      envelope: whether the line is an envelope.
    """
    error = {"code": code, "message": message, "line": number}
    return _envelope(name, None, error) if envelope else {"id": name, "error": error}


def id_of(found: Mapping[str, Any]) -> Any:
    """Return the id of the line that an answer belongs to."""
    return found["custom_id"] if "custom_id" in found else found.get("id")


def fingerprint_of(found: Mapping[str, Any]) -> str | None:
    """Return the fingerprint of the settings that an answer was made with, if it says."""
    response = found.get("response")
    if isinstance(response, dict) and isinstance(response.get("body"), dict):
        return response["body"].get("system_fingerprint")
    return found.get("fingerprint")


def is_failure(found: Mapping[str, Any]) -> bool:
    """Whether an answer says that a line could not be answered."""
    return found.get("error") is not None


def _envelope(name: Any, response: Any, error: Any) -> dict[str, Any]:
    number = _name(name, "batch_req")
    return {"id": number, "custom_id": name, "response": response, "error": error}


def _plain(line: Line, result: Result, fingerprint: str) -> dict[str, Any]:
    choices = [_sample(line, sample) for sample in result.samples]
    made = {"id": line.id, **choices[0]}
    if len(choices) > 1:
        made["choices"] = [{"index": i, **choice} for i, choice in enumerate(choices)]
    made["usage"] = usage_of(result)
    return made | {"seed": line.seed, "fingerprint": fingerprint}


def _sample(line: Line, sample: Sample) -> dict[str, Any]:
    made: dict[str, Any] = {"text": sample.text, "finish_reason": sample.finish_reason}
    if line.tokens:
        made["tokens"] = list(sample.tokens)
    if line.logprobs:
        made["logprobs"] = rounded(sample.model_logprobs)
    return made


def _choice(
    line: Line, index: int, sample: Sample, bytes_of: BytesOf
) -> dict[str, Any]:
    made: dict[str, Any] = {"index": index}
    if line.kind == "chat":
        made["message"] = {"role": "assistant", "content": sample.text}
    else:
        made["text"] = sample.text
    made["finish_reason"] = sample.finish_reason
    made["logprobs"] = logprobs_of(line, sample, bytes_of) if line.logprobs else None
    return made


def _name(name: Any, what: str) -> str:
    """Return a name that follows from a line's id."""
    data = f"{type(name).__name__}:{name}".encode("utf-8", "backslashreplace")
    return f"{what}_{hashlib.blake2b(data, digest_size=12).hexdigest()}"
