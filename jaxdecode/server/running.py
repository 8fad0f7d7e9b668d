"""Running the application: a socket, a server, and a signal after which it drains.

At SIGTERM or Ctrl-C requests that run are answered to their end, new ones get 503, and
then the process ends; a second signal ends it at once.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

from jaxdecode.engine import Engine
from jaxdecode.server.application import Service, make_app

HOST = "127.0.0.1"
PORT = 8000
LAST_SECONDS = 5  # for connections to close after the last answer


def bind(host: str = HOST, port: int = PORT) -> socket.socket:
    """Return a socket bound to an address; port 0 takes a free one.

    Raises:
      OSError: if the address is taken, or not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from None
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the base URL that clients of OpenAI's interface take."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def is_local(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    return host == "localhost" or host == "::1" or host.startswith("127.")


def run(
    app: Starlette,
    bound: socket.socket,
    *,
    ready: Callable[[str], Any] = lambda url: None,
) -> bool:
    """Serve an application in the main thread until a signal ends it.

    Args:
      app: what `make_app` made.
      bound: a bound socket, see `bind`; it is closed.
      ready: called with the base URL once requests are taken.

    Returns:
      Whether every request that was taken was answered to its end.
    """
    server = Server(app, lambda: ready(url_of(bound)))
    server.run(sockets=[bound])
    return not server.force_exit


@contextlib.contextmanager
def serving(
    engine: Engine, *, host: str = HOST, port: int = 0, **options: Any
) -> Iterator[str]:
    """Serve an engine in a thread while the body runs, for notebooks and tests.

    Args:
      engine: the engine.
      host: an address of this machine; the default is reached from it only.
      port: 0 takes a free one.
      **options: defaults, limits, as in `make_app`.

    Yields:
      The base URL for clients, such as "http://127.0.0.1:40123/v1".

    Raises:
      OSError: if the address is taken.
      ValueError: as `make_app`.
    """
    app = make_app(engine, local=is_local(host), **options)
    bound = bind(host, port)
    started = threading.Event()
    server = Server(app, started.set)
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    url = url_of(bound)
    thread.start()
    try:
        while not started.wait(0.05) and thread.is_alive():
            pass
        if not started.is_set():
            raise RuntimeError("serving: the server did not start.")
        yield url
    finally:
        server.drain()
        thread.join()


class Server(uvicorn.Server):
    """A server of uvicorn that answers with 503 while it drains.

    Args:
      app: what `make_app` made.
      ready: called once requests are taken.
    """

    def __init__(self, app: Starlette, ready: Callable[[], Any]):
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="on",
            # Its own configuration would close every handler of the user's program.
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=LAST_SECONDS,
        )
        super().__init__(config)
        self._service: Service = app.state.service
        self._ready = ready

    def drain(self) -> None:
        """Take no new requests, and end when those that run are answered."""
        self._service.is_draining = True

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Drain at the first signal, end at the second."""
        if self._service.is_draining:
            self.force_exit = self.should_exit = True
        self.drain()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)
        self._ready()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; asked ten times a second."""
        if self._service.is_draining and not self._service.requests:
            self.should_exit = True
        return await super().on_tick(counter)
