"""One connection over a transport of messages: its session, and the tasks that carry updates to its client."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import (
    BadRequestError,
    ForbiddenError,
    GapError,
    LoginTimeoutError,
    LogUnavailableError,
    ServerRestartError,
    StreamingError,
    UnauthorizedError,
)
from lg_streaming.gateway.delivery.pump import SubscriptionPump, pump_all
from lg_streaming.gateway.session.session import Session
from lg_streaming.gateway.session.subscriptions import ActiveSubscription, PatternSubscription
from lg_streaming.gateway.transports.base import TransportLimits
from lg_streaming.gateway.transports.inbound import InboundLimits
from lg_streaming.gateway.transports.send_buffer import BufferLimits
from lg_streaming.gateway.transports.timers import Timers

if TYPE_CHECKING:
    from lg_streaming.gateway.delivery.frames import Frames
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.gateway.transports.base import Transport

__all__ = ["Connection", "guard_of"]

logger: logging.Logger = logging.getLogger(__name__)

_EXPIRY_GRACE: Final = 25.0
_SPARE_TRANSPORTS: Final = 100
_SPARE_PER_ADDRESS: Final = 20
"""Beyond `limits.connections` and `connections_per_address`: so many may be there to hear that there are too many."""


def guard_of(edge: GatewayContext) -> TransportLimits:
    """The limits of a transport."""
    gateway, limits = edge.settings.gateway, edge.settings.limits
    return TransportLimits(
        bounds=BufferLimits(
            backlog_bytes=limits.backlog_bytes, backlog_frames=limits.backlog_frames, send_timeout=limits.send_timeout
        ),
        inbound=InboundLimits.of(limits),
        inbound_bytes=limits.inbound_bytes,
        login_timeout=limits.login_timeout,
        ping_interval=gateway.ping_interval,
        ping_timeout=gateway.ping_timeout,
        framings=edge.framings,
        max_transports=_with_spare(limits.connections, _SPARE_TRANSPORTS),
        max_per_address=_with_spare(limits.connections_per_address, _SPARE_PER_ADDRESS),
    )


def _with_spare(limit: int | None, spare: int) -> int | None:
    return None if limit is None else limit + spare


class Connection:
    """What a transport tells, one call at a time, and what becomes of it.

    Args:
        edge: What all transports share.
        transport: The way to the client.
    """

    def __init__(self, edge: GatewayContext, transport: Transport) -> None:
        self._edge = edge
        self._transport = transport
        self._session = Session(peer=transport.peer, edge=edge, transport=transport.name, expiry_grace=_EXPIRY_GRACE)
        self._pumps: dict[ActiveSubscription | PatternSubscription, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers = Timers()
        self._renewed: asyncio.Event | None = None  # only while the token has expired: an event takes 700 bytes

    @property
    def session(self) -> Session:
        """Its rules."""
        return self._session

    # ------------------------------------------------------------ what the transport tells
    async def login(self, auth: object, *, takes_tickets: bool = False) -> None:
        """The client asked to be let in; `auth` is `{"token": …}` or nothing. Raises StreamingError to refuse."""
        try:
            await self._session.login(_token_in(auth), takes_tickets=takes_tickets, may_wait=True)
        except StreamingError as error:
            self._session.report.refused(error)
            raise

    def opened(self, connection_id: str) -> None:
        """The client was let in and knows it."""
        self._session.opened(connection_id)
        self._edge.connections[connection_id] = self
        self._transport.emit("connection_status", self._session.greeting())
        if not self._session.authenticated:
            self._timers.set("login", self._edge.settings.limits.login_timeout, self._login_too_late)
        self._schedule()

    async def received(self, event: str, arguments: list[object], answer: Callable[[object], None] | None) -> None:
        """A message came; `answer` sends the acknowledgement where one was asked for."""
        reply = await self._session.handle(event, arguments)
        if answer is not None:
            answer(reply.answer)
        elif not reply.answer["ok"] and reply.close is None:
            self._transport.emit("error", reply.answer["error"])
        for watch in (*reply.stop, *reply.forbidden):
            self._stop(watch)
        for watch in reply.forbidden:
            self._say_closed(watch, "forbidden")
        if reply.start is not None:
            self._start(reply.start)
        if reply.close is not None:
            self._transport.close_with(reply.close)
        elif event == "authenticate" and reply.answer["ok"]:
            self._timers.cancel("login")
            if self._renewed is not None:
                self._renewed.set()
                self._renewed = None
            self._schedule()

    def malformed(self, error: BadRequestError) -> None:
        """Something came that is no message."""
        self._session.report.refused(error)
        if self._session.count_violation(error):
            self._transport.close_with(error)
        else:
            self._transport.emit("error", error.to_dict())

    def reserved(self, event: str) -> None:
        """A message came under a name that is the protocol's own."""
        self._transport.close_with(BadRequestError(f"{event!r} is a name of the protocol's own and cannot be emitted"))

    async def gone(self, code: int | None = None) -> None:
        """The transport is closed, with `code` where it was from this side; nothing more will be called."""
        self._edge.connections.pop(self._session.connection_id, None)
        self._session.end(code)
        self._timers.cancel_all()
        tasks = [*self._pumps.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------ what the server wants of it
    def send(self, type: str, data: object) -> None:
        """Something for this client alone."""
        self._transport.emit("message", {"type": type, "data": data, "timestamp": self._session.now()})

    def send_away(self) -> None:
        """The server is going to stop."""
        self._transport.emit("server_restart", {"retry_ms": self._edge.retry_ms()})
        self._transport.close_with(ServerRestartError(), told=True)

    def close(self, error: StreamingError) -> None:
        """Ends the connection and says why."""
        self._transport.close_with(error)

    # ------------------------------------------------------------ time
    def _schedule(self) -> None:
        due = self._session.next_due()
        if math.isfinite(due):
            self._timers.set("due", due, self._advance)

    def _advance(self) -> None:
        due = self._session.advance()
        if due.warning is not None:
            self._transport.emit("auth_expiring", {"in_s": due.warning})
        if due.pause and self._renewed is None:
            self._renewed = asyncio.Event()
        if due.close is not None:
            self._transport.close_with(due.close)
            return
        if due.heartbeat:
            self._spawn(self._beat())
        self._schedule()

    async def _beat(self) -> None:
        try:
            await self._session.check_welcome()
            self._transport.emit("heartbeat", await self._session.heartbeat())
        except UnauthorizedError as error:
            self._transport.close_with(error)
        except LogUnavailableError as error:
            logger.debug("no heartbeat: %s", error)

    def _login_too_late(self) -> None:
        self._transport.close_with(LoginTimeoutError())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ delivery
    async def wait_writable(self) -> bool:
        """See `FrameSink.wait_writable`: nothing is delivered while the token has expired."""
        while self._renewed is not None:
            await self._renewed.wait()
        return await self._transport.drain()

    async def write(self, frames: Frames) -> None:
        """See `FrameSink.write`."""
        # First room, then the next piece, with nothing between: otherwise many subscriptions of one connection would
        # each add a piece to a buffer that is full.
        await self.wait_writable()
        self._transport.put(frames)

    async def send_event(self, event: str, payload: dict[str, object]) -> None:
        """See `FrameSink.send_event`."""
        self._transport.emit(event, payload)

    def limit_buffer(self) -> None:
        """See `FrameSink.limit_buffer`."""
        self._transport.limit_buffer()

    def _start(self, watch: ActiveSubscription | PatternSubscription) -> None:
        work = self._follow(watch) if isinstance(watch, PatternSubscription) else self._deliver(watch)
        task = asyncio.create_task(work, name="lg_streaming.pump")
        self._pumps[watch] = task
        task.add_done_callback(lambda _: self._pumps.pop(watch, None))

    def _stop(self, watch: ActiveSubscription | PatternSubscription) -> None:
        task = self._pumps.pop(watch, None)
        if task is not None:
            task.cancel()

    def _say_closed(self, watch: ActiveSubscription, reason: str) -> None:
        self._transport.emit("subscription_closed", {"execution_id": watch.execution_id, "reason": reason})

    async def _deliver(self, watch: ActiveSubscription) -> None:
        reason = "closed"
        encode = self._transport.encoder(batch=watch.options.batch, by_type=watch.by_type)
        try:
            watch.pump = SubscriptionPump(
                watch.subscription,
                encode,
                self,
                options=watch.options,
                cache=self._edge.chunks,
                ticker=self._edge.pacer,
                observer=self._session.report,
            )
            reason = (await watch.pump.run()).reason
        except GapError as error:
            reason = "gap"
            self._transport.emit("error", {**error.to_dict(), "execution_id": watch.execution_id})
        except ForbiddenError:
            reason = "forbidden"
        except StreamingError as error:
            self._session.report.failed(error)
            self._transport.emit("error", {**error.to_dict(), "execution_id": watch.execution_id})
        except Exception:
            logger.exception("delivery of execution %r failed", watch.execution_id)
        self._session.drop(watch, reason)
        self._say_closed(watch, reason)

    async def _follow(self, watch: PatternSubscription) -> None:
        encode = self._transport.encoder(batch=watch.wanted.batch, by_type=watch.wanted.event == "type")
        try:
            await pump_all(watch.follower, encode, self, cache=self._edge.chunks, observer=self._session.report)
        except StreamingError as error:
            self._session.report.failed(error)
            self._session.drop(watch)
            self._transport.emit("error", error.to_dict())
        except Exception:
            logger.exception("delivery of executions %r failed", watch.follower.globs)
            self._session.drop(watch)
            self._transport.emit("error", StreamingError("subscribe_events has failed: subscribe again").to_dict())


def _token_in(auth: object) -> str | None:
    if auth is None:
        return None
    if not isinstance(auth, dict):
        raise BadRequestError("the handshake's auth is an object: {'token': …}")
    token: object = auth.get("token")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if token is not None and not isinstance(token, str):
        raise UnauthorizedError("the token is a string")
    return token or None
