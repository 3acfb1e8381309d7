"""uvicorn's server, which counts connections from accept on."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from typing_extensions import override
from uvicorn.config import STARTUP_FAILURE

from lg_streaming.serving.acceptor import Acceptor
from lg_streaming.serving.guard import Entry, Guard, Times
from lg_streaming.serving.http import HTTPProtocol
from lg_streaming.serving.websocket import WebSocketProtocol

__all__ = ["GuardedServer", "configure"]


def configure(app: Any, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration with the protocols of this package; `options` are its own."""
    return uvicorn.Config(app, http=HTTPProtocol, ws=WebSocketProtocol, access_log=False, **options)


class GuardedServer(uvicorn.Server):
    """Serves on sockets that it is given, and leaves signals to the program that runs it.

    Args:
        config: See `configure`.
        listening: Called when clients can connect.
        times: How long callers may take.
    """

    def __init__(self, config: uvicorn.Config, listening: Callable[[], object], times: Times | None = None) -> None:
        super().__init__(config)
        self._times = times or Times()
        self._listening = listening

    @override
    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop = asyncio.get_running_loop()
        if not sockets or not _has_readers(loop, sockets[0]):
            await super().startup(sockets)
        else:
            await self.lifespan.startup()
            if self.lifespan.should_exit:
                sys.exit(STARTUP_FAILURE)
            self.servers: list[Any] = [self._accept_on(listener) for listener in sockets]
            self.started = True
        self._listening()

    def _accept_on(self, listener: socket.socket) -> Acceptor:
        config, state = self.config, self.server_state

        def make(entry: Entry) -> HTTPProtocol:
            return HTTPProtocol(config, state, self.lifespan.state, entry=entry)

        guard = Guard.of(config, state, self._times)
        return Acceptor(make, listener, guard, context=config.ssl, backlog=config.backlog)


def _has_readers(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> bool:
    """Whether the event loop can watch a socket; that of Windows cannot, and accepts by itself."""
    try:
        loop.remove_reader(listener.fileno())
    except NotImplementedError:
        return False
    return True
