"""The gateway: sessions, authentication and transports of a hub, installed in an application."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

import orjson
from fastapi import APIRouter
from starlette.routing import Route, WebSocketRoute

from lg_streaming.errors import BadRequestError, StreamingConfigError, UpdateTooLargeError
from lg_streaming.eventloop import running_loop
from lg_streaming.events import room_execution
from lg_streaming.gateway.auth.policy import Authenticate, Authorize, Policy, Revoked
from lg_streaming.gateway.delivery.frames import FrameCache
from lg_streaming.gateway.delivery.ticker import BatchTicker
from lg_streaming.gateway.dialects import ENCODERS, wire_type
from lg_streaming.gateway.hooks.front_door import describe_weaknesses, find_front_door
from lg_streaming.gateway.hooks.listeners import refuse_start
from lg_streaming.gateway.hooks.shutdown_hooks import shutdown_hooks
from lg_streaming.gateway.http.assets import Assets
from lg_streaming.gateway.http.context import HttpContext
from lg_streaming.gateway.http.event_stream import InitialData
from lg_streaming.gateway.http.installed import claim_paths
from lg_streaming.gateway.http.metrics import Metrics
from lg_streaming.gateway.http.rest import RestRoutes
from lg_streaming.gateway.http.sse import ServerSentEvents
from lg_streaming.gateway.session.context import GatewayContext
from lg_streaming.gateway.session.fleet_link import FleetLink
from lg_streaming.gateway.session.subscriptions import ClientStats
from lg_streaming.gateway.transports.base import TransportLimits
from lg_streaming.gateway.transports.connection import ConnectionServices
from lg_streaming.gateway.transports.deflate import Framer
from lg_streaming.gateway.transports.socketio import SocketIO
from lg_streaming.gateway.transports.websocket import PlainWebSocket
from lg_streaming.gateway.watch.pages import WATCH_PATHS, WatchPages
from lg_streaming.observability.events import GatewayEvents, Observer
from lg_streaming.observability.gateway_metrics import GatewayStatistics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.applications import Starlette

    from lg_streaming.hub import StreamHub
    from lg_streaming.runs import RemoteRunner
    from lg_streaming.settings import StreamingSettings
    from lg_streaming.types import WireName

__all__ = ["Gateway"]

logger: logging.Logger = logging.getLogger(__name__)


class Gateway:
    """Server of a hub's executions over Socket.IO, WebSocket, Server-Sent Events and plain HTTP.

    Args:
        hub: The hub of the executions.
        settings: All settings; default: the hub's.
        authenticate: The application's login of callers, see `Authenticate`.
        authorize: The application's decision on a caller's actions, see `Authorize`.
        revoked: `revoked(principal) -> bool`: refuses tokens that have not expired, see `Revoked`.
        initial_data: `initial_data(execution_id)`, sync or async, returns the first event of event streams.
        observer: Called with each event of a connection, see `GatewayEvent`.
        remote_runner: Starts graphs for callers; when not given, no graph can be started.

    Raises:
        StreamingConfigError: If the authentication settings cannot be used.
        MissingExtraError: If ``gateway.metrics`` needs ``pip install 'lg-streaming[metrics]'``.
    """

    def __init__(
        self,
        hub: StreamHub,
        settings: StreamingSettings | None = None,
        *,
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        revoked: Revoked | None = None,
        initial_data: InitialData | None = None,
        observer: Observer | None = None,
        remote_runner: RemoteRunner | None = None,
    ) -> None:
        self.settings: StreamingSettings = settings or hub.settings
        gateway = self.settings.gateway
        self.policy: Policy = Policy(
            self.settings.auth,
            cors_origins=gateway.cors_origins,
            cors_headers=gateway.cors_headers,
            authenticate=authenticate,
            authorize=authorize,
            revoked=revoked,
            fleet=hub.log.fleet,
        )
        self._context = GatewayContext(
            hub=hub,
            settings=self.settings,
            policy=self.policy,
            remote_runner=remote_runner,
            events=GatewayEvents(observer),
        )
        self._lifecycle = self._context.lifecycle
        ticker, frames = BatchTicker(gateway.frame_interval), FrameCache()
        self._lifecycle.on_start.append(ticker.restart)
        self._http = HttpContext(self._context, ticker, frames)
        self._connections = ConnectionServices(
            context=self._context,
            ticker=ticker,
            frames=frames,
            framer=Framer(gateway.compression),
            limits=TransportLimits.from_settings(self.settings),
        )
        self._socketio = SocketIO(self._connections)
        self._websocket = PlainWebSocket(self._connections)
        self._sse = ServerSentEvents(self._http, initial_data=initial_data, dialects=ENCODERS)
        self._rest = RestRoutes(self._http)
        self._lifecycle.closers += [self._rest.shutdown, self._websocket.shutdown, self._socketio.shutdown]
        self._lifecycle.on_start += [self._warn, self._bring_limits]
        self._lifecycle.on_stop.append(self._take_limits_back)
        self._leave_front_door: Callable[[], None] | None = None
        hub.metrics.reporter.add("gateway", self._counts)
        fleet = hub.log.fleet
        self._fleet = None if fleet is None else FleetLink(fleet, self._context, self._send_here)
        if self._fleet is not None:
            self._lifecycle.on_start.append(self._fleet.start)
            self._lifecycle.on_stop.append(self._fleet.stop)
        self.router: APIRouter = APIRouter()
        """The HTTP routes, under ``gateway.prefix``."""
        # The stream's route comes first: the path of an execution itself matches everything that begins like it.
        if "sse" in gateway.transports:
            self._sse.add_routes(self.router)
        Metrics(self._http).add_routes(self.router)
        Assets(self._http).add_routes(self.router)
        self._rest.add_health(self.router)
        if "rest" in gateway.transports:
            self._rest.add_routes(self.router)

    def _counts(self) -> dict[str, int]:
        statistics = self.statistics()
        return {
            "connections": self.connections,
            "subscriptions": statistics.subscriptions,
            "updates_sent": statistics.updates_sent,
            "messages_received": statistics.messages_received,
            "login_failures": statistics.login_failures,
        }

    def statistics(self) -> GatewayStatistics:
        """Return counts since the gateway was made, and present numbers."""
        return self._context.metrics.snapshot()

    @property
    def clients(self) -> list[ClientStats]:
        """The connected clients, over all transports."""
        return [session.stats() for session in list(self._context.sessions.values())]

    def client(self, connection_id: str) -> ClientStats | None:
        """Return one client, or None without such a connection."""
        session = self._context.sessions.get(connection_id)
        return session.stats() if session is not None else None

    @property
    def connections(self) -> int:
        """Clients connected now, over all transports."""
        return self._context.admission.connections.connections

    # ------------------------------------------------------------ telling clients
    def send_to(self, connection_id: str, type: str, data: object = None) -> bool:
        """Send a `message` to one connection over Socket.IO or WebSocket, from any thread.

        A `message` has no position, so a client that is disconnected does not receive it later. Never waits: a
        connection that does not read is closed, so messages do not pile up.

        Args:
            connection_id: The id in the client's `connection_status`.
            type: Any name of your own.
            data: Any value; values without a JSON form are described as text.

        Returns:
            Whether this process has such a connection. With a log of several processes, the message is otherwise sent
            to all of them, and the one that has the connection passes it on.

        Raises:
            BadRequestError: If the type is empty or longer than 256 characters.
            UpdateTooLargeError: If the data has more than `limits.update_bytes`.
        """
        content = _message(self._context, type, data)
        sent = self._send_here(connection_id, type, orjson.Fragment(content))
        if not sent and self._fleet is not None:
            self._fleet.send_to(connection_id, type, content)
        return sent

    def _send_here(self, connection_id: str, type: str, content: orjson.Fragment) -> bool:
        connection, loop = self._connections.connections.get(connection_id), self._lifecycle.loop
        if connection is None or loop is None:
            return False
        if running_loop() is loop:
            connection.send(type, content)
        else:
            with contextlib.suppress(RuntimeError):  # the server has ended just now
                loop.call_soon_threadsafe(connection.send, type, content)
        return True

    def broadcast_to_execution(self, execution_id: str, type: str, data: object = None) -> int:
        """Publish an update of an execution, to its present and future readers. From any thread.

        As with `hub.publish`, the update gets a position in the execution's order, in every process. An execution that
        does not exist is opened; if its run has ended, nothing is published. A run that ended in another process is
        recognised when the update reaches the log: the update is then counted as dropped (``refused``).

        Returns:
            The number of connections and streams of this process that watch the execution by its id; 0 if this
            process has published nothing.

        Raises:
            StreamingError: If `hub.publish` raises it.
        """
        hub = self._context.hub
        hub.runs.open_unless_ended(execution_id)
        hub.publish(execution_id, type, data)
        if not hub.registry.is_running(execution_id):
            return 0
        return sum(execution_id in session.subscriptions for session in list(self._context.sessions.values()))

    def broadcast_to_room(self, room_id: str, type: str, data: object = None) -> int:
        """Publish an update to a room: to its members in this and every other process. From any thread.

        A room is the execution `room:<room_id>`: its updates are kept like all others, and it counts as running until
        `hub.close` ends it.

        Returns:
            The number of this process's connections in the room.

        Raises:
            BadRequestError: If the id cannot name a room: it has 1 to 251 printable characters without spaces.
            StreamingError: If `hub.publish` raises it.
        """
        execution_id = room_execution(room_id)
        self._context.hub.open(execution_id)
        self._context.hub.publish(execution_id, type, data)
        return self._context.rooms.members(room_id)

    # ------------------------------------------------------------ life
    def install(self, app: Starlette, wires: Iterable[WireName] = (), *, ui: bool | None = None) -> None:
        """Add the HTTP routes and the Socket.IO endpoint to ``app``; call :meth:`start` and :meth:`shutdown` too.

        In an application whose lifespan does not run, such as one that is mounted in another, the gateway starts with
        the first request.

        Args:
            app: The application.
            wires: Protocols of other systems' clients, whose routes are added too.
            ui: Whether the watch page is served; ``gateway.ui`` when not given.

        Raises:
            StreamingConfigError: If the paths of another gateway of the app would overlap, `wires` is a text, or a wire
                is unknown.
        """
        if isinstance(wires, str):
            raise StreamingConfigError(f"wires is a list of names: write wires=[{wires!r:.80}]")
        added = [wire_type(name)(self._http) for name in dict.fromkeys(wires)]
        prefix, transports = self.settings.gateway.prefix, self.settings.gateway.transports
        own = [route.path.partition("/{")[0] for route in self.router.routes if isinstance(route, Route)]
        own += [f"{prefix}/ws"] * ("websocket" in transports) + [f"{prefix}/socket.io"] * ("socketio" in transports)
        pages = WatchPages(self._http) if (self.settings.gateway.ui if ui is None else ui) else None
        own += [f"{prefix}{path}" for path in WATCH_PATHS] if pages is not None else []
        claim_paths(app, prefix, own, {wire.name: wire.paths for wire in added})
        refuse_start(app, self._lifecycle.why_refused)
        app.router.routes.extend(self.router.routes)
        if "websocket" in transports:
            app.router.routes += [
                Route(f"{prefix}/ws", self._websocket),
                WebSocketRoute(f"{prefix}/ws", self._websocket),
            ]
        if "socketio" in transports:
            app.mount(f"{prefix}/socket.io", self._socketio, name="lg_streaming.socketio")
        if pages is not None:
            pages.add_routes(app.router)
        runner = self._context.remote_runner
        for wire in added:
            app.router.routes += wire.routes()
            if runner is not None:
                runner.runner.publishes_states |= wire.needs_states

    def on_start(self, callback: Callable[[], None]) -> None:
        """Call `callback` at each start, on the server's event loop, before a client is admitted."""
        self._lifecycle.on_start.append(callback)

    def on_stop(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await `callback` at each stop, after all connections have closed."""
        self._lifecycle.on_stop.append(callback)

    async def start(self) -> None:
        """Start with the application, on the server's event loop. The gateway may start again after a shutdown."""
        if self._fleet is not None:
            await self._fleet.load()
        self._lifecycle.start()

    def _warn(self) -> None:
        """Log which callers are admitted, at each start."""
        if self.policy.exposed is not None:
            return
        if self.policy.local_only:
            logger.warning(_LOCAL_MODE)
            if "*" in self.settings.gateway.cors_origins:
                logger.warning(
                    "gateway.cors_origins has '*', which does not count while authentication is not set up: list the "
                    "origins you mean"
                )
        elif not self.policy.requires_token:
            logger.warning("authentication is off: all who can reach this server may read every execution")

    def _bring_limits(self) -> None:
        """Pass the limits of connections to a server that counts them; log once the limits that a server lacks."""
        door = find_front_door()
        if door is not None:
            self._leave_front_door = door.add(self.settings.limits)
        elif shutdown_hooks.get() is None and not _warned and (text := describe_weaknesses()) is not None:
            _warned.append(text)
            logger.warning("%s", text)

    async def _take_limits_back(self) -> None:
        if self._leave_front_door is not None:
            self._leave_front_door()
            self._leave_front_door = None

    async def drain(self) -> None:
        """Send every client a time to reconnect, and close all connections, within two seconds. Harmless when repeated.

        The server's shutdown calls this method by itself, before the server closes connections.
        """
        await self._lifecycle.drain()

    async def shutdown(self) -> None:
        """Stop with the application."""
        await self._lifecycle.stop()


_TYPE_LENGTH: Final = 256
_LOCAL_MODE: Final = (
    "authentication is not set up: only direct callers from this machine are let in, as far as requests show it. Not "
    "recognised, and let in, are the callers of a TCP forwarder (ssh -L, socat, a balancer at TCP level, a published "
    "port), and those of a proxy that adds no header and sends this listener's own Host, such as HAProxy without "
    "'option forwardfor'. Before anything forwards to this server set auth.secret, auth.public_key or auth.jwks_url "
    "(or auth.enabled=False to let everybody in)"
)
_warned: Final[list[str]] = []
"""Weaknesses of the server that this process has logged."""


def _message(context: GatewayContext, type: str, data: object) -> bytes:
    """Encode the data of a `message` as JSON.

    Raises:
        BadRequestError: If `type` is empty or too long.
        UpdateTooLargeError: If the data has more than `limits.update_bytes`.
    """
    if not 0 < len(type) <= _TYPE_LENGTH:
        raise BadRequestError(f"a type has 1 to {_TYPE_LENGTH} characters, not {len(type)}")
    content, limit = context.hub.publisher.encode(data), context.settings.limits.update_bytes
    if len(content) > limit:
        raise UpdateTooLargeError(f"a message may have {limit} bytes of data, not {len(content)}")
    return content
