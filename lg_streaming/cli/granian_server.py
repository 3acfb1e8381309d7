"""Serve with granian, over HTTP/2, in this process and on this event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import STARTUP_FAILURE
from uvicorn.lifespan.on import LifespanOn

from lg_streaming.cli.server import OnListening, Serve, ServeOptions, Stop
from lg_streaming.cli.uvicorn_server import configure
from lg_streaming.errors import MissingExtraError, StreamingConfigError
from lg_streaming.gateway.hooks.shutdown_hooks import ShutdownHooks, shutdown_hooks

if TYPE_CHECKING:
    from granian.server.embed import Server

__all__ = ["load_granian"]

_MAX_CONNECTIONS: Final = 65_536
"""Connections beyond this number wait unanswered; `limits.connections`, which is lower, refuses with an error."""
_MAX_STREAMS: Final = 200
_MAX_HEADER_BYTES: Final = 65_536
"""Size of one request's header, in bytes. granian's default, 16 MiB, is too much for an unauthenticated caller."""
_HEADER_TIMEOUT_MS: Final = 10_000
_PING_INTERVAL_MS: Final = 20_000
_PING_TIMEOUT: Final = 10
_RETRY_INTERVAL: Final = 0.02
_FLUSH_TIMEOUT: Final = 0.3
"""Seconds for the last responses to leave."""


def load_granian() -> Serve:
    """Return the server.

    Raises:
        MissingExtraError: If the package granian is not installed.
    """
    try:
        import granian.server.embed  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        raise MissingExtraError("--http2 needs the package granian: pip install 'lg-streaming[http2]'") from error
    return _serve


async def _serve(
    app: ASGIApp, options: ServeOptions, listener: socket.socket, stop: Stop, on_listening: OnListening
) -> None:
    host, port = listener.getsockname()[:2]
    listener.close()  # granian opens another one
    hooks = ShutdownHooks()
    shutdown_hooks.set(hooks)
    # granian ends the application's lifespan only after the last connection, and a stuck connection never ends.
    config = configure(app, options)
    config.load()
    lifespan = LifespanOn(config)
    await lifespan.startup()
    if lifespan.should_exit:
        raise SystemExit(STARTUP_FAILURE)
    try:
        requests = _RequestCounter(config.loaded_app, lifespan.state)
        server = _make_server(requests, options, host, port)
        await _run(server, requests, hooks, stop, _notify_when_open(host, port, on_listening))
    finally:
        await lifespan.shutdown()


async def _run(
    server: Server,
    requests: _RequestCounter,
    hooks: ShutdownHooks,
    stop: Stop,
    announcing: Coroutine[Any, Any, None],
) -> None:
    tasks: set[asyncio.Task[Any]] = {
        serving := asyncio.create_task(server.serve(), name="granian"),
        stopping := asyncio.create_task(stop.wait(), name="stop granian"),
        asyncio.create_task(announcing, name="announce granian"),
    }
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            await hooks.run()
            server.stop()
            tasks.add(idle := asyncio.create_task(requests.idle.wait(), name="last requests"))
            # granian waits for every connection, also for those of peers that are gone or do not read.
            await asyncio.wait(
                {serving, idle}, timeout=stop.seconds_for_requests(), return_when=asyncio.FIRST_COMPLETED
            )
            await asyncio.wait({serving}, timeout=_FLUSH_TIMEOUT)
        if serving.done():
            serving.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _RequestCounter:
    """Wrap the application: pass the state of its lifespan to each request, and count running requests."""

    def __init__(self, app: Any, state: Mapping[str, Any]) -> None:
        self._app = app
        self._state = state
        self._running = 0
        self.idle = asyncio.Event()
        """Set while no request runs."""
        self.idle.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._running += 1
        self.idle.clear()
        try:
            await self._app({**scope, "state": dict(self._state)}, receive, send)
        finally:
            self._running -= 1
            if not self._running:
                self.idle.set()


def _make_server(app: ASGIApp, options: ServeOptions, host: str, port: int) -> Server:
    from granian.constants import Interfaces, SSLProtocols
    from granian.http import HTTP1Settings, HTTP2Settings
    from granian.log import LogLevels
    from granian.server.embed import Server

    certificate = options.certificate
    if certificate is None:
        raise StreamingConfigError("HTTP/2 needs a certificate and its key")
    return Server(
        app,
        host,
        port,
        interface=Interfaces.ASGINL,
        backlog=2048,
        backpressure=_MAX_CONNECTIONS,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_TIMEOUT_MS, max_buffer_size=_MAX_HEADER_BYTES),
        http2_settings=HTTP2Settings(
            keep_alive_interval=_PING_INTERVAL_MS,
            keep_alive_timeout=_PING_TIMEOUT,
            max_concurrent_streams=_MAX_STREAMS,
            max_headers_size=_MAX_HEADER_BYTES,
        ),
        # granian logs every start and stop, and a warning that it is experimental.
        log_level=LogLevels.debug if options.log_level == "debug" else LogLevels.error,
        log_dictconfig={"loggers": {"_granian": {"propagate": True}}},
        ssl_cert=certificate.certfile,
        ssl_key=certificate.keyfile,
        ssl_protocol_min=SSLProtocols.tls12,
    )


async def _notify_when_open(host: str, port: int, on_listening: OnListening) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(_RETRY_INTERVAL)
        else:
            writer.close()
            on_listening()
            return
