"""Routes, request bodies and methods that the HTTP endpoints share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote, unquote_to_bytes

import orjson
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from lg_streaming.errors import BadRequestError, MethodError, OriginError, StreamingError, TooLargeError
from lg_streaming.events import check_execution_id
from lg_streaming.gateway.auth.url_credentials import take_credentials, token_refused
from lg_streaming.gateway.protocol.registry import check_nesting
from lg_streaming.gateway.protocol.responses import error_response, isolate
from lg_streaming.observability.logs import log_event

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext

__all__ = [
    "Endpoint",
    "ExecutionRoute",
    "execution_id_of",
    "json_body",
    "wait_disconnected",
]

logger: logging.Logger = logging.getLogger(__name__)
_events: logging.Logger = logging.getLogger("lg_streaming.gateway")

Handle = Callable[[Request, "Peer"], Awaitable[Response]]

_EXECUTION_PATH: Final = "/executions/{execution_id:lg_execution_id}"
_BODY_TIMEOUT: Final = 10.0
_LINGER_BYTES: Final = 1_048_576
_MAX_DIGITS: Final = 20


# ---------------------------------------------------------------- where a request goes
class _ExecutionIdConvertor(Convertor[str]):
    """Path convertor that accepts any text, so that a hostile id gets a 400 with a reason, and not a 404."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("lg_execution_id", _ExecutionIdConvertor())


