"""python-socketio and python-engineio, guarded.

Everything that relies on their private parts is in this file. What it changes of them:

- sending goes through a bounded `WebSocketConnection` instead of an endless queue;
- a transport that has not logged in in time, was refused, or has logged out is closed;
- packets are checked before they are taken apart, and events are handed over without their dispatcher, so a
  client cannot run the handlers of ``connect`` and ``disconnect`` by emitting them;
- attachments are refused, so none are collected;
- pings run on timers of the event loop, one per connection, instead of a task per ping and a sweep;
- what a connection's request was, and a queue for packets, are not kept as long as the connection;
- a client has no room of its own, so leaving costs the same however many others are connected.
"""
# The two libraries have no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final, cast

import engineio
import socketio
from engineio import async_socket
from engineio import packet as engineio_packet
from socketio import packet as socketio_packet
from socketio.exceptions import ConnectionRefusedError as Refused

from lg_streaming.errors import (
    BadRequestError,
    DeadPeerError,
    LoginTimeoutError,
    StreamingError,
    TooLargeError,
    TooManyConnectionsError,
)
from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.delivery.frames import web_socket_frame
from lg_streaming.gateway.limits.rates import ConnectionCounter
from lg_streaming.gateway.protocol.registry import RESERVED_EVENTS, check_nesting
from lg_streaming.gateway.transports.duplex import NORMAL_CLOSURE, WebSocketConnection, answer_no_socket
from lg_streaming.gateway.transports.packets import EncodeBatch, EncodeEach, Json, Packets, handshake, refusal, size_of
from lg_streaming.gateway.transports.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.delivery.frames import Encode, Frames
    from lg_streaming.gateway.transports.base import Transport, TransportLimits
    from lg_streaming.gateway.transports.connection import Connection
    from lg_streaming.settings import TransportName

__all__ = ["GuardedServer"]

logger = logging.getLogger(__name__)


class _Packet(socketio_packet.Packet):
    json = Json


class _Socket(async_socket.AsyncSocket):
    """One transport."""

    server: _Engine
    name: TransportName = "socketio"

    def __init__(self, server: _Engine, sid: str, peer: Peer) -> None:
        super().__init__(server, sid)
        self.peer = peer
        self.guard = server.guard
        self.connection: Connection = server.sio.make_connection(self)
        self.namespace_open = False
        self.login_tried = False
        self._duplex: WebSocketConnection | None = None
        self._timers = Timers()

    # ------------------------------------------------------------ Transport
    def encoder(self, *, batch: bool, by_type: bool) -> Encode:
        frame = self._duplex.frame if self._duplex is not None else web_socket_frame
        packets = self.server.sio.packets
        return EncodeBatch(packets, frame) if batch else EncodeEach(packets, frame, by_type=by_type)

    def put(self, frames: Frames) -> None:
        if self._duplex is not None:
            self._duplex.put(frames)

    def put_text(self, text: bytes) -> None:
        """Sends one engine.io packet."""
        if self._duplex is not None:
            self._duplex.put_text(text)

    def emit(self, event: str, payload: object) -> None:
        self.put_text(self.server.sio.packets.event(event, payload))

    def prefer_fresh(self) -> None:
        if self._duplex is not None:
            self._duplex.prefer_fresh()

    async def drain(self) -> bool:
        return await self._duplex.drain() if self._duplex is not None else False

    def close_with(self, error: StreamingError | None = None, *, told: bool = False) -> None:
        if self._duplex is None or self._duplex.closing:
            return
        if error is not None and self.namespace_open:
            if not told:
                self.emit("error", error.to_dict())
            if not error.retryable:
                # Tells the client not to come back by itself.
                self.put_text(self.server.sio.packets.disconnect)
        self._shut(error)

    # ------------------------------------------------------------ engine.io's side
    async def send(self, pkt: engineio_packet.Packet) -> None:
        encoded = cast("str | bytes", pkt.encode())
        if isinstance(encoded, str):
            self.put_text(encoded.encode())

    async def check_ping_timeout(self) -> bool:
        return not self.closed

    def schedule_ping(self) -> None:
        """Pings begin with the connection, see :meth:`_websocket_handler`."""

    async def close(self, wait: object = True, abort: object = False, reason: str | None = None) -> None:  # noqa: ARG002, FBT002
        if self.closed or self.closing:
            return
        self.closing = True
        await self.server.tell_disconnect(self.sid, reason)
        self.closed = True
        self._shut()

    async def _websocket_handler(self, ws: Any) -> None:
        """Serves the transport, in the server's own task, until it is closed."""
        self.connected = self.upgraded = True
        self._duplex = WebSocketConnection(ws.asgi_send, self.guard, self.close_with)
        self.put_text(handshake(self.sid, self.guard))
        self._timers.set("login", self.guard.login_timeout, self._login_too_late)
        self._timers.set("ping", self.guard.ping_interval, self._ping)
        try:
            while True:
                await self._take(await ws.wait())
        except OSError:
            pass  # the way the ASGI driver says that the peer is gone
        except asyncio.CancelledError:
            if not await self._duplex.was_closing():
                raise
        finally:
            await self._end(self._duplex)

    # ------------------------------------------------------------ inside
    async def _take(self, data: str | bytes) -> None:
        if self._duplex is None or self._duplex.closing:
            return
        if not isinstance(data, str):
            self._malformed("binary messages are not accepted")
        elif size_of(data) > self.guard.inbound_bytes:
            self.close_with(TooLargeError(f"a message may have {self.guard.inbound_bytes} bytes, not {size_of(data)}"))
        elif data[:1] == "4":
            await self.server.sio.take(self, data[1:])
        elif data == "3":
            if self._duplex.inbound.packet():
                self._timers.set("ping", self.guard.ping_interval, self._ping)
        elif data == "1":
            self._shut()
        else:
            self._malformed(f"{data!r:.40} is not an engine.io packet")

    def _malformed(self, why: str) -> None:
        self.server.sio.malformed(self, BadRequestError(why))

    def logged_in(self) -> None:
        """The client was let in."""
        self.namespace_open = True
        self._timers.cancel("login")

    def _login_too_late(self) -> None:
        self.close_with(LoginTimeoutError())

    def _ping(self) -> None:
        self.put_text(b"2")
        self._timers.set("ping", self.guard.ping_timeout, self._dead)

    def _dead(self) -> None:
        if self._duplex is not None:
            self._duplex.give_up(DeadPeerError(f"no answer to a ping in {self.guard.ping_timeout:g} s"))

    def _shut(self, error: StreamingError | None = None) -> None:
        if self._duplex is not None:
            self._duplex.shut(*((error.code, error.name) if error is not None else (NORMAL_CLOSURE, "")))

    async def _end(self, duplex: WebSocketConnection) -> None:
        self._timers.cancel_all()
        duplex.stop()
        try:
            await self.connection.gone(duplex.close_code)
        finally:
            if not self.closed:
                self.closing = self.closed = True
                await self.server.tell_disconnect(self.sid, self.server.reason.TRANSPORT_CLOSE)


