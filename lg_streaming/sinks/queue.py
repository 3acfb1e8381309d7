"""A sink that is a bounded queue: push becomes pull."""

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
"""Behaviour of a full queue.

``wait`` accepts no update until one is read; later updates stay in the log. ``drop_oldest`` drops its oldest update.
"""


class _Queue(asyncio.Queue["StreamUpdate | None"]):
    """A queue of updates and the end marker, with an event that each read sets."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize + 1)
        self.was_read = asyncio.Event()

    def _get(self) -> StreamUpdate | None:  # asyncio's own subclasses override it as well
        self.was_read.set()
        return super()._get()


class QueueSink:
    """A sink that puts updates into an `asyncio.Queue`.

    Read it with ``async for update in sink``, or with ``sink.queue.get()``. The iteration ends once the queue is empty
    and no update follows. An iteration that is left early detaches the sink with the next update. Create, attach and
    read it on the same event loop.

    Args:
        maxsize: The most updates in the queue.
        overflow: The behaviour of a full queue.
        id: The name of the sink; a new one when not given.

    Raises:
        StreamingConfigError: If ``maxsize`` or ``overflow`` is invalid, or no event loop is running.
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
        self.claim_by_default: bool = False
        """False: the reader of the queue is in this process. See the option ``claim`` of `StreamHub.attach`."""
        self.maxsize = maxsize
        self.overflow: Overflow = overflow
        # it may wait for its reader without a limit: later updates are in the log, and no other sink waits
        self.policy: SendPolicy = SendPolicy(timeout=math.inf if overflow == "wait" else SendPolicy().timeout)
        self.dropped: int = 0
        """Updates that ``drop_oldest`` dropped."""
        self.reason: CloseReason | None = None
        """The reason it was closed for; None while it is open."""
        self.queue: asyncio.Queue[StreamUpdate | None]
        """The updates, and None after the last one."""
        self.queue = self._queue = _Queue(maxsize)
        self._left = False

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        """Put ``updates`` into the queue.

        Raises:
            SinkRejectedError: If it is called on another event loop than the one it was created on.
            SinkError: If its reader has left.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise SinkRejectedError("attach a QueueSink on the event loop that reads it", sink_id=self.id)
        for index, update in enumerate(updates):
            while self._queue.qsize() >= self.maxsize and self.is_active():
                if self.overflow == "drop_oldest":
                    self._queue.get_nowait()
                    self.dropped += 1
                else:
                    self._queue.was_read.clear()
                    await self._queue.was_read.wait()
            if not self.is_active():
                raise SinkError("the queue has no reader any more", sink_id=self.id, sent=index)
            self._queue.put_nowait(update)

    async def closed(self, reason: CloseReason) -> None:
        """End the iteration after the updates in the queue."""
        self._end(reason)

    def _end(self, reason: CloseReason) -> None:
        if self.reason is None:
            self.reason = reason
            self._queue.put_nowait(None)
            self._queue.was_read.set()

    def is_active(self) -> bool:
        """Return whether it is open and its reader has not left."""
        return self.reason is None and not self._left

    async def aclose(self) -> None:
        """End the iteration, even while it waits, after the updates in the queue; the sink is detached."""
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
            self._queue.was_read.set()  # a waiting `send` ends: no reader will make room
