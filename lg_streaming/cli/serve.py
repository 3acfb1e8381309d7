"""Serves an application until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.types import ASGIApp

from lg_streaming.cli.certificates import Certificate
from lg_streaming.cli.signals import handling
from lg_streaming.demo.server import listen
from lg_streaming.escaping import LineFormatter
from lg_streaming.gateway.hooks.listeners import listening as hosts
from lg_streaming.serving.acceptor import raise_descriptor_limit

__all__ = ["MAX_MESSAGE_BYTES", "Listening", "Serve", "ServeOptions", "Stop", "run_server"]

MAX_MESSAGE_BYTES: Final = 65_536
"""The largest WebSocket message a client may send; `limits.inbound_bytes` may be less."""

_SHARE_OF_REQUESTS: Final = 0.75
"""Of the grace time, for requests that still run; the rest is for the application's own shutdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the user asked for.

    `grace` is in seconds: from the signal to the end of the process. `trusted_proxies` are addresses and networks,
    divided by commas, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed; `*` is all.
    """

    host: str
    port: int
    certificate: Certificate | None
    http2: bool
    ws_compression: bool
    trusted_proxies: str
    grace: float
    log_level: str


Listening = Callable[[], None]
"""Called once, when clients can connect."""


class Stop:
    """The order to stop, and how long that may take."""

    def __init__(self, grace: float) -> None:
        self._told = asyncio.Event()
        self._grace = grace
        self._requests_end = 0.0
        self.signal: signal.Signals | None = None
        """What ended the server; None while it runs."""

    def tell(self, number: signal.Signals) -> None:
        """Orders the server to stop. Only the first time counts."""
        if not self._told.is_set():
            self.signal = number
            self._requests_end = asyncio.get_running_loop().time() + self._grace * _SHARE_OF_REQUESTS
            self._told.set()

    async def wait(self) -> None:
        """Returns when the server is to stop."""
        await self._told.wait()

    def seconds_for_requests(self) -> float:
        """How long requests that still run may go on."""
        return max(0.0, self._requests_end - asyncio.get_running_loop().time())


class Serve(Protocol):
    """A server: serves `app` on `listener` until `stop`, and returns when all is closed."""

    async def __call__(
        self, app: ASGIApp, options: ServeOptions, listener: socket.socket, stop: Stop, listening: Listening
    ) -> None:
        """See the class."""
        ...


def run_server(app: ASGIApp, options: ServeOptions, say: Callable[[str], None]) -> int:
    """Serve `app` until Ctrl-C or SIGTERM, and return the exit code for the shell.

    Args:
        app: The ASGI application.
        options: How.
        say: Takes the lines meant for the person at the terminal.

    Raises:
        AddressInUseError: The address cannot be had.
        MissingExtraError: HTTP/2 is asked for and granian is not installed.
    """
    if options.http2:
        from lg_streaming.cli.granian_server import load_granian

        serve = load_granian()
    else:
        from lg_streaming.cli.uvicorn_server import serve_with_uvicorn as serve
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=options.log_level.upper(), handlers=[handler])
    # At DEBUG the server logs each WebSocket handshake whole, tokens in headers and addresses included.
    logging.getLogger("uvicorn.error").setLevel(max(logging.INFO, logging.getLogger().getEffectiveLevel()))
    raise_descriptor_limit()
    with listen(options.host, options.port) as listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(serve, app, options, listener, _unless_closed(say)))


def _unless_closed(write: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``write`` without its errors: a closed output must not stop the server, nor keep it from stopping."""

    def write_if_open(text: str) -> None:
        with suppress(OSError, ValueError):
            write(text)

    return write_if_open


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory; None, for the standard event loop, where there is no uvloop, as on Windows."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(
    serve: Serve, app: ASGIApp, options: ServeOptions, listener: socket.socket, say: Callable[[str], None]
) -> int:
    stop = Stop(options.grace)
    address = _address(listener, secure=options.certificate is not None)

    def listening() -> None:
        say(f"Serving {address} over {_protocols(options)}. Ctrl-C ends it.")

    hosts.set((str(listener.getsockname()[0]),))
    async with _signals_to(stop, say):
        serving = asyncio.create_task(_exit_code(serve(app, options, listener, stop, listening)), name="server")
        telling = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({serving, telling}, return_when=asyncio.FIRST_COMPLETED)
        telling.cancel()
        await asyncio.wait({serving}, timeout=options.grace)
        if not serving.done():
            say(f"Not everything ended within {options.grace:g} s: what still runs is cancelled.")
            serving.cancel()
            await asyncio.wait({serving}, timeout=1)
            return 1
        code = serving.result()
    return 128 + signal.SIGINT if stop.signal == signal.SIGINT else code


async def _exit_code(serving: Awaitable[None]) -> int:
    """Return the exit code of a server that refuses to start, which has logged why; else 0."""
    try:
        await serving
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    return 0


@asynccontextmanager
async def _signals_to(stop: Stop, say: Callable[[str], None]) -> AsyncGenerator[None]:
    """Ctrl-C and SIGTERM stop the server, and nothing else of the program."""

    def told(number: signal.Signals) -> None:
        is_first = stop.signal is None
        stop.tell(number)
        if is_first:
            say("Stopping: clients are told to come back.")

    with handling((signal.SIGINT, signal.SIGTERM), told):
        yield


def _address(listener: socket.socket, *, secure: bool) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if listener.family == socket.AF_INET6 else host
    return f"{'https' if secure else 'http'}://{shown}:{port}"


def _protocols(options: ServeOptions) -> str:
    versions = "HTTP/2, HTTP/1.1" if options.http2 else "HTTP/1.1"
    return f"{versions} and WebSocket, {'with' if options.certificate is not None else 'without'} TLS"
