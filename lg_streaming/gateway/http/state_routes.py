"""REST routes of an execution's graph, of its states, and of forks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from lg_streaming.gateway.http.endpoint import Endpoint, ExecutionRoute, execution_id_of, json_body
from lg_streaming.gateway.http.query_params import query_payload
from lg_streaming.gateway.protocol.registry import parse
from lg_streaming.gateway.protocol.responses import json_response
from lg_streaming.gateway.protocol.state_models import ForkBody, StatesQuery
from lg_streaming.gateway.session.graph_states import fork_run, graph_of, list_states, state_at
from lg_streaming.gateway.session.starting import execution_url

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Router

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.session.session import Session

__all__ = ["StateRoutes"]


class StateRoutes:
    """The routes of graphs, states and forks.

    Args:
        context: Services that the routes share.
        enter: Admits the caller of a request.
    """

    def __init__(self, context: HttpContext, enter: Callable[[Peer], Awaitable[Session]]) -> None:
        self._context = context
        self._enter = enter

    def add_routes(self, router: Router) -> None:
        """Add the routes to `router`, before that of an execution itself."""
        context, prefix = self._context, self._context.gateway.settings.gateway.prefix
        router.routes += [
            ExecutionRoute(prefix, "graph", Endpoint(context, GET=self._graph)),
            ExecutionRoute(prefix, "states", Endpoint(context, GET=self._states)),
            ExecutionRoute(prefix, "states/{checkpoint_id}", Endpoint(context, GET=self._state)),
            ExecutionRoute(prefix, "forks", Endpoint(context, POST=self._fork)),
        ]

    async def _graph(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        return json_response(await graph_of(session, execution_id_of(request)))

    async def _states(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query = parse(StatesQuery, query_payload(request, texts={"before"}, numbers={"limit"}))
        return json_response(await list_states(session, execution_id_of(request), query))

    async def _state(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        return json_response(await state_at(session, execution_id_of(request), request.path_params["checkpoint_id"]))

    async def _fork(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        gateway = self._context.gateway.settings
        body = parse(ForkBody, await json_body(request, gateway.limits.start_bytes))
        root = str(request.scope.get("root_path", ""))
        started = await fork_run(session, execution_id_of(request), body, root=root)
        response = json_response(started, 201)
        response.headers["Location"] = execution_url(root + gateway.gateway.prefix, started["execution_id"])
        return response
