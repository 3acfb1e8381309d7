"""The route of Durable Streams, which reads only."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from starlette.routing import Route

from lg_streaming.errors import GapError, StreamingError
from lg_streaming.gateway.dialects.durable_streams.encoder import DurableEncoder
from lg_streaming.gateway.dialects.durable_streams.reading import ReadRequest, head_response, page_response
from lg_streaming.gateway.dialects.wire import Wire
from lg_streaming.gateway.http.endpoint import Endpoint, execution_id_of
from lg_streaming.gateway.http.event_stream import StreamOptions, open_stream
from lg_streaming.gateway.http.queries import HistoryReader
from lg_streaming.gateway.protocol.http_models import MAX_WAIT
from lg_streaming.gateway.protocol.responses import error_response

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.types import WireName

__all__ = ["DurableStreams"]

_EXPOSED: Final = (
    "Stream-Next-Offset",
    "Stream-Cursor",
    "Stream-Up-To-Date",
    "Stream-Closed",
    "ETag",
    "Retry-After",
)
_GONE: Final = 410


class DurableStreams(Wire):
    """The read side of Durable Streams: each execution is a stream of JSON messages, its updates."""

    name: ClassVar[WireName] = "durable-streams"
    wait: ClassVar[float] = MAX_WAIT
    """Seconds that a long poll waits for a message."""
    connection_time: ClassVar[float] = 60.0
    """Seconds after which an event stream ends, so that its reader reconnects; `gateway.max_stream_duration` may be
    less."""

    def __init__(self, context: HttpContext) -> None:
        super().__init__(context)
        self._pages = HistoryReader()
        context.gateway.lifecycle.closers.append(self._shutdown)

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Wire.paths`."""
        return (self._settings.durable_streams_path,)

    def routes(self) -> list[BaseRoute]:
        """See `Wire.routes`."""
        endpoint = Endpoint(
            self._context, describe_error=_describe, expose=_EXPOSED, accept=("If-None-Match",), GET=self._get
        )
        return [Route(f"{self._settings.durable_streams_path}/{{execution_id:lg_execution_id}}", endpoint)]

    async def _shutdown(self) -> None:
        """End all long polls; their requests get the present page."""
        self._pages.shutdown()

    async def _get(self, request: Request, peer: Peer) -> Response:
        if request.query_params.get("live") == "sse" and request.method == "GET":
            return await self._stream(request, peer)
        session = await self.enter(peer)
        asked = ReadRequest.parse(request, execution_id_of(request), wait=self.wait)
        if request.method == "HEAD":
            return head_response(asked, await session.check("read", asked.query.execution_id))
        page = await self._pages.page(session, asked.query, request.receive)
        return page_response(asked, page, request.headers.get("if-none-match", ""))

    async def _stream(self, request: Request, peer: Peer) -> Response:
        session = await self.open_session(peer)
        try:
            asked = ReadRequest.parse(request, execution_id_of(request), wait=0)
            longest = self._context.gateway.settings.gateway.max_stream_duration
            options = StreamOptions(
                headers={"Content-Type": "text/event-stream"},  # without a charset
                encoder=lambda _, subscription: DurableEncoder(subscription, asked.cursor),
                check=lambda attached: asked.check_gap(attached.reason),
                max_duration=min(longest or self.connection_time, self.connection_time),
            )
            return await open_stream(self._context, session, asked.query, options)
        except BaseException as error:
            if isinstance(error, StreamingError):
                session.instrumentation.refused(error)
            session.close()
            raise


def _describe(error: StreamingError) -> Response:
    response = error_response(error)
    if isinstance(error, GapError):
        response.status_code = _GONE
    return response
