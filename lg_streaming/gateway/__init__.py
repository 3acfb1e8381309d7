"""The network edge: sessions, authentication, and the transports that carry them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.routing import Route, WebSocketRoute

from lg_streaming.gateway.auth import Action, Authorize, Grant, Policy, Principal, Revoked
from lg_streaming.gateway.edge import Edge
from lg_streaming.gateway.event_stream import InitialData
from lg_streaming.gateway.metrics import Metrics
from lg_streaming.gateway.protocol import json_schema
from lg_streaming.gateway.rest import Rest
from lg_streaming.gateway.socketio import SocketIO
from lg_streaming.gateway.sse import ServerSentEvents, sse_response
from lg_streaming.gateway.watches import ClientFigures
from lg_streaming.gateway.websocket import PlainWebSocket
from lg_streaming.observability.events import GatewayEvents, Observer
from lg_streaming.observability.figures import GatewayStatistics

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from lg_streaming.hub import StreamHub
    from lg_streaming.settings import StreamingSettings

__all__ = [
    "Action",
    "Authorize",
    "Gateway",
    "Grant",
    "InitialData",
    "Principal",
    "Revoked",
    "json_schema",
    "sse_response",
]

logger = logging.getLogger(__name__)


class Gateway:
    """Lets clients in over Socket.IO, WebSocket, Server-Sent Events and plain HTTP.

    Args:
        hub: Where executions are.
        settings: All settings; the hub's own when not given.
        authorize: The application's own say on who may see what, see `Authorize`.
        revoked: `revoked(principal) -> bool`: refuses tokens that have not expired, see `Revoked`.
        initial_data: `initial_data(execution_id)`, sync or async: what readers of event streams are shown first.
        observer: Told what happens on connections, see `GatewayEvent`.

    Raises:
        StreamingConfigError: The authentication settings cannot be used.
        MissingExtraError: ``gateway.metrics`` needs ``pip install 'lg-streaming[metrics]'``.
    """

    def __init__(
        self,
        hub: StreamHub,
        settings: StreamingSettings | None = None,
        *,
        authorize: Authorize | None = None,
        revoked: Revoked | None = None,
        initial_data: InitialData | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.settings = settings or hub.settings
        gateway = self.settings.gateway
        self.policy = Policy(
            self.settings.auth, cors_origins=gateway.cors_origins, authorize=authorize, revoked=revoked
        )
        self._edge = Edge(hub=hub, settings=self.settings, policy=self.policy, events=GatewayEvents(observer))
        self._socketio = SocketIO(self._edge)
        self._websocket = PlainWebSocket(self._edge)
        self._sse = ServerSentEvents(self._edge, initial_data=initial_data)
        self._rest = Rest(self._edge)
        self._edge.closers += [self._rest.shutdown, self._websocket.shutdown, self._socketio.shutdown]
        self._edge.register()
        self.router = APIRouter()
        """The HTTP routes, under ``gateway.prefix``."""
        # The stream's route comes first: the path of an execution itself matches everything that begins like it.
        self._sse.add_routes(self.router)
        Metrics(self._edge).add_routes(self.router)
        self._rest.add_routes(self.router)

    def statistics(self) -> GatewayStatistics:
        """Counts since the gateway was made, and what is there now."""
        return self._edge.figures.snapshot()

    @property
    def clients(self) -> list[ClientFigures]:
        """Who is connected now, over all transports."""
        return [session.figures() for session in list(self._edge.sessions.values())]

    def client(self, connection_id: str) -> ClientFigures | None:
        """One of them; None where there is no such connection."""
        session = self._edge.sessions.get(connection_id)
        return session.figures() if session is not None else None

    @property
    def connections(self) -> int:
        """Clients connected now, over all transports."""
        return self._edge.census.connections

    def install(self, app: Starlette) -> None:
        """Adds the HTTP routes and the Socket.IO endpoint to ``app``; call :meth:`start` and :meth:`shutdown` too."""
        app.router.routes.extend(self.router.routes)
        app.router.routes.append(Route(f"{self.settings.gateway.prefix}/ws", self._websocket))
        app.router.routes.append(WebSocketRoute(f"{self.settings.gateway.prefix}/ws", self._websocket))
        app.mount(f"{self.settings.gateway.prefix}/socket.io", self._socketio, name="lg_streaming.socketio")

    async def start(self) -> None:
        """Call it when the application starts, on the server's event loop."""
        await self._edge.start()
        if self.policy.local_only:
            logger.warning(
                "authentication is not set up: only callers from this machine are let in "
                "(set auth.secret or auth.public_key, or auth.enabled=False to let everybody in)"
            )
        elif not self.policy.requires_token:
            logger.warning("authentication is off: everybody who can reach this server may read every execution")

    async def drain(self) -> None:
        """Sends every client away and closes their connections, within two seconds. Harmless when repeated.

        It happens by itself when the server is told to stop, before the server closes connections on its own.
        """
        await self._edge.drain()

    async def shutdown(self) -> None:
        """Call it when the application stops."""
        await self._edge.stop()
