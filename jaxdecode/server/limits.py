"""What a server takes on, and how it says no: limits, and errors in OpenAI's form."""

import dataclasses
from typing import Any

from starlette.responses import JSONResponse

from jaxdecode.core import check
from jaxdecode.engine.batch.lines import SIZE_MAX


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server takes on.

    Attributes:
      body: bytes of a request's body, in [1, 8388608].
      queue: texts that may wait for a slot, >= 0; more get 429.
      seconds: from the first byte of a request to the last of its answer, > 0; then its
        slots are freed and the client gets 504.

    Raises:
      TypeError: for values of the wrong kind.
      ValueError: for values out of range.
    """

    body: int = 2**20
    queue: int = 128
    seconds: float = 600.0

    def __post_init__(self):
        check.whole("Limits", "body", self.body, low=1, high=SIZE_MAX)
        check.whole("Limits", "queue", self.queue, low=0)
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, (int, float)):
            raise TypeError(
                f"Limits: `seconds` must be a number, got {self.seconds!r}."
            )
        if not 0 < self.seconds < float("inf"):
            raise ValueError(
                f"Limits: `seconds` must be > 0 and finite, got {self.seconds}."
            )


class Refusal(Exception):
    """A request that is not answered.

    Attributes:
      status: of HTTP.
      code: what is wrong, for programs.
      message: the same for people.
    """

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def as_dict(self) -> dict[str, Any]:
        """Return the error as OpenAI's interface writes it."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        error = {"message": self.message, "type": kind, "param": None}
        return {"error": error | {"code": self.code}}

    def response(self) -> JSONResponse:
        """Return the answer that says so."""
        headers = {}
        if self.status in (429, 503):
            headers["retry-after"] = "1"
        if self.status in (500, 504):  # asking again would take as long
            headers["x-should-retry"] = "false"
        return JSONResponse(self.as_dict(), self.status, headers)


def too_busy(texts: int) -> Refusal:
    """Return the refusal of a request that finds too many texts before it."""
    message = f"{texts} texts are being written or wait already; try again later"
    return Refusal(429, "queue_full", message)


def draining() -> Refusal:
    """Return the refusal of a request that came after the signal to end."""
    return Refusal(503, "draining", "the server is ending and takes no new requests")


def too_slow(seconds: float) -> Refusal:
    """Return the refusal of a request that took too long."""
    message = f"the answer was not there within {seconds:g} seconds"
    return Refusal(504, "timeout", message)


def broken() -> Refusal:
    """Return the refusal of every request after a failure of the engine."""
    message = "the engine failed; the server has to be started again"
    return Refusal(500, "engine_failed", message)
