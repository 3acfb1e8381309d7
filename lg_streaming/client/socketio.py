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
from lg_streaming.client.rest import fetch_token, to_json
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
"""Turns of the event loop in which a subscription may close after its loop; Python finalizes generators late."""
_UPDATE_EVENTS: Final = frozenset({"token", "progress", "status", "event"})


class SocketIOClient(StreamClient):
    """A client over Socket.IO, with one connection for all subscriptions.

    When `backlog` updates wait for a slow reader, the client unsubscribes, and resumes from there once the reader has
    caught up. Other subscriptions are not affected. A client subscribes to an execution once at a time.

    Args:
        url: Address of the gateway, such as `"http://127.0.0.1:8000"`, with its prefix where it has one.
        namespace: The gateway's `gateway.namespace`.
        backlog: Updates that may wait for the reader of one subscription. One further message may exceed it.
        random: Returns numbers from 0 (included) to 1 (excluded), for the pauses between attempts.
        now: Returns the time, in UTC.
        options: See `ClientOptions`.

    Raises:
        ValueError: If the url or an option is not valid.
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
            notify=self._context.listeners.notify,
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
        """State of the connection."""
        return self._reconnect.state

    async def connect(self) -> None:
        """Connect, and return once the server has accepted the connection. Idempotent.

        Without this call the first subscription connects.

        Raises:
            StreamingError: If the server refuses the connection for good, or the attempts are used up.
        """
        await self.connection()

    async def respond(self, execution_id: str, prompt_id: str, response: object) -> None:
        """See `StreamClient.respond`."""
        await self._call("respond", {"execution_id": execution_id, "prompt_id": prompt_id, "response": response})

    async def cancel(self, execution_id: str, *, reason: str | None = None) -> bool:
        """See `StreamClient.cancel`."""
        payload = {"execution_id": execution_id, **({} if reason is None else {"reason": reason})}
        return (await self._call("cancel_execution", payload))["cancelled"] is True

    async def _command(self, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        to_json(payload)  # refuses what JSON cannot hold
        return await self._call(name, payload)

    async def _call(self, name: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        connection = await self.connection()
        try:
            return await connection.call(name, payload)
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

    def _make_subscription(self, request: SubscriptionRequest) -> ClientSubscription:
        return SocketIOSubscription(self, request, self._context)

    # ------------------------------------------------------------ the connection
    async def connection(self) -> SocketIOConnection:
        """Return the open connection, after connecting.

        Raises:
            StreamingError: If the client cannot connect, or was closed.
        """
        if self._runner is None or self._runner.done():
            self._ready = asyncio.get_running_loop().create_future()
            self._runner = asyncio.create_task(self._keep_connected(), name="lg_streaming.client")
        while self._ready is not None:
            connection = await asyncio.shield(self._ready)
            if not connection.lost:
                return connection
            await asyncio.sleep(0)  # until the runner has noticed the loss, too
        raise ConnectionLostError("the client was closed")

    async def _keep_connected(self) -> None:
        """Replace the connection until it fails for good."""
        while True:
            self._reconnect.on_connecting()
            connection = SocketIOConnection(
                self._config,
                namespace=self._namespace,
                on_message=self._on_message,
                on_unreadable=lambda content, error: self._context.report_unreadable(content, error, None),
            )
            try:
                failure = await self._run_connection(connection)
            except InterruptedStreamError as refused:
                failure = refused
            except Exception as error:
                logger.exception("the connection to %s broke", self._config.address)
                failure = InterruptedStreamError(
                    ConnectionLostError(f"the connection broke: {error!r}"), retryable=False
                )
            finally:
                self._detach(connection)
                await connection.aclose()
            try:
                delay = self._reconnect.on_failure(failure)
            except StreamingError as error:
                self._fail_waiters(error)
                return
            await asyncio.sleep(delay)

    async def _run_connection(self, connection: SocketIOConnection) -> InterruptedStreamError:
        """Connect, wait for the end of the connection, and return its failure.

        Raises:
            InterruptedStreamError: If the attempt fails.
        """
        status = await connection.open(await fetch_token(self._tokens, self._config.connect_timeout))
        self._reconnect.on_connected(status.get("connection_id"))
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(connection)
        limit = self._config.silence_limit(status.get("heartbeat_interval_s"))
        now = asyncio.get_running_loop().time
        while True:
            remaining = None if limit is None else connection.last_received_at + limit - now()
            if remaining is not None and remaining <= 0:
                connection.mark_lost(DeadPeerError(f"no sign of life in {limit:g} s"))
            failure = await connection.wait_lost(remaining)
            if failure is not None:
                return failure

    def _detach(self, connection: SocketIOConnection) -> None:
        if self._ready is not None and self._ready.done():
            self._ready = asyncio.get_running_loop().create_future()
        for subscription in list(self._subscriptions.values()):
            subscription.on_disconnect(connection)

    def _fail_waiters(self, error: StreamingError) -> None:
        """Raise `error` in everything that waits for the connection."""
        for subscription in list(self._subscriptions.values()):
            subscription.on_connection_failed(error)
        ready = self._ready
        if ready is not None and not ready.done():
            ready.set_exception(error)
            ready.exception()  # marks the error as retrieved: possibly nothing waits

    # ------------------------------------------------------------ messages of the server
    def _on_message(self, connection: SocketIOConnection, name: str, payload: Any) -> None:
        try:
            self._handle(connection, name, payload)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._context.report_unreadable({name: payload}, error, None)

    def _handle(self, connection: SocketIOConnection, name: str, payload: Any) -> None:
        if name in _UPDATE_EVENTS:
            self._reconnect.on_healthy()
            self._route(payload["metadata"]["execution_id"], lambda each: each.on_updates(connection, [payload]))
        elif name == "updates":
            self._reconnect.on_healthy()
            self._route(payload["execution_id"], lambda each: each.on_updates(connection, payload["updates"]))
        elif name == "heartbeat":
            self._reconnect.on_healthy()
        elif name == "gap":
            self._route(payload["execution_id"], lambda each: each.on_gap(connection, payload))
        elif name == "subscription_closed":
            self._route(payload["execution_id"], lambda each: each.on_closed(connection, payload["reason"]))
        elif name == "auth_expiring":
            self._start_token_refresh(connection)
        elif name == "server_restart":
            restart = ServerRestartError(retry_after=payload["retry_ms"] / 1000)
            connection.cause = InterruptedStreamError(restart)
        elif name == "message":
            self._context.listeners.notify(Message(type=payload["type"], data=payload["data"]))
        elif name == "error":
            self._on_error(connection, error_from_payload(payload))

    def _route(self, execution_id: str, handle: Callable[[SocketIOSubscription], None]) -> None:
        subscription = self._subscriptions.get(execution_id)
        if subscription is not None:
            handle(subscription)

    def _on_error(self, connection: SocketIOConnection, failure: InterruptedStreamError) -> None:
        error = failure.error
        if error.execution_id is not None:
            self._route(error.execution_id, lambda each: each.on_warning(failure))
        elif error.closes == "yes":
            connection.cause = failure
            return  # reported when the connection ends
        self._context.listeners.notify(ClientErrorEvent(execution_id=error.execution_id, error=error))

    async def _refresh_token(self, connection: SocketIOConnection) -> None:
        """Send a fresh token before the present one expires. After a failure, the server closes the connection."""
        try:
            token = await fetch_token(self._tokens, self._config.connect_timeout)
            if token is not None:
                await connection.call("authenticate", {"token": token})
        except InterruptedStreamError as failure:
            self._context.listeners.notify(ClientErrorEvent(error=failure.error))

    def _start_token_refresh(self, connection: SocketIOConnection) -> None:
        if self._tasks:
            return  # a refresh is under way
        task = asyncio.create_task(self._refresh_token(connection), name="lg_streaming.client.refresh")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ used by subscriptions
    async def register(self, subscription: SocketIOSubscription) -> None:
        """Route messages of an execution to its subscription.

        Raises:
            BadRequestError: If another subscription reads the same execution.
        """
        for _ in range(_RELEASE_TURNS):
            if self._subscriptions.setdefault(subscription.execution_id, subscription) is subscription:
                return
            await asyncio.sleep(0)
        raise BadRequestError(
            "this client watches the execution already: close that subscription, or use another client",
            execution_id=subscription.execution_id,
        )

    def unregister(self, subscription: SocketIOSubscription) -> None:
        """Remove a closed subscription, and keep its counters."""
        if self._subscriptions.get(subscription.execution_id) is subscription:
            del self._subscriptions[subscription.execution_id]
            self._context.duplicates += subscription.duplicates
            self._context.gaps += subscription.gaps

    def retry_delay(self, attempt: int, error: StreamingError) -> float:
        """Return the seconds until a refused subscription is attempted again.

        Raises:
            StreamingError: If there is no further attempt; the error is `error`.
        """
        limit = self._config.max_reconnect_attempts
        if not self._config.auto_reconnect or (limit and attempt >= limit):
            raise error
        return retry_delay(self._config, attempt, self._random, error.retry_after)
