"""The Socket.IO transport."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import (
    BadRequestError,
    DeadPeerError,
    LoginTimeoutError,
    ServerRestartError,
    StreamingError,
    TooLargeError,
)
from lg_streaming.gateway.auth.url_credentials import take_credentials, token_refused
from lg_streaming.gateway.hooks.engineio import CONNECT, DISCONNECT, EVENT, Packet, SocketIOServer
from lg_streaming.gateway.limits.rates import ConnectionCounter
from lg_streaming.gateway.protocol.registry import RESERVED_EVENTS, check_nesting
from lg_streaming.gateway.protocol.responses import error_response, isolated
from lg_streaming.gateway.session.timers import Timers
from lg_streaming.gateway.transports.connection import Connection, ConnectionServices
from lg_streaming.gateway.transports.packets import EncodeBatch, EncodeEach, Packets, handshake, size_of
from lg_streaming.gateway.transports.websocket_connection import NORMAL_CLOSURE, WebSocketConnection, reject_request

if TYPE_CHECKING:
    from collections.abc import Coroutine, MutableMapping

    from starlette.types import Scope, Send

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.gateway.hooks.engineio import EngineSocket, Receive
    from lg_streaming.gateway.limits.rates import Lease
    from lg_streaming.gateway.transports.base import TransportLimits
    from lg_streaming.gateway.transports.send_buffer import SendBuffer
    from lg_streaming.types import TransportName

__all__ = ["SocketIO"]

logger: logging.Logger = logging.getLogger(__name__)

_SHUTDOWN_TIMEOUT: Final = 1.5


class SocketIO:
    """The Socket.IO server of a gateway; an ASGI application.

    Args:
        services: Services that all connections share.
    """

    def __init__(self, services: ConnectionServices) -> None:
        self.services = services
        self._context = services.context
        self.namespace: str = services.context.settings.gateway.namespace
        self.limits: TransportLimits = services.limits
        self.packets: Packets = Packets(self.namespace)
        self._transports = ConnectionCounter(self.limits.max_transports, per_address=self.limits.max_per_address)
        self._server = SocketIOServer(namespace=self.namespace, accept=self._accept, serve=self._serve, reject=_reject)
        services.context.lifecycle.on_start.append(self._server.begin)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one connection."""
        found = await take_credentials(self._context.policy.use_ticket, scope)
        self._context.lifecycle.wake()
        if scope["type"] == "http" and found.token_name is not None:
            await error_response(token_refused(found.token_name))(scope, receive, send)
            return
        await self._server.handle_request(scope, receive, isolated(send) if scope["type"] == "http" else send)

    def _accept(self, scope: Scope) -> _Accepted:
        peer = self._context.policy.peer_of(scope)
        return _Accepted(peer, self._transports.enter(peer.address))

    def _serve(self, engine: EngineSocket, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """See `Serve`. A plain function: one more coroutine takes 500 bytes a connection."""
        accepted = cast("_Accepted", engine.lease)  # that of `_accept`
        engine.owner = socket = _Socket(self, engine, accepted.peer, send)
        return socket.serve(receive)

    @property
    def _open(self) -> list[_Socket]:
        """The open transports."""
        return [owner for owner in self._server.owners if isinstance(owner, _Socket)]

    async def shutdown(self) -> None:
        """Close all transports, within 1.5 seconds."""
        for socket in self._open:
            socket.close_with()
        try:
            async with asyncio.timeout(_SHUTDOWN_TIMEOUT):
                await self._server.wait_closed()
        except TimeoutError:
            logger.warning("%d transports did not close in time", len(self._open))


def _reject(scope: Scope, send: Send) -> Coroutine[Any, Any, None]:
    return reject_request(scope, send, 400, "connect over WebSocket")


@dataclass(frozen=True, slots=True)
class _Accepted:
    """A transport that is not served yet."""

    peer: Peer
    lease: Lease

    def release(self) -> None:
        self.lease.release()


class _Socket:
    """One transport; made in the task that serves it."""

    __slots__ = (
        "_connection",
        "_engine",
        "_login_tried",
        "_namespace_open",
        "_server",
        "_timers",
        "_websocket",
        "buffer",
        "peer",
    )

    name: TransportName = "socketio"

    def __init__(self, server: SocketIO, engine: EngineSocket, peer: Peer, send: Send) -> None:
        self.peer = peer
        self._server = server
        self._engine = engine
        self._websocket = WebSocketConnection(send, server.limits, server.services.framer, self.close_with)
        self.buffer: SendBuffer = self._websocket.buffer
        self._connection = Connection(server.services, self)
        self._namespace_open = False
        self._login_tried = False
        self._timers = Timers()

    # ------------------------------------------------------------ Transport
    def encoder(self, *, batch: bool, by_type: bool) -> FrameEncoder:
        frame, packets = self._websocket.frame, self._server.packets
        return EncodeBatch(packets, frame) if batch else EncodeEach(packets, frame, by_type=by_type)

    def emit(self, event: str, payload: object) -> None:
        self.put_text(self._server.packets.event(event, payload))

    def limit_buffer(self) -> None:
        self._websocket.limit_buffer()

    def close_with(self, error: StreamingError | None = None, *, announced: bool = False) -> None:
        if self._websocket.closing:
            return
        if error is not None and self._namespace_open:
            if not announced:
                self.emit("error", error.to_dict())
            if not error.retryable:
                # The client does not reconnect by itself then.
                self.put_text(self._server.packets.disconnect)
        self._shut(error)

    # ------------------------------------------------------------ SocketOwner
    def put_text(self, text: bytes) -> None:
        self._websocket.put_text(text)

    async def login(self, auth: object) -> None:
        await self._connection.login(auth)

    def close(self) -> None:
        self._shut()

    # ------------------------------------------------------------ life
    async def serve(self, receive: Receive) -> None:
        """Handle the client's messages until the transport is closed."""
        limits = self._server.limits
        self.put_text(handshake(self._engine.sid, limits))
        self._timers.set("login", limits.login_timeout, self._login_too_late)
        self._timers.set("ping", limits.ping_interval, self._ping)
        try:
            while True:
                await self._handle(await receive())
        except OSError:
            pass  # the ASGI driver's sign that the peer is gone
        except asyncio.CancelledError:
            if not await self._websocket.was_closing():
                raise
        finally:
            self._timers.cancel_all()
            self._websocket.stop()
            try:
                await self._connection.on_disconnect(self._websocket.close_code)
            finally:
                await self._engine.finish()

    # ------------------------------------------------------------ engine.io packets
    async def _handle(self, data: str | bytes) -> None:
        websocket, limits = self._websocket, self._server.limits
        if websocket.closing:
            return
        if not isinstance(data, str):
            self._malformed(BadRequestError("binary messages are not accepted"))
        elif size_of(data) > limits.inbound_bytes:
            self.close_with(TooLargeError(f"a message may have {limits.inbound_bytes} bytes, not {size_of(data)}"))
        elif data[:1] == "4":
            await self._handle_packet(data[1:])
        elif data == "3":
            if websocket.inbound.packet():
                self._timers.set("ping", limits.ping_interval, self._ping)
        elif data == "1":
            self._shut()
        else:
            self._malformed(BadRequestError(f"{data!r:.40} is not an engine.io packet"))

    def _login_too_late(self) -> None:
        self.close_with(LoginTimeoutError())

    def _ping(self) -> None:
        self.put_text(b"2")
        self._timers.set("ping", self._server.limits.ping_timeout, self._dead)

    def _dead(self) -> None:
        self._websocket.abort(DeadPeerError(f"no answer to a ping in {self._server.limits.ping_timeout:g} s"))

    def _shut(self, error: StreamingError | None = None) -> None:
        self._websocket.close(*((error.code, error.name) if error is not None else (NORMAL_CLOSURE, "")))

    # ------------------------------------------------------------ Socket.IO packets
    async def _handle_packet(self, text: str) -> None:
        """Parse one Socket.IO packet and handle it. No packet of a client makes it raise."""
        try:
            check_nesting(text)
            packet = Packet(encoded_packet=text)
        except (BadRequestError, ValueError, TypeError, LookupError) as error:
            self._malformed(BadRequestError(f"not a Socket.IO packet: {error}"[:200]))
            return
        try:
            await self._dispatch(packet)
        except Exception:
            logger.exception("a message on connection %s failed", self._connection.session.connection_id)
            self.close_with(StreamingError("the server failed on this message"))

    async def _dispatch(self, packet: Packet) -> None:
        kind, namespace = packet.packet_type, packet.namespace or "/"
        if kind == CONNECT and not self._login_tried:
            await self._log_in(namespace, packet.data)
        elif not self._namespace_open or namespace != self._server.namespace:
            self._malformed(BadRequestError(f"namespace {namespace!r:.80} is not connected"))
        elif kind == DISCONNECT:
            self.close_with()
        elif kind == EVENT:
            await self._dispatch_event(packet)
        else:
            self._malformed(BadRequestError(f"packets of type {kind} are not accepted"))

    async def _log_in(self, namespace: str, auth: object) -> None:
        self._login_tried = True
        if namespace != self._server.namespace:
            expected = self._server.namespace
            error = BadRequestError(f"there is no namespace {namespace!r:.80}: connect to {expected!r}")
            await self._engine.refuse(namespace, error)
            self.close_with()
            return
        try:
            self._server.services.context.lifecycle.ensure_open()
        except ServerRestartError as error:  # without a refusal, after which the official client would not reconnect
            self._connection.session.instrumentation.refused(error)
            self.close_with(error)
            return
        connection_id = await self._engine.login(auth)
        if connection_id is None:
            self.close_with()
            return
        self._namespace_open = True
        self._timers.cancel("login")
        self._connection.opened(connection_id)

    async def _dispatch_event(self, packet: Packet) -> None:
        content: object = packet.data
        if not isinstance(content, list) or not content or not isinstance(content[0], str):
            self._malformed(BadRequestError("an event is a list that begins with its name"))
            return
        name, *arguments = cast("list[Any]", content)
        if name in RESERVED_EVENTS:
            self._connection.on_reserved_event(name)
            return
        number, packets = packet.id, self._server.packets

        def answer(payload: object) -> None:
            if number is not None:
                self.put_text(packets.answer(number, payload))

        await self._connection.received(name, arguments, None if number is None else answer)

    def _malformed(self, error: BadRequestError) -> None:
        """Count a packet that is not an event; before the login, close the transport."""
        if self._namespace_open:
            self._connection.malformed(error)
        else:
            self.close_with(error)
