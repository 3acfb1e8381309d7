"""One event stream: an execution as a response of Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.datastructures import Headers
from starlette.responses import Response

from lg_streaming.errors import (
    MessageRateError,
    ServerRestartError,
    SlowReaderError,
    StreamingError,
    TokenExpiredError,
    UnauthorizedError,
)
from lg_streaming.gateway.delivery.frames import FrameCache
from lg_streaming.gateway.delivery.pump import SubscriptionPump
from lg_streaming.gateway.dialects import DialectName, EventStreamEncoder, Flowise, Native
from lg_streaming.gateway.hooks.server import ServerTransport, current_line
from lg_streaming.gateway.http.endpoint import gone
from lg_streaming.gateway.session.handlers import subscribed
from lg_streaming.gateway.transports.duplex import FRESH_BYTES
from lg_streaming.hub.callbacks import is_external_cancellation

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.delivery.frames import Frames
    from lg_streaming.gateway.http.compression import Coder
    from lg_streaming.gateway.protocol.messages import EventName, SubscribeExecution
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.hub import SubscribeResult

__all__ = ["EventStream", "InitialData", "StreamOptions", "open_stream"]

logger: logging.Logger = logging.getLogger(__name__)

InitialData = Callable[[str], Any | Awaitable[Any]]
"""`initial_data(execution_id)`, sync (run in a thread of the gateway's) or async: what a reader is shown first."""

_LIVE_STATES: Final = frozenset({"running", "interrupted", "unknown"})
_GOODBYE_TIMEOUT: Final = 1.0
_INITIAL_DATA_TIMEOUT: Final = 10.0
_HEADERS: Final = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How one stream is written."""

    event: EventName | None = "type"
    """What the `event:` line of an update has; None: it has none, and `onmessage` fires."""
    ids: bool = True
    """Whether updates have an `id:` line, from which a reader resumes."""
    max_duration: float | None = None
    """Seconds after which the stream ends, and the reader is to come back; None: never."""
    initial_data: InitialData | None = None
    """Makes the first event, `initial`."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Headers of the answer beside its own."""
    dialect: DialectName | None = None
    """What it is written in; None: the library's own events."""


async def open_stream(
    session: Session, wanted: SubscribeExecution, options: StreamOptions, *, head_only: bool = False
) -> Response:
    """The answer to a reader who was let in. Everything that can be wrong is found before the first byte.

    Raises:
        StreamingError: It cannot be read, see `Session.subscribe`; or the initial data could not be made.
    """
    # With `fail` the stream itself says what is missing, and ends there.
    lenient = wanted.model_copy(update={"on_gap": "oldest"}) if wanted.on_gap == "fail" else wanted
    watch, attached = await session.subscribe(lenient)
    if head_only or (options.dialect is None and _is_past_end(wanted, attached)):
        session.end()
        return Response(status_code=200 if head_only else 204, headers={**_HEADERS, **options.headers})
    # The reader's place is fixed: what comes while this is made is delivered after it.
    initial = await _made(session, options.initial_data, wanted.execution_id)
    session.edge.check_open()
    session.opened(secrets.token_urlsafe(15))
    stream = EventStream(session, watch, options)
    status = {**session.greeting(), **_without_ok(subscribed(attached))}
    stream.first_words = stream.dialect.greeting(session.edge.retry_ms(), status)
    if options.initial_data is not None:
        stream.first_words += stream.dialect.say("initial", initial)
    stream.fails_on_gap = wanted.on_gap == "fail"
    return stream


def _without_ok(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ok"}


async def _made(session: Session, initial_data: InitialData | None, execution_id: str) -> object:
    if initial_data is None:
        return None
    try:
        async with asyncio.timeout(_INITIAL_DATA_TIMEOUT):
            return await session.edge.workers.answer(session.caller, initial_data, execution_id)
    except (MessageRateError, ServerRestartError):
        raise
    except BaseException as error:
        if is_external_cancellation(error):
            raise
        logger.exception("initial_data failed for execution %r", execution_id)
        raise StreamingError("the initial data could not be made", execution_id=execution_id) from None


def _is_past_end(wanted: SubscribeExecution, attached: SubscribeResult) -> bool:
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


def _dialect(session: Session, watch: ActiveSubscription, options: StreamOptions) -> EventStreamEncoder:
    if options.dialect == "flowise":
        replica_id = session.edge.replica_id
        return Flowise(
            watch.execution_id, follow=watch.follow, listener_id=session.connection_id, replica_id=replica_id
        )
    return Native(watch.execution_id, event=options.event, ids=options.ids, batch=watch.batch)


class EventStream(Response):
    """One reader's response; the sink of its delivery."""

    def __init__(self, session: Session, watch: ActiveSubscription, options: StreamOptions) -> None:
        super().__init__(headers={**_HEADERS, **options.headers}, media_type="text/event-stream")
        del self.headers["content-length"]
        self._session = session
        self._edge = session.edge
        self._watch = watch
        self.dialect: EventStreamEncoder = _dialect(session, watch, options)
        self._says_keep_alive = options.dialect == "flowise"
        self._ends_at = None if options.max_duration is None else self._edge.monotonic() + options.max_duration
        self._line: ServerTransport | None = None
        self._pump: asyncio.Task[None] | None = None
        self._send: Send | None = None
        self._last_words = b""
        self._code: int | None = None
        self._coder: Coder | None = None
        self._coded = b""
        self._begun = False
        self._writing = asyncio.Lock()
        self.first_words = b""
        self.fails_on_gap = False
        self.ended: asyncio.Event = asyncio.Event()

    def send_away(self) -> None:
        """The server is going to stop."""
        self._code = ServerRestartError.code
        self._end_with("server_restart")

    def _end_with(self, event: str) -> None:
        """Ends the stream; the reader is told when to come back."""
        retry_ms = self._edge.retry_ms()
        self._last_words = self.dialect.sent_away(event, retry_ms)
        if self._pump is not None:
            self._pump.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the stream until its end, the client's, or the server's."""
        self._send = send
        self._coder = self._edge.compression.open(Headers(scope=scope))
        if self._coder is not None:
            self.headers["Content-Encoding"] = self._coder.name
        if self._says_keep_alive and scope["http_version"] in {"1.0", "1.1"}:
            self.headers["Connection"] = "keep-alive"
        self._line = current_line()
        if self._line is not None:
            self._line.cut_when_silent(2 * self._edge.settings.limits.send_timeout)
        self._edge.streams.add(self)
        self._pump = asyncio.create_task(self._deliver(), name="lg_streaming.sse")
        leaving = asyncio.create_task(gone(receive), name="lg_streaming.sse.leaving")
        try:
            over = False
            while not (over or self._pump.done() or leaving.done()):
                tasks = {self._pump, leaving}
                await asyncio.wait(tasks, timeout=self._next_due(), return_when=asyncio.FIRST_COMPLETED)
                over = await self._advance()
            if not leaving.done():
                await self._finish(send)
        finally:
            self._edge.streams.discard(self)
            self._session.end(self._code)
            for task in (self._pump, leaving):
                task.cancel()
            await asyncio.gather(self._pump, leaving, return_exceptions=True)
            self.ended.set()

    def _next_due(self) -> float | None:
        due = self._session.next_due()
        if self._ends_at is not None:
            due = max(0.0, min(due, self._ends_at - self._edge.monotonic()))
        return due if math.isfinite(due) else None

    async def _advance(self) -> bool:
        """Whether the stream has to end, as time has passed."""
        due = self._session.advance()
        try:
            if due.pause:
                raise TokenExpiredError
            if due.heartbeat:
                await self._session.check_welcome()
                await self._keep_alive()
        except UnauthorizedError as error:
            self._fail(error)
            return True
        if self._ends_at is not None and self._edge.monotonic() >= self._ends_at:
            self._end_with("timeout")
            return True
        return False

    async def _keep_alive(self) -> None:
        """Says that the stream lives, unless something is on its way anyway."""
        if not self._writing.locked():
            with contextlib.suppress(TimeoutError):  # the delivery notices it too, and ends the stream
                await self._write(self.dialect.keep_alive)

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
                await self._begin(send)  # where the server went away before the delivery had its first turn
                await send({"type": "http.response.body", "body": last, "more_body": False})
        except TimeoutError:
            self.cut()

    def cut(self) -> None:
        """Ends the connection at once, where the server allows that."""
        if self._line is not None:
            self._line.abort()

    async def _begin(self, send: Send) -> None:
        if not self._begun:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            self._begun = True

    async def _deliver(self) -> None:
        send, watch = self._send, self._watch
        if send is None:
            return
        await self._begin(send)
        try:
            await self._write(self.first_words)
            ending = await SubscriptionPump(
                self._edge,
                watch,
                self.dialect.encode,
                self,
                report=self._session.report,
                fails_on_gap=self.fails_on_gap,
                chunks=None if self.dialect.shared else FrameCache(max_bytes=0),
                at_head=None if self.dialect.shared else self._at_head,
            ).run()
            over = ending.reason == "ended"
            known = await self._edge.hub.describe(watch.execution_id) if over and not self.dialect.shared else None
            state = known.state if known is not None else None
            self._last_words = self.dialect.ended(ending.position, run_is_over=over, state=state) or self._last_words
        except TimeoutError:
            logger.info("a reader of %r is cut off: nothing was read", watch.execution_id)
            self._fail(SlowReaderError())
            self.cut()
        except StreamingError as error:
            self._fail(error)
        except Exception:
            logger.exception("delivery of execution %r failed", watch.execution_id)
            self._fail(StreamingError())

    def _fail(self, error: StreamingError) -> None:
        self._code = error.code
        self._last_words = self.dialect.failed(error)

    # ------------------------------------------------------------ what the delivery wants
    async def room(self) -> bool:
        """See `Sink.room`."""
        if self._line is not None and not self._line.buffered:
            return False
        async with self._writing:
            await self._pass_on(b"")
        return self._line is not None

    async def write(self, frames: Frames) -> None:
        """See `Sink.write`."""
        if frames.wire:
            await self._write(frames.wire)

    async def say(self, event: str, payload: dict[str, object]) -> None:
        """See `Sink.say`."""
        if words := self.dialect.say(event, payload):
            await self._write(words)

    async def _at_head(self) -> None:
        """Everything there is has been written."""
        if words := self.dialect.at_head():
            await self._write(words)
        if self.dialect.over:
            self._watch.subscription.close()

    def prefer_fresh(self) -> None:
        """See `Sink.prefer_fresh`."""
        if self._line is not None:
            self._line.keep_short(FRESH_BYTES)

    async def _write(self, body: bytes) -> None:
        """Raises TimeoutError when the peer has read nothing for `limits.send_timeout`."""
        async with self._writing:
            if self._coder is not None:
                body = self._coded = self._coder.write(body)
            await self._pass_on(body)
            self._coded = b""

    async def _pass_on(self, body: bytes) -> None:
        message = {"type": "http.response.body", "body": body, "more_body": True}
        line, send, patience = self._line, self._send, self._edge.settings.limits.send_timeout
        if send is not None and line is not None and not line.buffered:
            await send(message)  # nothing waits, so neither does this
            return
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
