"""The network edge: sessions, authentication, and the transports that carry them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.routing import Route, WebSocketRoute

from lg_streaming.gateway._server import on_shutdown
from lg_streaming.gateway.auth import Action, Authorize, Grant, Policy, Principal
from lg_streaming.gateway.edge import Edge
from lg_streaming.gateway.protocol import json_schema
from lg_streaming.gateway.rest import Rest
from lg_streaming.gateway.socketio import SocketIO
from lg_streaming.gateway.sse import ServerSentEvents
from lg_streaming.gateway.websocket import PlainWebSocket

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from lg_streaming.hub import StreamHub
    from lg_streaming.settings import StreamingSettings

__all__ = ["Action", "Authorize", "Gateway", "Grant", "Principal", "json_schema"]

logger = logging.getLogger(__name__)


class Gateway:
    """Lets clients in over Socket.IO and Server-Sent Events.

    Args:
        hub: Where executions are.
        settings: All settings; the hub's own when not given.
        authorize: The application's own say on who may see what, see
            :data:`~lg_streaming.gateway.auth.Authorize`.

    Raises:
        StreamingConfigError: The authentication settings cannot be used.
    """

    def __init__(
        self,
        hub: StreamHub,
        settings: StreamingSettings | None = None,
        *,
        authorize: Authorize | None = None,
    ) -> None:
        self.settings = settings or hub.settings
        gateway = self.settings.gateway
        self.policy = Policy(self.settings.auth, cors_origins=gateway.cors_origins, authorize=authorize)
        self._edge = Edge(hub=hub, settings=self.settings, policy=self.policy)
        self._socketio = SocketIO(self._edge)
        self._websocket = PlainWebSocket(self._edge)
        self._sse = ServerSentEvents(self._edge)
        self._rest = Rest(self._edge)
        self._unhook: Callable[[], None] | None = None
        self.router = APIRouter()
        """The HTTP routes, under ``gateway.prefix``."""
        # The stream's route comes first: the path of an execution itself matches everything that begins like it.
        self._sse.add_routes(self.router)
        self._rest.add_routes(self.router)

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
        self._edge.draining = False
        if self._unhook is None:
            self._unhook = on_shutdown(self.drain)
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
        self._edge.draining = True
        for connection in list(self._edge.connections.values()):
            connection.send_away()
        self._rest.shutdown()
        await asyncio.gather(self._sse.shutdown(), self._websocket.shutdown(), self._socketio.shutdown())

    async def shutdown(self) -> None:
        """Call it when the application stops."""
        await self.drain()
        if self._unhook is not None:
            self._unhook()
            self._unhook = None
