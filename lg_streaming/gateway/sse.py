"""The Server-Sent Events transport: `GET /executions/{id}/stream`, and the same for a route of the user's own."""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from lg_streaming.codec import Codec
from lg_streaming.errors import (
    BadRequestError,
    StreamingError,
    TokenExpiredError,
)
from lg_streaming.gateway._server import Line, current_line
from lg_streaming.gateway.delivery import Delivery
from lg_streaming.gateway.frames import Frames
from lg_streaming.gateway.handlers import subscribed
from lg_streaming.gateway.http import (
    EXECUTION_PATH,
    endpoint,
    execution_id_of,
    refuse_tokens_in_url,
    ticket_of,
)
from lg_streaming.gateway.messages import SubscribeExecution
from lg_streaming.gateway.peer import Peer
from lg_streaming.gateway.protocol import parse
from lg_streaming.gateway.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import Router
    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.edge import Edge
    from lg_streaming.gateway.watches import Watch
    from lg_streaming.hub import Attached
    from lg_streaming.log.base import Record

__all__ = ["InitialData", "ServerSentEvents", "StreamOptions"]

logger = logging.getLogger(__name__)

InitialData = Callable[[str], Any | Awaitable[Any]]
"""`initial_data(execution_id)`, sync (run in a thread) or async: what a reader is shown first."""

_LISTS: Final = frozenset({"events", "node_ids", "agent_types", "categories"})
_FLAGS: Final = frozenset({"follow", "batch", "merge"})
_TEXTS: Final = frozenset({"min_priority", "since", "until", "after", "on_gap"})
_ALIASES: Final = {"filters": "events"}
_LIVE_STATES: Final = frozenset({"running", "interrupted", "unknown"})
_JSON: Final = Codec()
_GOODBYE_TIMEOUT: Final = 1.0
_INITIAL_DATA_TIMEOUT: Final = 10.0
_HEADERS: Final = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How one stream is written."""

    named: bool = True
    """Whether updates have an `event:` line, by their type; without it `onmessage` fires."""
    ids: bool = True
    """Whether updates have an `id:` line, from which a reader resumes."""
    max_duration: float | None = None
    """Seconds after which the stream ends, and the reader is to come back; None: never."""
    heartbeat_interval: float = 15.0
    """Seconds between comments while there is nothing else to send."""
    initial_data: InitialData | None = None
    """Makes the first event, `initial`."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Headers of the answer beside its own."""


class ServerSentEvents:
    """The SSE side of a gateway.

    Args:
        edge: What all transports share.
        initial_data: What readers are shown first; nothing when not given.
    """

    def __init__(self, edge: Edge, *, initial_data: InitialData | None = None) -> None:
        self._edge = edge
        self._initial_data = initial_data
        self._streams: set[_Stream] = set()

    def add_routes(self, router: Router) -> None:
        """Adds the route to `router`."""
        serve = endpoint(self._edge.policy, self._open)
        router.add_route(f"{EXECUTION_PATH}/stream", serve, methods=["GET", "OPTIONS"])

    def readers(self, execution_id: str) -> int:
        """How many streams of an execution are open."""
        return sum(stream.execution_id == execution_id for stream in list(self._streams))

    async def shutdown(self) -> None:
        """Tells every reader to come back later, and ends all streams, within about a second."""
        streams = list(self._streams)
        for stream in streams:
            stream.send_away()
        await asyncio.gather(*(stream.ended.wait() for stream in streams))

    async def _open(self, request: Request, peer: Peer) -> Response:
        """Everything that can be wrong is found before the first byte, while it still has an HTTP status."""
        refuse_tokens_in_url(request)
        session = Session(peer=peer, edge=self._edge, transport="sse", expiry_grace=0.0)
        await session.login(ticket=ticket_of(request.scope))
        try:
            wanted, named = _wanted(request)
            options = StreamOptions(
                named=named,
                max_duration=self._edge.settings.gateway.max_stream_duration,
                heartbeat_interval=self._edge.settings.gateway.heartbeat_interval,
                initial_data=self._initial_data,
            )
            return await self.open(session, wanted, options, head_only=request.method == "HEAD")
        except BaseException:
            session.end()
            raise

    async def open(
        self, session: Session, wanted: SubscribeExecution, options: StreamOptions, *, head_only: bool = False
    ) -> Response:
        """The answer to a reader who was let in. Raises StreamingError before anything was sent."""
        # With `fail` the stream itself says what is missing, and ends there.
        lenient = wanted.model_copy(update={"on_gap": "oldest"}) if wanted.on_gap == "fail" else wanted
        watch, attached = await session.subscribe(lenient)
        if head_only or _is_past_end(wanted, attached):
            session.end()
            return Response(status_code=200 if head_only else 204, headers={**_HEADERS, **options.headers})
        # The reader's place is fixed: what comes while this is made is delivered after it.
        initial = await _made(options.initial_data, wanted.execution_id)
        session.connection_id = secrets.token_urlsafe(15)
        stream = _Stream(self._streams, session, watch, options)
        stream.first_words = b"".join(
            [
                b"retry: %d\n" % self._edge.retry_ms(),
                _event("connection_status", {**session.greeting(), **_without_ok(subscribed(attached))}),
                *([_event("initial", initial)] if options.initial_data is not None else []),
            ]
        )
        stream.fails_on_gap = wanted.on_gap == "fail"
        return stream


