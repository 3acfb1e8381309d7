"""What the HTTP routes share: the id in a path, the caller's query, and errors as answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs, unquote_to_bytes

import orjson
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from lg_streaming.errors import BadRequestError, StreamingError
from lg_streaming.events import check_execution_id
from lg_streaming.gateway.peer import Peer

if TYPE_CHECKING:
    from starlette.requests import Request

    from lg_streaming.gateway.auth import Policy
    from lg_streaming.gateway.compression import Compression

__all__ = ["EXECUTION_PATH", "endpoint", "execution_id_of", "json_response", "refuse_tokens_in_url", "ticket_of"]

Handle = Callable[["Request", Peer], Awaitable[Response]]

EXECUTION_PATH: Final = "/executions/{execution_id:lg_execution_id}"
_TOKENS_IN_URL: Final = ("token", "access_token", "jwt", "auth")


class _ExecutionIdConvertor(Convertor[str]):
    """Any text at all, so that a hostile id gets a 400 that says why, and not a 404."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("lg_execution_id", _ExecutionIdConvertor())


def execution_id_of(request: Request) -> str:
    """The execution id in the path; it may hold ``/``, plain or percent-encoded.

    Raises:
        BadRequestError: It cannot name an execution, or is not UTF-8.
    """
    raw = cast("bytes | None", request.scope.get("raw_path"))
    if raw is not None:
        try:
            unquote_to_bytes(raw.partition(b"?")[0]).decode()
        except UnicodeDecodeError:
            raise BadRequestError("the path is not UTF-8: percent-encode the execution id as UTF-8") from None
    return check_execution_id(request.path_params["execution_id"])


def refuse_tokens_in_url(request: Request) -> None:
    """Addresses end up in logs and histories, so a token in one is refused rather than used.

    Raises:
        BadRequestError: There is one.
    """
    for name in _TOKENS_IN_URL:
        if name in request.query_params:
            raise BadRequestError(
                f"a token may not travel in the address: drop {name!r} and send an Authorization header or the cookie"
            )


def ticket_of(scope: Mapping[str, Any]) -> str | None:
    """The ticket in an address; the one kind of credential that may travel there, as it is good for one use only."""
    query = parse_qs(cast("bytes", scope.get("query_string", b"")).decode("latin-1"))
    return query.get("ticket", [None])[0]


def json_response(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer that nobody keeps."""
    return Response(orjson.dumps(content), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def error_response(error: StreamingError, headers: dict[str, str]) -> Response:
    """An error as an answer: its own HTTP status, and the same object as on every other wire."""
    extra = dict(headers)
    if error.retry_after is not None:
        extra["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.http_status == 401:  # noqa: PLR2004
        extra["WWW-Authenticate"] = "Bearer"
    return json_response({"error": error.to_dict()}, error.http_status, extra)


def endpoint(policy: Policy, handle: Handle, compression: Compression) -> Callable[[Request], Awaitable[Response]]:
    """Makes ``handle`` an endpoint.

    Its errors become answers, pages of allowed origins may read all of them, and what is large is compressed.
    """

    async def serve(request: Request) -> Response:
        peer = Peer.of(request.scope)
        headers = policy.cors_headers(peer)
        if request.method == "OPTIONS":
            return preflight(headers)
        try:
            response = await handle(request, peer)
        except StreamingError as error:
            return error_response(error, headers)
        response.headers.update(headers)
        compression.apply(request.headers, response)
        return response

    return serve


def preflight(headers: dict[str, str]) -> Response:
    """The answer to a browser that asks whether it may send a request with an ``Authorization`` header."""
    return Response(
        status_code=204 if headers else 403,
        headers={
            **headers,
            "Access-Control-Allow-Methods": "GET",
            "Access-Control-Allow-Headers": "Authorization, Last-Event-ID, Cache-Control",
            "Access-Control-Max-Age": "600",
        },
    )
