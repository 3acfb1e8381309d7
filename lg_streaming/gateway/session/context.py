"""What all transports share."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from lg_streaming.errors import ServerRestartError, StreamingConfigError
from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.gateway.delivery.frames import BatchTicker, FrameCache
from lg_streaming.gateway.delivery.wildcard import WildcardNotifier
from lg_streaming.gateway.hooks.listeners import EXPOSED, beyond_this_machine
from lg_streaming.gateway.hooks.server import on_shutdown
from lg_streaming.gateway.hooks.shutdown_hooks import farewells
from lg_streaming.gateway.http.compression import Compression
from lg_streaming.gateway.limits.rates import ConnectionCounter, RateLimiter, Requests
from lg_streaming.gateway.limits.workers import Workers
from lg_streaming.gateway.protocol.registry import MESSAGES_IN
from lg_streaming.gateway.session.rooms import Rooms
from lg_streaming.gateway.transports.deflate import Framer
from lg_streaming.observability.events import GatewayEvents
from lg_streaming.observability.gateway_metrics import GatewayMetrics
from lg_streaming.observability.logs import log_event
from lg_streaming.settings import AuthSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lg_streaming.gateway.http.event_stream import EventStream
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.gateway.transports.connection import Connection
    from lg_streaming.hub import StreamHub
    from lg_streaming.settings import StreamingSettings

__all__ = ["GatewayContext"]

logger: logging.Logger = logging.getLogger("lg_streaming.gateway")

_RETRY_MS = (500, 3_000)
_GOODBYE_TIMEOUT: Final = 1.5


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class GatewayContext:
    """Hub, settings, rules and counters, and whether the server is going away.

    Args:
        hub: Where executions are.
        settings: All settings.
        policy: Who may come in and see what.
        wall: Seconds since 1970.
        monotonic: Seconds.
        jitter: Source of the delays clients are given, so that they do not all come back at once.
    """

    hub: StreamHub
    settings: StreamingSettings
    policy: Policy
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    jitter: random.Random = field(default_factory=random.Random)
    draining: bool = False
    """Set when the server shuts down: nobody is let in any more."""
    chunks: FrameCache = field(default_factory=FrameCache)
    connections: dict[str, Connection] = field(default_factory=dict[str, "Connection"])
    """The connections over message transports that are logged in, by id."""
    closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list[Callable[[], Awaitable[None]]])
    """What closes each transport's connections, once they are told."""
    streams: set[EventStream] = field(default_factory=set["EventStream"])
    """The event streams that are open."""
    replica_id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Tells the server's processes apart."""
    rooms: Rooms = field(default_factory=Rooms)
    census: ConnectionCounter = field(init=False)
    visitors: ConnectionCounter = field(init=False)
    """Who waits with a single request until it is known who it is."""
    rates: RateLimiter = field(init=False)
    requests: Requests = field(init=False)
    patterns: WildcardNotifier = field(init=False)
    figures: GatewayMetrics = field(default_factory=lambda: GatewayMetrics(MESSAGES_IN))
    """What the transports count."""
    events: GatewayEvents = field(default_factory=GatewayEvents)
    """Where it is told what happens."""
    sessions: dict[str, Session] = field(default_factory=dict[str, "Session"])
    """All that are let in, over whatever transport, by the ids of their connections."""
    workers: Workers = field(default_factory=lambda: Workers("data"))
    """Where functions of the application run that make data and may block."""
    pacer: BatchTicker = field(init=False)
    compression: Compression = field(init=False)
    framings: Framer = field(init=False)
    loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    """The server's event loop, while it runs."""
    on_start: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    """Called on the server's event loop at each start."""
    on_stop: list[Callable[[], Awaitable[None]]] = field(default_factory=list[Callable[[], Awaitable[None]]])
    """Awaited at each stop, after all connections have closed."""
    _unhook: Callable[[], None] | None = field(default=None, init=False)
    _stopped_on: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    """The event loop on which the application's lifespan has ended: what still comes there is refused."""

    def __post_init__(self) -> None:
        gateway, limits = self.settings.gateway, self.settings.limits
        self.census = ConnectionCounter(
            limits.connections, limits.connections_per_subject, limits.connections_per_address
        )
        self.visitors = ConnectionCounter(limits.connections, per_address=limits.connections_per_address)
        self.rates = RateLimiter(limits.connects_per_address, limits.failed_logins_per_address)
        self.requests = Requests(limits, self.monotonic)
        self.patterns = WildcardNotifier(self.hub)
        self.pacer = BatchTicker(gateway.frame_interval)
        self.compression = Compression(gateway.compression)
        self.framings = Framer(gateway.compression)
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's server and its clients, which stay there."""
        bury(self.connections, self.streams, self.sessions, self.rooms, self.loop, self._unhook)
        self.connections, self.streams, self.sessions, self.rooms = {}, set(), {}, Rooms()
        limits = self.settings.limits
        self.census = ConnectionCounter(
            limits.connections, limits.connections_per_subject, limits.connections_per_address
        )
        self.visitors = ConnectionCounter(limits.connections, per_address=limits.connections_per_address)
        self.replica_id = secrets.token_hex(8)
        self.draining, self.loop, self._unhook = False, None, None

    @classmethod
    def of(cls, hub: StreamHub) -> GatewayContext:
        """The edge of the hub's gateway; one of its own, without authentication, where it has none."""
        edge = _contexts.get(hub)
        if edge is None:
            policy = Policy(AuthSettings(enabled=False), cors_origins=hub.settings.gateway.cors_origins)
            edge = cls(hub=hub, settings=hub.settings, policy=policy)
            edge.register()
        return edge

    def register(self) -> None:
        """Makes this the edge of its hub."""
        _contexts[self.hub] = self

    def why_exposed(self) -> str | None:
        """Return why the server may not start: anybody could connect, and authentication is not set up."""
        beyond = beyond_this_machine() if self.policy.local_only else None
        return None if beyond is None else EXPOSED.format(address=beyond)

    def start(self) -> None:
        """Starts with the application's lifespan, on the server's event loop. A no-op where it has started.

        Raises:
            StreamingConfigError: If authentication is not set up and the server listens beyond this machine.
        """
        if not self._is_started():
            if (reason := self.why_exposed()) is not None:
                raise StreamingConfigError(reason)
            self._begin(None)

    def wake(self) -> None:
        """Starts with a request, where no lifespan has: in a mounted application, or behind `sse_response` alone.

        Then it also ends by itself with the server. A no-op where it has started, and after a lifespan that has ended.
        """
        if not (self._is_started() or self._stopped_on is asyncio.get_running_loop()):
            if (reason := self.why_exposed()) is not None and self.policy.exposed is None:
                self.policy.exposed = "this server listens beyond this machine"
                logger.error("%s", reason)  # a server that runs already cannot be refused: its callers are
            # A server with farewells still serves when it calls them; uvicorn has ended when it calls what comes after.
            self._begin(self.stop if farewells.get() is not None else self._end)

    def _is_started(self) -> bool:
        """Whether a server runs with this edge: the one of this event loop, or of another that still runs."""
        return self.loop is not None and (self.loop is asyncio.get_running_loop() or self.loop.is_running())

    def _begin(self, after: Callable[[], Awaitable[None]] | None) -> None:
        """Starts. What is bound to an event loop is made anew, as the loop may be another one than last time."""
        limits = self.settings.limits
        self._forget_server()
        self.rates = RateLimiter(limits.connects_per_address, limits.failed_logins_per_address)
        self.pacer = BatchTicker(self.settings.gateway.frame_interval)
        self.draining = False
        self.loop, self._stopped_on = asyncio.get_running_loop(), None
        for callback in self.on_start:
            callback()
        self._unhook = on_shutdown(self.drain, after)
        log_event(logger, logging.INFO, "gateway.started")

    def _forget_server(self) -> None:
        if self._unhook is not None:
            self._unhook()
            self._unhook = None

    async def drain(self) -> None:
        """Sends every client away and ends all streams, within two seconds. Harmless when repeated."""
        self.draining = True
        for connection in list(self.connections.values()):
            connection.send_away()
        streams = list(self.streams)
        for stream in streams:
            stream.send_away()
        await asyncio.gather(_ended(streams), *(close() for close in self.closers))

    async def stop(self) -> None:
        """Stops with the application's lifespan. Harmless when repeated."""
        self._stopped_on = self.loop or self._stopped_on
        await self._end()

    async def _end(self) -> None:
        await self.drain()
        started, self.loop = self.loop is not None, None
        self._forget_server()
        self.policy.close()
        self.workers.close()
        if started:
            for callback in self.on_stop:
                await callback()
            log_event(logger, logging.INFO, "gateway.stopped")

    def check_open(self) -> None:
        """Lets nobody in while the server goes away.

        Raises:
            ServerRestartError: It does.
        """
        if self.draining:
            raise ServerRestartError(retry_after=self.retry_ms() / 1000)

    def retry_ms(self) -> int:
        """When a client should come back, in milliseconds; different for each."""
        return self.jitter.randint(*_RETRY_MS)


async def _ended(streams: Iterable[EventStream]) -> None:
    """Waits for the streams; those that do not end by themselves, as nobody reads them, are cut."""
    try:
        async with asyncio.timeout(_GOODBYE_TIMEOUT):
            for stream in streams:
                await stream.ended.wait()
    except TimeoutError:
        for stream in streams:
            stream.cut()


_contexts: Final[WeakValueDictionary[StreamHub, GatewayContext]] = WeakValueDictionary()
"""The context of each hub. A context keeps its hub alive, so weak values keep neither."""
