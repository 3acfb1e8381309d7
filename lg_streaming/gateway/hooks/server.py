"""The server below ASGI: its transports, and the beginning of its shutdown.

ASGI cannot abort a connection whose peer has stopped reading, as a close would wait behind unread data. It does not
report how much data is unsent. It does not call the application before a server closes its connections. uvicorn can do
all three on private objects. Only this file uses them, and never requires them. With another server or version the
gateway works through ASGI; a stalled peer then stays connected until that server detects it.
"""

from __future__ import annotations

import array
import asyncio
import codecs
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from websockets import http11
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Opcode

from lg_streaming.gateway.hooks.shutdown_hooks import shutdown_hooks

if TYPE_CHECKING:
    from types import FrameType

    from websockets.frames import Frame

# uvicorn reads a handshake twice: the limit of websockets for a line is half of what a token may have.
http11.MAX_LINE_LENGTH = max(http11.MAX_LINE_LENGTH, 65_536)

try:
    import fcntl
    import termios
except ImportError:  # Windows: only what waits in this process can be seen
    fcntl = termios = None

__all__ = [
    "ServerTransport",
    "WebSocketTransport",
    "current_transport",
    "mark_closing",
    "on_shutdown",
    "task_owners",
    "uvicorn_server",
]

_UVICORN: Final = "uvicorn."
_BEGINS_MESSAGE: Final = frozenset({Opcode.TEXT, Opcode.BINARY})
_new_decoder: Final = codecs.getincrementaldecoder("utf-8")
_MOST_WRAPPERS: Final = 20
"""Most middlewares that are followed to the server's channel."""
_LONGEST_TIMEOUT: Final = 2**31 - 1
"""Milliseconds; the maximum that the kernel accepts."""
_TCP_NOTSENT_LOWAT: Final[int | None] = getattr(
    socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None
)  # Python has the name from 3.12 on


class ServerTransport:
    """The server's transport under the connection that the current task serves."""

    def __init__(self, transport: asyncio.Transport, *, is_direct: bool = True) -> None:
        self._transport = transport
        self._is_direct = is_direct

    def abort(self) -> None:
        """Abort the connection; what waits to be sent is dropped. Harmless when repeated."""
        self._transport.abort()

    def close(self) -> None:
        """Close the connection after the bytes that wait to be sent. Harmless when repeated.

        Behind a middleware that would end the response after these bytes, they are dropped.
        """
        if self._is_direct or not self.buffered:
            self._transport.close()
        else:
            self._transport.abort()

    def set_user_timeout(self, seconds: float) -> None:
        """Set the seconds after which the kernel ends the connection of a peer that acknowledges no data.

        Without this limit, a peer that vanished while only keep-alives are sent is detected after a quarter of an hour.
        """
        sock = cast("socket.socket | None", self._transport.get_extra_info("socket"))
        if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            with contextlib.suppress(OSError, ValueError):  # the latter where it is closed already, under uvloop
                milliseconds = round(min(seconds * 1000, _LONGEST_TIMEOUT))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def limit_write_buffer(self, size: int) -> None:
        """Limit the buffers to about ``size`` bytes here and as many in the kernel, in addition to those in flight.

        This favours fresh data over throughput: buffered updates get old, and updates in the log can still be merged.
        The kernel's part needs Linux. Under TLS some more bytes may be buffered, where the server encrypts.
        """
        sock = cast("socket.socket | None", self._transport.get_extra_info("socket"))
        if sock is not None and _TCP_NOTSENT_LOWAT is not None:
            with contextlib.suppress(OSError, ValueError):
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, size)
        for transport in (_under_tls(self._transport), self._transport):
            if transport is not None:
                transport.set_write_buffer_limits(high=size)

    @property
    def buffered(self) -> int:
        """Return the bytes that are unsent in this process."""
        return self._transport.get_write_buffer_size()

    @property
    def unsent(self) -> int:
        """Return the bytes that are unsent in this process and in the kernel. While they decrease, the peer reads."""
        sock = cast("socket.socket | None", self._transport.get_extra_info("socket"))
        queued = array.array("i", [0])
        with contextlib.suppress(OSError, ValueError):
            if sock is not None and fcntl is not None and termios is not None:
                fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
        return self.buffered + queued[0]


