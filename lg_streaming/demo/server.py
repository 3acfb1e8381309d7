"""A server in this process, for the time of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from lg_streaming.serving.listener import format_host, listen
from lg_streaming.serving.server import GuardedServer, configure

__all__ = ["run_server"]

_SHUTDOWN_TIMEOUT: Final = 2


@asynccontextmanager
async def run_server(app: Any, *, host: str, port: int | None) -> AsyncGenerator[str]:
    """Serve an ASGI application, and yield its address, such as ``http://127.0.0.1:8000``.

    Args:
        app: The application. The server stops at the end of the block.
        host: See `listen`.
        port: See `listen`.

    Raises:
        AddressInUseError: If the address cannot be listened on.
    """
    listener = listen(host, port)
    ready = asyncio.Event()
    config = configure(app, log_level="warning", timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT)
    server = GuardedServer(config, ready.set)
    running = asyncio.create_task(server.serve(sockets=[listener]), name="demo-server")
    try:
        await _wait_until_ready(ready, running)
        yield f"http://{format_host(host)}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
        listener.close()


async def _wait_until_ready(ready: asyncio.Event, running: asyncio.Task[None]) -> None:
    """Wait until the server listens; raise its error if it ends before."""
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        waiting.cancel()
        await running
