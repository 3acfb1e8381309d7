"""The Socket.IO transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import (
    BadRequestError,
    GapError,
    LogUnavailableError,
    ServerRestartError,
    StreamingError,
    TokenExpiredError,
)
from lg_streaming.gateway._engineio import GuardedServer
from lg_streaming.gateway.outlet import Bounds
from lg_streaming.gateway.packets import EncodeBatch, EncodeEach
from lg_streaming.gateway.session import Session, Watch
from lg_streaming.gateway.timers import Timers
from lg_streaming.gateway.transport import Guard

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from lg_streaming.gateway.edge import Edge
    from lg_streaming.gateway.frames import Encode
    from lg_streaming.gateway.peer import Peer
    from lg_streaming.gateway.transport import Connection, Transport
    from lg_streaming.hub import Page, Subscription

__all__ = ["SocketIO"]

logger = logging.getLogger(__name__)

_SHUTDOWN_TIMEOUT: Final = 1.5
_RETRY_DELAYS: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
_EXPIRY_WARNING: Final = 30.0
_EXPIRY_GRACE: Final = 25.0
_SPARE_TRANSPORTS: Final = 100
"""Beyond ``limits.connections``: so many may be there only to hear that there are too many."""


class SocketIO:
    """The Socket.IO server of a gateway; an ASGI application.

    Args:
        edge: What all transports share.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._clients: set[_Client] = set()
        gateway, limits = edge.settings.gateway, edge.settings.limits
        self._server = GuardedServer(
            namespace=gateway.namespace,
            guard=Guard(
                bounds=Bounds(
                    backlog_bytes=limits.backlog_bytes,
                    backlog_frames=limits.backlog_frames,
                    send_timeout=limits.send_timeout,
                ),
                inbound_bytes=limits.inbound_bytes,
                login_timeout=limits.login_timeout,
                ping_interval=gateway.ping_interval,
                ping_timeout=gateway.ping_timeout,
                max_transports=None if limits.connections is None else limits.connections + _SPARE_TRANSPORTS,
                framings=edge.framings,
            ),
            connect=self._connect,
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serves one connection."""
        await self._server.handle_request(scope, receive, send)

    def _connect(self, transport: Transport, peer: Peer) -> Connection:
        return _Client(self, transport, peer)

    @property
    def edge(self) -> Edge:
        """What all transports share."""
        return self._edge

    @property
    def clients(self) -> set[_Client]:
        """The clients that are logged in."""
        return self._clients

    def encode(self, watch: Watch, transport: Transport) -> Encode:
        """How the updates of ``watch`` are wrapped for ``transport``."""
        encode = EncodeBatch if watch.batch else EncodeEach
        return encode(self._server.packets, transport.frame)

    async def shutdown(self) -> None:
        """Tells every client to come back later, and closes all transports, within 1.5 seconds."""
        for client in list(self._clients):
            client.send_away()
        for transport in self._server.transports:
            transport.close_with()
        try:
            async with asyncio.timeout(_SHUTDOWN_TIMEOUT):
                await self._server.wait_closed()
        except TimeoutError:
            logger.warning("%d transports did not close in time", len(self._server.transports))


class _Client:
    """One connection: its session, its transport, and the tasks that carry updates from one to the other."""

    def __init__(self, owner: SocketIO, transport: Transport, peer: Peer) -> None:
        edge = owner.edge
        self._owner = owner
        self._edge = edge
        self._transport = transport
        self._session = Session(
            peer=peer,
            hub=edge.hub,
            policy=edge.policy,
            limits=edge.settings.limits,
            census=edge.census,
            wall=edge.wall,
            monotonic=edge.monotonic,
        )
        self._pumps: dict[Watch, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers = Timers()
        self._delivers = asyncio.Event()
        self._delivers.set()

    # ------------------------------------------------------------ what the transport tells
    async def login(self, auth: object) -> None:
        self._edge.check_open()
        self._session.login(auth)

    def opened(self, connection_id: str) -> None:
        interval = self._edge.settings.gateway.heartbeat_interval
        self._session.connection_id = connection_id
        self._owner.clients.add(self)
        self._transport.emit("connection_status", self._session.greeting(interval))
        self._timers.set("heartbeat", interval, self._beat)
        self._watch_expiry()

    async def received(self, event: str, arguments: list[object], answer: Callable[[object], None] | None) -> None:
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
            self._watch_expiry()

    def malformed(self, error: BadRequestError) -> None:
        if self._session.strike(error):
            self._transport.close_with(error)
        else:
            self._transport.emit("error", error.to_dict())

    def reserved(self, event: str) -> None:
        self._transport.close_with(BadRequestError(f"{event!r} is a name of the protocol's own and cannot be emitted"))

    async def gone(self) -> None:
        self._owner.clients.discard(self)
        self._session.end()
        self._timers.cancel_all()
        tasks = [*self._pumps.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def send_away(self) -> None:
        """The server is going to stop."""
        self._transport.emit("server_restart", {"retry_ms": self._edge.retry_ms()})
        self._transport.close_with(ServerRestartError(), told=True)

    # ------------------------------------------------------------ timers
    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _beat(self) -> None:
        self._timers.set("heartbeat", self._edge.settings.gateway.heartbeat_interval, self._beat)
        self._spawn(self._send_heartbeat())

    async def _send_heartbeat(self) -> None:
        try:
            self._transport.emit("heartbeat", await self._session.heartbeat())
        except LogUnavailableError as error:
            logger.debug("no heartbeat: %s", error)

    def _watch_expiry(self) -> None:
        """Delivery goes on; the client is warned before its token expires, then delivery stops, then it is closed."""
        self._delivers.set()
        expires_in = self._session.expires_in
        if expires_in is not None:
            self._timers.set("expiry", expires_in - _EXPIRY_WARNING, self._warn)

    def _warn(self) -> None:
        expires_in = self._session.expires_in or 0.0
        self._transport.emit("auth_expiring", {"in_s": round(max(0.0, expires_in), 3)})
        self._timers.set("expiry", expires_in, self._expire)

    def _expire(self) -> None:
        self._delivers.clear()
        self._timers.set("expiry", _EXPIRY_GRACE, lambda: self._transport.close_with(TokenExpiredError()))

    # ------------------------------------------------------------ delivery
    def _start(self, watch: Watch) -> None:
        task = asyncio.create_task(self._pump(watch), name="lg_streaming.pump")
        self._pumps[watch] = task
        task.add_done_callback(lambda _: self._pumps.pop(watch, None))

    def _stop(self, watch: Watch) -> None:
        task = self._pumps.pop(watch, None)
        if task is not None:
            task.cancel()

    def _say_closed(self, watch: Watch, reason: str) -> None:
        self._transport.emit("subscription_closed", {"execution_id": watch.execution_id, "reason": reason})

    async def _pump(self, watch: Watch) -> None:
        """Carries one subscription: a page, as much as the client takes, then at the next beat what came meanwhile."""
        reason = "closed"
        try:
            await self._deliver(watch)
            reason = "closed" if watch.subscription.closed else "ended"
        except GapError as error:
            reason = "gap"
            self._transport.emit("error", {**error.to_dict(), "execution_id": watch.execution_id})
        except StreamingError as error:
            self._transport.emit("error", {**error.to_dict(), "execution_id": watch.execution_id})
        except Exception:
            logger.exception("delivery of execution %r failed", watch.execution_id)
        self._session.drop(watch)
        self._say_closed(watch, reason)

    async def _deliver(self, watch: Watch) -> None:
        edge, transport, delivers = self._edge, self._transport, self._delivers
        execution_id, subscription = watch.execution_id, watch.subscription
        encode, wanted = self._owner.encode(watch, transport), subscription.filter
        while True:
            page = await self._next_page(subscription)
            if not delivers.is_set():
                await delivers.wait()
            if page.gap is not None:
                transport.emit("gap", {"execution_id": execution_id, **page.gap.to_dict()})
            for frames in edge.chunks.of(execution_id, page.records, wanted, encode):
                # First room, then the next piece, with nothing between: otherwise many subscriptions of one connection
                # would each add a piece to a buffer that is full.
                await transport.drain()
                transport.put(frames)
            if page.ended:
                return
            await edge.pacer.next()

    async def _next_page(self, subscription: Subscription) -> Page:
        failures = 0
        while True:
            try:
                return await subscription.next_page()
            except LogUnavailableError as error:
                if not failures:
                    self._transport.emit("error", {**error.to_dict(), "execution_id": subscription.execution_id})
                await asyncio.sleep(_RETRY_DELAYS[min(failures, len(_RETRY_DELAYS) - 1)])
                failures += 1
