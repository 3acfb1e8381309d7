"""A subscription over Socket.IO, on the connection that it shares with others."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, cast

from anyio import CancelScope

from lg_streaming.client.events import ClientErrorEvent
from lg_streaming.client.failures import InterruptedStreamError
from lg_streaming.client.subscription import ClientSubscription
from lg_streaming.errors import ConnectionLostError, ForbiddenError, GapError, StreamingError
from lg_streaming.events import Position

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.client.events import ClientState
    from lg_streaming.client.request import SubscriptionRequest
    from lg_streaming.client.socketio_connection import SocketIOConnection
    from lg_streaming.client.subscription import ClientContext
    from lg_streaming.events import StreamUpdate

__all__ = ["SharedConnection", "SocketIOSubscription"]


class SharedConnection(Protocol):
    """A client over Socket.IO, as its subscriptions use it: they share its one connection."""

    @property
    def state(self) -> ClientState:
        """The state of the connection."""
        ...

    @property
    def backlog(self) -> int:
        """Updates that may wait for a reader."""
        ...

    async def connection(self) -> SocketIOConnection:
        """Return the connection; connect first if there is no open one."""
        ...

    async def register(self, subscription: SocketIOSubscription) -> None:
        """Route messages of an execution to its subscription.

        Raises:
            BadRequestError: If another subscription reads the same execution.
        """
        ...

    def unregister(self, subscription: SocketIOSubscription) -> None:
        """Remove a closed subscription, and keep its counters."""
        ...

    def retry_delay(self, attempt: int, error: StreamingError) -> float:
        """Return the seconds until a refused subscription is attempted again.

        Raises:
            StreamingError: If there is no further attempt; the error is `error`.
        """
        ...


class SocketIOSubscription(ClientSubscription):
    """A subscription over Socket.IO."""

    def __init__(self, client: SharedConnection, request: SubscriptionRequest, context: ClientContext) -> None:
        super().__init__(request, context)
        self._client = client
        self._connecting = asyncio.Lock()
        self._connect_scope: CancelScope | None = None
        self._connection: SocketIOConnection | None = None  # on which the server has accepted the subscription
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
        if self._connect_scope is not None:
            self._connect_scope.cancel()
        self._wake.set()
        self._queue.clear()
        connection, self._connection = self._connection, None
        if connection is not None and not self._ended:
            connection.emit("unsubscribe_execution", {"execution_id": self.execution_id})
        self._client.unregister(self)

    # ------------------------------------------------------------ reading
    async def connect(self) -> None:
        """See `ClientSubscription.connect`."""
        self._guard.check()
        async with self._connecting:
            with CancelScope() as self._connect_scope:
                await self._connect_with_retry()

    async def _connect_with_retry(self) -> None:
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
            await self._wake.wait()

    async def _subscribe(self) -> None:
        """Try once; then the subscription is accepted, or the next attempt is due.

        Raises:
            StreamingError: If the server refused the subscription for good.
        """
        warning, self._warning = self._warning, None
        if warning is not None:
            await self._wait_to_retry(warning)
        connection = await self._client.connection()
        try:
            await connection.call(
                "subscribe_execution",
                self._request.payload(self._tracker.position),
                on_accepted=lambda answer: self._on_subscribed(connection, answer),
            )
        except InterruptedStreamError as failure:
            if not connection.lost:  # otherwise the client connects again, and this is tried again
                self._context.listeners.notify(ClientErrorEvent(execution_id=self.execution_id, error=failure.error))
                await self._wait_to_retry(failure)

    async def _wait_to_retry(self, failure: InterruptedStreamError) -> None:
        """Wait until the next attempt is due.

        Raises:
            StreamingError: If there is no further attempt; the error is that of `failure`.
        """
        if not failure.retryable or isinstance(failure.error, GapError):
            raise failure.error from None
        delay = self._client.retry_delay(self._refusals, failure.error)
        self._refusals += 1
        await asyncio.sleep(delay)

    def _on_subscribed(self, connection: SocketIOConnection, answer: Mapping[str, Any]) -> None:
        if self._closed:
            connection.emit("unsubscribe_execution", {"execution_id": self.execution_id})
            return
        self._connection = connection
        head = cast("str | None", answer.get("position"))
        self._on_accepted(None if head is None else Position.parse(head))

    # ------------------------------------------------------------ messages of the server
    def on_updates(self, connection: SocketIOConnection, contents: list[Any]) -> None:
        """Queue updates. Updates that arrive while the server has not accepted the subscription come again later."""
        if self._connection is not connection:
            return
        self._warning = None
        self._enqueue(self._tracker.accept(self._context.parse(contents, self.execution_id)))
        if self._queued >= self._client.backlog:
            self._connection = None
            connection.emit("unsubscribe_execution", {"execution_id": self.execution_id})

    def on_gap(self, connection: SocketIOConnection, payload: Mapping[str, Any]) -> None:
        """Queue a gap."""
        if self._connection is connection:
            self._enqueue([self._tracker.gap_from_payload(payload)])

    def on_warning(self, failure: InterruptedStreamError) -> None:
        """Note an error of this subscription, which the server may close now."""
        self._warning = failure

    def on_closed(self, connection: SocketIOConnection, reason: str) -> None:
        """Note why the server closed the subscription."""
        if self._connection is not connection:
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
            closed = ConnectionLostError("the server has closed the subscription", execution_id=self.execution_id)
            self._warning = InterruptedStreamError(closed)
        self._wake.set()

    def on_disconnect(self, connection: SocketIOConnection) -> None:
        """Wake the reader, which subscribes again on the next connection."""
        if self._connection is connection:
            self._connection = None
            self._wake.set()

    def on_connection_failed(self, error: StreamingError) -> None:
        """Note that the client does not connect again."""
        if self._connection is None and not self._ended:
            self._failure = error

    def _enqueue(self, updates: list[StreamUpdate]) -> None:
        if updates:
            self._queue.append(updates)
            self._queued += len(updates)
            self._refusals = 0
            self._wake.set()
