"""A bounded queue as a sink: push becomes pull."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from lg_streaming.checks import count
from lg_streaming.errors import SinkError, SinkRejectedError, StreamingConfigError
from lg_streaming.hub.sink import SendPolicy

if TYPE_CHECKING:
    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub.sink import CloseReason

__all__ = ["Overflow", "QueueSink"]

Overflow = Literal["wait", "drop_oldest"]
"""What a full queue does. ``wait``: it takes nothing more until there is room; the log keeps what follows.
``drop_oldest``: it lets go of its oldest update."""


class _Queue(asyncio.Queue["StreamUpdate | None"]):
    """Has room for one item more than updates, the end, and tells when something was taken."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize + 1)
        self.taken = asyncio.Event()

    def _get(self) -> StreamUpdate | None:  # asyncio's own subclasses override it as well
        self.taken.set()
        return super()._get()


class QueueSink:
    """Puts updates into an `asyncio.Queue`; read it with ``async for update in sink``, or with ``sink.queue.get()``.

    The iteration ends after the last update, when all that is in the queue was read. One that is left early detaches
    the sink with the next update. Make, attach and read it on the same event loop.

    Args:
        maxsize: The most updates in the queue.
        overflow: What a full queue does.
        id: Names the sink; made up when not given.

    Raises:
        StreamingConfigError: ``maxsize`` or ``overflow`` cannot be used, or no event loop is running.
    """

    def __init__(self, maxsize: int = 1_000, *, overflow: Overflow = "wait", id: str | None = None) -> None:
        count("updates").check("maxsize", maxsize, StreamingConfigError)
        if overflow not in get_args(Overflow):
            raise StreamingConfigError(f"overflow is one of {', '.join(get_args(Overflow))}, not {overflow!r:.80}")
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise StreamingConfigError("a QueueSink is made on the event loop that reads it") from None
        self.id: str = id or f"queue-{secrets.token_hex(4)}"
        self.maxsize = maxsize
        self.overflow: Overflow = overflow
        # it may wait for its reader as long as it likes: what follows is in the log, and nobody else waits
        self.policy: SendPolicy = SendPolicy(timeout=math.inf if overflow == "wait" else SendPolicy().timeout)
        self.dropped: int = 0
        """Updates it let go of, with ``drop_oldest``."""
        self.reason: CloseReason | None = None
        """Why nothing more comes; None while something may."""
        self.queue: asyncio.Queue[StreamUpdate | None]
        """The updates, and None after the last one."""
        self.queue = self._queue = _Queue(maxsize)
        self._left = False

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        """Puts ``updates`` into the queue.

        Raises:
            SinkRejectedError: It is called on another event loop than the one it was made on.
            SinkError: Its reader has left.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise SinkRejectedError("attach a QueueSink on the event loop that reads it", sink_id=self.id)
        for index, update in enumerate(updates):
            while self._queue.qsize() >= self.maxsize and self.is_active():
                if self.overflow == "drop_oldest":
                    self._queue.get_nowait()
                    self.dropped += 1
                else:
                    self._queue.taken.clear()
                    await self._queue.taken.wait()
            if not self.is_active():
                raise SinkError("nobody reads the queue any more", sink_id=self.id, sent=index)
            self._queue.put_nowait(update)

    async def closed(self, reason: CloseReason) -> None:
        """Ends the iteration after what is in the queue."""
        self._end(reason)

    def _end(self, reason: CloseReason) -> None:
        if self.reason is None:
            self.reason = reason
            self._queue.put_nowait(None)
            self._queue.taken.set()

    def is_active(self) -> bool:
        """Until it is closed, or its reader has left."""
        return self.reason is None and not self._left

    async def aclose(self) -> None:
        """Ends the iteration, also while it waits, after what is in the queue; the sink is detached."""
        self._end("detached")

    def __aiter__(self) -> AsyncIterator[StreamUpdate]:
        return self._updates()

    async def _updates(self) -> AsyncGenerator[StreamUpdate]:
        try:
            while (update := await self.queue.get()) is not None:
                yield update
            self._queue.put_nowait(None)  # the end is for every reader
        finally:
            self._left = True
            self._queue.taken.set()  # who waits for room sees that nobody will make any
