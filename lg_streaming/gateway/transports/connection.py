"""One connection over Socket.IO or WebSocket: its session, and the tasks that deliver updates to its client."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import (
    BadRequestError,
    ForbiddenError,
    GapError,
    LoginTimeoutError,
    ServerRestartError,
    StreamingError,
    UnauthorizedError,
)
from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.gateway.delivery.pump import SubscriptionPump, WildcardPump
from lg_streaming.gateway.session.handlers import handle
from lg_streaming.gateway.session.session import Session
from lg_streaming.gateway.session.status import connection_status
from lg_streaming.gateway.session.subscriptions import ActiveSubscription, PatternSubscription
from lg_streaming.gateway.session.timers import SessionTimers, TimerEvent
from lg_streaming.hub.carry import carry

if TYPE_CHECKING:
    from lg_streaming.gateway.delivery.frames import FrameCache, Frames
    from lg_streaming.gateway.delivery.ticker import BatchTicker
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.gateway.transports.base import Transport, TransportLimits
    from lg_streaming.gateway.transports.deflate import Framer

__all__ = ["Connection", "ConnectionServices"]

logger: logging.Logger = logging.getLogger(__name__)

_EXPIRY_GRACE: Final = 25.0


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class ConnectionServices:
    """Services that all connections of a gateway share."""

    context: GatewayContext
    ticker: BatchTicker
    frames: FrameCache
    framer: Framer
    limits: TransportLimits
    connections: dict[str, Connection] = field(default_factory=dict[str, "Connection"])
    """The connections that are logged in, by id."""

    def __post_init__(self) -> None:
        self.context.lifecycle.closables.append(self)
        restart_after_fork(self)

    def close_for_restart(self) -> None:
        """See `Closable.close_for_restart`."""
        for connection in list(self.connections.values()):
            connection.close_for_restart()

    def after_fork(self) -> None:
        """Drop the connections of the parent process, which stay open there."""
        bury(self.connections)
        self.connections = {}


class Connection:
    """One connection: its session, and the tasks that deliver updates to its client.

    Args:
        services: Services that all connections share.
        transport: The client's transport.
    """

    __slots__ = ("_buffer", "_context", "_pumps", "_renewed", "_services", "_session", "_timers", "_transport")

    def __init__(self, services: ConnectionServices, transport: Transport) -> None:
        self._services = services
        self._context = services.context
        self._transport = transport
        self._buffer = transport.buffer
        self._session = Session(peer=transport.peer, context=services.context, transport=transport.name)
        self._pumps: dict[ActiveSubscription | PatternSubscription, asyncio.Task[object]] = {}
        self._timers = SessionTimers(self._session, self._on_due, self._heartbeat, expiry_grace=_EXPIRY_GRACE)
        self._renewed: asyncio.Event | None = None  # only while the token has expired: an event takes 700 bytes

    @property
    def session(self) -> Session:
        """State and rules of the connection."""
        return self._session

    # ------------------------------------------------------------ calls of the transport
    async def login(self, auth: object, *, takes_tickets: bool = False) -> None:
        """Admit the client; `auth` is `{"token": …}` or None.

        Raises:
            StreamingError: If the client is refused.
        """
        try:
            await self._session.login(_token_in(auth), takes_tickets=takes_tickets, defer_auth=True)
        except StreamingError as error:
            self._session.instrumentation.refused(error)
            raise

    def opened(self, connection_id: str) -> None:
        """Begin the session of a client that was admitted."""
        self._session.opened(connection_id)
        self._services.connections[connection_id] = self
        self._transport.emit("connection_status", connection_status(self._session))
        if not self._session.authenticated:
            self._timers.set("login", self._services.limits.login_timeout, self._login_too_late)
        self._timers.start()

    async def received(self, event: str, arguments: list[object], answer: Callable[[object], None] | None) -> None:
        """Handle a message; `answer` sends the acknowledgement, if the client asked for one."""
        reply = await handle(self._session, event, arguments)
        if answer is not None:
            answer(reply.answer)
        elif not reply.answer["ok"] and reply.close is None:
            self._transport.emit("error", reply.answer["error"])
        for subscription in (*reply.stop, *reply.forbidden):
            self._stop(subscription)
        for subscription in reply.forbidden:
            self._emit_closed(subscription, "forbidden")
        if reply.start is not None:
            self._start(reply.start)
        if reply.close is not None:
            self._transport.close_with(reply.close)
        elif event == "authenticate" and reply.answer["ok"]:
            self._timers.cancel("login")
            self._go_on()
            self._timers.renew()

    def malformed(self, error: BadRequestError) -> None:
        """Count a malformed message."""
        self._session.instrumentation.refused(error)
        if self._session.count_violation(error):
            self._transport.close_with(error)
        else:
            self._transport.emit("error", error.to_dict())

    def on_reserved_event(self, event: str) -> None:
        """Close a client that used an event name of the protocol itself."""
        self._transport.close_with(BadRequestError(f"{event!r} is a name of the protocol's own and cannot be emitted"))

    async def on_disconnect(self, code: int | None = None) -> None:
        """End the connection after its transport has closed; `code` if the gateway closed it."""
        self._services.connections.pop(self._session.connection_id, None)
        self._session.close(code)
        tasks = list(self._pumps.values())
        self._pumps.clear()
        for task in tasks:
            task.cancel()
        await self._timers.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ calls of the gateway
    def send(self, type: str, data: object) -> None:
        """Send a message to this client alone."""
        self._transport.emit("message", {"type": type, "data": data, "timestamp": self._session.now()})

    def close_for_restart(self) -> None:
        """Send a time to reconnect and close, as the server stops. Never waits."""
        self._transport.emit("server_restart", {"retry_ms": self._context.lifecycle.retry_ms()})
        self._transport.close_with(ServerRestartError(), announced=True)

    def close(self, error: StreamingError) -> None:
        """Send an error and close the connection with its code."""
        self._transport.close_with(error)

    # ------------------------------------------------------------ time
    def _go_on(self) -> None:
        """Deliver again, after a pause because the token had expired."""
        if self._renewed is not None:
            self._renewed.set()
            self._renewed = None

    def _on_due(self, event: TimerEvent) -> None:
        if event.warning is not None:
            self._transport.emit("auth_expiring", {"in_s": event.warning})
        if event.pause and self._renewed is None:
            self._renewed = asyncio.Event()
        if event.renewed:
            self._go_on()
        if event.close is not None:
            self._transport.close_with(event.close)

    async def _heartbeat(self) -> None:
        self._transport.emit("heartbeat", await self._session.heartbeat())

    def _login_too_late(self) -> None:
        self._transport.close_with(LoginTimeoutError())

    # ------------------------------------------------------------ delivery
    async def wait_writable(self) -> bool:
        """See `FrameSink.wait_writable`: nothing is delivered while the token has expired."""
        while self._renewed is not None:
            await self._renewed.wait()
        return False if self._buffer.writable.is_set() else await self._buffer.drain()

    async def write(self, frames: Frames) -> None:
        """See `FrameSink.write`."""
        # No await between the wait for room and the write: otherwise many subscriptions of one connection would each
        # add a piece to a full buffer.
        if self._renewed is not None or not self._buffer.writable.is_set():
            await self.wait_writable()
        self._buffer.put(frames)

    async def send_event(self, event: str, payload: dict[str, object]) -> None:
        """See `FrameSink.send_event`."""
        self._transport.emit(event, payload)

    def limit_buffer(self) -> None:
        """See `FrameSink.limit_buffer`."""
        self._transport.limit_buffer()

    def _start(self, subscription: ActiveSubscription | PatternSubscription) -> None:
        cache, observer = self._services.frames, self._session.instrumentation
        work: Coroutine[Any, Any, object]
        if isinstance(subscription, PatternSubscription):
            encoder = self._transport.encoder(
                batch=subscription.request.batch, by_type=subscription.request.event == "type"
            )
            work = carry(
                subscription.follower,
                WildcardPump(subscription.follower, encoder, self, cache=cache, observer=observer),
            )
        else:
            options = subscription.options
            encoder = self._transport.encoder(batch=options.batch, by_type=subscription.by_type)
            subscription.pump = SubscriptionPump(
                subscription.source, encoder, self, options=options, cache=cache, observer=observer
            )
            work = carry(subscription.source, subscription.pump, pace=self._services.ticker)
        task: asyncio.Task[object] = asyncio.create_task(work, name="lg_streaming.pump")
        self._pumps[subscription] = task
        task.add_done_callback(functools.partial(self._on_pump_end, subscription))

    def _stop(self, subscription: ActiveSubscription | PatternSubscription) -> None:
        task = self._pumps.pop(subscription, None)
        if task is not None:
            task.cancel()

    def _emit_closed(self, subscription: ActiveSubscription, reason: str) -> None:
        self._transport.emit("subscription_closed", {"execution_id": subscription.execution_id, "reason": reason})

    def _on_pump_end(self, subscription: ActiveSubscription | PatternSubscription, task: asyncio.Task[object]) -> None:
        """End the subscription whose updates were all sent, or whose delivery failed."""
        if self._pumps.pop(subscription, None) is None or task.cancelled():
            return  # the client or the gateway has ended it
        error = task.exception()
        if isinstance(subscription, PatternSubscription):
            self._on_wildcard_pump_end(subscription, error)
            return
        reason = "closed"
        match error:
            case None:
                reason = "closed" if subscription.source.closed else "ended"
            case ForbiddenError():
                reason = "forbidden"
            case StreamingError():
                if isinstance(error, GapError):
                    reason = "gap"
                else:
                    self._session.instrumentation.failed(error)
                self._transport.emit("error", {**error.to_dict(), "execution_id": subscription.execution_id})
            case _:
                logger.error("delivery of execution %r failed", subscription.execution_id, exc_info=error)
        self._session.remove_subscription(subscription, reason)
        self._emit_closed(subscription, reason)

    def _on_wildcard_pump_end(self, subscription: PatternSubscription, error: BaseException | None) -> None:
        if error is None:
            return
        if isinstance(error, StreamingError):
            self._session.instrumentation.failed(error)
        else:
            logger.error("delivery of executions %r failed", subscription.follower.globs, exc_info=error)
            error = StreamingError("subscribe_events has failed: subscribe again")
        self._session.remove_subscription(subscription)
        self._transport.emit("error", error.to_dict())


def _token_in(auth: object) -> str | None:
    if auth is None:
        return None
    if not isinstance(auth, dict):
        raise BadRequestError("the handshake's auth is an object: {'token': …}")
    token: object = auth.get("token")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if token is not None and not isinstance(token, str):
        raise UnauthorizedError("the token is a string")
    return token or None
