"""Services that the HTTP routes of a gateway share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol, Self
from weakref import WeakKeyDictionary, ref

from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.gateway.delivery.frames import FrameCache
from lg_streaming.gateway.delivery.ticker import BatchTicker
from lg_streaming.gateway.http.compression import Compression
from lg_streaming.gateway.limits.workers import Workers
from lg_streaming.gateway.session.context import GatewayContext
from lg_streaming.settings import AuthSettings

if TYPE_CHECKING:
    from lg_streaming.hub import StreamHub

__all__ = ["HttpContext"]

_CLOSE_TIMEOUT: Final = 1.5


class _OpenStream(Protocol):
    """An open event stream."""

    def close_for_restart(self) -> None:
        """See `Closable.close_for_restart`."""
        ...

    ended: asyncio.Event

    def cut(self) -> None:
        """Abort the connection."""
        ...


class HttpContext:
    """Services that the HTTP routes of a gateway share.

    Args:
        gateway: Hub, settings, rules and counters.
        ticker: The common tick of deliveries.
        frames: Cache of frames.
    """

    def __init__(self, gateway: GatewayContext, ticker: BatchTicker, frames: FrameCache) -> None:
        self.gateway = gateway
        self.ticker = ticker
        self.frames = frames
        self.compression: Compression = Compression(gateway.settings.gateway.compression)
        self.workers: Workers = Workers("data")
        """Threads for functions of the application that make data and may block."""
        self.streams: set[_OpenStream] = set()
        """The open event streams."""
        gateway.lifecycle.closables.append(self)
        gateway.lifecycle.closers.append(self._close_streams)
        gateway.lifecycle.on_stop.append(self._stop)
        restart_after_fork(self)
        _contexts[gateway.hub] = ref(self)

    @classmethod
    def for_hub(cls, hub: StreamHub) -> Self:
        """Return the context of the hub's gateway; a new one, without authentication, if the hub has no gateway."""
        known = _contexts.get(hub)
        context = known() if known is not None else None
        if isinstance(context, cls):
            return context
        settings = hub.settings
        policy = Policy(AuthSettings(enabled=False), cors_origins=settings.gateway.cors_origins)
        gateway, ticker = (
            GatewayContext(hub=hub, settings=settings, policy=policy),
            BatchTicker(settings.gateway.frame_interval),
        )
        gateway.lifecycle.on_start.append(ticker.restart)
        return cls(gateway, ticker, FrameCache())

    def close_for_restart(self) -> None:
        """See `Closable.close_for_restart`."""
        for stream in list(self.streams):
            stream.close_for_restart()

    def after_fork(self) -> None:
        """Drop the streams of the parent process, which stay open there."""
        bury(self.streams)
        self.streams = set()

    async def _close_streams(self) -> None:
        """Wait until the streams have ended; abort the streams of clients that do not read."""
        streams = list(self.streams)
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                for stream in streams:
                    await stream.ended.wait()
        except TimeoutError:
            for stream in streams:
                stream.cut()

    async def _stop(self) -> None:
        self.workers.close()


_contexts: Final[WeakKeyDictionary[StreamHub, ref[HttpContext]]] = WeakKeyDictionary()
"""The context of each hub. Weak on both sides, as a context holds its hub: the gateway, or the server it runs in,
keeps it."""
