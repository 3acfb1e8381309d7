"""One request and its answer: what a client asks beside its streams."""

from __future__ import annotations

import asyncio
import importlib
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import httpx2
import orjson

from lg_streaming.client.failures import InterruptedStreamError, http_failure
from lg_streaming.errors import ConnectionLostError

importlib.import_module("httpcore2")  # httpx2 does it at first use, where it would hold up the event loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from lg_streaming.client.config import ClientConfig, TokenSource

__all__ = ["Rest", "connection_failure", "execution_path", "refusal_of", "token_for"]

_ERROR_BYTES = 65_536


async def token_for(tokens: TokenSource) -> str | None:
    """A token. Raises InterruptedStreamError where the program's own callable fails: it may do better later."""
    try:
        return await tokens.get()
    except Exception as error:
        lost = ConnectionLostError(f"there is no token: the callable raised {error!r}")
        raise InterruptedStreamError(lost) from error


def connection_failure(error: BaseException, execution_id: str | None = None) -> InterruptedStreamError:
    """The failure that an error of the network means."""
    why = str(error) or type(error).__name__
    return InterruptedStreamError(ConnectionLostError(f"the connection failed: {why}", execution_id=execution_id))


class Rest:
    """Requests to one gateway, over connections that are kept.

    Args:
        config: Address, headers and limits; looked at anew each time.
        tokens: Who we are.
    """

    def __init__(self, config: Callable[[], ClientConfig], tokens: TokenSource) -> None:
        self._config = config
        self._tokens = tokens
        self._http: httpx2.AsyncClient | None = None
        self._making = asyncio.Lock()

    async def http(self) -> httpx2.AsyncClient:
        """The connections, made at first use."""
        async with self._making:
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
        token = await token_for(self._tokens)
        return {
            **({} if token is None else {"Authorization": f"Bearer {token}"}),
            **self._config().headers,
        }

    async def ask(
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
                return await self._ask(method, path, query, body)
            except InterruptedStreamError as failure:
                if not self._tokens.may_mend(failure.error):
                    raise
                return await self._ask(method, path, query, body)
        except InterruptedStreamError as failure:
            raise failure.error from failure.__cause__

    async def _ask(self, method: str, path: str, query: Mapping[str, str] | None, body: object) -> dict[str, Any]:
        config, headers = self._config(), await self.headers()
        content = None if body is None else orjson.dumps(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        http = await self.http()
        try:
            async with asyncio.timeout(config.connect_timeout):
                answer = await http.request(
                    method, config.url + path, params=dict(query or {}), headers=headers, content=content
                )
        except (httpx2.RequestError, TimeoutError) as error:
            raise connection_failure(error) from error
        told = _json(answer.content)
        if not answer.is_success or not isinstance(told, dict):
            raise http_failure(answer.status_code, told, answer.headers)
        return cast("dict[str, Any]", told)

    async def aclose(self) -> None:
        """Closes the connections. Harmless when repeated."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()


async def refusal_of(
    answer: httpx2.Response, pieces: AsyncGenerator[bytes], execution_id: str
) -> InterruptedStreamError:
    """The failure that the answer to a stream's request tells of."""
    body = b""
    async for piece in pieces:
        body += piece
        if len(body) > _ERROR_BYTES:
            break  # an error of ours is short
    return http_failure(answer.status_code, _json(body), answer.headers, execution_id=execution_id)


def execution_path(execution_id: str, last: str = "") -> str:
    """The path of an execution, or of something of it."""
    return f"/executions/{quote(execution_id, safe='')}{'/' if last else ''}{last}"


def _json(content: bytes) -> object:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
