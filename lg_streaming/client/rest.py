"""One request and its answer: what a client asks beside its streams."""

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

importlib.import_module("httpcore2")  # httpx2 does it at first use, where it would hold up the event loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from lg_streaming.client.config import ClientConfig, TokenSource

__all__ = ["RestClient", "execution_path", "fetch_token", "is_compressed", "read_failure", "to_json"]

_MAX_ERROR_BYTES = 65_536


async def fetch_token(tokens: TokenSource, seconds: float) -> str | None:
    """A token, within so many seconds.

    Raises:
        InterruptedStreamError: The program's own callable fails, which may do better later, or gives what is no token.
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
    """Requests to one gateway, over connections that are kept.

    Args:
        config: Address, headers and limits; looked at anew each time.
        tokens: Who we are.
    """

    def __init__(self, config: Callable[[], ClientConfig], tokens: TokenSource) -> None:
        self._config = config
        self._tokens = tokens
        self._http: httpx2.AsyncClient | None = None
        self._http_lock = asyncio.Lock()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Connect anew: the connections there are belong to the parent."""
        bury(self._http, self._http_lock)
        self._http, self._http_lock = None, asyncio.Lock()

    async def http(self) -> httpx2.AsyncClient:
        """The connections, made at first use."""
        async with self._http_lock:
            if self._http is None:
                config = self._config()
                # Without credentials the jar takes no cookie; those in `headers` are sent all the same.
                policy = None if config.with_credentials else DefaultCookiePolicy(allowed_domains=[])
                self._http = httpx2.AsyncClient(
                    # To read the usual authorities takes a while.
                    verify=config.ssl_context or await asyncio.to_thread(httpx2.create_ssl_context),
                    timeout=config.connect_timeout,
                    limits=httpx2.Limits(max_connections=None, max_keepalive_connections=4),
                    cookies=CookieJar(policy),
                )
            return self._http

    async def headers(self) -> dict[str, str]:
        """Those of a request made now. Raises InterruptedStreamError where there is no token."""
        token = await fetch_token(self._tokens, self._config().connect_timeout)
        return {
            **({} if token is None else {"Authorization": f"Bearer {token}"}),
            **self._config().headers,
        }

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None
    ) -> dict[str, Any]:
        """The answer to one request.

        A token that was refused is replaced once by a fresh one. Nothing else is tried again, as it may have been done.

        Raises:
            StreamingError: The server refused it.
            ConnectionLostError: No answer came: what was asked for may have been done, or not.
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
                ) as answer:
                    told = await _read_json(answer, answer.aiter_bytes(), config.max_event_bytes)
        except (httpx2.RequestError, TimeoutError) as error:
            raise connection_failure(error, config.address) from error
        if not answer.is_success or not isinstance(told, dict):
            raise http_failure(answer.status_code, told, answer.headers, config.address)
        return cast("dict[str, Any]", told)

    async def aclose(self) -> None:
        """Closes the connections. Harmless when repeated."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()


async def read_failure(
    answer: httpx2.Response, pieces: AsyncGenerator[bytes], address: str, execution_id: str
) -> InterruptedStreamError:
    """The failure that the answer to a stream's request tells of."""
    told = await _read_json(answer, pieces, _MAX_ERROR_BYTES)
    return http_failure(answer.status_code, told, answer.headers, address, execution_id=execution_id)


def is_compressed(answer: httpx2.Response) -> bool:
    """Whether it is compressed, which nobody asked for: a few bytes may be as many as it likes."""
    return answer.headers.get("content-encoding", "identity") != "identity"


def to_json(value: object) -> bytes:
    """What a message says. Raises BadRequestError where JSON cannot say it."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise BadRequestError(f"JSON cannot hold what is to be sent: {error}") from None


def execution_path(execution_id: str, last: str = "") -> str:
    """The path of an execution, or of something of it. Raises BadRequestError where no execution has such an id."""
    return f"/executions/{quote(check_execution_id(execution_id), safe='')}{'/' if last else ''}{last}"


async def _read_json(answer: httpx2.Response, pieces: AsyncGenerator[bytes], most: int) -> object:
    """The JSON of an answer; None where it is none, or has more bytes than that."""
    if is_compressed(answer):
        return None
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > most:
            return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
