"""Errors of the wire: ``{"detail": text}`` with an HTTP status."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import BadRequestError, PromptError, StreamingError
from lg_streaming.gateway.protocol.responses import error_response, json_response

if TYPE_CHECKING:
    from starlette.responses import Response

__all__ = ["BUSY", "RefusedError", "no_run", "no_thread", "refuse", "refused"]

BUSY: Final = (
    "Thread is already running a task. Wait for it to finish or choose a different multitask strategy with "
    "multitask_strategy."
)


class RefusedError(Exception):
    """Refusal of a request.

    Args:
        status: The HTTP status.
        detail: The text for the caller.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def no_thread(thread_id: str) -> RefusedError:
    """Return the refusal for a thread that does not exist, or is not the caller's."""
    return RefusedError(404, f"Thread with ID {thread_id:.256} not found")


def no_run(run_id: str) -> RefusedError:
    """Return the refusal for a run that does not exist."""
    return RefusedError(404, f"Run with ID {run_id:.256} not found")


def refuse(error: RefusedError) -> Response:
    """Return a refusal as a response."""
    return json_response({"detail": error.detail}, error.status)


def refused(error: StreamingError) -> Response:
    """Return an error of the library as a response, with the status that the wire's clients know."""
    response = error_response(error)
    status = HTTPStatus.UNPROCESSABLE_ENTITY if _is_invalid(error) else error.http_status
    answer = json_response({"detail": error.message}, status)
    for name in ("Retry-After", "WWW-Authenticate"):
        if name in response.headers:
            answer.headers[name] = response.headers[name]
    return answer


def _is_invalid(error: StreamingError) -> bool:
    return (
        isinstance(error, BadRequestError)
        and not isinstance(error, PromptError)
        and error.http_status == HTTPStatus.BAD_REQUEST
    )
