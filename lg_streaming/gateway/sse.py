"""The Server-Sent Events transport: ``GET /executions/{id}/stream``."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson
from starlette.responses import Response

from lg_streaming.errors import BadRequestError, GapError, LogUnavailableError, StreamingError
from lg_streaming.gateway._server import Line, current_line
from lg_streaming.gateway.frames import Frames
from lg_streaming.gateway.http import EXECUTION_PATH, endpoint, execution_id_of, refuse_tokens_in_url
from lg_streaming.gateway.messages import SubscribeExecution
from lg_streaming.gateway.protocol import parse
from lg_streaming.gateway.session import attach

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.routing import Router
    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.compression import Coder
    from lg_streaming.gateway.edge import Edge
    from lg_streaming.gateway.frames import Encode
    from lg_streaming.gateway.peer import Peer
    from lg_streaming.hub import Attached, Page, Subscription
    from lg_streaming.log.base import Record

__all__ = ["ServerSentEvents"]

logger = logging.getLogger(__name__)

_LISTS: Final = frozenset({"events", "node_ids", "agent_types", "categories"})
_FLAGS: Final = frozenset({"follow"})
_TEXTS: Final = frozenset({"min_priority", "after", "on_gap"})
_NOT_YET: Final = frozenset({"batch", "merge", "dialect", "ticket", "delivery"})
_LIVE_STATES: Final = frozenset({"running", "interrupted", "unknown"})
_GOODBYE_TIMEOUT: Final = 1.0
_RETRY_DELAYS: Final = (0.05, 0.2, 0.5, 1.0, 2.0)
_HEADERS: Final = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


class ServerSentEvents:
    """The SSE side of a gateway.

    Args:
        edge: What all transports share.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._streams: set[_Stream] = set()

    def add_routes(self, router: Router) -> None:
        """Adds the route to ``router``."""
        serve = endpoint(self._edge.policy, self._open, self._edge.compression)
        router.add_route(f"{EXECUTION_PATH}/stream", serve, methods=["GET", "OPTIONS"])

    async def shutdown(self) -> None:
        """Tells every reader to come back later, and ends all streams, within about a second."""
        streams = list(self._streams)
        for stream in streams:
            stream.send_away(self._edge.retry_ms())
        await asyncio.gather(*(stream.ended.wait() for stream in streams))

    async def _open(self, request: Request, peer: Peer) -> Response:
        """Everything that can be wrong is found before the first byte, while it still has an HTTP status."""
        edge = self._edge
        edge.check_open()
        refuse_tokens_in_url(request)
        principal = edge.policy.admit(peer)
        wanted, named = _wanted(request)
        edge.census.enter()
        try:
            # With `fail` the stream itself says what is missing, and ends there.
            lenient = wanted.model_copy(update={"on_gap": "oldest"}) if wanted.on_gap == "fail" else wanted
            subscription, attached = await attach(edge.hub, edge.policy, principal, lenient)
        except BaseException:
            edge.census.leave()
            raise
        if request.method == "HEAD" or _is_past_end(wanted, attached):
            subscription.close()
            edge.census.leave()
            return Response(status_code=200 if request.method == "HEAD" else 204, headers=_HEADERS)
        expires_in = None if principal.expires_at is None else principal.expires_at - edge.wall()
        stream = _Stream(self._streams, edge, subscription, _EncodeEvents(named), expires_in)
        stream.fails_on_gap = wanted.on_gap == "fail"
        stream.code_with(edge.compression.open(request.headers))
        return stream


def _wanted(request: Request) -> tuple[SubscribeExecution, bool]:
    """What the query asks for, and whether events are named."""
    payload: dict[str, object] = {}
    named = True
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if name in _NOT_YET:
            raise BadRequestError(f"{name}: not available in this version: leave it out")
        if name in _LISTS:
            payload[name] = [part for value in values for part in value.split(",") if part]
        elif name in _FLAGS:
            payload[name] = _flag(name, values[-1])
        elif name in _TEXTS:
            payload[name] = values[-1]
        elif name == "named":
            named = _flag(name, values[-1])
        else:
            raise BadRequestError(f"{name!r:.80}: there is no such option")
    last_event_id = request.headers.get("last-event-id", "").strip()
    if last_event_id:
        payload["after"] = last_event_id
    return parse(SubscribeExecution, {**payload, "execution_id": execution_id_of(request)}), named


