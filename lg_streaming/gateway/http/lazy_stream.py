"""Responses of the application's own routes, which stream an execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, QueryParams
from starlette.responses import Response

from lg_streaming.errors import StreamingError
from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.http.event_stream import open_stream
from lg_streaming.gateway.http.query_params import last_event_id
from lg_streaming.gateway.protocol.registry import parse
from lg_streaming.gateway.protocol.responses import error_response, isolate
from lg_streaming.gateway.session.session import Session

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.http.event_stream import StreamOptions
    from lg_streaming.gateway.protocol.inbound import SubscribeExecution
    from lg_streaming.types import ProtocolName

__all__ = ["LazyStream"]


class LazyStream(Response):
    """Response that opens its stream when it is sent, as it has no request before."""

    def __init__(
        self,
        context: HttpContext,
        query: SubscribeExecution,
        options: StreamOptions,
        *,
        heartbeat_interval: float | None = None,
        transport: ProtocolName = "sse",
    ) -> None:
        super().__init__(media_type="text/event-stream")
        self._context = context
        self._transport: ProtocolName = transport
        self._heartbeat_interval = heartbeat_interval
        self._query = query
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Open the stream for the request, and serve it."""
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
            query = parse(type(query), {**query.model_dump(exclude_unset=True), "after": last_event_id})
        context.gateway.lifecycle.wake()
        session = Session(
            peer=peer,
            context=context.gateway,
            transport=self._transport,
            heartbeat_interval=self._heartbeat_interval,
            trusted=True,
        )
        try:
            await session.login()
            return await open_stream(self._context, session, query, self._options, head_only=head_only)
        except BaseException:
            session.close()
            raise
