"""The sending half of a WebSocket: never waits, is bounded, and detects a peer that has stopped reading.

A subscription is a cursor, so there is no queue of updates: a reader awaits `SendBuffer.drain` before it sends more.
Other messages (answers, heartbeats, the last frame) are bounded; beyond the bound, the connection is closed as slow.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from lg_streaming.errors import SlowReaderError
from lg_streaming.gateway.hooks.server import ServerTransport, WebSocketTransport

if TYPE_CHECKING:
    from lg_streaming.gateway.delivery.frames import Frames

__all__ = ["BufferLimits", "SendBuffer", "open_send_buffer"]

logger: logging.Logger = logging.getLogger(__name__)

_PROGRESS_STEP: Final = 16

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
GiveUp = Callable[[SlowReaderError], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferLimits:
    """Limits of one connection's buffer."""

    backlog_bytes: int
    backlog_frames: int
    send_timeout: float
    """Seconds without any write progress."""


class SendBuffer(Protocol):
    """Buffer of a connection's frames."""

    writable: asyncio.Event
    """Set while there is room for more, so that `drain` does not wait."""

    def put(self, frames: Frames) -> None:
        """Send frames now, or buffer them. Abort the connection when too much is buffered. Never waits."""
        ...

    def admit(self, size: int) -> bool:
        """Count `size` bytes that the server writes itself, such as a pong; return whether it may.

        Abort the connection when too much is buffered.
        """
        ...

    async def drain(self) -> bool:
        """Wait until the buffer has room; return whether that took a wait.

        Abort the connection when the peer has stopped reading.
        """
        ...

    async def flush(self) -> None:
        """Wait until the server has taken all frames."""
        ...

    def stop(self) -> None:
        """Drop the buffered frames."""
        ...


def open_send_buffer(
    send: Send, transport: ServerTransport | None, bounds: BufferLimits, give_up: GiveUp
) -> SendBuffer:
    """Return the fastest buffer that the server allows; ``give_up`` is called once, if the peer is too slow."""
    if isinstance(transport, WebSocketTransport):
        return DirectSendBuffer(transport, bounds, give_up)
    return QueuedSendBuffer(send, bounds, give_up)


class DirectSendBuffer:
    """Buffer that writes frames directly to the transport, whose buffer holds unsent bytes."""

    __slots__ = ("_bounds", "_give_up", "_transport", "_waiting", "_written", "writable")

    def __init__(self, transport: WebSocketTransport, bounds: BufferLimits, give_up: GiveUp) -> None:
        self.writable: asyncio.Event = transport.writable
        self._transport = transport
        self._bounds = bounds
        self._give_up: GiveUp | None = give_up
        self._written = 0
        self._waiting = 0

    def put(self, frames: Frames) -> None:
        size = len(frames.wire)
        if self._give_up is not None and self.writable.is_set():
            self._waiting = 0
        elif not self._may_wait(size, frames.count):
            return
        self._written += size
        self._transport.write(frames.wire)

    def admit(self, size: int) -> bool:
        if self._give_up is not None and self.writable.is_set():
            self._waiting = 0
        elif not self._may_wait(size, 1):
            return False
        self._written += size
        return True

    def _may_wait(self, size: int, count: int) -> bool:
        """Return whether frames may wait behind those that the transport has not sent yet."""
        if self._give_up is None:
            return False
        bounds = self._bounds
        self._waiting += count
        if self._waiting <= bounds.backlog_frames and self._transport.buffered + size <= bounds.backlog_bytes:
            return True
        self._fail(f"more than {bounds.backlog_bytes} bytes or {bounds.backlog_frames} frames wait")
        return False

    async def drain(self) -> bool:
        transport = self._transport
        if self.writable.is_set():
            return False
        while self._give_up is not None and not self.writable.is_set():
            sent = self._written - transport.unsent
            try:
                async with asyncio.timeout(self._bounds.send_timeout):
                    await transport.wait_writable()
            except TimeoutError:
                if self._written - transport.unsent <= sent:
                    self._fail(f"nothing was read for {self._bounds.send_timeout:g} s")
        return True

    async def flush(self) -> None:
        await self._transport.wait_writable()

    def stop(self) -> None:
        self._give_up = None

    def _fail(self, why: str) -> None:
        give_up, self._give_up = self._give_up, None
        if give_up is not None:
            give_up(SlowReaderError(f"{why}: reconnect and resume from the last position"))


class QueuedSendBuffer:
    """Buffer that keeps frames and sends them one by one through ASGI, for servers with an inaccessible transport."""

    def __init__(self, send: Send, bounds: BufferLimits, give_up: GiveUp) -> None:
        self._send = send
        self._bounds = bounds
        self._give_up: GiveUp | None = give_up
        self._waiting: deque[Frames] = deque()
        self._bytes = 0
        self._frames = 0
        self._filled = asyncio.Event()
        self.writable: asyncio.Event = asyncio.Event()
        self.writable.set()
        self._writer = asyncio.create_task(self._write(), name="lg_streaming.outlet")

    def put(self, frames: Frames) -> None:
        if self._give_up is None:
            return
        bounds = self._bounds
        # A single piece larger than the whole bound still has to leave.
        if self._waiting and (
            self._bytes + frames.size > bounds.backlog_bytes or self._frames + frames.count > bounds.backlog_frames
        ):
            self._fail(f"more than {bounds.backlog_bytes} bytes or {bounds.backlog_frames} frames wait")
            return
        self._waiting.append(frames)
        self._bytes += frames.size
        self._frames += frames.count
        self.writable.clear()
        self._filled.set()

    def admit(self, size: int) -> bool:  # noqa: ARG002 (what such a server writes itself is out of reach)
        return self._give_up is not None

    async def drain(self) -> bool:
        waits = not self.writable.is_set()
        while not self.writable.is_set():
            await self.writable.wait()
        return waits

    async def flush(self) -> None:
        await self.drain()

    def stop(self) -> None:
        self._give_up = None
        self._waiting.clear()
        self.writable.set()
        self._writer.cancel()

    async def _write(self) -> None:
        try:
            while True:
                await self._filled.wait()
                while self._waiting:
                    await self._send_all(self._waiting[0])
                    if self._waiting:
                        frames = self._waiting.popleft()
                        self._bytes -= frames.size
                        self._frames -= frames.count
                self._filled.clear()
                self.writable.set()
        except TimeoutError:
            self._fail(f"nothing was read for {self._bounds.send_timeout:g} s")
        except Exception as error:  # noqa: BLE001 (each server has its own for a peer that is gone)
            logger.debug("the peer is gone: %r", error)
            self.stop()

    async def _send_all(self, frames: Frames) -> None:
        loop, patience = asyncio.get_running_loop(), self._bounds.send_timeout
        async with asyncio.timeout(patience) as deadline:
            for number, text in enumerate(frames.texts(), 1):
                await self._send({"type": "websocket.send", "text": text})
                if not number % _PROGRESS_STEP:
                    deadline.reschedule(loop.time() + patience)

    def _fail(self, why: str) -> None:
        give_up = self._give_up
        self.stop()
        if give_up is not None:
            give_up(SlowReaderError(f"{why}: reconnect and resume from the last position"))
