"""Responses to requests that the server refuses before the application."""

from __future__ import annotations

import http
from typing import Any, Final

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from lg_streaming.errors import StreamingError, TooManyConnectionsError

__all__ = ["RefuseOverLimit", "refusal"]

_HEALTH: Final = ("/health", "/health/live", "/health/ready")


class RefuseOverLimit:
    """Wrap an application for requests over the limits: only its health checks are answered."""

    def __init__(self, app: Any, error: TooManyConnectionsError) -> None:
        self._app: ASGIApp = app
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a health check, or send the refusal."""
        if scope["method"] in {"GET", "HEAD"} and scope["path"].endswith(_HEALTH):
            await self._app(scope, receive, send)
            return
        body = orjson.dumps({"error": self._error.to_dict()})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"retry-after", b"1"),
            (b"connection", b"close"),
            (b"x-content-type-options", b"nosniff"),
        ]
        await send({"type": "http.response.start", "status": self._error.http_status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def refusal(status: int, error: StreamingError) -> bytes:
    """Return a complete HTTP response for a connection that is closed after it."""
    body = orjson.dumps({"error": error.to_dict()})
    retry = b"Retry-After: 1\r\n" if error.retry_after is not None else b""
    return (
        b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s"
        b"X-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n\r\n"
        % (status, http.HTTPStatus(status).phrase.encode(), len(body), retry)
    ) + body