class Meter(Protocol):
    """Counter of inbound bytes and frames, which decides what the server may handle."""

    @property
    def exceeded(self) -> bool:
        """Return whether the connection exceeds a limit."""
        ...

    def receive(self, size: int) -> bool:
        """Count `size` bytes from the network; return whether they may be read."""
        ...

    def frame(self, size: int, *, message: bool) -> bool:
        """Count a frame, which may be a whole message; return whether it may be handled."""
        ...

    def pong(self, size: int) -> bool:
        """Count a pong of `size` bytes; return whether it may be sent."""
        ...

    def complete(self) -> None:
        """Record that a message in fragments is complete."""
        ...

    def rest(self, *, partial: bool, paused: Callable[[], bool]) -> None:
        """Record that all arrived bytes are read; with `partial` a message or frame is not complete."""
        ...


class WebSocketTransport(ServerTransport):
    """A WebSocket's transport, to which ready frames can be written."""

    def __init__(self, transport: asyncio.Transport, protocol: Any) -> None:
        super().__init__(transport)
        self._protocol = protocol
        self.writable: asyncio.Event = protocol.writable
        """Set while the transport has room: at most its high-water mark (64 KiB) is unsent in this process."""

    def limit_inbound(self, size: int) -> None:
        """Make the server refuse messages over ``size`` bytes while they arrive, before it collects them."""
        connection = self._protocol.conn
        for name in ("max_size", "max_message_size"):
            if isinstance(getattr(connection, name, None), int):
                setattr(connection, name, min(size, getattr(connection, name)))

    def meter(self, meter: Meter) -> None:
        """Count all inbound bytes and frames with `meter` before the server handles them."""
        conn = self._protocol.conn
        known = all(callable(getattr(conn, name, None)) for name in ("receive_data", "recv_frame", "data_to_send"))
        if known and hasattr(conn, "current_size") and hasattr(getattr(conn, "reader", None), "buffer"):
            tap = _FrameTap(conn, self._transport, meter)
            conn.receive_data, conn.recv_frame = tap.receive_data, tap.recv_frame

    def forget_handshake(self) -> None:
        """Drop the headers of the handshake, which the server otherwise keeps as long as the connection."""
        for message in (getattr(self._protocol, "request", None), getattr(self._protocol, "response", None)):
            headers = getattr(message, "headers", None)
            if isinstance(headers, MutableMapping):
                headers.clear()

    @property
    def offers_deflate(self) -> bool:
        """Return whether the server negotiates permessage-deflate with clients that ask for it."""
        return bool(getattr(self._protocol.conn, "available_extensions", ()))

    def take_over_deflate(self) -> int | None:
        """Return the negotiated window bits, or None without permessage-deflate, and disable the server's compressor.

        This frees the 32 KB of the server's compressor for this connection. If the server still sends a message
        itself, it makes a compressor for that message, which the peer can read.
        """
        for extension in getattr(self._protocol.conn, "extensions", ()):
            if isinstance(extension, PerMessageDeflate):
                extension.local_no_context_takeover = True
                vars(extension).pop("encoder", None)
                return extension.local_max_window_bits
        return None

    @property
    def open(self) -> bool:
        """Return whether frames may still be sent."""
        protocol = self._protocol
        return protocol.handshake_complete and not (protocol.close_sent or protocol.disconnected)

    def write(self, frames: bytes) -> None:
        """Send complete WebSocket frames, unless the connection is closed. Never waits."""
        if self.open:
            self._transport.write(frames)

    async def wait_writable(self) -> None:
        """Wait until the transport has room, or the connection is closed."""
        await self.writable.wait()


