"""The Server-Sent Events transport: `GET /executions/{id}/stream`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import StreamingError
from lg_streaming.filters import FILTER_LISTS, FILTER_TEXTS
from lg_streaming.gateway.http.endpoint import (
    Endpoint,
    ExecutionRoute,
    execution_id_of,
)
from lg_streaming.gateway.http.event_stream import InitialData, StreamOptions, open_stream
from lg_streaming.gateway.http.query_params import query_payload
from lg_streaming.gateway.protocol.http_models import StreamQuery
from lg_streaming.gateway.protocol.registry import parse
from lg_streaming.gateway.session.session import Session

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Router

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.http.stream_encoder import MakeEncoder

__all__ = ["ServerSentEvents"]

_FLAGS: Final = frozenset({"follow", "batch", "merge", "named"})
_TEXTS: Final = {*FILTER_TEXTS, "after", "dialect", "event", "on_gap", "ticket"}


class ServerSentEvents:
    """The SSE side of a gateway.

    Args:
        context: Services that the routes share.
        initial_data: Function that returns a reader's first event; default: no such event.
        dialects: Makers of the encoders of `?dialect=…`.
    """

    def __init__(
        self,
        context: HttpContext,
        *,
        initial_data: InitialData | None = None,
        dialects: Mapping[str, MakeEncoder] = MappingProxyType({}),
    ) -> None:
        self._context = context
        self._initial_data = initial_data
        self._dialects = dialects

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
                encoder=None if query.dialect is None else self._dialects[query.dialect],
                keep_alive_header=query.dialect is not None,
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
