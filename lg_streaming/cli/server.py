"""A server of the command `serve`: its protocol, its options, and the request to stop it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.types import ASGIApp

from lg_streaming.cli.certificates import Certificate

__all__ = ["MAX_MESSAGE_BYTES", "Notices", "OnListening", "Serve", "ServeOptions", "Stop"]

MAX_MESSAGE_BYTES: Final = 65_536
"""The largest WebSocket message a client may send; `limits.inbound_bytes` may be less."""

_REQUESTS_SHARE: Final = 0.75
"""Share of the grace time for running requests; the rest is for the application's shutdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Options of the command.

    `grace` is the time from the signal to the end of the process, in seconds. `trusted_proxies` are addresses and
    networks, separated by commas, whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted; `*` is all.
    """

    host: str
    port: int
    certificate: Certificate | None
    http2: bool
    ws_compression: bool
    trusted_proxies: str
    grace: float
    log_level: str


OnListening = Callable[[], None]
"""A callback that a server calls once, when clients can connect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """Callbacks of the command."""

    on_listening: OnListening
    on_stop: Callable[[], object] = lambda: None
    """Called at the first signal."""
    on_cut: Callable[[], object] = lambda: None
    """Called if something did not end within the grace time."""


class Stop:
    """The request to stop, and its time limit."""

    def __init__(self, grace: float) -> None:
        self._requested = asyncio.Event()
        self._grace = grace
        self._requests_end = 0.0
        self.signal: signal.Signals | None = None
        """The signal that stops the server; None while it runs."""

    def request(self, number: signal.Signals) -> None:
        """Request the stop. Later calls have no effect."""
        if not self._requested.is_set():
            self.signal = number
            self._requests_end = asyncio.get_running_loop().time() + self._grace * _REQUESTS_SHARE
            self._requested.set()

    async def wait(self) -> None:
        """Wait for the request to stop."""
        await self._requested.wait()

    def seconds_for_requests(self) -> float:
        """Return the seconds that running requests may take."""
        return max(0.0, self._requests_end - asyncio.get_running_loop().time())


class Serve(Protocol):
    """A server: serves `app` on `listener` until `stop`, and returns when everything is closed."""

    async def __call__(
        self, app: ASGIApp, options: ServeOptions, listener: socket.socket, stop: Stop, on_listening: OnListening
    ) -> None:
        """See the class."""
        ...
