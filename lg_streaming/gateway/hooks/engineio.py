"""python-socketio and python-engineio, guarded.

Only this file relies on their private parts. Changes to them:

- the owner of a transport sends through a bounded buffer instead of an endless queue;
- the owner receives and checks packets without their dispatcher, and refuses attachments: a client cannot run the
  handlers of ``connect`` and ``disconnect`` by emitting them;
- pings run on timers of the event loop, one per connection, instead of a task per ping and a sweep;
- the connection's request and a queue for packets are not kept as long as the connection;
- a client has no room for itself, so leaving costs the same however many others are connected.
"""
# The two libraries have no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import engineio
import socketio
from engineio import async_socket
from engineio import packet as engineio_packet
from socketio import packet as socketio_packet
from socketio.exceptions import ConnectionRefusedError as Refused

from lg_streaming.codec import OrjsonModule
from lg_streaming.errors import StreamingConfigError, StreamingError, TooManyConnectionsError

if TYPE_CHECKING:
    from starlette.types import Receive as ReceiveEvent
    from starlette.types import Scope, Send

__all__ = [
    "CONNECT",
    "DISCONNECT",
    "EVENT",
    "TESTED",
    "EngineSocket",
    "Packet",
    "Receive",
    "SocketIOServer",
    "SocketOwner",
]

logger: logging.Logger = logging.getLogger(__name__)

CONNECT: Final[int] = socketio_packet.CONNECT
DISCONNECT: Final[int] = socketio_packet.DISCONNECT
EVENT: Final[int] = socketio_packet.EVENT

TESTED: Final = MappingProxyType({"python-socketio": ((5, 18), (6,)), "python-engineio": ((4, 15, 1), (5,))})
"""The tested versions of each library: from the first on, below the second."""


_installed: Final = {name: version(name) for name in TESTED}  # read at import, as it reads files


def _check_versions() -> None:
    """Check that both libraries have the private parts that this file overrides.

    Raises:
        StreamingConfigError: If a version is outside `TESTED`.
    """
    for name, (first, end) in TESTED.items():
        installed = _installed[name]
        numbers = tuple(int(number) for number in re.findall(r"\d+", installed)[:3])
        if not first <= numbers < end:
            allowed = f"{name}>={_dotted(first)},<{_dotted(end)}"
            raise StreamingConfigError(
                f"{name} {installed} is installed, and {allowed} is needed: pip install '{allowed}'"
            )


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


class Lease(Protocol):
    """The place of an open transport in the limits."""

    def release(self) -> None:
        """Release the place."""
        ...


class SocketOwner(Protocol):
    """The gateway's side of one transport."""

    def put_text(self, text: bytes) -> None:
        """Send one engine.io packet, without waiting."""
        ...

    async def login(self, auth: object) -> None:
        """Admit the client.

        Raises:
            StreamingError: If the client is refused.
        """
        ...

    def close(self) -> None:
        """Close the transport, without waiting."""
        ...


Receive = Callable[[], Awaitable[str | bytes]]
"""Function that returns the next message, and raises OSError when the peer has disconnected."""
Serve = Callable[["EngineSocket", Receive, "Send"], Coroutine[Any, Any, None]]
"""Function that sets a transport's owner, and serves the transport until it is closed."""


class Packet(socketio_packet.Packet):
    """A Socket.IO packet."""

    json = OrjsonModule
    packet_type: int
    namespace: str | None
    data: Any
    id: int | None