class _FrameTap:
    """Two methods that replace those of the parser, between uvicorn's WebSocket protocol and the parser."""

    __slots__ = ("_conn", "_meter", "_receive_data", "_receive_frame", "_text", "_transport")

    def __init__(self, conn: Any, transport: asyncio.Transport, meter: Meter) -> None:
        self._conn = conn
        self._transport = transport
        self._meter = meter
        self._receive_data: Callable[[bytes], None] = conn.receive_data
        self._receive_frame: Callable[[Frame], None] = conn.recv_frame
        self._text: codecs.IncrementalDecoder | None = None

    def receive_data(self, data: bytes) -> None:
        """Read arrived bytes; beyond the connection's limits, drop them and stop reading."""
        if self._meter.receive(len(data)):
            self._receive_data(data)
            conn = self._conn
            self._meter.rest(partial=bool(conn.reader.buffer) or conn.current_size is not None, paused=self._is_paused)
        if self._meter.exceeded and not self._transport.is_closing():
            self._transport.pause_reading()

    def recv_frame(self, frame: Frame) -> None:
        """Handle one frame, or drop it.

        Raises:
            UnicodeDecodeError: If a text is not UTF-8. The parser then closes with 1007, and uvicorn has no traceback
                to log.
        """
        opcode, size = frame.opcode, len(frame.data)
        begins = opcode in _BEGINS_MESSAGE
        if not self._meter.frame(size, message=begins and frame.fin):
            self._conn.reader.discard()
        elif opcode is Opcode.PING:
            if self._meter.pong(size + 2):
                self._receive_frame(frame)
                # Written at once, so that the next one finds it in the backlog.
                self._transport.write(b"".join(self._conn.data_to_send()))
        else:
            if begins:
                self._text = _new_decoder() if opcode is Opcode.TEXT else None
            if self._text is not None and (begins or opcode is Opcode.CONT):
                self._text.decode(frame.data, frame.fin)
                if frame.fin:
                    self._text = None
            self._receive_frame(frame)
            if opcode is Opcode.CONT and frame.fin:
                self._meter.complete()

    def _is_paused(self) -> bool:
        is_reading = getattr(self._transport, "is_reading", None)
        return is_reading is not None and not is_reading()


def _under_tls(transport: asyncio.Transport) -> asyncio.Transport | None:
    """Return the transport under ``transport`` that carries encrypted bytes; None if it has none, or hides it."""
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return cast("asyncio.Transport", inner) if hasattr(inner, "set_write_buffer_limits") else None


def current_transport(receive: object = None) -> ServerTransport | None:
    """Return the transport of the connection that the current task serves, or None if it cannot be found.

    Args:
        receive: The request's channel. It leads to the server where a middleware runs the application in another task.
    """
    owner = _uvicorn_owner(asyncio.current_task())
    is_direct = owner is not None
    owner = owner or _channel_owner(receive)
    transport = getattr(owner, "transport", None)
    if not all(hasattr(transport, name) for name in ("abort", "write", "get_write_buffer_size", "get_extra_info")):
        return None
    transport = cast("asyncio.Transport", transport)
    if not any(base.__name__ == "WebSocketsSansIOProtocol" for base in type(owner).__mro__):
        return ServerTransport(transport, is_direct=is_direct)
    known = isinstance(getattr(owner, "writable", None), asyncio.Event) and all(
        isinstance(getattr(owner, name, None), bool) for name in ("handshake_complete", "close_sent", "disconnected")
    )
    return WebSocketTransport(transport, owner) if known and hasattr(owner, "conn") else ServerTransport(transport)


def _channel_owner(receive: object) -> object:
    """Return uvicorn's object behind a channel, through the methods and functions that wrap it."""
    for _ in range(_MOST_WRAPPERS):
        owner = getattr(receive, "__self__", None)
        if owner is not None:
            if _is_uvicorns(owner):
                return owner
            receive = getattr(owner, "_receive", None)
        else:
            names = getattr(getattr(receive, "__code__", None), "co_freevars", ())
            cells = dict(zip(names, getattr(receive, "__closure__", None) or (), strict=True))
            cell = next((cells[name] for name in cells if name.endswith("receive")), None)
            try:
                receive = getattr(cell, "cell_contents", None)
            except ValueError:  # not assigned yet
                return None
    return None