def _flag(name: str, value: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if known is None:
        raise BadRequestError(f"{name} is 'true' or 'false', not {value!r:.20}")
    return known


def _is_past_end(wanted: SubscribeExecution, attached: Attached) -> bool:
    """Whether a returning reader has it all already."""
    head = attached.position
    return (
        wanted.after is not None
        and not wanted.follow
        and attached.recovered
        and head is not None
        and attached.state not in _LIVE_STATES
        and wanted.after in {"latest", str(head)}
    )


@dataclass(frozen=True, slots=True)
class _EncodeEvents:
    """One event an update."""

    named: bool

    def wrap(self, execution_id: str, records: Sequence[Record]) -> Frames:  # noqa: ARG002 (others need it)
        """See :meth:`~lg_streaming.gateway.frames.Encode.wrap`."""
        parts: list[bytes] = []
        for record in records:
            name = b"event: %b\n" % _line(record.type) if self.named else b""
            parts.append(b"id: %b:%d\n%bdata: %b\n\n" % (record.epoch.encode(), record.seq, name, record.json))
        return Frames(b"".join(parts), count=len(parts))


def _line(text: str) -> bytes:
    """``text`` as the rest of a line: a type is anybody's own name, and a line break in it would begin a new field."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text.encode("utf-8", "replace")


def _event(name: str, content: Mapping[str, object], identity: object = None) -> bytes:
    head = b"" if identity is None else b"id: %b\n" % str(identity).encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), orjson.dumps(content))


class _Stream(Response):
    """One reader's response."""

    def __init__(
        self,
        streams: set[_Stream],
        edge: Edge,
        subscription: Subscription,
        encode: Encode,
        expires_in: float | None,
    ) -> None:
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self._streams = streams
        self._edge = edge
        self._subscription = subscription
        self._encode = encode
        self._expires_in = expires_in
        self._line: Line | None = None
        self._pump: asyncio.Task[None] | None = None
        self._last_words = b""
        self._coder: Coder | None = None
        self._coded = b""
        self.fails_on_gap = False
        self.ended = asyncio.Event()

    def code_with(self, coder: Coder | None) -> None:
        """Has the body coded, from its beginning."""
        if coder is not None:
            self._coder = coder
            self.headers["Content-Encoding"] = coder.name

    def send_away(self, retry_ms: int) -> None:
        """The server is going to stop."""
        self._last_words = b"retry: %d\n" % retry_ms + _event("server_restart", {"retry_ms": retry_ms})
        if self._pump is not None:
            self._pump.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI)
        """Serves the stream until its end, the client's, or the server's."""
        self._line = current_line()
        if self._line is not None:
            self._line.cut_when_silent(2 * self._edge.settings.limits.send_timeout)
        self._streams.add(self)
        self._pump = asyncio.create_task(self._deliver(send), name="lg_streaming.sse")
        leaving = asyncio.create_task(_gone(receive), name="lg_streaming.sse.leaving")
        try:
            await asyncio.wait({self._pump, leaving}, timeout=self._expires_in, return_when=asyncio.FIRST_COMPLETED)
            if not leaving.done():
                await self._finish(send)
        finally:
            self._streams.discard(self)
            self._subscription.close()
            self._edge.census.leave()
            for task in (self._pump, leaving):
                task.cancel()
            await asyncio.gather(self._pump, leaving, return_exceptions=True)
            self.ended.set()

    async def _finish(self, send: Send) -> None:
        """Ends the response well, if the client takes it."""
        pump = self._pump
        if pump is not None and not pump.done():
            pump.cancel()
            await asyncio.wait({pump})
        last = self._last_words
        if self._coder is not None:
            # What was coded and did not leave goes first: the reader's decoder cannot do without it.
            last = self._coded + self._coder.finish(last)
        try:
            async with asyncio.timeout(_GOODBYE_TIMEOUT):
                await send({"type": "http.response.body", "body": last, "more_body": False})
        except TimeoutError:
            self._cut()

    def _cut(self) -> None:
        if self._line is not None:
            self._line.abort()

    async def _deliver(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await self._write(send, b"retry: %d\n\n" % self._edge.retry_ms())
            await self._deliver_pages(send)
        except TimeoutError:
            logger.info("a reader of %r is cut off: nothing was read", self._subscription.execution_id)
            self._cut()
        except StreamingError as error:
            self._last_words = _event("error", error.to_dict())
        except Exception:
            logger.exception("delivery of execution %r failed", self._subscription.execution_id)
            self._last_words = _event("error", StreamingError().to_dict())

    async def _deliver_pages(self, send: Send) -> None:
        edge, subscription = self._edge, self._subscription
        execution_id, wanted = subscription.execution_id, subscription.filter
        while True:
            page = await self._next_page(send)
            if page.gap is not None:
                await self._write(send, _event("gap", {"execution_id": execution_id, **page.gap.to_dict()}))
                if self.fails_on_gap:
                    raise GapError(execution_id=execution_id)
            for frames in edge.chunks.of(execution_id, page.records, wanted, self._encode):
                await self._write(send, frames.wire)
            if page.ended:
                if not subscription.closed:
                    # With its own id, so that a reader whose filter left the last updates out does not come back.
                    self._last_words = _event("end", {"execution_id": execution_id}, page.position)
                return
            await edge.pacer.next()

    async def _next_page(self, send: Send) -> Page:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self._edge.settings.gateway.heartbeat_interval):
                    return await self._subscription.next_page()
            except TimeoutError:
                await self._write(send, b": keep-alive\n\n")
            except LogUnavailableError as error:
                if not failures:
                    await self._write(send, _event("error", error.to_dict()))
                await asyncio.sleep(_RETRY_DELAYS[min(failures, len(_RETRY_DELAYS) - 1)])
                failures += 1

    async def _write(self, send: Send, body: bytes) -> None:
        """Raises TimeoutError when the peer has read nothing for ``limits.send_timeout``."""
        if self._coder is not None:
            body = self._coded = self._coder.write(body)
        message = {"type": "http.response.body", "body": body, "more_body": True}
        line, patience = self._line, self._edge.settings.limits.send_timeout
        while True:
            unsent = line.unsent if line is not None else 0
            try:
                async with asyncio.timeout(patience):
                    await send(message)
                self._coded = b""
                return
            except TimeoutError:
                # uvicorn, where there is a line, waits before it writes: nothing of the message has left yet.
                if line is None or line.unsent >= unsent:
                    raise


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
