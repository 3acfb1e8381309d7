"""The client over Socket.IO."""

from __future__ import annotations

import asyncio
import logging
import random as _random
from typing import TYPE_CHECKING, Any, Final, Unpack

from lg_streaming.client.base import StreamClient, utc_now
from lg_streaming.client.config import ClientOptions
from lg_streaming.client.events import ClientErrorEvent, Message
from lg_streaming.client.failures import InterruptedStreamError, error_from_payload
from lg_streaming.client.outage import Outage
from lg_streaming.client.reconnect import Reconnect, retry_delay
from lg_streaming.client.rest import fetch_token
from lg_streaming.client.socketio_connection import SocketIOConnection
from lg_streaming.client.socketio_subscription import SocketIOSubscription
from lg_streaming.client.subscription import ClientSubscription
from lg_streaming.errors import (
    BadRequestError,
    ConnectionLostError,
    DeadPeerError,
    ServerRestartError,
    StreamingError,
)
from lg_streaming.fork import bury

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from lg_streaming.client.events import ClientState
    from lg_streaming.client.request import SubscriptionRequest

__all__ = ["SocketIOClient"]

logger: logging.Logger = logging.getLogger(__name__)

_RELEASE_TURNS: Final = 10
"""Turns of the event loop in which a subscription whose loop was just left lets go; Python ends generators late."""
_UPDATE_EVENTS: Final = frozenset({"token", "progress", "status", "event"})


