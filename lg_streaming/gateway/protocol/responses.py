"""HTTP responses of the gateway: JSON, errors, and the headers that every response has."""

from __future__ import annotations

from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import orjson
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from lg_streaming.errors import StreamingError

__all__ = ["ISOLATION", "error_response", "isolate", "isolated", "json_response"]

ISOLATION: Final = MappingProxyType(
    {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
)
"""Headers of every response, so that no page of another origin can embed it. CORS requests are not affected."""


def isolate(response: Response) -> None:
    """Add the headers of `ISOLATION` that an answer does not have."""
    for name, value in ISOLATION.items():
        response.headers.setdefault(name, value)


def isolated(send: Send) -> Send:
    """Add the headers of `ISOLATION` to an answer that another library makes."""

    async def send_isolated(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(name.lower().encode(), value.encode()) for name, value in ISOLATION.items()]
            message = {**message, "headers": [*message.get("headers", ()), *own]}
        await send(message)

    return send_isolated


def json_response(content: object, status: int = 200) -> Response:
    """Return a JSON response that no cache keeps. `content` may be JSON already, as bytes."""
    body = content if isinstance(content, bytes) else orjson.dumps(content)
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")


def error_response(error: StreamingError) -> Response:
    """Return an error as a response, with its HTTP status and the same object as on other transports."""
    response = json_response({"error": error.to_dict()}, error.http_status)
    isolate(response)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
