"""The web application: routes, the way of a request, and what happens when it ends early.

take a place (429), read the body (413, 415), check and submit it in a thread (400),
then wait for the whole text, or send it while it is written;
a client that goes away, or a time that is over (504), cancels the text.
"""

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from jaxdecode.engine import Engine
from jaxdecode.engine.batch import Defaults
from jaxdecode.engine.batch.answers import body_head, body_tail
from jaxdecode.engine.batch.lines import LineError
from jaxdecode.engine.batch.logprobs import bytes_in
from jaxdecode.engine.batch.running import fingerprint_of
from jaxdecode.server import limits as no
from jaxdecode.server.bodies import Wanted, as_wanted
from jaxdecode.server.driving import Driver, Ticket
from jaxdecode.server.events import Events, event
from jaxdecode.server.limits import Limits, Refusal

READ_ON = 4  # times the limit: how much of a body that is too long is still read
HERE = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?")
GRACE = 5.0  # seconds beyond the limit for a client that does not read what it gets


def make_app(
    engine: Engine,
    *,
    defaults: Defaults | None = None,
    limits: Limits | None = None,
    local: bool = False,
) -> Starlette:
    """Return the application that serves an engine, for any ASGI server.

    The engine is driven by one thread while the application's lifespan lasts.

    Args:
      engine: the engine; its model must come with a tokenizer.
      defaults: what requests do not say themselves; its seed is not used.
      limits: what is taken on.
      local: whether requests must name this machine as their host, as they do unless a
        page of the web has given its own name the address of this machine.

    Raises:
      ValueError: if the model has no tokenizer.
    """
    if engine.lm.tokenizer is None:
        raise ValueError("make_app: the model must come with a tokenizer, got none.")
    service = Service(engine, defaults or Defaults(), limits or Limits(), local)
    texts = {"completion": "/v1/completions", "chat": "/v1/chat/completions"}
    app = Starlette(
        routes=[
            *(
                Route(path, Generation(service, kind), methods=["POST"])
                for kind, path in texts.items()
            ),
            Route("/v1/models", service.models),
            Route("/v1/models/{name:path}", service.model),
            Route("/health", service.health),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _failure},
        lifespan=service.lifespan,
    )
    app.state.service = service
    return app