class EngineSocket(async_socket.AsyncSocket):
    """One transport, served by its owner."""

    server: _Engine
    sid: str

    def __init__(self, server: _Engine, sid: str, lease: Lease) -> None:
        super().__init__(server, sid)
        self.lease: Lease = lease
        """The result of `accept`."""
        self.owner: SocketOwner | None = None

    # ------------------------------------------------------------ engine.io's side
    async def send(self, pkt: engineio_packet.Packet) -> None:
        """See `AsyncSocket.send`."""
        encoded = cast("str | bytes", pkt.encode())
        if isinstance(encoded, str) and self.owner is not None:
            self.owner.put_text(encoded.encode())

    async def check_ping_timeout(self) -> bool:
        """See `AsyncSocket.check_ping_timeout`: the owner checks it."""
        return not self.closed

    def schedule_ping(self) -> None:
        """See `AsyncSocket.schedule_ping`: the owner sends pings."""

    async def close(self, wait: object = True, abort: object = False, reason: str | None = None) -> None:  # noqa: ARG002, FBT002
        """See `AsyncSocket.close`."""
        if self.closed or self.closing:
            return
        self.closing = True
        await self.server.notify_disconnect(self.sid, reason)
        self.closed = True
        if self.owner is not None:
            self.owner.close()

    def _websocket_handler(self, ws: Any) -> Coroutine[Any, Any, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Serve the transport. A plain function: one more coroutine takes 500 bytes a connection."""
        self.connected = self.upgraded = True
        return self.server.sio.serve(self, ws.wait, ws.asgi_send)

    # ------------------------------------------------------------ the owner's side
    async def login(self, auth: object) -> str | None:
        """Log the client in with `SocketOwner.login`; return its connection's id, or None if it was refused."""
        return await self.server.sio.log_in(self.sid, auth)

    async def refuse(self, namespace: str, error: StreamingError) -> None:
        """Refuse a client that asked for another namespace."""
        await self.server.sio.refuse(self.sid, namespace, error)

    async def finish(self) -> None:
        """Remove the transport from python-socketio."""
        if not self.closed:
            self.closing = self.closed = True
            await self.server.notify_disconnect(self.sid, self.server.reason.TRANSPORT_CLOSE)


_STILL_READ: Final = ("asgi.receive", "asgi.send", "asgi.scope", "HTTP_CONNECTION", "HTTP_UPGRADE")


def _forget_request(environ: dict[str, Any]) -> None:
    """Drop most of the request, which python-socketio and the stack hold as long as the connection lives."""
    kept = {name: environ[name] for name in _STILL_READ if name in environ}
    environ.clear()
    environ.update(kept)


class _Manager(socketio.AsyncManager):
    """Manager without a room for each client: no one sends to these rooms, and each leave would search all of them."""

    def basic_enter_room(self, sid: str, namespace: str, room: str | None, eio_sid: str | None = None) -> None:
        if room != sid:
            super().basic_enter_room(sid, namespace, room, eio_sid=eio_sid)


class _Engine(engineio.AsyncServer):
    """engine.io with guarded sockets, over WebSocket only."""

    sio: SocketIOServer
    sockets: dict[str, EngineSocket]
    idle: asyncio.Event
    """Set while no transport is open."""

    async def notify_disconnect(self, sid: str, reason: str | None) -> None:
        """Remove a transport from python-socketio."""
        await self._trigger_event("disconnect", sid, reason or self.reason.SERVER_DISCONNECT, run_async=False)

    def create_queue(self, *_: object, **__: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See `AsyncServer.create_queue`: packets go to the send buffer."""

    def handle_request(self, scope: Scope, receive: ReceiveEvent, send: Send) -> Coroutine[Any, Any, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Serve a WebSocket; reject other requests. A plain function, see `EngineSocket._websocket_handler`."""
        if scope["type"] == "websocket":
            return super().handle_request(scope, receive, send)
        return self.sio.reject(scope, send)

    async def _handle_connect(self, environ: dict[str, Any], transport: str, jsonp_index: object = None) -> Any:  # noqa: ARG002
        try:
            lease = self.sio.accept(environ["asgi.scope"])
        except TooManyConnectionsError as error:
            return self._bad_request(error.message)
        # python-engineio's ids end in a counter, which would show clients how many connected before.
        sid = secrets.token_urlsafe(15)
        socket = self.sockets[sid] = EngineSocket(self, sid, lease)
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


class SocketIOServer(socketio.AsyncServer):
    """A Socket.IO server of one namespace.

    Args:
        namespace: The namespace clients connect to.
        accept: Returns a lease for a transport, by its ASGI scope; raises TooManyConnectionsError to reject it.
        serve: Serves an accepted transport.
        reject: Answers a request that is not a WebSocket.

    Raises:
        StreamingConfigError: If an installed version is outside `TESTED`.
    """

    eio: _Engine

    def __init__(
        self,
        *,
        namespace: str,
        accept: Callable[[Scope], Lease],
        serve: Serve,
        reject: Callable[[Scope, Send], Coroutine[Any, Any, None]],
    ) -> None:
        _check_versions()
        # The library logs every packet at INFO, tokens included.
        quiet = logging.getLogger(f"{__name__}.packets")
        if quiet.level == logging.NOTSET:
            quiet.setLevel(logging.WARNING)
        super().__init__(
            client_manager=_Manager(),
            async_mode="asgi",
            async_handlers=False,
            always_connect=False,
            namespaces=[namespace],
            serializer=Packet,
            transports=["websocket"],
            cors_allowed_origins=[],  # the login checks origins, where the client can be sent a reason
            http_compression=False,
            monitor_clients=False,
            logger=cast("Any", quiet),
            engineio_logger=quiet,
        )
        self.namespace = namespace
        self.accept = accept
        self.serve = serve
        self.reject = reject
        self.eio.sio = self
        self.begin()
        self.on("connect", self._on_connect, namespace=namespace)

    def begin(self) -> None:
        """Begin without any transport, on an event loop that may differ from the one before."""
        self.eio.sockets.clear()
        self.eio.idle = asyncio.Event()
        self.eio.idle.set()

    def _engineio_server_class(self) -> type[_Engine]:
        return _Engine

    @property
    def owners(self) -> list[SocketOwner]:
        """The owners of the transports that are served."""
        return [socket.owner for socket in self.eio.sockets.values() if socket.owner is not None]

    async def wait_closed(self) -> None:
        """Wait until no transport is open."""
        await self.eio.idle.wait()

    async def log_in(self, eio_sid: str, auth: object) -> str | None:
        """See `EngineSocket.login`."""
        await self._handle_connect(eio_sid, self.namespace, auth)
        return cast("str | None", self.manager.sid_from_eio_sid(eio_sid, self.namespace))

    async def refuse(self, eio_sid: str, namespace: str, error: StreamingError) -> None:
        """See `EngineSocket.refuse`."""
        data = {"message": error.message, "data": error.to_dict()}
        await self._send_packet(eio_sid, Packet(socketio_packet.CONNECT_ERROR, data=data, namespace=namespace))

    async def _on_connect(self, sid: str, _environ: object, auth: object = None) -> None:
        eio_sid = cast("str", self.manager.eio_sid_from_sid(sid, self.namespace))
        try:
            owner = self.eio.sockets[eio_sid].owner
            if owner is None:
                raise StreamingError("the transport is not served yet")
            await owner.login(auth)
        except StreamingError as error:
            raise Refused(error.message, error.to_dict()) from None
        except Exception:
            logger.exception("a login failed")
            error = StreamingError("the server failed on this login")
            raise Refused(error.message, error.to_dict()) from None
