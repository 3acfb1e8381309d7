"""An execution as a response of Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib
import logging
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
)
from lg_streaming.gateway.delivery.frames import FrameCache
from lg_streaming.gateway.delivery.pump import SubscriptionPump
from lg_streaming.gateway.hooks.server import ServerTransport, current_transport
from lg_streaming.gateway.http.endpoint import wait_disconnected
from lg_streaming.gateway.http.native import Native
from lg_streaming.gateway.http.stream_encoder import PreparingEncoder
from lg_streaming.gateway.session.handlers import subscribed
from lg_streaming.gateway.session.status import connection_status
from lg_streaming.gateway.session.timers import SessionTimers
from lg_streaming.gateway.transports.websocket_connection import FRESH_BYTES
from lg_streaming.hub.callbacks import is_external_cancellation
from lg_streaming.hub.carry import carry

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.delivery.frames import Frames
    from lg_streaming.gateway.http.compression import Coder
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.http.stream_encoder import EventStreamEncoder, MakeEncoder
    from lg_streaming.gateway.protocol.inbound import EventName, SubscribeExecution
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.gateway.session.timers import TimerEvent
    from lg_streaming.hub import SubscribeResult

__all__ = ["EventStream", "InitialData", "StreamOptions", "open_stream"]

logger: logging.Logger = logging.getLogger(__name__)

InitialData = Callable[[str], Any | Awaitable[Any]]
"""`initial_data(execution_id)`, sync (run in a thread of the gateway) or async: returns a reader's first event."""

_LIVE_STATES: Final = frozenset({"running", "interrupted", "unknown"})
_CLOSE_TIMEOUT: Final = 1.0
_INITIAL_DATA_TIMEOUT: Final = 10.0
_HEADERS: Final = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Options of one stream."""

    event: EventName | None = "type"
    """The value of an update's `event:` line; None for no line, so that `onmessage` fires."""
    ids: bool = True
    """True for an `id:` line in updates, from which a reader resumes."""
    max_duration: float | None = None
    """Seconds after which the stream ends and the reader has to reconnect; None: no limit."""
    initial_data: InitialData | None = None
    """Function that returns the data of the first event, `initial`."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Additional headers of the response."""
    encoder: MakeEncoder | None = None
    """Maker of the format's encoder; None for the library's own events."""
    keep_alive_header: bool = False
    """True for the header ``Connection: keep-alive`` under HTTP/1."""
    check: Callable[[SubscribeResult], None] | None = None
    """Called with the answer to the subscribe; raises a `StreamingError` to refuse the reader."""
    on_leave: Callable[[], Awaitable[object]] | None = None
    """Awaited after a client has left a stream that had not ended."""
    before_end: Callable[[], Awaitable[object]] | None = None
    """Awaited before the encoder's `on_end`."""


async def open_stream(
    context: HttpContext,
    session: Session,
    query: SubscribeExecution,
    options: StreamOptions,
    *,
    head_only: bool = False,
) -> Response:
    """Return the response to an admitted reader. All errors are raised before the first byte.

    Raises:
        StreamingError: If the execution cannot be read, see `Session.subscribe`, or the initial data failed.
    """
    # With `fail` the stream itself reports the gap, and ends there.
    lenient = query.model_copy(update={"on_gap": "oldest"}) if query.on_gap == "fail" else query
    subscription, attached = await session.subscribe(lenient)
    if options.check is not None:
        options.check(attached)
    if head_only or (options.encoder is None and _is_past_end(query, attached)):
        session.close()
        return Response(status_code=200 if head_only else 204, headers={**_HEADERS, **options.headers})
    # The reader's position is fixed: updates that arrive during this call are delivered after it.
    initial = await _made(context, session, options.initial_data, query.execution_id)
    session.context.lifecycle.ensure_open()
    session.opened(secrets.token_urlsafe(15))
    stream = EventStream(context, session, subscription, options)
    status = {**connection_status(session), **_without_ok(subscribed(attached))}
    stream.first_words = stream.encoder.before_stream(session.context.lifecycle.retry_ms(), status)
    if options.initial_data is not None:
        stream.first_words += stream.encoder.encode_event("initial", initial)
    stream.fails_on_gap = query.on_gap == "fail"
    return stream


