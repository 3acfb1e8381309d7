"""The client over Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib
import random as _random
from contextlib import AsyncExitStack, aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Unpack, cast

import httpx2
import orjson

from lg_streaming.client.alarm import Alarm
from lg_streaming.client.base import StreamClient, utc_now
from lg_streaming.client.config import ClientOptions
from lg_streaming.client.event_stream import EventStreamParser, EventTooLargeError
from lg_streaming.client.events import ClientErrorEvent, InitialData
from lg_streaming.client.failures import InterruptedStreamError, connection_failure, error_from_payload
from lg_streaming.client.outage import Outage
from lg_streaming.client.reconnect import Reconnect
from lg_streaming.client.rest import execution_path, is_compressed, read_failure
from lg_streaming.client.subscription import ClientSubscription
from lg_streaming.errors import (
    BadRequestError,
    ConnectionLostError,
    DeadPeerError,
    LogUnavailableError,
    ServerRestartError,
)
from lg_streaming.events import Position
from lg_streaming.fork import bury

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime

    from lg_streaming.client.config import ClientConfig
    from lg_streaming.client.event_stream import StreamEvent
    from lg_streaming.client.events import ClientState
    from lg_streaming.client.request import SubscriptionRequest
    from lg_streaming.client.subscription import ClientContext
    from lg_streaming.events import StreamUpdate

__all__ = ["SSEClient"]

_UPDATE_EVENTS: Final = frozenset({"", "updates", "token", "progress", "status", "event"})
_WORST_FIRST: Final[tuple[ClientState, ...]] = ("failed", "reconnecting", "connecting", "disconnected", "connected")


class SSEClient(StreamClient):
    """Reads executions over Server-Sent Events, one HTTP response for each subscription.

    A slow reader lets its response wait in the network; the server cuts it off after some time
    (`limits.send_timeout`), and it goes on where it was when it reads on.

    Args:
        url: Where the gateway is, such as `"http://127.0.0.1:8000"`, with its prefix where it has one.
        options: See `ClientOptions` and `StreamClient`.
    """

    def __init__(
        self,
        url: str,
        *,
        random: Callable[[], float] = _random.random,
        now: Callable[[], datetime] = utc_now,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(url, random=random, now=now, **options)
        self._streams: set[SSESubscription] = set()
        self._closed_connections = 0

    def after_fork(self) -> None:
        """See `StreamClient.after_fork`."""
        bury(self._streams)
        self._streams = set()
        self._outage = Outage()

    @property
    def state(self) -> ClientState:
        """The state of the stream that fares worst; `disconnected` where there is none."""
        states: set[ClientState] = {stream.state for stream in list(self._streams)}  # another thread may ask
        if not states:
            return "disconnected"
        return min(states, key=_WORST_FIRST.index)

    async def respond(self, execution_id: str, prompt_id: str, response: object) -> None:
        """See `StreamClient.respond`."""
        body = {"prompt_id": prompt_id, "response": response}
        await self._rest.request("POST", execution_path(execution_id, "responses"), body=body)

    async def cancel(self, execution_id: str, *, reason: str | None = None) -> bool:
        """See `StreamClient.cancel`."""
        query = {} if reason is None else {"reason": reason}
        answer = await self._rest.request("DELETE", execution_path(execution_id), query=query)
        return answer["cancelled"] is True

    @property
    def _open_subscriptions(self) -> list[ClientSubscription]:
        return list(self._streams)

    @property
    def _connection_count(self) -> int:
        return self._closed_connections + sum(stream.reconnect.connections for stream in self._streams)

    def _make_subscription(self, wanted: SubscriptionRequest) -> ClientSubscription:
        wanted.query(None)  # what a query cannot say is found now
        return SSESubscription(self, wanted, self._context)

    # ------------------------------------------------------------ what a stream needs
    def register(self, stream: SSESubscription) -> None:
        """It has connected, or tries to."""
        self._streams.add(stream)

    def unregister(self, stream: SSESubscription) -> None:
        """It is closed."""
        if stream in self._streams:
            self._streams.discard(stream)
            self._closed_connections += stream.reconnect.connections
            self._context.duplicates += stream.duplicates
            self._context.gaps += stream.gaps

    def make_reconnect(self, execution_id: str) -> Reconnect:
        """A new stream's."""
        return Reconnect(
            lambda: self._config,
            self._tokens,
            tell=self._context.listeners.notify,
            random=self._random,
            execution_id=execution_id,
            outage=self._outage,
        )

    @property
    def config(self) -> ClientConfig:
        """The options as they are now."""
        return self._config

    async def open(
        self, wanted: SubscriptionRequest, position: Position | None
    ) -> tuple[httpx2.Response, AsyncExitStack]:
        """The answer to a stream's request, and what closes it. Raises InterruptedStreamError."""
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Accept-Encoding": "identity"}
        headers |= await self._rest.headers()
        if position is not None:
            headers["Last-Event-ID"] = str(position)
        # A type may be named like an event of the protocol; without names nothing has to be guessed.
        query = {**wanted.query(position), "named": "false"}
        request = (await self._rest.http()).stream(
            "GET",
            self._config.url + execution_path(wanted.execution_id, "stream"),
            params=query,
            headers=headers,
            timeout=httpx2.Timeout(self._config.connect_timeout, read=None),
        )
        async with AsyncExitStack() as closing:
            try:
                answer = await closing.enter_async_context(request)
            except httpx2.RequestError as error:
                raise connection_failure(error, self._config.address, wanted.execution_id) from error
            return answer, closing.pop_all()
        raise AssertionError  # pragma: no cover (an exit stack swallows nothing here)


