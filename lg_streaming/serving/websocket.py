"""WebSocket, whose handshakes are all answered or closed in time."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from typing_extensions import override
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from lg_streaming.gateway.auth.url_credentials import for_a_log
from lg_streaming.serving.guard import ConnectionGuard, Entry

__all__ = ["WebSocketProtocol"]


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's protocol on websockets; it holds the entry of its connection."""

    __slots__ = ("_entry", "_guard")

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._guard = ConnectionGuard.for_server(config, server_state)
        self._entry: Entry | None = None

    def take_over(self, entry: Entry) -> None:
        """Take the entry over from the HTTP protocol."""
        entry.owner = self
        self._entry = entry
        self._guard.watch_writes(entry)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is not a valid WebSocket handshake\n")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._entry is not None:
            self._guard.leave(self._entry)

    @override
    async def send(self, message: Any) -> None:
        if self.handshake_complete:
            await super().send(message)
            return
        scope: Any = self.scope
        self.scope: Any = for_a_log(scope)  # uvicorn logs the URL here, also one that no route has handled
        try:
            await super().send(message)
        finally:
            self.scope = scope  # an open connection keeps one scope, not two

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer without the base protocol, which writes nothing after an invalid handshake."""
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self.transport.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode()
        )
        self.transport.close()

    def expire(self) -> None:
        """See `Owner`."""
        self.drop()

    def drop(self) -> None:
        """See `Owner`."""
        self.transport.abort()

    def check_body(self) -> None:
        """See `Owner`."""

    def check_writes(self) -> None:
        """End a handshake that the application has not answered; see `Owner`."""
        if not self.handshake_complete:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the application did not answer this handshake\n")
        if self.transport.is_closing():
            self.transport.abort()
