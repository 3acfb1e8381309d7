"""A uvicorn server that counts connections from accept on."""

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
from lg_streaming.serving.guard import ConnectionGuard, Entry, Timeouts
from lg_streaming.serving.http import HTTPProtocol
from lg_streaming.serving.websocket import WebSocketProtocol

__all__ = ["GuardedServer", "configure"]


def configure(app: Any, **options: Any) -> uvicorn.Config:
    """Return uvicorn's configuration with the protocols of this package; `options` are its own."""
    return uvicorn.Config(app, http=HTTPProtocol, ws=WebSocketProtocol, access_log=False, **options)


class GuardedServer(uvicorn.Server):
    """A server on given sockets. The program that runs it handles signals.

    Args:
        config: See `configure`.
        on_listening: Called when clients can connect.
        times: Time limits of callers.
        shutdown_timeout: Returns the seconds that open requests may take, asked for when the server stops. None takes
            the number of `config`.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        on_listening: Callable[[], object],
        times: Timeouts | None = None,
        *,
        shutdown_timeout: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(config)
        self._times = times or Timeouts()
        self._on_listening = on_listening
        self._shutdown_timeout = shutdown_timeout

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
        self._on_listening()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._shutdown_timeout is not None:
            # uvicorn's own type has whole seconds; it only hands the number to asyncio.
            self.config.timeout_graceful_shutdown = self._shutdown_timeout()  # pyright: ignore[reportAttributeAccessIssue]
        await super().shutdown(sockets)

    def _accept_on(self, listener: socket.socket) -> Acceptor:
        config, state = self.config, self.server_state

        def make(entry: Entry) -> HTTPProtocol:
            return HTTPProtocol(config, state, self.lifespan.state, entry=entry)

        guard = ConnectionGuard.for_server(config, state, self._times)
        return Acceptor(make, listener, guard, context=config.ssl, backlog=config.backlog)


def _has_readers(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> bool:
    """Return whether the event loop can watch a socket; that of Windows cannot, and accepts by itself."""
    try:
        loop.remove_reader(listener.fileno())
    except NotImplementedError:
        return False
    return True
