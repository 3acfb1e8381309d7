"""uvicorn, with the options this library wants."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp

from lg_streaming.cli.serve import MAX_MESSAGE_BYTES, Listening, ServeOptions, Stop
from lg_streaming.serving.server import GuardedServer
from lg_streaming.serving.server import configure as configure_guarded

__all__ = ["configure", "serve_with_uvicorn"]


class _Server(GuardedServer):
    """Divide the grace time between requests and the shutdown."""

    def __init__(self, config: uvicorn.Config, stop: Stop, listening: Listening) -> None:
        super().__init__(config, listening)
        self._stop = stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own type has whole seconds; it only hands the number to asyncio.
        self.config.timeout_graceful_shutdown = self._stop.seconds_for_requests()  # pyright: ignore[reportAttributeAccessIssue]
        await super().shutdown(sockets)


async def serve_with_uvicorn(
    app: ASGIApp, options: ServeOptions, listener: socket.socket, stop: Stop, listening: Listening
) -> None:
    """Serves HTTP/1.1 and WebSocket; see `lg_streaming.cli.serve.Serve`."""
    server = _Server(configure(app, options), stop, listening)
    stopping = asyncio.create_task(_stop_when_told(server, stop), name="stop uvicorn")
    try:
        await server.serve(sockets=[listener])
    finally:
        stopping.cancel()


async def _stop_when_told(server: uvicorn.Server, stop: Stop) -> None:
    await stop.wait()
    server.should_exit = True


def configure(app: ASGIApp, options: ServeOptions) -> uvicorn.Config:
    """Uvicorn's configuration; another server uses its parts for forwarded headers and the application's lifespan."""
    certificate = options.certificate
    return configure_guarded(
        app,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=options.ws_compression,
        server_header=False,
        forwarded_allow_ips=options.trusted_proxies,
        log_config=None,
        ssl_certfile=None if certificate is None else certificate.certfile,
        ssl_keyfile=None if certificate is None else certificate.keyfile,
    )
