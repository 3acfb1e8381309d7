"""The plain WebSocket transport, `/ws`: for a browser's own `WebSocket`."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.codec import split_members
from lg_streaming.errors import BadRequestError, StreamingError, TooLargeError
from lg_streaming.gateway.auth.url_credentials import take_credentials, token_refused
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.protocol.registry import check_nesting
from lg_streaming.gateway.protocol.responses import isolated
from lg_streaming.gateway.transports.connection import Connection, ConnectionServices
from lg_streaming.gateway.transports.open_sockets import OpenSockets
from lg_streaming.gateway.transports.packets import KIND_NAMES, TYPE_NAMES, size_of
from lg_streaming.gateway.transports.websocket_connection import NORMAL_CLOSURE, WebSocketConnection, reject_request

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.delivery.frames import FrameEncoder, Framing
    from lg_streaming.gateway.transports.send_buffer import SendBuffer
    from lg_streaming.log.base import StoredUpdate
    from lg_streaming.types import TransportName

__all__ = ["EncodeEach", "PlainWebSocket"]

logger: logging.Logger = logging.getLogger(__name__)

_REPLY: Final = "reply"
_KEYS: Final = frozenset({"type", "payload", "id"})


class PlainWebSocket:
    """The WebSocket server of a gateway; an ASGI application.

    Args:
        services: Services that all connections share.
    """

    def __init__(self, services: ConnectionServices) -> None:
        self._services = services
        self._context = services.context
        self._open = OpenSockets[_Socket]()
        services.context.lifecycle.on_start.append(self._open.begin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        found = await take_credentials(self._context.policy.use_ticket, scope)
        self._context.lifecycle.wake()
        if scope["type"] != "websocket":
            error = (
                BadRequestError("connect over WebSocket")
                if found.token_name is None
                else token_refused(found.token_name)
            )
            status = 426 if found.token_name is None else 400
            await reject_request(scope, isolated(send), status, {"error": error.to_dict()})
            return
        await receive()
        await send({"type": "websocket.accept"})
        socket = _Socket(self._services, self._context.policy.peer_of(scope), send)
        with self._open.keep(socket):
            await socket.serve(receive)

    async def shutdown(self) -> None:
        """Close all connections, within 1.5 seconds."""
        for socket in self._open:
            socket.close_with()
        await self._open.wait_closed()


class _Socket:
    """One connection."""

    name: TransportName = "websocket"

    def __init__(self, services: ConnectionServices, peer: Peer, send: Send) -> None:
        self.peer = peer
        self._services = services
        self._websocket = WebSocketConnection(send, services.limits, services.framer, self.close_with)
        self.buffer: SendBuffer = self._websocket.buffer
        self._connection = Connection(services, self)

    # ------------------------------------------------------------ Transport
    def encoder(self, *, batch: bool, by_type: bool) -> FrameEncoder:
        frame = self._websocket.frame
        return EncodeBatch(frame) if batch else EncodeEach(frame, by_type=by_type)

    def emit(self, event: str, payload: object) -> None:
        self._websocket.put_text(orjson.dumps({"type": event, "payload": payload}))

    def limit_buffer(self) -> None:
        self._websocket.limit_buffer()

    def close_with(self, error: StreamingError | None = None, *, announced: bool = False) -> None:
        if self._websocket.closing:
            return
        if error is not None and not announced:
            self.emit("error", error.to_dict())
        self._websocket.close(*((error.code, error.name) if error is not None else (NORMAL_CLOSURE, "")))

    # ------------------------------------------------------------ serving
    async def serve(self, receive: Receive) -> None:
        """Log the caller in and handle its messages until the connection closes."""
        try:
            if await self._log_in():
                self._connection.opened(secrets.token_urlsafe(15))
            while (message := await receive())["type"] != "websocket.disconnect":
                await self._handle(message)
        except asyncio.CancelledError:
            if not await self._websocket.was_closing():
                raise
        finally:
            self._websocket.stop()
            await self._connection.on_disconnect(self._websocket.close_code)

    async def _log_in(self) -> bool:
        try:
            await self._connection.login(None, takes_tickets=True)
        except StreamingError as error:
            self.close_with(error)
            return False
        return True

    async def _handle(self, message: MutableMapping[str, Any]) -> None:
        if self._websocket.closing:
            return
        text = message.get("text")
        if not isinstance(text, str):
            self._connection.malformed(BadRequestError("binary messages are not accepted"))
            return
        limit = self._services.limits.inbound_bytes
        if size_of(text) > limit:
            self.close_with(TooLargeError(f"a message may have {limit} bytes, not {size_of(text)}"))
            return
        try:
            name, payload, number = _parse(text)
        except BadRequestError as error:
            self._connection.malformed(error)
            return
        try:
            await self._connection.received(name, [payload], self._answer(number))
        except Exception:
            logger.exception("a message on connection %s failed", self._connection.session.connection_id)
            self.close_with(StreamingError("the server failed on this message"))

    def _answer(self, number: int | str | None) -> Callable[[object], None]:
        """Return a function that answers a message, with its `id` if it has one."""

        def answer(payload: object) -> None:
            reply = {"type": _REPLY, "payload": payload}
            self._websocket.put_text(orjson.dumps(reply if number is None else {**reply, "id": number}))

        return answer


def _parse(text: str) -> tuple[str, object, int | str | None]:
    """Parse the name, payload and number of a message.

    Raises:
        BadRequestError: If the text is not a message.
    """
    check_nesting(text)
    try:
        message: object = orjson.loads(text)
    except ValueError:
        raise BadRequestError('a message is JSON: {"type": …, "payload": {…}}') from None
    if not isinstance(message, dict):
        raise BadRequestError('a message is an object: {"type": …, "payload": {…}}')
    fields = cast("dict[str, object]", message)
    if unknown := fields.keys() - _KEYS:
        raise BadRequestError(f"a message has type, payload and id, not {', '.join(sorted(unknown))[:80]}")
    name, number = fields.get("type"), fields.get("id")
    if not isinstance(name, str):
        raise BadRequestError("a message's type is a text")
    if number is not None and (isinstance(number, bool) or not isinstance(number, (int, str))):
        raise BadRequestError("a message's id is a number or a text")
    return name, fields.get("payload"), number


@dataclass(frozen=True, slots=True)
class EncodeEach:
    """Encoder with one message for each update: its data's fields at the top of the payload, and `metadata`."""

    frame: Framing
    by_type: bool = False
    """True if messages are named by their update's type, not its kind."""

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (a batch needs it)
        """See `FrameEncoder.encode`."""
        frame, by_type = self.frame, self.by_type
        return Frames(b"".join([frame(_flat(record, by_type=by_type)) for record in records]), count=len(records))


