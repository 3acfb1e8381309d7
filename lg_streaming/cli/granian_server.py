"""granian, which speaks HTTP/2, in this process and on this event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from lg_streaming.cli.serve import Listening, Serve, ServeOptions, Stop
from lg_streaming.errors import MissingExtraError, StreamingConfigError
from lg_streaming.gateway.farewells import Farewells, farewells

if TYPE_CHECKING:
    from granian.server.embed import Server

__all__ = ["load_granian"]

_CONNECTIONS: Final = 65_536
"""Beyond, granian lets connections wait unanswered; `limits.connections` refuses them by name long before."""
_STREAMS_PER_CONNECTION: Final = 200
_PING_INTERVAL_MS: Final = 20_000
_PING_TIMEOUT_S: Final = 10
_SECONDS_BETWEEN_TRIES: Final = 0.02


def load_granian() -> Serve:
    """The server.

    Raises:
        MissingExtraError: The package granian is not installed.
    """
    try:
        import granian.server.embed  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MissingExtraError("--http2 needs the package granian: pip install 'lg-streaming[http2]'") from error
    return _serve


async def _serve(
    app: ASGIApp, options: ServeOptions, listener: socket.socket, stop: Stop, listening: Listening
) -> None:
    host, port = listener.getsockname()[:2]
    listener.close()  # granian opens its own
    goodbyes = Farewells()
    farewells.set(goodbyes)
    trusting = ProxyHeadersMiddleware(app, options.trusted_proxies)  # pyright: ignore[reportArgumentType]
    requests = _Requests(trusting, stop)  # pyright: ignore[reportArgumentType]
    server = _make_server(requests, options, host, port)
    serving = asyncio.create_task(server.serve(), name="granian")
    starting = asyncio.create_task(_tell_when_it_listens(requests, host, port, listening), name="granian starts")
    stopping = asyncio.create_task(stop.wait(), name="stop granian")
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            await goodbyes.say()
            server.stop()
        await serving
    finally:
        starting.cancel()
        stopping.cancel()
        if not serving.done():
            serving.cancel()


def _make_server(app: ASGIApp, options: ServeOptions, host: str, port: int) -> Server:
    from granian.constants import Interfaces, SSLProtocols
    from granian.http import HTTP2Settings
    from granian.log import LogLevels
    from granian.server.embed import Server

    certificate = options.certificate
    if certificate is None:
        raise StreamingConfigError("HTTP/2 needs a certificate and its key")
    return Server(
        app,
        host,
        port,
        interface=Interfaces.ASGI,
        backlog=2048,
        backpressure=_CONNECTIONS,
        http2_settings=HTTP2Settings(
            keep_alive_interval=_PING_INTERVAL_MS,
            keep_alive_timeout=_PING_TIMEOUT_S,
            max_concurrent_streams=_STREAMS_PER_CONNECTION,
        ),
        # It tells every start and stop, and each time that it is experimental.
        log_level=LogLevels.debug if options.log_level == "debug" else LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {"propagate": True}}},
        ssl_cert=certificate.certfile,
        ssl_key=certificate.keyfile,
        ssl_protocol_min=SSLProtocols.tls12,
    )


async def _tell_when_it_listens(requests: _Requests, host: str, port: int, listening: Listening) -> None:
    await requests.started.wait()
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(_SECONDS_BETWEEN_TRIES)
        else:
            writer.close()
            listening()
            return


class _Requests:
    """An application around another one: its shutdown waits for the requests that still run.

    granian shuts the application down while it still answers requests.
    """

    def __init__(self, app: ASGIApp, stop: Stop) -> None:
        self._app = app
        self._stop = stop
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.started = asyncio.Event()
        """Set when the application's own start is through."""

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            return self._app(scope, self._late_shutdown(receive), self._heard_start(send))
        return self._run(scope, receive, send)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._running += 1
        self._idle.clear()
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def _late_shutdown(self, receive: Receive) -> Receive:
        async def receive_later() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._idle.wait(), self._stop.seconds_for_requests())
            return message

        return receive_later

    def _heard_start(self, send: Send) -> Send:
        async def send_and_hear(message: MutableMapping[str, Any]) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self.started.set()

        return send_and_hear
