"""Responses that are no streams of events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from lg_streaming.gateway.protocol.responses import error_response, json_response

if TYPE_CHECKING:
    from lg_streaming.errors import StreamingError

__all__ = ["describe_error", "empty_stream"]

_KEPT: Final = frozenset({"retry-after", "www-authenticate"})


def describe_error(error: StreamingError) -> Response:
    """Return an error as ``{error, message, …}``: the clients show the body's text with the status."""
    described = error.to_dict()
    response = json_response({"error": described.pop("name"), **described}, error.http_status)
    response.headers.update({name: value for name, value in error_response(error).headers.items() if name in _KEPT})
    return response


def empty_stream() -> Response:
    """Return a stream without events: there is no such thread, or it is not the caller's."""
    return Response(b"", 200, {"Cache-Control": "no-cache, no-transform"}, "text/event-stream")