def _without_ok(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ok"}


async def _made(context: HttpContext, session: Session, initial_data: InitialData | None, execution_id: str) -> object:
    if initial_data is None:
        return None
    try:
        async with asyncio.timeout(_INITIAL_DATA_TIMEOUT):
            return await context.workers.answer(session.caller, initial_data, execution_id)
    except (MessageRateError, ServerRestartError):
        raise
    except BaseException as error:
        if is_external_cancellation(error):
            raise
        logger.exception("initial_data failed for execution %r", execution_id)
        raise StreamingError("the initial data could not be made", execution_id=execution_id) from None


def _is_past_end(query: SubscribeExecution, attached: SubscribeResult) -> bool:
    """Return whether a returning reader has all updates already."""
    head = attached.position
    return (
        query.after is not None
        and not query.follow
        and attached.recovered
        and head is not None
        and attached.state not in _LIVE_STATES
        and query.after in {"latest", str(head)}
    )


def _encoder(session: Session, subscription: ActiveSubscription, options: StreamOptions) -> EventStreamEncoder:
    if options.encoder is not None:
        return options.encoder(session, subscription)
    return Native(subscription.execution_id, event=options.event, ids=options.ids, batch=subscription.options.batch)


class EventStream(Response):
    """One reader's response, and the sink of its delivery."""

    def __init__(
        self, context: HttpContext, session: Session, subscription: ActiveSubscription, options: StreamOptions
    ) -> None:
        super().__init__(headers=_HEADERS, media_type="text/event-stream")
        del self.headers["content-length"]
        self.headers.update(options.headers)
        self._context = context
        self._session = session
        self._lifecycle = context.gateway.lifecycle
        self._subscription = subscription
        self.encoder: EventStreamEncoder = _encoder(session, subscription, options)
        self._keep_alive_header = options.keep_alive_header
        self._on_leave = options.on_leave
        self._before_end = options.before_end
        self._max_duration = options.max_duration
        self._transport: ServerTransport | None = None
        self._pump: asyncio.Task[None] | None = None
        self._send: Send | None = None
        self._last_words = b""
        self._stopping: asyncio.Future[StreamingError | str] | None = None
        self._code: int | None = None
        self._coder: Coder | None = None
        self._coded = b""
        self._begun = False
        self._breaks = False  # whether the connection is broken, so that the reader notices
        self._writing = asyncio.Lock()
        self.first_words = b""
        self.fails_on_gap = False
        self.ended: asyncio.Event = asyncio.Event()

    def close_for_restart(self) -> None:
        """See `Closable.close_for_restart`."""
        self._code = ServerRestartError.code
        self._stop("server_restart")

    def _stop(self, reason: StreamingError | str) -> None:
        """Stop the delivery, for an error or for an event that has the time to reconnect."""
        if self._stopping is not None and not self._stopping.done():
            self._stopping.set_result(reason)
            if self._pump is not None and not self._writing.locked():
                self._pump.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream until it ends, the client leaves, or the server stops."""
        self._send = send
        self._coder = self._context.compression.open(Headers(scope=scope))
        if self._coder is not None:
            self.headers["Content-Encoding"] = self._coder.name
        if self._keep_alive_header and scope["http_version"] in {"1.0", "1.1"}:
            self.headers["Connection"] = "keep-alive"
        self._transport = current_transport(receive)
        if self._transport is not None:
            self._transport.set_user_timeout(2 * self._context.gateway.settings.limits.send_timeout)
        stopping = self._stopping = asyncio.get_running_loop().create_future()
        self._context.streams.add(self)
        self._pump = asyncio.create_task(self._deliver(), name="lg_streaming.sse")
        leaving = asyncio.create_task(wait_disconnected(receive), name="lg_streaming.sse.leaving")
        timers = SessionTimers(self._session, self._on_due, self._keep_alive)
        try:
            if self._max_duration is not None:
                timers.set("end", self._max_duration, self._time_out)
            timers.start()
            await asyncio.wait({self._pump, leaving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not leaving.done():
                await self._finish(send, timers, leaving)
            elif self._on_leave is not None and not self._pump.done():
                await self._on_leave()
        finally:
            self._context.streams.discard(self)
            self._session.close(self._code)
            await timers.close()
            for task in (self._pump, leaving):
                task.cancel()
            await asyncio.gather(self._pump, leaving, return_exceptions=True)
            self._subscription.pump = None  # it holds this response, whose compressor may be large
            self.ended.set()

    def _on_due(self, event: TimerEvent) -> None:
        if event.close is not None:
            self._code = event.close.code
            self._stop(event.close)

    def _time_out(self) -> None:
        self._stop("timeout")

    async def _keep_alive(self) -> None:
        """Write a keep-alive, unless another write is in progress."""
        if not self._writing.locked():
            with contextlib.suppress(TimeoutError, OSError):  # the delivery or the disconnect ends the stream
                await self._write(self.encoder.keep_alive)

    async def _finish(self, send: Send, timers: SessionTimers, leaving: asyncio.Task[None]) -> None:
        """End the response properly, if the client reads it."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await self._stop_writing(timers)
                last = self._last_words
                if self._coder is not None:
                    # Bytes that were coded and not sent come first: the reader's decoder needs them.
                    last = self._coded + self._coder.finish(last)
                await self._begin(send)  # if the server stops before the delivery began
                await send({"type": "http.response.body", "body": last, "more_body": self._breaks})
        except TimeoutError:
            self.cut()
        if self._breaks:
            await self._break_off(leaving)

    async def _stop_writing(self, timers: SessionTimers) -> None:
        """Stop delivery and keep-alives after the write in progress.

        A write that is cancelled may have passed its bytes on, and the reader's decoder must not get them twice.
        """
        pump, stopping = self._pump, self._stopping
        async with self._writing:
            await timers.close()
            if pump is not None and not pump.done():
                pump.cancel()
                await asyncio.wait({pump})
        if pump is None or pump.cancelled():
            self._set_end(stopping.result() if stopping is not None and stopping.done() else StreamingError())

    def _set_end(self, reason: StreamingError | str) -> None:
        if isinstance(reason, StreamingError):
            self._fail(reason)
            return
        self._last_words = self.encoder.on_restart(reason, self._lifecycle.retry_ms())
        self._breaks = self.encoder.cuts

    async def _break_off(self, leaving: asyncio.Task[None]) -> None:
        """Close the connection without the end of the body, after the bytes that wait to be sent.

        Without the server's transport the response stays incomplete, for which a server breaks the connection, or
        resets the stream of HTTP/2.
        """
        if self._transport is not None:
            self._transport.close()
            await asyncio.wait({leaving}, timeout=_CLOSE_TIMEOUT)  # else the server logs an incomplete response
            self._transport.abort()

    def cut(self) -> None:
        """Abort the connection, if the server allows that."""
        if self._transport is not None:
            self._transport.abort()

    async def _begin(self, send: Send) -> None:
        if not self._begun:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            self._begun = True

    async def _deliver(self) -> None:
        send, subscription = self._send, self._subscription
        if send is None:
            return
        async with self._writing:
            await self._begin(send)
        try:
            await self._write(self.first_words)
            encoder = self.encoder
            subscription.pump = SubscriptionPump(
                subscription.source,
                self.encoder.frame_encoder,
                self,
                options=subscription.options,
                cache=self._context.frames if self.encoder.shared else FrameCache(max_bytes=0),
                observer=self._session.instrumentation,
                fails_on_gap=self.fails_on_gap,
                on_caught_up=None if self.encoder.shared else self._at_head,
                prepare=encoder.prepare if isinstance(encoder, PreparingEncoder) else None,
            )
            last = await carry(subscription.source, subscription.pump, pace=self._context.ticker)
            over = not subscription.source.closed
            hub = self._context.gateway.hub
            found = await hub.describe(subscription.execution_id) if over and not self.encoder.shared else None
            state = found.state if found is not None else None
            if self._before_end is not None:
                await self._before_end()
            self._last_words = self.encoder.on_end(last.position, run_is_over=over, state=state) or self._last_words
        except TimeoutError:
            logger.info("a reader of %r is cut off: nothing was read", subscription.execution_id)
            self._fail(SlowReaderError())
            self.cut()
        except StreamingError as error:
            self._fail(error)
        except Exception:
            logger.exception("delivery of execution %r failed", subscription.execution_id)
            self._fail(StreamingError())

    def _fail(self, error: StreamingError) -> None:
        self._code = error.code
        self._last_words = self.encoder.on_error(error)
        self._breaks = self.encoder.cuts and not self._last_words

    # ------------------------------------------------------------ FrameSink
    async def wait_writable(self) -> bool:
        """See `FrameSink.wait_writable`."""
        if self._transport is not None and not self._transport.buffered:
            return False
        async with self._writing:
            await self._pass_on(b"")
        return self._transport is not None

    async def write(self, frames: Frames) -> None:
        """See `FrameSink.write`."""
        if frames.wire:
            await self._write(frames.wire)

    async def send_event(self, event: str, payload: dict[str, object]) -> None:
        """See `FrameSink.send_event`."""
        if words := self.encoder.encode_event(event, payload):
            await self._write(words)

    async def _at_head(self) -> None:
        """Write what the format adds when the reader has caught up."""
        if words := self.encoder.caught_up():
            await self._write(words)
        if self.encoder.is_complete:
            self._subscription.source.close()

    def limit_buffer(self) -> None:
        """See `FrameSink.limit_buffer`."""
        if self._transport is not None:
            self._transport.limit_write_buffer(FRESH_BYTES)

    async def _write(self, body: bytes) -> None:
        """Write a part of the body. Raises TimeoutError if the peer has read nothing for `limits.send_timeout`."""
        async with self._writing:
            if self._coder is not None:
                body = self._coded = self._coded + self._coder.write(body)
            await self._pass_on(body)
            self._coded = b""

    async def _pass_on(self, body: bytes) -> None:
        message = {"type": "http.response.body", "body": body, "more_body": True}
        transport, send, patience = self._transport, self._send, self._context.gateway.settings.limits.send_timeout
        if send is not None and transport is not None and not transport.buffered:
            await send(message)  # the buffer is empty, so this does not wait
            return
        while send is not None:
            unsent = transport.unsent if transport is not None else 0
            try:
                async with asyncio.timeout(patience):
                    await send(message)
                return
            except TimeoutError:
                # uvicorn waits before it writes: no part of the message has left yet.
                if transport is None or transport.unsent >= unsent:
                    raise
