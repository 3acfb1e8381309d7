"""Plain HTTP: what an execution is, and whether the server is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lg_streaming.errors import ForbiddenError
from lg_streaming.gateway.http import (
    EXECUTION_PATH,
    endpoint,
    execution_id_of,
    json_response,
    refuse_tokens_in_url,
)
from lg_streaming.gateway.messages import PROTOCOL_VERSION
from lg_streaming.gateway.session import now_text

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Router

    from lg_streaming.gateway.edge import Edge
    from lg_streaming.gateway.peer import Peer

__all__ = ["Rest"]


class Rest:
    """The REST side of a gateway.

    Args:
        edge: What all transports share.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def add_routes(self, router: Router) -> None:
        """Adds the routes to ``router``."""
        serve = endpoint(self._edge.policy, self._execution, self._edge.compression)
        router.add_route("/health", self._health, methods=["GET"])
        router.add_route(EXECUTION_PATH, serve, methods=["GET", "OPTIONS"])

    async def _health(self, _: Request) -> Response:
        """For load balancers: nothing in it is secret, so everybody may ask."""
        draining = self._edge.draining
        return json_response(
            {"status": "draining" if draining else "ok", "protocol": PROTOCOL_VERSION}, 503 if draining else 200
        )

    async def _execution(self, request: Request, peer: Peer) -> Response:
        edge = self._edge
        refuse_tokens_in_url(request)
        principal = await edge.policy.admit(peer)
        execution_id = execution_id_of(request)
        state = await edge.hub.describe(execution_id)
        await edge.policy.check(principal, "read", execution_id, state.owner if state is not None else None)
        if state is None:
            raise ForbiddenError(execution_id=execution_id)
        return json_response(
            {
                "execution_id": execution_id,
                "state": state.state,
                "owner": state.owner,
                "position": f"{state.epoch}:{state.head}",
                "oldest": state.oldest,
                "started_at": now_text(state.started_at),
                "updated_at": now_text(state.updated_at),
            }
        )