class Service:
    """What all requests share.

    Attributes:
      is_draining: whether new requests are refused.
      requests: answers that are not wholly sent.
    """

    def __init__(self, engine: Engine, defaults: Defaults, limits: Limits, local: bool):
        self.is_local = local
        self.engine, self.defaults, self.limits = engine, defaults, limits
        self.driver = Driver(engine, engine.slots + limits.queue)
        self.fingerprint = fingerprint_of(engine, defaults)
        self.name = engine.lm.name or "jaxdecode"
        self.is_draining = False
        self.requests = 0
        self.bytes_of = bytes_in(engine.lm)
        self._created = int(time.time())

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Drive the engine while the application runs."""
        self.driver.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.driver.stop)

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """Count a request while it is answered.

        Raises:
          Refusal: 503 if the server is ending.
        """
        if self.is_draining:
            raise no.draining()
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def head(self, wanted: Wanted) -> dict[str, Any]:
        """Return what an answer says before the text is known."""
        return body_head(wanted.line, model=self.name) | {
            "created": int(time.time()),
            "system_fingerprint": self.fingerprint,
            "seed": wanted.line.seed,
        }

    async def health(self, request: Request) -> Response:
        """Say whether requests are taken, and how many texts there are."""
        if self.driver.is_broken:
            return no.broken().response()
        if self.is_draining:
            return no.draining().response()
        running = {"texts": self.driver.texts, "slots": self.engine.slots}
        return JSONResponse({"status": "ok", "model": self.name} | running)

    async def models(self, request: Request) -> Response:
        """List the one model."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """Describe the model."""
        if request.path_params["name"] != self.name:
            message = f"there is no such model; this server has {self.name!r}"
            return Refusal(404, "model_not_found", message).response()
        return JSONResponse(self._model())

    def _model(self) -> dict[str, Any]:
        about = {"created": self._created, "owned_by": "jaxdecode"}
        return {"id": self.name, "object": "model"} | about


class Generation:
    """Answers the requests of one path.

    Args:
      service: what all requests share.
      kind: "chat" or "completion".
    """

    def __init__(self, service: Service, kind: str):
        self._service, self._kind = service, kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        ends_at = asyncio.get_running_loop().time() + self._service.limits.seconds
        with contextlib.suppress(ClientDisconnect):
            try:
                with self._service.request(), self._ticket() as ticket:
                    response = await self._response(request, ticket, ends_at)
                    # A client that does not read must not be waited for.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(ends_at + GRACE):
                            await response(scope, receive, send)
                return
            except Refusal as refusal:
                response = refusal.response()
            await response(scope, receive, send)

    @contextlib.contextmanager
    def _ticket(self) -> Iterator[Ticket]:
        ticket = self._service.driver.ticket()
        try:
            yield ticket
        finally:
            ticket.close()

    async def _response(
        self, request: Request, ticket: Ticket, ends_at: float
    ) -> Response:
        """Return the answer, whole or as a stream that is still to come.

        Raises:
          Refusal: with the status.
          ClientDisconnect: if the client has gone.
        """
        if self._service.is_local:
            check_host(request)
        try:
            async with asyncio.timeout_at(ends_at):
                data = await read_body(request, self._service.limits.body)
                wanted = await asyncio.to_thread(self._submit, data, ticket)
                if not wanted.stream:
                    return await self._whole(request, wanted, ticket)
        except TimeoutError:
            raise no.too_slow(self._service.limits.seconds) from None
        except LineError as error:
            status = 413 if error.code == "line_too_long" else 400
            raise Refusal(status, error.code, error.message) from None
        return StreamingResponse(
            self._stream(wanted, ticket, ends_at),
            media_type="text/event-stream",
            headers={"cache-control": "no-store"},
        )

    def _submit(self, data: bytes, ticket: Ticket) -> Wanted:
        service = self._service
        wanted = as_wanted(
            data,
            kind=self._kind,
            name=uuid.uuid4().hex,
            defaults=service.defaults,
            lm=service.engine.lm,
            prompts_max=service.driver.texts_max,
        )
        ticket.submit(wanted.lines)
        return wanted

    async def _whole(
        self, request: Request, wanted: Wanted, ticket: Ticket
    ) -> Response:
        await _unless_gone(request, _exhausted(ticket))
        line, service = wanted.line, self._service
        tail = body_tail(line, ticket.result(), bytes_of=service.bytes_of)
        return JSONResponse(service.head(wanted) | tail)

    async def _stream(
        self, wanted: Wanted, ticket: Ticket, ends_at: float
    ) -> AsyncIterator[bytes]:
        """Yield the events of an answer; what goes wrong is an event, too."""
        events = Events(wanted, self._service.head(wanted), self._service.bytes_of)
        for part in events.opening():
            yield part
        pieces = ticket.pieces()
        try:
            while True:
                async with asyncio.timeout_at(ends_at):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                for part in events.piece(piece):
                    yield part
        except TimeoutError:
            yield event(no.too_slow(self._service.limits.seconds).as_dict())
            return
        except Refusal as refusal:
            yield event(refusal.as_dict())
            return
        for part in events.closing(ticket.result()):
            yield part


def check_host(request: Request) -> None:
    """Refuse a request that names another machine than this one.

    Raises:
      Refusal: 403.
    """
    name = request.headers.get("host", "").lower()
    if not HERE.fullmatch(name):
        message = f"the host must be localhost or its address, got {name!r:.80}"
        raise Refusal(403, "forbidden_host", message)


async def read_body(request: Request, size_max: int) -> bytes:
    """Return the body of a request.

    Raises:
      Refusal: 415 if it is not JSON, 413 if it is too long.
      ClientDisconnect: if the client has gone.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a form of a web page elsewhere cannot say so
        message = f"the content-type must be application/json, got {kind!r:.80}"
        raise Refusal(415, "unsupported_media_type", message)
    declared = request.headers.get("content-length", "0")
    # Part of what is too long is read, since a client may look for an answer only when
    # it has sent all.
    most = READ_ON * size_max
    if len(declared) > 18 or int(declared) > most:
        raise _too_long(size_max)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            break
        if size <= size_max:
            parts.append(part)
    if size > size_max:
        raise _too_long(size_max)
    return b"".join(parts)


def _too_long(size_max: int) -> Refusal:
    return Refusal(413, "body_too_long", f"the body must be at most {size_max} bytes")


async def _exhausted(ticket: Ticket) -> None:
    async for _ in ticket.pieces():
        pass


async def _unless_gone(request: Request, waiting: Any) -> None:
    """Wait for something, as long as the client does.

    Raises:
      ClientDisconnect: if the client goes away first.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect()
        tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _http_error(request: Request, error: Exception) -> Response:
    """Answer a path or a method that there is not."""
    status = getattr(error, "status_code", 404)
    where = f"{request.method} {request.url.path:.200}"
    return Refusal(status, "not_found", f"there is no {where}").response()


def _failure(request: Request, error: Exception) -> Response:
    """Answer a request that met a bug; the traceback goes to the log."""
    return Refusal(500, "internal_error", "the server has a bug here").response()
