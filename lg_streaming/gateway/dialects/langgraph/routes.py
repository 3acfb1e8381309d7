"""Routes of the wire."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import quote, unquote

from starlette.routing import Match, Route, WebSocketRoute

from lg_streaming.gateway.dialects.langgraph.bodies import SearchAssistants, parse_body
from lg_streaming.gateway.dialects.langgraph.events import EventRoutes
from lg_streaming.gateway.dialects.langgraph.refusals import RefusedError, refuse, refused
from lg_streaming.gateway.dialects.langgraph.runs import RunRoutes
from lg_streaming.gateway.dialects.langgraph.services import Services
from lg_streaming.gateway.dialects.langgraph.thread_routes import ThreadRoutes
from lg_streaming.gateway.dialects.wire import Wire
from lg_streaming.gateway.http.endpoint import Endpoint
from lg_streaming.gateway.protocol.responses import json_response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.dialects.langgraph.event_socket import EventSockets
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.types import WireName

    Handle = Callable[[Request, Peer], Awaitable[Response]]

__all__ = ["LangGraph"]

_EXPOSED: Final = ("Content-Location", "Location", "X-Pagination-Total", "X-Pagination-Next")
_EVENTS: Final = ("{thread_id}", "stream", "events")
_FIRST: Final = ("threads", "runs", "assistants", "info", "ok")


class LangGraph(Wire):
    """Routes for the clients of LangGraph's server: the SDKs for Python and JavaScript, and their hooks.

    Args:
        context: Services that the routes share.
    """

    name: ClassVar[WireName] = "langgraph"
    needs_states: ClassVar[bool] = True

    def __init__(self, context: HttpContext) -> None:
        super().__init__(context)
        self._services = Services(context.gateway)
        self._runs = RunRoutes(self, context, self._services)
        self._threads = ThreadRoutes(self, self._services)
        self._events = EventRoutes(self, context, self._services)

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Wire.paths`."""
        return tuple(f"{self._settings.langgraph_path}/{each}" for each in _FIRST)

    def routes(self) -> list[BaseRoute]:
        """See `Wire.routes`."""
        prefix = self._settings.langgraph_path
        table = [(pattern, self._endpoint(methods)) for pattern, methods in self._table()]
        dispatcher = _Dispatcher(prefix, table, self._endpoint({}, unknown=True))
        return [_Socket(f"{prefix}/threads", self._events.sockets), *(_Below(path, dispatcher) for path in self.paths)]

    def _table(self) -> list[tuple[str, Mapping[str, Handle]]]:
        runs, threads, events = self._runs, self._threads, self._events
        return [
            ("ok", {"GET": self._ok}),
            ("info", {"GET": self._info}),
            ("assistants/search", {"POST": self._search_assistants}),
            ("assistants/count", {"POST": self._count_assistants}),
            ("assistants/{assistant_id}", {"GET": self._assistant}),
            ("runs", {"POST": runs.create}),
            ("runs/stream", {"POST": runs.stream}),
            ("runs/wait", {"POST": runs.wait}),
            ("runs/cancel", {"POST": runs.cancel_many}),
            ("runs/{run_id}", {"GET": runs.get}),
            ("runs/{run_id}/stream", {"GET": runs.join_stream}),
            ("runs/{run_id}/join", {"GET": runs.join}),
            ("runs/{run_id}/cancel", {"POST": runs.cancel}),
            ("threads", {"POST": threads.create}),
            ("threads/search", {"POST": threads.search}),
            ("threads/count", {"POST": threads.count}),
            ("threads/{thread_id}", {"GET": threads.get, "PATCH": threads.patch, "DELETE": threads.delete}),
            ("threads/{thread_id}/state", {"GET": threads.state, "POST": threads.update_state}),
            ("threads/{thread_id}/state/checkpoint", {"POST": threads.state_at}),
            ("threads/{thread_id}/state/{checkpoint_id}", {"GET": threads.state}),
            ("threads/{thread_id}/history", {"GET": threads.history, "POST": threads.history}),
            ("threads/{thread_id}/commands", {"POST": events.command}),
            ("threads/{thread_id}/stream/events", {"POST": events.stream}),
            ("threads/{thread_id}/stream", {"GET": runs.thread_stream}),
            ("threads/{thread_id}/runs", {"GET": runs.list, "POST": runs.create}),
            ("threads/{thread_id}/runs/stream", {"POST": runs.stream}),
            ("threads/{thread_id}/runs/wait", {"POST": runs.wait}),
            ("threads/{thread_id}/runs/{run_id}", {"GET": runs.get, "DELETE": runs.delete}),
            ("threads/{thread_id}/runs/{run_id}/stream", {"GET": runs.join_stream}),
            ("threads/{thread_id}/runs/{run_id}/join", {"GET": runs.join}),
            ("threads/{thread_id}/runs/{run_id}/cancel", {"POST": runs.cancel}),
        ]

    def _endpoint(self, methods: Mapping[str, Handle], *, unknown: bool = False) -> Endpoint:
        handles: dict[str, Any] = {name: _answering(handle) for name, handle in methods.items()}
        if unknown:
            handles = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), _answering(_unknown))
        return Endpoint(
            self._context, for_all_pages=False, accept=(), describe_error=refused, expose=_EXPOSED, **handles
        )

    # --- what the server is ---------------------------------------------------------------------------------

    async def _ok(self, _request: Request, _peer: Peer) -> Response:
        """Return that the server works. Public, as the response has no secret."""
        return json_response({"ok": True})

    async def _info(self, _request: Request, _peer: Peer) -> Response:
        """Return the server's version. Public, like `_ok`."""
        flags = {"assistants": True, "crons": False, "langsmith": False, "langsmith_tracing_replicas": False}
        host = {"kind": "self-hosted", "project_id": None, "revision_id": None, "tenant_id": None}
        return json_response(
            {"version": version("lg-streaming"), "langgraph_py_version": None, "flags": flags, "host": host}
        )

    async def _assistant(self, request: Request, peer: Peer) -> Response:
        session = await self.enter(peer)
        named = request.path_params["assistant_id"]
        assistants = self._services.assistants
        return json_response(assistants.describe(await assistants.graph(session, named, status=404)))

    async def _search_assistants(self, request: Request, peer: Peer) -> Response:
        session = await self.enter(peer)
        query = parse_body(SearchAssistants, await self.body(request))
        found = await self._services.assistants.search(session, query)
        response = json_response(found[query.offset : query.offset + query.limit])
        response.headers["X-Pagination-Total"] = str(len(found))
        if query.offset + query.limit < len(found):
            response.headers["X-Pagination-Next"] = str(query.offset + query.limit)
        return response

    async def _count_assistants(self, request: Request, peer: Peer) -> Response:
        session = await self.enter(peer)
        query = parse_body(SearchAssistants, await self.body(request))
        return json_response(len(await self._services.assistants.search(session, query)))