def _holds_updates(event: StreamEvent, content: object) -> bool:
    """Return whether an event is an update or a list of them, with or without a name.

    A server may name an update by its type, by its kind or not at all. A type is any name, also one of the protocol's
    own events, so the content decides. Only what an application shows first, `initial`, may look like an update.
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


class SSESubscription(ClientSubscription):
    """A subscription over Server-Sent Events."""

    def __init__(self, client: SSEClient, wanted: SubscriptionRequest, hearing: ClientContext) -> None:
        super().__init__(wanted, hearing)
        self._client = client
        self._alarm = Alarm()
        self._connecting = asyncio.Lock()
        self._chunks: AsyncGenerator[bytes] | None = None
        self._closing = AsyncExitStack()
        self._parser = EventStreamParser(client.config.max_event_bytes)
        self._comments = 0
        self._early_updates: list[StreamUpdate] = []  # what came with the greeting
        self._silence_limit: float | None = None
        self._failure: InterruptedStreamError | None = None
        self._closed = False
        self.reconnect: Reconnect = client.make_reconnect(wanted.execution_id)

    @property
    def state(self) -> ClientState:
        """See `ClientSubscription.state`."""
        return self.reconnect.state

    async def aclose(self) -> None:
        """See `ClientSubscription.aclose`."""
        self._closed = True
        if self._guard.forked:
            return
        if self._alarm.waits:
            self._alarm.ring()  # who reads lets go of the connection itself
            return
        await self._close()
        self._finish()

    def _finish(self) -> None:
        self.reconnect.on_closed()
        self._client.unregister(self)

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
                await self._alarm.within(self._client.config.connect_timeout, self._connect())
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
        answer, self._closing = await self._client.open(self._request, self._tracker.position)
        pieces = await self._closing.enter_async_context(aclosing(answer.aiter_bytes()))
        if answer.status_code == HTTPStatus.NO_CONTENT:
            self._ended = True
            return
        if answer.status_code != HTTPStatus.OK:
            raise await read_failure(answer, pieces, self._client.config.address, self.execution_id)
        if is_compressed(answer) or not answer.headers.get("content-type", "").startswith("text/event-stream"):
            address = self._client.config.address
            error = ConnectionLostError(f"the answer of {address} is no event stream: is the url a gateway's?")
            raise InterruptedStreamError(error, retryable=False)
        self._parser = EventStreamParser(self._client.config.max_event_bytes)
        self._comments = 0
        self._failure = None
        self._silence_limit = self._client.config.silence_limit(None) or self._client.config.connect_timeout
        self._chunks = pieces

    async def _handshake(self) -> None:
        """Reads until the server has said where the reader stands; raises InterruptedStreamError, TimeoutError."""
        now = asyncio.get_running_loop().time
        late = now() + self._client.config.connect_timeout
        while self._chunks is not None and self.reconnect.state != "connected" and not self._ended:
            self._early_updates += await self._read() or ()
            if self.connected:
                return
            if self._early_updates:
                self._early_updates.clear()
                error = ConnectionLostError("the stream does not begin with a gateway's greeting")
                raise InterruptedStreamError(error, retryable=False)
            if now() > late:
                raise TimeoutError

    async def _wait_to_retry(self, failure: InterruptedStreamError) -> None:
        """Waits until it is time to try again. Raises the failure's own error where there is no other try."""
        await self._close()
        if self._closed:
            return
        delay = self.reconnect.on_failure(failure)
        with contextlib.suppress(TimeoutError):
            await self._alarm.within(None, asyncio.sleep(delay))

    async def _close(self) -> None:
        closing, self._closing, self._chunks = self._closing, AsyncExitStack(), None
        try:
            await closing.aclose()
        except httpx2.RequestError:
            return  # it was broken already

    # ------------------------------------------------------------ reading
    async def _receive(self) -> list[StreamUpdate] | None:
        while self._early_updates or not (self._ended or self._closed):
            await self.connect()
            if self._early_updates:
                early, self._early_updates = self._early_updates, []
                return early
            try:
                if (batch := await self._read()) is not None:
                    return batch
            except InterruptedStreamError as failure:
                await self._wait_to_retry(failure)
        return None

    async def _read(self) -> list[StreamUpdate] | None:
        """What the next piece holds; None where that is nothing. Raises InterruptedStreamError."""
        if self._chunks is None:
            return None
        if self._failure is not None:
            raise self._failure
        try:
            piece = await self._alarm.within(self._silence_limit, anext(self._chunks, None))
            events = [] if piece is None else self._parser.feed(piece)
        except TimeoutError:
            dead = DeadPeerError(f"no sign of life in {self._silence_limit or 0:g} s", execution_id=self.execution_id)
            raise InterruptedStreamError(dead) from None
        except (httpx2.RequestError, httpx2.StreamError, EventTooLargeError) as error:
            raise connection_failure(error, self._client.config.address, self.execution_id) from error
        if piece is None:
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

    def _on_connected(self, told: dict[str, Any]) -> None:
        interval, head = told.get("heartbeat_interval_s"), told.get("position")
        self._silence_limit = self._client.config.silence_limit(interval)
        self._on_accepted(None if head is None else Position.parse(head))
        self.reconnect.on_connected(told.get("connection_id"))

    def _on_error(self, failure: InterruptedStreamError) -> None:
        if isinstance(failure.error, LogUnavailableError):
            # The server keeps trying, and the stream stays.
            self._context.listeners.notify(ClientErrorEvent(execution_id=self.execution_id, error=failure.error))
        else:
            self._failure = failure