def _uvicorn_owner(task: asyncio.Task[Any] | None) -> object:
    """Return the object whose ``run_asgi`` the task runs: uvicorn starts one such task per connection or request."""
    coroutine = task.get_coro() if task is not None else None
    frame = cast("FrameType | None", getattr(coroutine, "cr_frame", None))
    if frame is None or frame.f_code.co_name != "run_asgi":
        return None
    owner = frame.f_locals.get("self")
    return owner if _is_uvicorns(owner) else None


def _is_uvicorns(owner: object) -> bool:
    return any(base.__module__.startswith(_UVICORN) for base in type(owner).__mro__)


def on_shutdown(
    before: Callable[[], Awaitable[None]], after: Callable[[], Awaitable[None]] | None = None
) -> Callable[[], None]:
    """Await ``before`` when the server begins to shut down, before it closes any connection.

    A server that supports this library sets `shutdown_hooks`. uvicorn's ``shutdown`` is wrapped, however uvicorn is
    started. With other servers SIGTERM and SIGINT start ``before`` (from the main thread only), in addition to other
    handlers. Return a function that removes the hook.

    Args:
        before: Awaited before connections close.
        after: Awaited when the server has shut down. Only uvicorn and servers that set `shutdown_hooks` await it.
    """
    known = shutdown_hooks.get()
    if known is not None:
        return known.add(before if after is None else lambda: _both(before, after))
    server = uvicorn_server()
    return _wrap_shutdown(server, before, after) if server is not None else _chain_signals(before)


async def _both(first: Callable[[], Awaitable[None]], second: Callable[[], Awaitable[None]]) -> None:
    await first()
    await second()


def uvicorn_server() -> Any:
    """Return the uvicorn server of this event loop: the ``self`` of the coroutine that serves."""
    return next((owner for owner in task_owners() if _is_uvicorn_server(owner)), None)


def task_owners() -> Generator[object]:
    """Yield the ``self`` of each coroutine that runs on this event loop, the outer ones first."""
    for task in asyncio.all_tasks():
        coroutine: object = task.get_coro()
        while isinstance(coroutine, CoroutineType):
            frame, coroutine = coroutine.cr_frame, coroutine.cr_await
            if frame is not None and (owner := frame.f_locals.get("self")) is not None:
                yield owner


def _is_uvicorn_server(owner: object) -> bool:
    return any(base.__module__ == "uvicorn.server" for base in type(owner).__mro__) and callable(
        getattr(owner, "shutdown", None)
    )


def _wrap_shutdown(
    server: Any, before: Callable[[], Awaitable[None]], after: Callable[[], Awaitable[None]] | None
) -> Callable[[], None]:
    original = server.shutdown

    async def shutdown(*arguments: Any, **options: Any) -> None:
        await before()
        mark_closing(server)
        await original(*arguments, **options)
        if after is not None:
            await after()

    server.shutdown = shutdown

    def unwrap() -> None:
        if server.shutdown is shutdown:
            server.shutdown = original

    return unwrap


def mark_closing(server: Any) -> None:
    """Mark the WebSocket connections of uvicorn that their peers are closing, before the server shuts down.

    uvicorn would send such a connection another close, which raises an error that ends the shutdown half way.
    """
    for owner in tuple(getattr(server.server_state, "connections", ())):
        connection = getattr(owner, "conn", None)
        if getattr(owner, "close_sent", None) is False and getattr(connection, "close_rcvd", None) is not None:
            owner.close_sent = True


def _chain_signals(before: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def run() -> None:
        await before()

    def start() -> None:
        tasks.add(loop.create_task(run()))

    def first() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and its server has ended
            loop.call_soon_threadsafe(start)

    undo = [_chain(number, first) for number in (signal.SIGTERM, signal.SIGINT)]

    def unchain() -> None:
        for each in undo:
            each()

    return unchain


def _chain(number: signal.Signals, first: Callable[[], object]) -> Callable[[], None]:
    previous = signal.getsignal(number)

    def handler(received: int, frame: FrameType | None) -> None:
        first()
        if callable(previous):
            previous(received, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(received, signal.SIG_DFL)
            signal.raise_signal(received)

    signal.signal(number, handler)

    def unchain() -> None:
        if signal.getsignal(number) is handler:
            signal.signal(number, previous)

    return unchain