def _answering(handle: Handle) -> Handle:
    """Return a function that answers refusals as the wire's clients read them."""

    async def answer(request: Request, peer: Peer) -> Response:
        try:
            return await handle(request, peer)
        except RefusedError as error:
            return refuse(error)

    return answer


async def _unknown(_request: Request, _peer: Peer) -> Response:
    raise RefusedError(404, "Not Found")


class _Below(Route):
    """Route of a path and of all below it."""

    def __init__(self, path: str, app: _Dispatcher) -> None:
        super().__init__(path, app)
        self._below = f"{path}/"

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See `Route.matches`."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path = _path_of(scope)
        if path == self.path or path.startswith(self._below):
            return Match.FULL, {"endpoint": self.endpoint, "path_params": {}}
        return Match.NONE, {}


class _Socket(WebSocketRoute):
    """Route of the event stream of a thread, over WebSocket.

    Args:
        path: Path of the threads.
        sockets: The connections.
    """

    def __init__(self, path: str, sockets: EventSockets) -> None:
        super().__init__(f"{path}/{{thread_id}}/stream/events", sockets.serve)
        self._below = f"{path}/"
        self._sockets = sockets

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See `Route.matches`."""
        if scope["type"] == "websocket" and self._thread(scope) is not None:
            return Match.FULL, {"endpoint": self.endpoint, "path_params": {}}
        return Match.NONE, {}

    def _thread(self, scope: Scope) -> str | None:
        path = _path_of(scope)
        values = _matched(_EVENTS, path[len(self._below) :].split("/")) if path.startswith(self._below) else None
        return None if values is None else unquote(values["thread_id"])

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `Route.handle`."""
        await self._sockets.serve(self._thread(scope) or "", scope, receive, send)


class _Dispatcher:
    """ASGI application that finds a route by segments of the path, each of which may hold an encoded ``/``.

    Args:
        prefix: Path before the routes.
        table: Patterns such as ``threads/{thread_id}/runs``, and their endpoints.
        unknown: Endpoint of all other paths.
    """

    def __init__(self, prefix: str, table: Sequence[tuple[str, Endpoint]], unknown: Endpoint) -> None:
        self._skipped = len(prefix) + 1
        self._table = [(pattern.split("/"), endpoint) for pattern, endpoint in table]
        self._unknown = unknown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = [unquote(each) for each in _path_of(scope)[self._skipped :].split("/")]
        if len(found) > 1 and not found[-1]:
            found.pop()
        for pattern, endpoint in self._table:
            values = _matched(pattern, found)
            if values is not None:
                await endpoint({**scope, "path_params": values}, receive, send)
                return
        await self._unknown({**scope, "path_params": {}}, receive, send)


def _matched(pattern: Sequence[str], segments: Sequence[str]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    values: dict[str, str] = {}
    for name, segment in zip(pattern, segments, strict=True):
        if name.startswith("{"):
            values[name[1:-1]] = segment
        elif name != segment:
            return None
    return values


def _path_of(scope: Scope) -> str:
    """Return the path as it was sent, below the place where the application is mounted."""
    raw: Any = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.partition(b"?")[0].decode("latin-1")
    root = quote(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path
