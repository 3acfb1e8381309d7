"""Single HTTP requests to a gateway."""

from __future__ import annotations

import asyncio
import importlib
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import httpx2
import orjson

from lg_streaming.client.failures import InterruptedStreamError, connection_failure, http_failure
from lg_streaming.errors import BadRequestError, ConnectionLostError, UnauthorizedError
from lg_streaming.events import check_execution_id
from lg_streaming.fork import bury, restart_after_fork

importlib.import_module("httpcore2")  # at first use httpx2 would block the event loop with it

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from lg_streaming.client.config import ClientConfig, TokenSource

__all__ = ["RestClient", "execution_path", "fetch_token", "is_compressed", "read_failure", "to_json"]

_MAX_ERROR_BYTES = 65_536


async def fetch_token(tokens: TokenSource, seconds: float) -> str | None:
    """Return a token from the program.

    Raises:
        InterruptedStreamError: If the program's function fails, takes more than `seconds`, or returns no valid token.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            token = cast("object", await tokens.get())
    except Exception as error:
        why = f"the callable gave none in {seconds:g} s" if limit.expired() else f"the callable raised {error!r}"
        raise InterruptedStreamError(ConnectionLostError(f"there is no token: {why}")) from error
    if token is None:
        return None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        wrong = UnauthorizedError("a token is a text of printable ASCII characters, without a line break at its end")
        raise InterruptedStreamError(wrong, retryable=False)
    return token


class RestClient:
    """HTTP requests to one gateway, over a pool of connections.

    Args:
        config: Returns the current options.
        tokens: Source of tokens.
    """

    def __init__(self, config: Callable[[], ClientConfig], tokens: TokenSource) -> None:
        self._config = config
        self._tokens = tokens
        self._http: httpx2.AsyncClient | None = None
        self._http_lock = asyncio.Lock()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Connect anew in a forked process; existing connections belong to the parent."""
        bury(self._http, self._http_lock)
        self._http, self._http_lock = None, asyncio.Lock()

    async def http(self) -> httpx2.AsyncClient:
        """Return the HTTP client, which is created at first use."""
        async with self._http_lock:
            if self._http is None:
                config = self._config()
                # Without credentials the jar takes no cookie. Cookies in `headers` are sent in any case.
                policy = None if config.with_credentials else DefaultCookiePolicy(allowed_domains=[])
                self._http = httpx2.AsyncClient(
                    # To load the certificate authorities takes a while.
                    verify=config.ssl_context or await asyncio.to_thread(httpx2.create_ssl_context),
                    timeout=config.connect_timeout,
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=4),
                    cookies=CookieJar(policy),
                )
            return self._http

    async def headers(self) -> dict[str, str]:
        """Return the headers of a request.

        Raises:
            InterruptedStreamError: If the program gives no token.
        """
        token = await fetch_token(self._tokens, self._config().connect_timeout)
        return {
            **({} if token is None else {"Authorization": f"Bearer {token}"}),
            **self._config().headers,
        }

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None
    ) -> dict[str, Any]:
        """Send a request, and return the JSON object of its response.

        A refused token is replaced once by a fresh one. Other failures are not retried, because the server may have
        executed the request.

        Raises:
            StreamingError: If the server refuses the request.
            ConnectionLostError: If no response arrives; the server may have executed the request.
        """
        try:
            try:
                return await self._request_once(method, path, query, body)
            except InterruptedStreamError as failure:
                if not self._tokens.can_refresh(failure.error):
                    raise
                return await self._request_once(method, path, query, body)
        except InterruptedStreamError as failure:
            raise failure.error from failure.__cause__

    async def _request_once(
        self, method: str, path: str, query: Mapping[str, str] | None, body: object
    ) -> dict[str, Any]:
        config, headers = self._config(), await self.headers()
        headers |= {"Accept": "application/json", "Accept-Encoding": "identity"}
        content = None if body is None else to_json(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        http = await self.http()
        try:
            async with asyncio.timeout(config.connect_timeout):
                async with http.stream(
                    method, config.url + path, params=dict(query or {}), headers=headers, content=content
                ) as response:
                    result = await _read_json(response, response.aiter_bytes(), config.max_event_bytes)
        except (httpx2.RequestError, TimeoutError) as error:
            raise connection_failure(error, config.address) from error
        if not response.is_success or not isinstance(result, dict):
            raise http_failure(response.status_code, result, response.headers, config.address)
        return cast("dict[str, Any]", result)

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()


async def read_failure(
    response: httpx2.Response, chunks: AsyncGenerator[bytes], address: str, execution_id: str
) -> InterruptedStreamError:
    """Read the failure in the response to a stream's request."""
    body = await _read_json(response, chunks, _MAX_ERROR_BYTES)
    return http_failure(response.status_code, body, response.headers, address, execution_id=execution_id)


def is_compressed(response: httpx2.Response) -> bool:
    """Return whether the body is compressed.

    The client asks for no compression, and does not decompress: a few bytes may expand to any size.
    """
    return response.headers.get("content-encoding", "identity") != "identity"


def to_json(value: object) -> bytes:
    """Encode a value as JSON.

    Raises:
        BadRequestError: If JSON cannot hold the value.
    """
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise BadRequestError(f"JSON cannot hold what is to be sent: {error}") from None


def execution_path(execution_id: str, last: str = "") -> str:
    """Return the path of an execution, or of its sub-resource `last`.

    Raises:
        BadRequestError: If the id is not valid.
    """
    return f"/executions/{quote(check_execution_id(execution_id), safe='')}{'/' if last else ''}{last}"


async def _read_json(response: httpx2.Response, chunks: AsyncGenerator[bytes], max_bytes: int) -> object:
    """Return the JSON of a response; None if the body is not JSON, or longer than `max_bytes`."""
    if is_compressed(response):
        return None
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
