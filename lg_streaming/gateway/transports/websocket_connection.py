"""A WebSocket connection with a bounded send buffer, which always closes in bounded time."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.gateway.delivery.frames import Frames, Framing
from lg_streaming.gateway.hooks.server import ServerTransport, WebSocketTransport, current_transport
from lg_streaming.gateway.transports.inbound import InboundMeter
from lg_streaming.gateway.transports.send_buffer import SendBuffer, open_send_buffer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Scope

    from lg_streaming.errors import StreamingError
    from lg_streaming.gateway.transports.base import TransportLimits
    from lg_streaming.gateway.transports.deflate import Framer

__all__ = ["FRESH_BYTES", "NORMAL_CLOSURE", "WebSocketConnection", "reject_request"]

logger: logging.Logger = logging.getLogger(__name__)

NORMAL_CLOSURE: Final = 1000
FRESH_BYTES: Final = 4_096
"""Bytes that are buffered for a slow reader that merges updates."""
_CLOSE_GRACE: Final = 1.0
"""Seconds in which a peer has to read the last frames and answer the close."""


class WebSocketConnection:
    """One WebSocket, of either protocol; made in the task that serves it.

    Args:
        send: ASGI's.
        limits: Limits.
        framer: Frames messages, compressed or not.
        refuse: Closes the connection with an error when the peer exceeds the inbound limits.
        give_up: Closes the connection of a peer that has stopped reading; default: with the error's code.
    """

    def __init__(
        self,
        send: Callable[[Any], Awaitable[None]],
        limits: TransportLimits,
        framer: Framer,
        refuse: Callable[[StreamingError], None],
        give_up: Callable[[StreamingError], None] | None = None,
    ) -> None:
        self._send = send
        self._task = asyncio.current_task()
        self._listening = True
        self._closing: asyncio.Task[None] | None = None
        self._transport: ServerTransport | None = current_transport()
        if isinstance(self._transport, WebSocketTransport):
            # A little over the limit still arrives and is answered by name; far over is cut off by the server.
            self._transport.limit_inbound(4 * limits.inbound_bytes)
            self._transport.forget_handshake()
        if self._transport is not None:
            self._transport.set_user_timeout(2 * limits.bounds.send_timeout)
        self.frame: Framing = framer.framing_of(self._transport)
        """Framing of its messages."""
        self.buffer: SendBuffer = open_send_buffer(send, self._transport, limits.bounds, give_up or self.abort)
        self.inbound: InboundMeter = InboundMeter(limits.inbound, refuse, self.buffer.admit)
        """Meter of what the peer sends."""
        if isinstance(self._transport, WebSocketTransport):
            self._transport.meter(self.inbound)
        self.close_code: int | None = None
        """Why it was closed from this side."""

    @property
    def closing(self) -> bool:
        """Return whether the close has begun."""
        return self._closing is not None

    def put_text(self, text: bytes) -> None:
        """Send one message."""
        self.buffer.put(Frames(self.frame(text)))

    def limit_buffer(self) -> None:
        """Keep buffers short, if the server allows that."""
        if self._transport is not None:
            self._transport.limit_write_buffer(FRESH_BYTES)

    def abort(self, error: StreamingError) -> None:
        """Close a peer that has stopped reading; the close frame is best effort."""
        if self._closing is None:
            logger.info("a connection is closed: %s", error)
            self.close(error.code, error.name)

    def close(self, code: int, reason: str) -> None:
        """Close the WebSocket. Never waits; a peer that does not answer the close is disconnected."""
        if self._closing is None:
            self.close_code = code
            self._closing = asyncio.create_task(self._send_close(code, reason), name="lg_streaming.close")

    async def _send_close(self, code: int, reason: str) -> None:
        loop = asyncio.get_running_loop()
        if self._transport is not None:
            loop.call_later(_CLOSE_GRACE, self._transport.abort)
        try:
            async with asyncio.timeout(_CLOSE_GRACE):
                await self.buffer.flush()
                self._stop_listening()
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except Exception as error:  # noqa: BLE001 (each server has its own for a peer that is gone)
            logger.debug("a connection did not take its close: %r", error)
            if self._transport is not None:
                self._transport.abort()
            self._stop_listening()

    def _stop_listening(self) -> None:
        """Cancel the serving task under granian, which sends no close while the application waits for a message."""
        if self._transport is None and self._task is not None and self._listening:
            self._listening = False
            self._task.cancel()

    async def was_closing(self) -> bool:
        """Return whether this object cancelled the serving task to send its close; if so, wait for the close first.

        Some servers close a connection themselves, without the code, when the application returns.
        """
        if self._closing is None or self._task is None or self._listening:
            return False
        self._task.uncancel()
        await asyncio.wait({self._closing})
        return True

    def stop(self) -> None:
        """Drop the buffered frames, as the WebSocket has closed."""
        self._listening = False
        self.buffer.stop()
        self.inbound.stop()
        if self._transport is not None and self._transport.buffered:
            # The server closes when all is written, and a peer that does not read would hold it all.
            asyncio.get_running_loop().call_later(_CLOSE_GRACE, self._transport.abort)


async def reject_request(scope: Scope, send: Callable[[Any], Awaitable[None]], status: int, body: object) -> None:
    """Answer an HTTP request to a WebSocket's path. Its body is not read; over HTTP/1 the connection closes."""
    text = orjson.dumps(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    if status == HTTPStatus.UPGRADE_REQUIRED:
        headers.append((b"upgrade", b"websocket"))
    if scope.get("http_version", "").startswith("1"):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