def _without_ok(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ok"}


async def _made(initial_data: InitialData | None, execution_id: str) -> object:
    if initial_data is None:
        return None
    try:
        async with asyncio.timeout(_INITIAL_DATA_TIMEOUT):
            if inspect.iscoroutinefunction(initial_data):
                return await initial_data(execution_id)
            made = await asyncio.to_thread(initial_data, execution_id)
            return await made if inspect.isawaitable(made) else made
    except Exception:
        logger.exception("initial_data failed for execution %r", execution_id)
        raise StreamingError("the initial data could not be made", execution_id=execution_id) from None


def _wanted(request: Request) -> tuple[SubscribeExecution, bool]:
    """What the query asks for, and whether events are named."""
    payload: dict[str, object] = {}
    named = True
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if _ALIASES.get(name, name) in _LISTS:
            payload[_ALIASES.get(name, name)] = [part for value in values for part in value.split(",") if part]
        elif name in _FLAGS:
            payload[name] = _flag(name, values[-1])
        elif name in _TEXTS:
            payload[name] = values[-1]
        elif name == "named":
            named = _flag(name, values[-1])
        elif name == "ticket":
            continue
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
    ids: bool

    def wrap(self, execution_id: str, records: Sequence[Record]) -> Frames:  # noqa: ARG002 (others need it)
        """See `Encode.wrap`."""
        parts: list[bytes] = []
        for record in records:
            name = b"event: %b\n" % _line(record.type) if self.named else b""
            identity = b"id: %b:%d\n" % (record.epoch.encode(), record.seq) if self.ids else b""
            parts.append(b"%b%bdata: %b\n\n" % (identity, name, record.json))
        return Frames(b"".join(parts), count=len(parts))


@dataclass(frozen=True, slots=True)
class _EncodeBatch:
    """One event for all, its data a list."""

    named: bool
    ids: bool

    def wrap(self, execution_id: str, records: Sequence[Record]) -> Frames:  # noqa: ARG002 (others need it)
        """See `Encode.wrap`."""
        last = records[-1]
        name = b"event: updates\n" if self.named else b""
        identity = b"id: %b:%d\n" % (last.epoch.encode(), last.seq) if self.ids else b""
        return Frames(b"%b%bdata: [%b]\n\n" % (identity, name, b",".join([record.json for record in records])))


def _line(text: str) -> bytes:
    """``text`` as the rest of a line: a type is anybody's own name, and a line break in it would begin a new field."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text.encode("utf-8", "replace")


def _event(name: str, content: object, identity: object = None) -> bytes:
    head = b"" if identity is None else b"id: %b\n" % str(identity).encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), _JSON.dumps(content))


class _Stream(Response):
    """One reader's response; the sink of its delivery."""

    def __init__(self, streams: set[_Stream], session: Session, watch: Watch, options: StreamOptions) -> None:
        super().__init__(headers={**_HEADERS, **options.headers}, media_type="text/event-stream")
        del self.headers["content-length"]
        self._streams = streams
        self._session = session
        self._edge = session.edge
        self._watch = watch
        self._options = options
        encoder = _EncodeBatch if watch.batch else _EncodeEvents
        self._encode = encoder(options.named, options.ids)
        self._ends_at = None if options.max_duration is None else self._edge.monotonic() + options.max_duration
        self._line: Line | None = None
        self._pump: asyncio.Task[None] | None = None
        self._send: Send | None = None
        self._last_words = b""
        self.first_words = b""
        self.fails_on_gap = False
        self.ended = asyncio.Event()

    @property
    def execution_id(self) -> str:
        """What is read."""
        return self._watch.execution_id

    def send_away(self) -> None:
        """The server is going to stop."""
        self._end_with("server_restart")

    def _end_with(self, event: str) -> None:
        """Ends the stream; the reader is told when to come back."""
        retry_ms = self._edge.retry_ms()
        self._last_words = b"retry: %d\n" % retry_ms + _event(event, {"retry_ms": retry_ms})
        if self._pump is not None:
            self._pump.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI)
        """Serves the stream until its end, the client's, or the server's."""
        self._send = send
        self._line = current_line()
        if self._line is not None:
            self._line.cut_when_silent(2 * self._edge.settings.limits.send_timeout)
        self._streams.add(self)
        self._pump = asyncio.create_task(self._deliver(), name="lg_streaming.sse")
        leaving = asyncio.create_task(_gone(receive), name="lg_streaming.sse.leaving")
        try:
            over = False
            while not (over or self._pump.done() or leaving.done()):
                tasks = {self._pump, leaving}
                await asyncio.wait(tasks, timeout=self._next_due(), return_when=asyncio.FIRST_COMPLETED)
                over = self._advance()
            if not leaving.done():
                await self._finish(send)
        finally:
            self._streams.discard(self)
            self._session.end()
            for task in (self._pump, leaving):
                task.cancel()
            await asyncio.gather(self._pump, leaving, return_exceptions=True)
            self.ended.set()

    def _next_due(self) -> float:
        due = self._session.next_due()
        return due if self._ends_at is None else max(0.0, min(due, self._ends_at - self._edge.monotonic()))

    def _advance(self) -> bool:
        """Whether the stream has to end, as time has passed."""
        if self._session.advance().pause:
            self._last_words = _event("error", TokenExpiredError().to_dict())
            return True
        if self._ends_at is not None and self._edge.monotonic() >= self._ends_at:
            self._end_with("timeout")
            return True
        return False

    async def _finish(self, send: Send) -> None:
        """Ends the response well, if the client takes it."""
        pump = self._pump
        if pump is not None and not pump.done():
            pump.cancel()
            await asyncio.wait({pump})
        try:
            async with asyncio.timeout(_GOODBYE_TIMEOUT):
                await send({"type": "http.response.body", "body": self._last_words, "more_body": False})
        except TimeoutError:
            self._cut()

    def _cut(self) -> None:
        if self._line is not None:
            self._line.abort()

    async def _deliver(self) -> None:
        send, watch = self._send, self._watch
        if send is None:
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        try:
            await self._write(self.first_words)
            ending = await Delivery(
                edge=self._edge,
                watch=watch,
                encode=self._encode,
                sink=self,
                idle_after=self._options.heartbeat_interval,
                fails_on_gap=self.fails_on_gap,
            ).run()
            if ending.reason == "ended":
                # With its own id, so that a reader whose filter left the last updates out does not come back.
                identity = ending.position if self._options.ids else None
                self._last_words = _event("end", {"execution_id": watch.execution_id}, identity)
        except TimeoutError:
            logger.info("a reader of %r is cut off: nothing was read", watch.execution_id)
            self._cut()
        except StreamingError as error:
            self._last_words = _event("error", {"execution_id": watch.execution_id, **error.to_dict()})
        except Exception:
            logger.exception("delivery of execution %r failed", watch.execution_id)
            self._last_words = _event("error", StreamingError().to_dict())

    # ------------------------------------------------------------ what the delivery wants
    async def room(self) -> bool:
        """See `Sink.room`."""
        waits = self._line is not None and self._line.buffered > 0
        await self._write(b"")
        return waits

    async def write(self, frames: Frames) -> None:
        """See `Sink.write`."""
        await self._write(frames.wire)

    async def say(self, event: str, payload: dict[str, object]) -> None:
        """See `Sink.say`."""
        await self._write(_event(event, payload))

    async def idle(self) -> None:
        """See `Sink.idle`."""
        await self._write(b": keep-alive\n\n")

    async def _write(self, body: bytes) -> None:
        """Raises TimeoutError when the peer has read nothing for `limits.send_timeout`."""
        message = {"type": "http.response.body", "body": body, "more_body": True}
        line, send, patience = self._line, self._send, self._edge.settings.limits.send_timeout
        while send is not None:
            unsent = line.unsent if line is not None else 0
            try:
                async with asyncio.timeout(patience):
                    await send(message)
                return
            except TimeoutError:
                # uvicorn, where there is a line, waits before it writes: nothing of the message has left yet.
                if line is None or line.unsent >= unsent:
                    raise


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