_STILL_READ: Final = ("asgi.receive", "asgi.send", "asgi.scope", "HTTP_CONNECTION", "HTTP_UPGRADE")


def _forget_request(environ: dict[str, Any]) -> None:
    """Lets go of most of the request, which python-socketio and the stack hold as long as the connection lives."""
    kept = {name: environ[name] for name in _STILL_READ if name in environ}
    environ.clear()
    environ.update(kept)


class _Manager(socketio.AsyncManager):
    """Gives no client a room of its own: nobody sends to it, and whoever leaves would be looked for in all of them."""

    def basic_enter_room(self, sid: str, namespace: str, room: str | None, eio_sid: str | None = None) -> None:
        if room != sid:
            super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)


class _Engine(engineio.AsyncServer):
    """engine.io with guarded sockets, over WebSocket only."""

    sio: GuardedServer
    guard: TransportLimits
    sockets: dict[str, _Socket]
    census: ConnectionCounter
    """The transports that are open, logged in or not."""
    idle: asyncio.Event
    """Set while no transport is open."""

    async def tell_disconnect(self, sid: str, reason: str | None) -> None:
        """Lets python-socketio forget a transport."""
        await self._trigger_event("disconnect", sid, reason or self.reason.SERVER_DISCONNECT, run_async=False)

    def create_queue(self, *_: object, **__: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Packets go to the outlet: a socket needs no queue."""

    def handle_request(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Serve a WebSocket; refuse anything else. A plain function: a coroutine more takes 500 bytes a connection."""
        if scope["type"] == "websocket":
            return super().handle_request(scope, receive, send)
        return answer_no_socket(scope, send, 400, "connect over WebSocket")

    async def _handle_connect(self, environ: dict[str, Any], transport: str, jsonp_index: object = None) -> Any:  # noqa: ARG002
        peer = Peer.of(environ["asgi.scope"])
        try:
            lease = self.census.enter(peer.address)
        except TooManyConnectionsError as error:
            return self._bad_request(error.message)
        # python-engineio's own ids end in a counter; nothing is gained by telling clients how many came.
        sid = secrets.token_urlsafe(15)
        socket = self.sockets[sid] = _Socket(self, sid, peer)
        self.idle.clear()
        try:
            await self._trigger_event("connect", sid, environ, run_async=False)
            _forget_request(environ)
            return await socket.handle_get_request(environ)
        finally:
            self.sockets.pop(sid, None)
            lease.release()
            if not self.sockets:
                self.idle.set()


class GuardedServer(socketio.AsyncServer):
    """A Socket.IO server of one namespace.

    Args:
        namespace: The namespace clients connect to.
        guard: Limits.
        connect: Makes the owner of a new transport.
    """

    eio: _Engine

    def __init__(self, *, namespace: str, guard: TransportLimits, connect: Callable[[Transport], Connection]) -> None:
        # The library tells every packet at INFO, tokens and all.
        quiet = logging.getLogger(f"{__name__}.packets")
        if quiet.level == logging.NOTSET:
            quiet.setLevel(logging.WARNING)
        super().__init__(
            client_manager=_Manager(),
            async_mode="asgi",
            async_handlers=False,
            always_connect=False,
            namespaces=[namespace],
            serializer=_Packet,
            transports=["websocket"],
            cors_allowed_origins=[],  # origins are looked at when the client logs in, where it can be told why not
            http_compression=False,
            monitor_clients=False,
            logger=cast("Any", quiet),
            engineio_logger=quiet,
        )
        self.namespace = namespace
        self.packets = Packets(namespace)
        self._connect = connect
        self.eio.sio = self
        self.eio.guard = guard
        self.eio.census = ConnectionCounter(guard.max_transports, per_address=guard.max_per_address)
        self.begin()
        self.on("connect", self._on_connect, namespace=namespace)

    def begin(self) -> None:
        """Begins without any transport, on an event loop that may be another one than before."""
        self.eio.sockets.clear()
        self.eio.idle = asyncio.Event()
        self.eio.idle.set()

    def _engineio_server_class(self) -> type[_Engine]:
        return _Engine

    @property
    def transports(self) -> list[_Socket]:
        """The transports that are open now."""
        return list(self.eio.sockets.values())

    async def wait_closed(self) -> None:
        """Returns when no transport is open."""
        await self.eio.idle.wait()

    def make_connection(self, socket: _Socket) -> Connection:
        """The owner of a new transport."""
        return self._connect(socket)

    async def take(self, socket: _Socket, text: str) -> None:
        """Takes one Socket.IO packet apart and hands it over. Nothing that comes in makes it raise."""
        try:
            check_nesting(text)
            packet = _Packet(encoded_packet=text)
        except (BadRequestError, ValueError, TypeError, LookupError) as error:
            self.malformed(socket, BadRequestError(f"not a Socket.IO packet: {error}"[:200]))
            return
        try:
            await self._hand_over(socket, packet)
        except Exception:
            logger.exception("a message on connection %s failed", socket.sid)
            socket.close_with(StreamingError("the server failed on this message"))

    async def _hand_over(self, socket: _Socket, packet: _Packet) -> None:
        kind, namespace = packet.packet_type, packet.namespace or "/"
        if kind == socketio_packet.CONNECT and not socket.login_tried:
            await self._log_in(socket, namespace, packet.data)
        elif not socket.namespace_open or namespace != self.namespace:
            self.malformed(socket, BadRequestError(f"namespace {namespace!r:.80} is not connected"))
        elif kind == socketio_packet.DISCONNECT:
            socket.close_with()
        elif kind == socketio_packet.EVENT:
            await self._hand_over_event(socket, packet)
        else:
            self.malformed(socket, BadRequestError(f"packets of type {kind} are not accepted"))

    async def _log_in(self, socket: _Socket, namespace: str, auth: object) -> None:
        socket.login_tried = True
        if namespace != self.namespace:
            await self._refuse(socket, namespace)
            return
        await self._handle_connect(socket.sid, namespace, auth)
        connection_id = cast("str | None", self.manager.sid_from_eio_sid(socket.sid, namespace))
        if connection_id is None:
            socket.close_with()
            return
        socket.logged_in()
        socket.connection.opened(connection_id)

    async def _refuse(self, socket: _Socket, namespace: str) -> None:
        error = BadRequestError(f"there is no namespace {namespace!r:.80}: connect to {self.namespace!r}")
        await self._send_packet(
            socket.sid, _Packet(socketio_packet.CONNECT_ERROR, data=refusal(error), namespace=namespace)
        )
        socket.close_with()

    async def _on_connect(self, sid: str, _environ: object, auth: object = None) -> None:
        eio_sid = cast("str", self.manager.eio_sid_from_sid(sid, self.namespace))
        try:
            await self.eio.sockets[eio_sid].connection.login(auth)
        except StreamingError as error:
            refused = refusal(error)
            raise Refused(refused["message"], refused["data"]) from None
        except Exception:
            logger.exception("a login failed")
            refused = refusal(StreamingError("the server failed on this login"))
            raise Refused(refused["message"], refused["data"]) from None

    async def _hand_over_event(self, socket: _Socket, packet: _Packet) -> None:
        content: object = packet.data
        if not isinstance(content, list) or not content or not isinstance(content[0], str):
            self.malformed(socket, BadRequestError("an event is a list that begins with its name"))
            return
        name, *arguments = cast("list[Any]", content)
        if name in RESERVED_EVENTS:
            socket.connection.reserved(name)
            return
        number = packet.id
        answer = None if number is None else lambda payload: socket.put_text(self.packets.answer(number, payload))
        await socket.connection.received(name, arguments, answer)

    def malformed(self, socket: _Socket, error: BadRequestError) -> None:
        """Something came that is no event: counted once the client is logged in, the end before that."""
        if socket.namespace_open:
            socket.connection.malformed(error)
        else:
            socket.close_with(error)
