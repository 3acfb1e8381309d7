"""Serve with uvicorn, over HTTP/1.1 and WebSocket."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.types import ASGIApp

from lg_streaming.cli.server import MAX_MESSAGE_BYTES, OnListening, ServeOptions, Stop
from lg_streaming.serving.server import GuardedServer
from lg_streaming.serving.server import configure as configure_guarded

__all__ = ["configure", "serve_with_uvicorn"]


async def serve_with_uvicorn(
    app: ASGIApp, options: ServeOptions, listener: socket.socket, stop: Stop, on_listening: OnListening
) -> None:
    """Serve HTTP/1.1 and WebSocket; see `lg_streaming.cli.server.Serve`."""
    server = GuardedServer(configure(app, options), on_listening, shutdown_timeout=stop.seconds_for_requests)
    stopping = asyncio.create_task(_exit_on_stop(server, stop), name="stop uvicorn")
    try:
        await server.serve(sockets=[listener])
    finally:
        stopping.cancel()


async def _exit_on_stop(server: uvicorn.Server, stop: Stop) -> None:
    await stop.wait()
    server.should_exit = True


def configure(app: ASGIApp, options: ServeOptions) -> uvicorn.Config:
    """Return uvicorn's configuration, whose lifespan and proxy headers another server uses too."""
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
