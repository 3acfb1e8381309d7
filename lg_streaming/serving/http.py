"""HTTP/1.1, with limits on a request while it arrives."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any, ClassVar, Final

import httptools
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from lg_streaming.errors import BadRequestError, StreamingError, TooLargeError
from lg_streaming.serving.guard import ConnectionGuard, Entry
from lg_streaming.serving.refusals import RefuseOverLimit, refusal

__all__ = ["HTTPProtocol"]

logger: logging.Logger = logging.getLogger("lg_streaming.serving")

MAX_HEADER_BYTES: Final = 65_536
MAX_FIELDS: Final = 128
MAX_URL_BYTES: Final = 16_384
MAX_TRAILER_BYTES: Final = 8_192
MAX_TRAILERS: Final = 32
MAX_PIPELINED: Final = 32
MIN_BODY_RATE: Final = 200
"""Bytes a second, over each `Timeouts.body`."""
_CHUNK_BYTES: Final = 16_384
"""Bytes that are parsed between two checks of the limits."""
_FRAMING_ALLOWANCE: Final = 32_768
_FRAMING_PER_BYTE: Final = 8
"""Framing that chunks may add to a body: a chunk of one byte has five bytes of framing."""
_MAX_DISCARDED: Final = 4_194_304
"""Bytes of an unread body after which the connection is aborted."""
_AUTHORITY_END: Final = re.compile(rb"[/?#]")
_WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "CONNECT"})
"""Methods whose bodies have no meaning."""


class HTTPProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools; it refuses requests that exceed a limit or take too long."""

    # uvicorn's attributes are in a dictionary. Slots for these save a kilobyte a connection.
    __slots__ = (
        "_body_bytes",
        "_checked_bytes",
        "_discarded",
        "_entry",
        "_field_bytes",
        "_fields",
        "_guard",
        "_idle",
        "_in_header",
        "_received",
        "_refused",
        "_running",
        "_waiting_to_write",
    )

    lg_streaming_bounds_requests: ClassVar[bool] = True

    def __init__(
        self,
        config: Any,
        server_state: Any,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        entry: Entry | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._guard = ConnectionGuard.for_server(config, server_state)
        self._entry = entry
        self._in_header = True
        self._idle = False
        """True after a response, until the next request begins."""
        self._received = 0
        """Bytes of the current header, or of the current body with its framing."""
        self._fields = 0
        self._field_bytes = 0
        self._body_bytes = 0
        self._checked_bytes = 0
        self._discarded = 0
        self._refused: tuple[int, StreamingError] | None = None
        self._waiting_to_write: int | None = None
        self._running: RequestResponseCycle | None = None
        """The request that is being answered; later requests of the pipeline wait."""

    @property
    def _cycle(self) -> RequestResponseCycle | None:
        """The last request with a complete header; uvicorn's type lacks None."""
        return self.cycle

    # ------------------------------------------------------------ the connection
    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        if self._entry is None:  # a server with another accept loop
            self._entry = self._guard.enter(self, self.client[0] if self.client else None)
            if self._entry is None:
                transport.abort()
                return
        self._entry.owner = self
        if self._entry.error is not None:
            self.app = RefuseOverLimit(self.app, self._entry.error)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._disconnect_cycles()
        if self._entry is not None:
            self._guard.leave(self._entry)

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._entry is not None:
            self._waiting_to_write = None
            self._guard.watch_writes(self._entry)

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._entry is not None:
            self._guard.writes_resumed(self._entry)

    # ------------------------------------------------------------ deadlines
    def expire(self) -> None:
        """See `Owner`."""
        if self.transport.get_write_buffer_size():  # a response that is still being sent
            if self._entry is not None:
                self._waiting_to_write = None
                self._guard.watch_writes(self._entry)
        elif self.transport.is_closing() or not self._received or self._idle:
            self.transport.abort()
        else:
            self._refuse(408, BadRequestError("the header of a request took too long"))

    def drop(self) -> None:
        """See `Owner`."""
        self.transport.abort()

    def check_body(self) -> None:
        """See `Owner`."""
        if self._entry is None:
            return
        received, self._checked_bytes = self._body_bytes - self._checked_bytes, self._body_bytes
        server_waits = self.flow.read_paused or (self._cycle is not None and self._cycle.waiting_for_100_continue)
        if server_waits or received >= MIN_BODY_RATE * self._guard.times.body:
            self._guard.watch_body(self._entry)
        else:
            self._refuse(408, BadRequestError("the body of a request came too slowly"))

    def check_writes(self) -> None:
        """See `Owner`."""
        waiting = self.transport.get_write_buffer_size()
        if not waiting and not self.transport.is_closing():
            return
        if self._waiting_to_write is not None and waiting >= self._waiting_to_write:
            self.transport.abort()
        elif self._entry is not None:
            self._waiting_to_write = waiting
            self._guard.watch_writes(self._entry)

    # ------------------------------------------------------------ received data
    @override
    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._entry is None or self._refused is not None or self.transport.is_closing():
            self._discard(len(data))
            return
        if self._idle:
            self._idle = False
            self._guard.await_header(self._entry)
        if len(data) <= _CHUNK_BYTES:
            self._feed(data)
            return
        for start in range(0, len(data), _CHUNK_BYTES):
            if not self._feed(data[start : start + _CHUNK_BYTES]):
                return

    def _feed(self, chunk: bytes) -> bool:
        """Parse a chunk; return whether the next one may follow."""
        try:
            self.parser.feed_data(chunk)  # pyright: ignore[reportOptionalMemberAccess]
        except httptools.HttpParserUpgrade:
            self._upgrade()
            return False
        except httptools.HttpParserError:
            self._refuse(*(self._refused or (400, BadRequestError("this is not a valid HTTP request"))))
            return False
        self._received += len(chunk)
        if self._in_header:
            exceeds = self._received > MAX_HEADER_BYTES + _CHUNK_BYTES
        else:
            exceeds = self._received > _FRAMING_ALLOWANCE + self._body_bytes * (_FRAMING_PER_BYTE + 1)
        if exceeds:
            self._refuse(431, TooLargeError(f"a header may have {MAX_HEADER_BYTES} bytes"))
        return not exceeds

    def _upgrade(self) -> None:
        if self._should_upgrade():
            self.handle_websocket_upgrade()
        elif self._cycle is not None:  # the bytes that follow are in an unsupported protocol
            self._cycle.keep_alive = False

    @override
    def handle_websocket_upgrade(self) -> None:
        entry = self._entry
        if entry is None:
            return
        if entry.error is not None:
            self._refuse(entry.error.http_status, entry.error)
            return
        self._guard.header_complete(entry)
        self._entry = None  # the WebSocket protocol holds it from now on
        make = self.ws_protocol_class

        def make_with_entry(**arguments: Any) -> Any:
            protocol: Any = make(**arguments)  # pyright: ignore[reportOptionalCall]
            if hasattr(protocol, "take_over"):
                protocol.take_over(entry)
            else:  # another protocol class: the connection is not counted any more
                self._guard.leave(entry)
            return protocol

        self.ws_protocol_class = make_with_entry  # pyright: ignore[reportAttributeAccessIssue]
        try:
            super().handle_websocket_upgrade()
        finally:
            self.ws_protocol_class = make

    # ------------------------------------------------------------ the parser's callbacks
    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_header = True
        self._received = self._fields = self._field_bytes = self._body_bytes = self._checked_bytes = 0

    @override
    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES:
            self._reject(414, TooLargeError(f"the address of a request may have {MAX_URL_BYTES} bytes"))

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields += 1
        self._field_bytes += len(name) + len(value) + 4
        if not self._in_header:  # trailers are not passed on
            if self._fields > MAX_TRAILERS or self._field_bytes > MAX_TRAILER_BYTES:
                self._reject(431, TooLargeError(f"trailers may have {MAX_TRAILER_BYTES} bytes"))
            return
        if self._fields > MAX_FIELDS:
            self._reject(431, TooLargeError(f"a header may have {MAX_FIELDS} fields"))
        if self._field_bytes + len(self.url) > MAX_HEADER_BYTES:
            self._reject(431, TooLargeError(f"a header may have {MAX_HEADER_BYTES} bytes"))
        super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self._reject(429, BadRequestError("too many requests at once on one connection"))
        names = dict(self.headers)
        if self.url[:1] != b"/" and (authority := _authority(self.url)) not in {None, names.get(b"host", b"").lower()}:
            # A URL in this form is meant for a forward proxy. Checks of the Host would read the wrong name.
            self._reject(400, BadRequestError(f"the address names {authority!r:.80}, which is not the Host"))
        has_body = b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
        upgrades = self.parser.should_upgrade() and self._should_upgrade()  # pyright: ignore[reportOptionalMemberAccess]
        if upgrades and has_body:
            self._reject(400, BadRequestError("a WebSocket handshake has no body"))
        if upgrades and self.parser.get_http_version() != "1.1":  # pyright: ignore[reportOptionalMemberAccess]
            # Some proxies send this. uvicorn passes version 1.1 on, so the application cannot detect it.
            self._reject(400, BadRequestError("a WebSocket handshake needs HTTP/1.1"))
        if entry := self._entry:
            if b"x-forwarded-for" in names and self.client and self._guard.is_trusted_proxy(self.client[0]):
                self._guard.exempt_proxy(entry)
            if not upgrades:
                self._guard.header_complete(entry)
            if has_body:
                self._guard.watch_body(entry)
        self._in_header = False
        self._received = self._fields = self._field_bytes = self._discarded = 0
        super().on_headers_complete()
        if self._entry is not None and self._entry.error is not None and self._cycle is not None:
            self._cycle.keep_alive = False

    @override
    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)
        cycle = self._cycle
        if cycle is not None and (
            cycle.response_complete or (cycle.response_started and cycle.scope["method"] in _WITHOUT_BODY)
        ):  # an event stream reads the body only to detect a disconnect
            self._discard(len(body))

    @override
    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_header = True
        self._received = 0
        if self._entry is not None:
            self._guard.body_complete(self._entry)
            self._wait_when_idle()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_when_idle()

    def _wait_when_idle(self) -> None:
        """Start the time limit of the next header, once a request is read completely and answered."""
        if self._entry is not None and self._in_header and self._cycle is not None and self._cycle.response_complete:
            self._idle = True
            self._guard.await_header(self._entry)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, _IgnoreDisconnect(app, cycle) if cycle.more_body else app)  # pyright: ignore[reportArgumentType]

    # ------------------------------------------------------------ refusing
    def _reject(self, status: int, error: StreamingError) -> None:
        """Stop the parser with a refusal."""
        self._refused = (status, error)
        raise error

    def _refuse(self, status: int, error: StreamingError) -> None:
        """Send a refusal, unless another response has begun, and close once the peer has read it."""
        self._refused = (status, error)
        running = self._running
        self._disconnect_cycles()
        if running is not None and not running.response_complete and running.response_started:
            self.transport.close()
        else:
            self.transport.write(refusal(status, error))
            if self.transport.can_write_eof() and not self.transport.is_closing():
                self.transport.write_eof()
        if self._entry is not None:
            self._guard.body_complete(self._entry)
            self._guard.close_soon(self._entry)

    def _disconnect_cycles(self) -> None:
        """Disconnect the running request, and drop later requests of the pipeline.

        uvicorn disconnects only the last request, which may wait behind the running one.
        """
        self.pipeline.clear()
        for cycle in (self._running, self._cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > _MAX_DISCARDED:
            self.transport.abort()


def _authority(url: bytes) -> bytes | None:
    """Return the host and port in an address; None where it has none."""
    _, colon, rest = url.partition(b"://")
    return _AUTHORITY_END.split(rest, maxsplit=1)[0].lower() if colon else None


class _IgnoreDisconnect:
    """Wrap an application, and ignore its exceptions after the caller has left in the middle of a body."""

    def __init__(self, app: ASGIApp, cycle: RequestResponseCycle) -> None:
        self._app = app
        self._cycle = cycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            if not self._cycle.disconnected:
                raise
