"""Serves an app in this process, on an address of our choice, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from lg_streaming.serving.server import GuardedServer, configure

USUAL_PORT = 8000
_SECONDS_TO_LEAVE = 2


class AddressInUseError(Exception):
    """The port asked for is taken, or the host is not one of this machine's."""


@asynccontextmanager
async def serving(app: Any, *, host: str, port: int | None) -> AsyncGenerator[str]:
    """Serve the ASGI `app` and yield its address, such as ``http://127.0.0.1:8000``; stop at the end of the block.

    `port` None takes 8000, or any free one when that is taken; so does 0 take any free one.

    Raises:
        AddressInUseError: the port is taken.
    """
    listener = listen(host, port)
    ready = asyncio.Event()
    config = configure(app, log_level="warning", timeout_graceful_shutdown=_SECONDS_TO_LEAVE)
    server = GuardedServer(config, ready.set)
    running = asyncio.create_task(server.serve(sockets=[listener]), name="demo-server")
    try:
        await _first(ready.wait(), running)
        yield f"http://{_in_url(host)}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
        listener.close()


def listen(host: str, port: int | None) -> socket.socket:
    """A bound socket; see `serving` for what `port` may be."""
    wanted = [USUAL_PORT, 0] if port is None else [port]
    for number in wanted:
        try:
            return socket.create_server((host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or number == wanted[-1]:
                # A name that cannot be resolved has an error below zero.
                code = error.errno or 0
                reason = os.strerror(code) if code >= 0 else "no host of that name is known"
                raise AddressInUseError(f"cannot listen on {_in_url(host)}:{number}: {reason}") from error
    raise AddressInUseError(host)


async def _first(started: Any, running: asyncio.Task[None]) -> None:
    """Wait until the server listens; when it ends instead, raise what it ended with."""
    starting = asyncio.ensure_future(started)
    await asyncio.wait({starting, running}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await running


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
