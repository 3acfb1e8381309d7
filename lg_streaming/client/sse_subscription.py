"""A subscription over Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack, aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

import httpx2
import orjson
from anyio import move_on_after

from lg_streaming.client.event_stream import EventStreamParser, EventTooLargeError
from lg_streaming.client.events import ClientErrorEvent, InitialData
from lg_streaming.client.failures import InterruptedStreamError, connection_failure, error_from_payload
from lg_streaming.client.rest import is_compressed, read_failure
from lg_streaming.client.subscription import ClientSubscription
from lg_streaming.errors import (
    BadRequestError,
    ConnectionLostError,
    DeadPeerError,
    LogUnavailableError,
    ServerRestartError,
)
from lg_streaming.events import Position

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from anyio import CancelScope

    from lg_streaming.client.config import ClientConfig
    from lg_streaming.client.event_stream import StreamEvent
    from lg_streaming.client.events import ClientState
    from lg_streaming.client.reconnect import Reconnect
    from lg_streaming.client.request import SubscriptionRequest
    from lg_streaming.client.subscription import ClientContext
    from lg_streaming.events import StreamUpdate

__all__ = ["SSESubscription", "StreamSource"]

T = TypeVar("T")

_UPDATE_EVENTS: Final = frozenset({"", "updates", "token", "progress", "status", "event"})


class StreamSource(Protocol):
    """A client over Server-Sent Events, as its subscriptions use it."""

    @property
    def config(self) -> ClientConfig:
        """The current options."""
        ...

    async def open(
        self, request: SubscriptionRequest, position: Position | None
    ) -> tuple[httpx2.Response, AsyncExitStack]:
        """Send the request of a stream; return its response, and a stack that closes it.

        Raises:
            InterruptedStreamError: If the request fails.
        """
        ...

    def make_reconnect(self, execution_id: str) -> Reconnect:
        """Return the connection state of a new subscription."""
        ...

    def register(self, stream: SSESubscription) -> None:
        """Add a subscription that connects."""
        ...

    def unregister(self, stream: SSESubscription) -> None:
        """Remove a closed subscription, and keep its counters."""
        ...


class SSESubscription(ClientSubscription):
    """A subscription over Server-Sent Events, on a separate connection."""

    def __init__(self, client: StreamSource, request: SubscriptionRequest, context: ClientContext) -> None:
        super().__init__(request, context)
        self._client = client
        self._wait: CancelScope | None = None
        self._connecting = asyncio.Lock()
        self._chunks: AsyncGenerator[bytes] | None = None
        self._response = AsyncExitStack()
        self._parser = EventStreamParser(client.config.max_event_bytes)
        self._comments = 0
        self._early_updates: list[StreamUpdate] = []  # received together with `connection_status`
        self._silence_limit: float | None = None
        self._failure: InterruptedStreamError | None = None
        self._closed = False
        self.reconnect: Reconnect = client.make_reconnect(request.execution_id)

    @property
    def state(self) -> ClientState:
        """See `ClientSubscription.state`."""
        return self.reconnect.state

    async def aclose(self) -> None:
        """See `ClientSubscription.aclose`."""
        self._closed = True
        if self._guard.forked:
            return
        if self._wait is not None:
            self._wait.cancel()  # the reader, which waits, closes the connection
            return
        await self._close()
        self._finish()

    def _finish(self) -> None:
        self.reconnect.on_closed()
        self._client.unregister(self)

    async def _wait_for(self, awaitable: Awaitable[T], seconds: float | None = None) -> T:
        """Wait for a result; `aclose` ends the wait.

        Raises:
            TimeoutError: If `seconds` have passed, or the subscription was closed.
        """
        try:
            # `aclose` does not reach a wait whose result is there already: it ends the next one.
            with move_on_after(0 if self._closed else seconds) as self._wait:
                return await awaitable
        finally:
            self._wait = None
        raise TimeoutError

    # ------------------------------------------------------------ connecting
    async def connect(self) -> None:
        """See `ClientSubscription.connect`."""
        self._guard.check()
        async with self._connecting:
            await self._connect_with_retry()

    async def _connect_with_retry(self) -> None:
        self._client.register(self)
        while self._chunks is None and not (self._ended or self._closed):
            self.reconnect.on_connecting()
            try:
                await self._wait_for(self._connect(), self._client.config.connect_timeout)
                await self._handshake()
            except TimeoutError:
                late = TimeoutError("no answer in time")
                await self._wait_to_retry(connection_failure(late, self._client.config.address, self.execution_id))
            except InterruptedStreamError as failure:
                await self._wait_to_retry(failure)
            except BaseException:
                await self._close()
                self.reconnect.on_closed()
                raise
        if self._closed:
            await self._close()
            self._finish()

    async def _connect(self) -> None:
        response, self._response = await self._client.open(self._request, self._tracker.position)
        chunks = await self._response.enter_async_context(aclosing(response.aiter_bytes()))
        if response.status_code == HTTPStatus.NO_CONTENT:
            self._ended = True
            return
        if response.status_code != HTTPStatus.OK:
            raise await read_failure(response, chunks, self._client.config.address, self.execution_id)
        if is_compressed(response) or not response.headers.get("content-type", "").startswith("text/event-stream"):
            address = self._client.config.address
            error = ConnectionLostError(f"the answer of {address} is no event stream: is the url a gateway's?")
            raise InterruptedStreamError(error, retryable=False)
        self._parser = EventStreamParser(self._client.config.max_event_bytes)
        self._comments = 0
        self._failure = None
        self._silence_limit = self._client.config.silence_limit(None) or self._client.config.connect_timeout
        self._chunks = chunks

    async def _handshake(self) -> None:
        """Read until `connection_status` has arrived.

        Raises:
            InterruptedStreamError: If the stream begins with something else, or breaks.
            TimeoutError: If nothing arrives within `connect_timeout`.
        """
        now = asyncio.get_running_loop().time
        deadline = now() + self._client.config.connect_timeout
        while self._chunks is not None and self.reconnect.state != "connected" and not self._ended:
            self._early_updates += await self._read() or ()
            if self.connected:
                return
            if self._early_updates:
                self._early_updates.clear()
                error = ConnectionLostError("the stream does not begin with a gateway's greeting")
                raise InterruptedStreamError(error, retryable=False)
            if now() > deadline:
                raise TimeoutError

    async def _wait_to_retry(self, failure: InterruptedStreamError) -> None:
        """Close the connection, and wait until the next attempt is due.

        Raises:
            StreamingError: If there is no further attempt; the error is that of `failure`.
        """
        await self._close()
        if self._closed:
            return
        delay = self.reconnect.on_failure(failure)
        with contextlib.suppress(TimeoutError):
            await self._wait_for(asyncio.sleep(delay))

    async def _close(self) -> None:
        response, self._response, self._chunks = self._response, AsyncExitStack(), None
        with contextlib.suppress(httpx2.RequestError):  # it was broken already
            await response.aclose()

    # ------------------------------------------------------------ reading
    async def _receive(self) -> list[StreamUpdate] | None:
        while self._early_updates or not (self._ended or self._closed):
            await self.connect()
            if self._early_updates:
                updates, self._early_updates = self._early_updates, []
                return updates
            try:
                if (batch := await self._read()) is not None:
                    return batch
            except InterruptedStreamError as failure:
                await self._wait_to_retry(failure)
        return None

    async def _read(self) -> list[StreamUpdate] | None:
        """Return the updates of the next chunk; None if it holds none.

        Raises:
            InterruptedStreamError: If the stream breaks, is silent too long, or the server ends it.
        """
        if self._chunks is None:
            return None
        if self._failure is not None:
            raise self._failure
        try:
            chunk = await self._wait_for(anext(self._chunks, None), self._silence_limit)
            events = [] if chunk is None else self._parser.feed(chunk)
        except TimeoutError:
            dead = DeadPeerError(f"no sign of life in {self._silence_limit or 0:g} s", execution_id=self.execution_id)
            raise InterruptedStreamError(dead) from None
        except (httpx2.RequestError, httpx2.StreamError, EventTooLargeError) as error:
            raise connection_failure(error, self._client.config.address, self.execution_id) from error
        if chunk is None:
            broken = EOFError("the stream broke off")
            raise connection_failure(broken, self._client.config.address, self.execution_id)
        batch: list[StreamUpdate] = []
        for event in events:
            self._handle(event, batch)
        if batch or self._parser.comments > self._comments:
            self._comments = self._parser.comments
            self.reconnect.on_healthy()
        if self._parser.retry is not None:
            self.reconnect.set_retry_hint(self._parser.retry)
        return batch or None

    def _handle(self, event: StreamEvent, batch: list[StreamUpdate]) -> None:
        try:
            content = orjson.loads(event.data)
            if not _holds_updates(event, content):
                self._handle_control(event, content, batch)
            else:
                contents = cast("list[Any]", content) if isinstance(content, list) else [content]
                batch += self._tracker.accept(self._context.parse(contents, self.execution_id))
        except (ValueError, KeyError, TypeError, AttributeError, BadRequestError) as error:
            self._context.report_unreadable(event.data, error, self.execution_id)

    def _handle_control(self, event: StreamEvent, content: Any, batch: list[StreamUpdate]) -> None:
        match event.name:
            case "connection_status":
                self._on_connected(cast("dict[str, Any]", content))
            case "gap":
                batch.append(self._tracker.gap_from_payload(content))
            case "end":
                if event.id is not None:
                    self._tracker.advance_to(Position.parse(event.id))
                self._ended = True
            case "error":
                self._on_error(error_from_payload(content, execution_id=self.execution_id))
            case "server_restart" | "timeout":
                wait = content["retry_ms"] / 1000
                restart = ServerRestartError(execution_id=self.execution_id, retry_after=wait)
                self._failure = InterruptedStreamError(restart)
            case "initial":
                self._context.listeners.notify(InitialData(execution_id=self.execution_id, data=content))
            case _:
                pass  # of a later version of the protocol

    def _on_connected(self, status: dict[str, Any]) -> None:
        interval, head = status.get("heartbeat_interval_s"), status.get("position")
        self._silence_limit = self._client.config.silence_limit(interval)
        self._on_accepted(None if head is None else Position.parse(head))
        self.reconnect.on_connected(status.get("connection_id"))

    def _on_error(self, failure: InterruptedStreamError) -> None:
        if isinstance(failure.error, LogUnavailableError):
            # The server retries, and the stream stays open.
            self._context.listeners.notify(ClientErrorEvent(execution_id=self.execution_id, error=failure.error))
        else:
            self._failure = failure


def _holds_updates(event: StreamEvent, content: object) -> bool:
    """Return whether an event is an update or a list of them, with or without a name.

    A server may name an update by its type, by its kind, or not name it. A type may be named like an event of the
    protocol, so the content decides. Only `initial`, which an application composes, may look like an update.
    """
    if event.name in _UPDATE_EVENTS:
        return True
    if event.name == "initial" and event.id is None:
        return False
    first = cast("list[object]", content)[:1] if isinstance(content, list) else [content]
    return any(
        isinstance(each, dict) and "type" in each and isinstance(cast("dict[str, object]", each).get("metadata"), dict)
        for each in first
    )
