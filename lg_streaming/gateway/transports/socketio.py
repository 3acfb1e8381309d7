"""The Socket.IO transport."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.auth.url_credentials import take_credentials, token_refused
from lg_streaming.gateway.hooks.engineio import GuardedServer
from lg_streaming.gateway.protocol.responses import error_response, isolated
from lg_streaming.gateway.transports.connection import Connection, guard_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.gateway.transports.base import Transport

__all__ = ["SocketIO"]

logger: logging.Logger = logging.getLogger(__name__)

_SHUTDOWN_TIMEOUT: Final = 1.5


class SocketIO:
    """The Socket.IO server of a gateway; an ASGI application.

    Args:
        edge: What all transports share.
    """

    def __init__(self, edge: GatewayContext) -> None:
        self._edge = edge
        self._server = GuardedServer(
            namespace=edge.settings.gateway.namespace, guard=guard_of(edge), connect=self._connect
        )
        edge.on_start.append(self._server.begin)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serves one connection."""
        found = take_credentials(self._edge.policy.tickets, scope)
        self._edge.wake()
        if scope["type"] == "http" and found.token_name is not None:
            await error_response(token_refused(found.token_name))(scope, receive, send)
            return
        await self._server.handle_request(scope, receive, isolated(send) if scope["type"] == "http" else send)

    def _connect(self, transport: Transport) -> Connection:
        return Connection(self._edge, transport)

    async def shutdown(self) -> None:
        """Closes all transports, within 1.5 seconds."""
        for transport in self._server.transports:
            transport.close_with()
        try:
            async with asyncio.timeout(_SHUTDOWN_TIMEOUT):
                await self._server.wait_closed()
        except TimeoutError:
            logger.warning("%d transports did not close in time", len(self._server.transports))
