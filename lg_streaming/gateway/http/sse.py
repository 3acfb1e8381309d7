"""The Server-Sent Events transport: `GET /executions/{id}/stream`, and `sse_response` for an application's route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response
from typing_extensions import Unpack

from lg_streaming.checks import seconds
from lg_streaming.errors import BadRequestError, StreamingError
from lg_streaming.events import Position
from lg_streaming.filters import FILTER_LISTS, FILTER_TEXTS, FilterOptions, filter_payload
from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.http.context import HttpContext
from lg_streaming.gateway.http.endpoint import (
    Endpoint,
    ExecutionRoute,
    execution_id_of,
)
from lg_streaming.gateway.http.event_stream import InitialData, StreamOptions, open_stream
from lg_streaming.gateway.http.query_params import last_event_id, query_payload
from lg_streaming.gateway.protocol.http_models import StreamQuery
from lg_streaming.gateway.protocol.registry import parse
from lg_streaming.gateway.protocol.responses import error_response, isolate
from lg_streaming.gateway.session.session import Session

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Router
    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.protocol.inbound import DialectName, EventName
    from lg_streaming.hub import StreamHub
    from lg_streaming.hub.page import OnGap

__all__ = ["ServerSentEvents", "sse_response"]

_FLAGS: Final = frozenset({"follow", "batch", "merge", "named"})
_TEXTS: Final = {*FILTER_TEXTS, "after", "dialect", "event", "on_gap", "ticket"}


class ServerSentEvents:
    """The SSE side of a gateway.

    Args:
        context: Services that the routes share.
        initial_data: Function that returns a reader's first event; default: no such event.
    """

    def __init__(self, context: HttpContext, *, initial_data: InitialData | None = None) -> None:
        self._context = context
        self._initial_data = initial_data

    def add_routes(self, router: Router) -> None:
        """Add the route to `router`."""
        route = ExecutionRoute(
            self._context.gateway.settings.gateway.prefix, "stream", Endpoint(self._context, GET=self._open)
        )
        router.routes.append(route)

    async def _open(self, request: Request, peer: Peer) -> Response:
        session = Session(peer=peer, context=self._context.gateway, transport="sse")
        try:
            await session.login(takes_tickets=True)
            query = _parse_query(request)
            gateway = self._context.gateway.settings.gateway
            options = StreamOptions(
                event=query.event_line,
                dialect=query.dialect,
                max_duration=gateway.max_stream_duration,
                initial_data=self._initial_data,
            )
            return await open_stream(self._context, session, query, options, head_only=request.method == "HEAD")
        except BaseException as error:
            if isinstance(error, StreamingError):
                session.instrumentation.refused(error)
            session.close()
            raise


def _parse_query(request: Request) -> StreamQuery:
    """Parse the query."""
    payload = query_payload(request, lists=FILTER_LISTS, texts=_TEXTS, flags=_FLAGS)
    payload.pop("ticket", None)
    return parse(StreamQuery, {**payload, "execution_id": execution_id_of(request)})


def sse_response(
    hub: StreamHub,
    execution_id: str,
    *,
    after: Position | str | None = None,
    batch: bool = False,
    follow: bool = False,
    merge: bool = False,
    on_gap: OnGap = "oldest",
    named: bool = True,
    event: EventName | None = None,
    ids: bool = True,
    dialect: DialectName | None = None,
    initial_data: InitialData | None = None,
    max_duration: float | None = None,
    heartbeat_interval: float | None = None,
    headers: Mapping[str, str] | None = None,
    **filters: Unpack[FilterOptions],
) -> Response:
    """Return an execution as the event-stream response of your own route.

    ```python
    @app.get("/chats/{chat_id}/stream")
    async def watch(chat_id: str, user: CurrentUser) -> Response:
        return sse_response(streaming.hub, chat_id)
    ```

    Your route decides who may read; this function checks no token. The reader's `Last-Event-ID` wins over `after`; a
    parameter of the address (`?lastEventId=…`) counts as that header. If the execution cannot be read, the response
    has the error's HTTP status.

    Args:
        hub: The hub of the execution.
        execution_id: The execution to read; it need not have started.
        after: Position after which updates are sent; `"latest"` for new updates only; None for all.
        batch: Whether updates come as lists, in `updates` events.
        follow: Whether the stream stays after a run's final update.
        merge: Whether token deltas and progress may be merged while the reader lags.
        on_gap: What to do when updates after `after` are gone.
        named: Whether updates have an `event:` line; else a browser's `onmessage` fires.
        event: Content of the `event:` line: an update's `"type"`, such as `node_start`, or its `"kind"`, as on
            Socket.IO and `/ws`. The default is `"type"`.
        ids: Whether events have ids, from which a reader resumes.
        dialect: `"flowise"` for Flowise's clients. Such a stream has no names, ids or batches, so `batch` is refused.
        initial_data: `initial_data(execution_id)`, sync or async, returns the data of the first event, `initial`. The
            reader's position is fixed before the call, so updates published during the call follow the event.
        max_duration: Seconds after which the stream ends and asks the reader to reconnect; default: the settings'.
        heartbeat_interval: Seconds between comments on an idle stream; default: the settings'.
        headers: Additional headers of the response.
        filters: The updates to send; see `FilterOptions`. `until="interrupted"` ends the stream when the run waits
            for a human.

    Raises:
        BadRequestError: If the id or an option cannot be used.
    """
    seconds(none="for the settings'").check("max_duration", max_duration, BadRequestError)
    seconds(none="for the settings'").check("heartbeat_interval", heartbeat_interval, BadRequestError)
    payload: dict[str, object] = {
        "execution_id": execution_id,
        "after": str(after) if after is not None else None,
        "batch": batch,
        "follow": follow,
        "merge": merge,
        "on_gap": on_gap,
        "dialect": dialect,
        "event": event,
        **({} if named else {"named": False}),
        **filter_payload(filters),
    }
    context = HttpContext.for_hub(hub)
    request = parse(StreamQuery, {name: value for name, value in payload.items() if value is not None})
    return _LazyStream(
        context,
        heartbeat_interval,
        request,
        StreamOptions(
            event=request.event_line,
            ids=ids,
            dialect=dialect,
            max_duration=context.gateway.settings.gateway.max_stream_duration if max_duration is None else max_duration,
            initial_data=initial_data,
            headers=dict(headers or {}),
        ),
    )


class _LazyStream(Response):
    """Response that opens its stream when it is sent, as it has no request before."""

    def __init__(
        self, context: HttpContext, heartbeat_interval: float | None, query: StreamQuery, options: StreamOptions
    ) -> None:
        super().__init__(media_type="text/event-stream")
        self._context = context
        self._heartbeat_interval = heartbeat_interval
        self._query = query
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            last = last_event_id(Headers(scope=scope), QueryParams(scope.get("query_string", b"")))
            response = await self._open(Peer.from_scope(scope), last, head_only=scope.get("method") == "HEAD")
        except StreamingError as error:
            response = error_response(error)
            response.headers.update(self._options.headers)
        isolate(response)
        self._context.compression.apply(Headers(scope=scope), response)
        await response(scope, receive, send)

    async def _open(self, peer: Peer, last_event_id: str, *, head_only: bool) -> Response:
        context, query = self._context, self._query
        if last_event_id:
            query = parse(StreamQuery, {**query.model_dump(exclude_unset=True), "after": last_event_id})
        context.gateway.lifecycle.wake()
        session = Session(
            peer=peer,
            context=context.gateway,
            transport="sse",
            heartbeat_interval=self._heartbeat_interval,
            trusted=True,
        )
        try:
            await session.login()
            return await open_stream(self._context, session, query, self._options, head_only=head_only)
        except BaseException:
            session.close()
            raise