class SocketIOClient(StreamClient):
    """Reads executions over Socket.IO, all of them over one connection.

    A subscription whose reader is slow is left when `backlog` updates wait for it, and taken up again from there
    when they are read; the others go on meanwhile. An execution can be watched once at a time by one client.

    Args:
        url: Where the gateway is, such as `"http://127.0.0.1:8000"`, with its prefix where it has one.
        namespace: The gateway's `gateway.namespace`.
        backlog: Updates that may wait for the reader of one subscription; one more message of them may come.
        random: Gives numbers from 0 (included) to 1 (excluded), for the pauses between tries.
        now: Gives the time, in UTC.
        options: See `ClientOptions`.

    Raises:
        ValueError: The url or an option cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "/",
        backlog: int = 1_000,
        random: Callable[[], float] = _random.random,
        now: Callable[[], datetime] = utc_now,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(url, random=random, now=now, **options)
        if backlog < 1:
            raise ValueError(f"backlog is a whole number from 1 on, not {backlog!r}")
        self.backlog = backlog
        self._namespace = namespace
        self._subscriptions: dict[str, SocketIOSubscription] = {}
        self._reconnect = self._make_reconnect()
        self._runner: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[SocketIOConnection] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def _make_reconnect(self) -> Reconnect:
        return Reconnect(
            lambda: self._config,
            self._tokens,
            tell=self._context.listeners.notify,
            random=self._random,
            outage=self._outage,
        )

    def after_fork(self) -> None:
        """See `StreamClient.after_fork`."""
        bury(self._subscriptions, self._runner, self._ready, self._tasks)
        self._subscriptions, self._runner, self._ready, self._tasks = {}, None, None, set()
        self._outage = Outage()
        self._reconnect = self._make_reconnect()

    @property
    def state(self) -> ClientState:
        """The connection's state."""
        return self._reconnect.state

    async def connect(self) -> None:
        """Returns once there is a connection; subscribing does it when it was not done before. Harmless when repeated.

        Raises:
            StreamingError: It was refused for good, or there were as many tries as may be.
        """
        await self.connection()

    async def respond(self, execution_id: str, prompt_id: str, response: object) -> None:
        """See `StreamClient.respond`."""
        await self._call("respond", {"execution_id": execution_id, "prompt_id": prompt_id, "response": response})

    async def cancel(self, execution_id: str, *, reason: str | None = None) -> bool:
        """See `StreamClient.cancel`."""
        payload = {"execution_id": execution_id, **({} if reason is None else {"reason": reason})}
        return (await self._call("cancel_execution", payload))["cancelled"] is True

    async def _call(self, name: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        line = await self.connection()
        try:
            return await line.call(name, payload)
        except InterruptedStreamError as failure:
            raise failure.error from None

    async def aclose(self) -> None:
        """See `StreamClient.aclose`."""
        await super().aclose()
        runner, self._runner = self._runner, None
        tasks = [*self._tasks, *([runner] if runner is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._reconnect.on_closed()
        self._fail_waiters(ConnectionLostError("the client was closed"))
        self._ready = None

    @property
    def _open_subscriptions(self) -> list[ClientSubscription]:
        return list(self._subscriptions.values())

    @property
    def _connection_count(self) -> int:
        return self._reconnect.connections

    def _make_subscription(self, wanted: SubscriptionRequest) -> ClientSubscription:
        return SocketIOSubscription(self, wanted, self._context)

    # ------------------------------------------------------------ the connection
    async def connection(self) -> SocketIOConnection:
        """The connection, once it stands. Raises StreamingError when there will be none."""
        if self._runner is None or self._runner.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._runner = asyncio.create_task(self._keep_connected(), name="lg_streaming.client")
        while self._ready is not None:
            line = await asyncio.shield(self._ready)
            if not line.lost:
                return line
            await asyncio.sleep(0)  # its end is known here before it is there
        raise ConnectionLostError("the client was closed")

    async def _keep_connected(self) -> None:
        """Holds a connection until there is no point in it."""
        while True:
            self._reconnect.on_connecting()
            line = SocketIOConnection(
                self._config,
                namespace=self._namespace,
                received=self._on_message,
                unreadable=lambda content, error: self._context.report_unreadable(content, error, None),
            )
            try:
                failure = await self._acquire(line)
            except InterruptedStreamError as refused:
                failure = refused
            except Exception as error:
                logger.exception("the connection to %s broke", self._config.address)
                failure = InterruptedStreamError(
                    ConnectionLostError(f"the connection broke: {error!r}"), retryable=False
                )
            finally:
                self._release(line)
                await line.aclose()
            try:
                delay = self._reconnect.on_failure(failure)
            except StreamingError as error:
                self._fail_waiters(error)
                return
            await asyncio.sleep(delay)

    async def _acquire(self, line: SocketIOConnection) -> InterruptedStreamError:
        """Why the connection is over. Raises InterruptedStreamError where it never was."""
        greeting = await line.open(await fetch_token(self._tokens, self._config.connect_timeout))
        self._reconnect.on_connected(greeting.get("connection_id"))
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(line)
        patience = self._config.silence_limit(greeting.get("heartbeat_interval_s"))
        now = asyncio.get_running_loop().time
        while True:
            left = None if patience is None else line.last_received_at + patience - now()
            if left is not None and left <= 0:
                line.mark_lost(DeadPeerError(f"no sign of life in {patience:g} s"))
            failure = await line.wait_lost(left)
            if failure is not None:
                return failure

    def _release(self, line: SocketIOConnection) -> None:
        if self._ready is not None and self._ready.done():
            self._ready = asyncio.get_running_loop().create_future()
        for feed in list(self._subscriptions.values()):
            feed.on_disconnect(line)

    def _fail_waiters(self, error: StreamingError) -> None:
        """Whoever waits for the connection is told that there will be none."""
        for feed in list(self._subscriptions.values()):
            feed.on_connection_failed(error)
        ready = self._ready
        if ready is not None and not ready.done():
            ready.set_exception(error)
            ready.exception()  # it may be that nobody waits

    # ------------------------------------------------------------ what comes
    def _on_message(self, line: SocketIOConnection, name: str, payload: Any) -> None:
        try:
            self._handle(line, name, payload)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._context.report_unreadable({name: payload}, error, None)

    def _handle(self, line: SocketIOConnection, name: str, payload: Any) -> None:
        if name in _UPDATE_EVENTS:
            self._reconnect.on_healthy()
            self._route(payload["metadata"]["execution_id"], lambda feed: feed.on_updates(line, [payload]))
        elif name == "updates":
            self._reconnect.on_healthy()
            self._route(payload["execution_id"], lambda feed: feed.on_updates(line, payload["updates"]))
        elif name == "heartbeat":
            self._reconnect.on_healthy()
        elif name == "gap":
            self._route(payload["execution_id"], lambda feed: feed.on_gap(line, payload))
        elif name == "subscription_closed":
            self._route(payload["execution_id"], lambda feed: feed.on_closed(line, payload["reason"]))
        elif name == "auth_expiring":
            self._start_token_refresh(line)
        elif name == "server_restart":
            restart = ServerRestartError(retry_after=payload["retry_ms"] / 1000)
            line.cause = InterruptedStreamError(restart)
        elif name == "message":
            self._context.listeners.notify(Message(type=payload["type"], data=payload["data"]))
        elif name == "error":
            self._on_error(line, error_from_payload(payload))

    def _route(self, execution_id: str, tell: Callable[[SocketIOSubscription], None]) -> None:
        feed = self._subscriptions.get(execution_id)
        if feed is not None:
            tell(feed)

    def _on_error(self, line: SocketIOConnection, failure: InterruptedStreamError) -> None:
        error = failure.error
        if error.execution_id is not None:
            self._route(error.execution_id, lambda feed: feed.on_warning(failure))
        elif error.closes == "yes":
            line.cause = failure
            return  # it is told when the connection ends
        self._context.listeners.notify(ClientErrorEvent(execution_id=error.execution_id, error=error))

    async def _refresh_token(self, line: SocketIOConnection) -> None:
        """Has the token replaced before it expires; where that fails, the server ends the connection later."""
        try:
            token = await fetch_token(self._tokens, self._config.connect_timeout)
            if token is not None:
                await line.call("authenticate", {"token": token})
        except InterruptedStreamError as failure:
            self._context.listeners.notify(ClientErrorEvent(error=failure.error))

    def _start_token_refresh(self, line: SocketIOConnection) -> None:
        if self._tasks:
            return  # that one will do
        task = asyncio.create_task(self._refresh_token(line), name="lg_streaming.client.refresh")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ what a subscription needs
    async def register(self, feed: SocketIOSubscription) -> None:
        """It wants what comes for its execution. Raises BadRequestError while another does."""
        for _ in range(_RELEASE_TURNS):
            if self._subscriptions.setdefault(feed.execution_id, feed) is feed:
                return
            await asyncio.sleep(0)
        raise BadRequestError(
            "this client watches the execution already: close that subscription, or use another client",
            execution_id=feed.execution_id,
        )

    def unregister(self, feed: SocketIOSubscription) -> None:
        """It wants no more."""
        if self._subscriptions.get(feed.execution_id) is feed:
            del self._subscriptions[feed.execution_id]
            self._context.duplicates += feed.duplicates
            self._context.gaps += feed.gaps

    def retry_delay(self, attempt: int, error: StreamingError) -> float:
        """Seconds until a subscription that was refused is tried again. Raises the error where it is not."""
        limit = self._config.max_reconnect_attempts
        if not self._config.auto_reconnect or (limit and attempt >= limit):
            raise error
        return retry_delay(self._config, attempt, self._random, error.retry_after)