class ExecutionRoute(Route):
    """A route of one execution, such as `/executions/acme/run-1/updates`.

    An id may end like a route. If its last slash is percent-encoded, the end belongs to the id:
    `/executions/acme%2Fupdates` is the execution `acme/updates`.

    Args:
        prefix: The path before `/executions`.
        last: The path after the id, such as `updates` or `states/{checkpoint_id}`; empty for the execution itself.
        endpoint: The methods.
    """

    def __init__(self, prefix: str, last: str, endpoint: Endpoint) -> None:
        super().__init__(f"{prefix}{_EXECUTION_PATH}{'/' if last else ''}{last}", endpoint)
        self._last = last

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See `Route.matches`."""
        if scope["type"] == "http" and self._last and not _ends_with(scope, self._last.split("/")):
            return Match.NONE, {}
        return super().matches(scope)


def _ends_with(scope: Scope, segments: Sequence[str]) -> bool:
    """Return whether a path ends with these segments; one in braces matches any text."""
    raw = _raw_path(scope)
    found = (raw.decode("latin-1") if raw is not None else scope["path"]).split("/")[-len(segments) :]
    return len(found) == len(segments) and all(
        unquote(each) == segment or (segment.startswith("{") and each)
        for each, segment in zip(found, segments, strict=True)
    )


def _raw_path(scope: Mapping[str, Any]) -> bytes | None:
    raw = cast("bytes | None", scope.get("raw_path"))
    return None if raw is None else raw.partition(b"?")[0]


def execution_id_of(request: Request) -> str:
    """Return the execution id in the path; it may contain ``/``, plain or percent-encoded.

    Raises:
        BadRequestError: If the id cannot name an execution, or is not UTF-8.
    """
    raw = _raw_path(request.scope)
    if raw is not None:
        try:
            unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            raise BadRequestError("the path is not UTF-8: percent-encode the execution id as UTF-8") from None
    return check_execution_id(request.path_params["execution_id"])


class Endpoint:
    """The methods of one route, as an ASGI application.

    Errors become responses that pages of allowed origins may read. A method without a function gets 405 with a list of
    the methods. Pages of other origins are refused. A ticket in the address is redeemed before all other checks, and a
    token in the address is refused. Large bodies are compressed.

    Args:
        context: Services that the routes share.
        for_all_pages: Whether pages of every origin may load the response.
        describe_error: Function that makes the response of an error.
        expose: Names of response headers that pages of allowed origins may read.
        accept: Names of additional request headers that pages may send.
        methods: Functions for `GET`, `POST` and so on; `HEAD` is answered like `GET`.
    """

    def __init__(
        self,
        context: HttpContext,
        *,
        for_all_pages: bool = False,
        describe_error: Callable[[StreamingError], Response] = error_response,
        expose: Sequence[str] = (),
        accept: Sequence[str] = (),
        **methods: Handle,
    ) -> None:
        self._context = context
        self._for_all_pages = for_all_pages
        self._policy = context.gateway.policy
        self._methods = methods
        self._describe_error = describe_error
        self._expose = ", ".join(expose)
        self._accept = tuple(accept)
        allowed = [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]
        self._allow = ", ".join(sorted(allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await take_credentials(self._policy.use_ticket, scope)
        self._context.gateway.lifecycle.wake()
        request = Request(scope, receive)
        response = await self._answer(request, self._policy.peer_of(scope))
        await response(scope, receive, send)

    async def _answer(self, request: Request, peer: Peer) -> Response:
        headers = self._policy.cors_headers(peer)
        if request.method == "OPTIONS":
            return self._options(peer, headers)
        try:
            response = await self._handle(request, peer)
        except StreamingError as error:
            response = self._describe_error(error)
            if isinstance(error, OriginError):
                _log_refusal(error)
            if isinstance(error, MethodError):
                response.headers["Allow"] = self._allow
            if isinstance(error, TooLargeError) and request.scope["http_version"] in {"1.0", "1.1"}:
                response.headers["Connection"] = "close"  # what is left of the body is not read
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)
            response = self._describe_error(StreamingError())
        if self._expose and headers:
            response.headers["Access-Control-Expose-Headers"] = self._expose
        response.headers.update(headers)
        isolate(response)
        self._context.compression.apply(request.headers, response)
        return response

    async def _handle(self, request: Request, peer: Peer) -> Response:
        handle = self._methods.get("GET" if request.method == "HEAD" else request.method)
        if handle is None:
            raise MethodError(f"{request.method!r:.20} is not a method of this route: use one of {self._allow}")
        if peer.url_token is not None:
            raise token_refused(peer.url_token)
        if not self._for_all_pages:
            self._policy.check_origin(peer)
        return await handle(request, peer)

    def _options(self, peer: Peer, headers: Mapping[str, str]) -> Response:
        """Answer a preflight request of a browser."""
        refused = peer.origin is not None and not peer.is_same_origin and not headers
        if refused:
            try:
                self._policy.check_origin(peer)
            except OriginError as error:
                _log_refusal(error)
        response = Response(
            status_code=403 if refused else 204,
            headers={
                **headers,
                "Allow": self._allow,
                "Access-Control-Allow-Methods": self._allow,
                "Access-Control-Allow-Headers": ", ".join([*self._accept, *self._policy.cors_request_headers(peer)]),
                "Access-Control-Max-Age": "600",
            },
        )
        isolate(response)
        return response


def _log_refusal(error: OriginError) -> None:
    """Log a refused page: its browser hides the answer from it."""
    log_event(_events, logging.INFO, "gateway.origin.refused", code=error.code, reason=error.message)


# ---------------------------------------------------------------- what a request brings
async def json_body(request: Request, limit: int) -> object:
    """Read and parse the request's body.

    Args:
        request: The request.
        limit: The maximum size of the body, in bytes.

    Raises:
        TooLargeError: If the body has more.
        BadRequestError: If the body is no JSON, nests deeper than 32, or takes longer than 10 seconds.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise BadRequestError(f"the body is JSON: send 'Content-Type: application/json', not {media_type!r:.80}")
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            body = await _read(request, limit)
    except TimeoutError:
        raise BadRequestError(f"the body did not come within {_BODY_TIMEOUT:g} s") from None
    except ClientDisconnect:
        raise BadRequestError("the body ended too early") from None
    try:
        check_nesting(body.decode())
        return orjson.loads(body)
    except ValueError:
        raise BadRequestError("the body is not JSON") from None


async def _read(request: Request, limit: int) -> bytes:
    """Keep at most `limit` bytes, and read a little more, because a client that still sends reads no response."""
    length = request.headers.get("content-length", "")
    announced = int(length[:_MAX_DIGITS]) if length.isascii() and length.isdigit() else 0
    body, size = bytearray(), 0
    if announced <= limit + _LINGER_BYTES:
        async for part in request.stream():
            size += len(part)
            if size > limit + _LINGER_BYTES:
                break
            if size <= limit:
                body += part
    if max(size, announced) > limit:
        raise TooLargeError(f"the body has more than {limit} bytes")
    return bytes(body)


async def wait_disconnected(receive: Receive) -> None:
    """Wait until the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
