"""A subscription over Socket.IO, on the connection that it shares with others."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from lg_streaming.client.alarm import Alarm
from lg_streaming.client.events import ClientErrorEvent
from lg_streaming.client.failures import InterruptedStreamError
from lg_streaming.client.subscription import ClientSubscription
from lg_streaming.errors import ConnectionLostError, ForbiddenError, GapError, StreamingError
from lg_streaming.events import Position

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.client.events import ClientState
    from lg_streaming.client.request import SubscriptionRequest
    from lg_streaming.client.socketio import SocketIOClient
    from lg_streaming.client.socketio_connection import SocketIOConnection
    from lg_streaming.client.subscription import ClientContext
    from lg_streaming.events import StreamUpdate

__all__ = ["SocketIOSubscription"]


class SocketIOSubscription(ClientSubscription):
    """A subscription over Socket.IO."""

    def __init__(self, client: SocketIOClient, wanted: SubscriptionRequest, hearing: ClientContext) -> None:
        super().__init__(wanted, hearing)
        self._client = client
        self._alarm = Alarm()
        self._connecting = asyncio.Lock()
        self._connection: SocketIOConnection | None = (
            None  # the connection on which the server has accepted the subscription
        )
        self._queue: deque[list[StreamUpdate]] = deque()
        self._queued = 0
        self._wake = asyncio.Event()
        self._refusals = 0
        self._warning: InterruptedStreamError | None = None
        self._failure: StreamingError | None = None
        self._closed = False

    @property
    def state(self) -> ClientState:
        """See `ClientSubscription.state`."""
        return self._client.state

    @property
    def waiting(self) -> int:
        """Updates that wait for the reader."""
        return self._queued

    async def aclose(self) -> None:
        """See `ClientSubscription.aclose`."""
        if self._guard.forked:
            return
        self._closed = True
        self._alarm.ring()
        self._queue.clear()
        line, self._connection = self._connection, None
        if line is not None and not self._ended:
            line.emit("unsubscribe_execution", {"execution_id": self.execution_id})
        self._client.unregister(self)

    # ------------------------------------------------------------ reading
    async def connect(self) -> None:
        """See `ClientSubscription.connect`."""
        self._guard.check()
        async with self._connecting:
            await self._connect_with_retry()

    async def _connect_with_retry(self) -> None:
        with contextlib.suppress(TimeoutError):  # somebody closed it meanwhile
            while self._connection is None and not (self._ended or self._closed):
                if self._failure is not None:
                    raise self._failure
                await self._client.register(self)
                await self._subscribe()

    async def _receive(self) -> list[StreamUpdate] | None:
        while True:
            if self._queue:
                batch = self._queue.popleft()
                self._queued -= len(batch)
                return batch
            if self._ended or self._closed:
                return None
            if self._connection is None:
                await self.connect()
                continue
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await self._alarm.within(None, self._wake.wait())

    async def _subscribe(self) -> None:
        """Tries once; afterwards it is accepted, or it is time for another try. Raises StreamingError, TimeoutError."""
        warning, self._warning = self._warning, None
        if warning is not None:
            await self._wait_to_retry(warning)
        line = await self._alarm.within(None, self._client.connection())
        payload = self._request.payload(self._tracker.position)
        asking = line.call("subscribe_execution", payload, accepted=lambda answer: self._on_subscribed(line, answer))
        try:
            await self._alarm.within(None, asking)
        except InterruptedStreamError as failure:
            if not line.lost:  # otherwise the connection is made again, and this tried again on it
                self._context.listeners.notify(ClientErrorEvent(execution_id=self.execution_id, error=failure.error))
                await self._wait_to_retry(failure)

    async def _wait_to_retry(self, failure: InterruptedStreamError) -> None:
        """Waits until the next try. Raises the failure's error where there is none."""
        if not failure.retryable or isinstance(failure.error, GapError):
            raise failure.error from None
        delay = self._client.retry_delay(self._refusals, failure.error)
        self._refusals += 1
        await self._alarm.within(None, asyncio.sleep(delay))

    def _on_subscribed(self, line: SocketIOConnection, answer: Mapping[str, Any]) -> None:
        if self._closed:
            line.emit("unsubscribe_execution", {"execution_id": self.execution_id})
            return
        self._connection = line
        head = cast("str | None", answer.get("position"))
        self._on_accepted(None if head is None else Position.parse(head))

    # ------------------------------------------------------------ what comes
    def on_updates(self, line: SocketIOConnection, contents: list[Any]) -> None:
        """Updates. What comes while the subscription is not in force comes again when it is."""
        if self._connection is not line:
            return
        self._warning = None
        self._enqueue(self._tracker.accept(self._context.parse(contents, self.execution_id)))
        if self._queued >= self._client.backlog:
            self._connection = None
            line.emit("unsubscribe_execution", {"execution_id": self.execution_id})

    def on_gap(self, line: SocketIOConnection, told: Mapping[str, Any]) -> None:
        """A gap."""
        if self._connection is line:
            self._enqueue([self._tracker.gap_from_payload(told)])

    def on_warning(self, failure: InterruptedStreamError) -> None:
        """An error of this subscription, which may be about to close."""
        self._warning = failure

    def on_closed(self, line: SocketIOConnection, reason: str) -> None:
        """The server has closed the subscription."""
        if self._connection is not line:
            return
        warning = self._warning
        self._connection = None
        if reason == "ended":
            self._ended = True
        elif reason == "forbidden":
            self._failure = ForbiddenError(execution_id=self.execution_id)
        elif reason == "gap" or (warning is not None and not warning.retryable):
            self._failure = warning.error if warning is not None else GapError(execution_id=self.execution_id)
        elif warning is None:
            gone = ConnectionLostError("the server has closed the subscription", execution_id=self.execution_id)
            self._warning = InterruptedStreamError(gone)
        self._wake.set()

    def on_disconnect(self, line: SocketIOConnection) -> None:
        """The connection is gone."""
        if self._connection is line:
            self._connection = None
            self._wake.set()

    def on_connection_failed(self, error: StreamingError) -> None:
        """There will be no other connection."""
        if self._connection is None and not self._ended:
            self._failure = error

    def _enqueue(self, updates: list[StreamUpdate]) -> None:
        if updates:
            self._queue.append(updates)
            self._queued += len(updates)
            self._refusals = 0
            self._wake.set()