@dataclass(frozen=True, slots=True)
class EncodeBatch:
    """Encoder with one `updates` message for a list of whole updates."""

    frame: Framing

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        """See `FrameEncoder.encode`."""
        updates = b",".join([record.json for record in records])
        return Frames(
            self.frame(
                b'{"type":"updates","payload":{"execution_id":%b,"updates":[%b]}}'
                % (orjson.dumps(execution_id), updates)
            )
        )


def _flat(record: StoredUpdate, *, by_type: bool) -> bytes:
    """Encode an update as `{"type": <kind or type>, "payload": {…data, "metadata": {…}}}`.

    The metadata has the update's type, because the data may have a `type` too. Data that is not an object becomes the
    payload's `data`. The metadata comes last, so that it wins over a field of the same name in the data.
    """
    name, data, metadata = split_members(record.json) if record.scope.extra is None else _parse_parts(record.json)
    head = b'{"type":%b,"payload":' % (TYPE_NAMES if by_type else KIND_NAMES)[record.type]
    tail = b'"metadata":{"type":%b,%b' % (name, metadata[1:])
    if data == b"{}":
        return b"%b{%b}}" % (head, tail)
    if data.startswith(b"{"):
        return b"%b%b,%b}}" % (head, data[:-1], tail)
    return b'%b{"data":%b,%b}}' % (head, data, tail)


def _parse_parts(wire: bytes) -> tuple[bytes, bytes, bytes]:
    update = orjson.loads(wire)
    return orjson.dumps(update["type"]), orjson.dumps(update["data"]), orjson.dumps(update["metadata"])
