"""Logins by a function of the application: cookies of its sessions, API keys, opaque tokens."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.authentication import AuthCredentials, UnauthenticatedUser
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from lg_streaming.errors import (
    BadRequestError,
    MessageRateError,
    ServerRestartError,
    TokenExpiredError,
    UnauthorizedError,
    describe_without_message,
)
from lg_streaming.gateway.auth.principal import Grant, Principal
from lg_streaming.hub.callbacks import is_external_cancellation
from lg_streaming.hub.open_options import owner_text

if TYPE_CHECKING:
    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.limits.workers import Workers

__all__ = ["Authenticate", "OwnSessions"]

logger: logging.Logger = logging.getLogger(__name__)

Authenticate = Callable[[HTTPConnection], Principal | Awaitable[Principal | None] | None]
"""`authenticate(request) -> Principal | None`, sync (run in a thread of the gateway) or async.

It gets each HTTP request, and the handshake of each connection, as Starlette's `HTTPConnection`: cookies, headers,
query and `request.session`. None means "not logged in": then a JWT counts. Starlette's `HTTPException` with the
status 401 or 403, as dependencies of FastAPI raise it, means the same. The heartbeat of an open connection calls it
again. Any other exception, or no answer within 10 seconds, refuses the caller with code 4010.
"""

_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)
_AMBIENT: Final = frozenset({"basic", "digest", "negotiate", "ntlm"})
"""Schemes of `Authorization` that a browser adds by itself, like a cookie."""
_LOGGED_OUT: Final[Mapping[str, Callable[[], object]]] = {
    "session": dict[str, Any],
    "user": UnauthenticatedUser,
    "auth": AuthCredentials,
}
"""Values that Starlette's middlewares derive from cookies, for a caller that is not logged in."""


class OwnSessions:
    """Logins by a function of the application.

    Args:
        authenticate: The function.
        workers: Threads for a function that is not async.
        clock: Seconds since 1970.
        timeout: Seconds after which a missing answer refuses the caller.
    """

    def __init__(
        self, authenticate: Authenticate, workers: Workers, clock: Callable[[], float], *, timeout: float
    ) -> None:
        self._authenticate = authenticate
        self._workers = workers
        self._clock = clock
        self._timeout = timeout

    async def find(self, peer: Peer, token: str | None, *, caller: str, with_cookies: bool) -> Principal | None:
        """Return the caller's principal; None if the application does not know the caller.

        Args:
            peer: The caller, with its request.
            token: The token of a message; the function gets it as the request's bearer token.
            caller: The account to which the call is charged.
            with_cookies: False if the page of the caller may not use cookies.

        Raises:
            UnauthorizedError: If the function failed, did not answer in time, or returned another object.
            TokenExpiredError: If the principal has expired.
            MessageRateError: If too many questions of the caller wait for an answer.
        """
        if peer.scope is None or (token is not None and _TOKEN.fullmatch(token) is None):
            return None
        request = _request(peer.scope, token, with_cookies=with_cookies)
        answer = await self._ask(request, caller, peer.address)
        if answer is None:
            return None
        principal = _checked(answer)
        if principal is None:
            raise self._refusal(peer.address, f"{answer!r:.200} cannot be used as a Principal")
        if principal.expires_at is not None and principal.expires_at <= self._clock():
            raise TokenExpiredError("the login has expired: log in again")
        return principal

    async def _ask(self, request: HTTPConnection, caller: str, address: str | None) -> object:
        patience = asyncio.timeout(self._timeout)
        try:
            async with patience:
                return await self._workers.answer(caller, self._authenticate, request)
        except (MessageRateError, ServerRestartError):
            raise
        except BaseException as error:
            if is_external_cancellation(error):
                raise
            if isinstance(error, HTTPException) and error.status_code in {401, 403}:
                return None
            late = patience.expired()
            reason = f"no answer in {self._timeout:g} s" if late else describe_without_message(error)
        raise self._refusal(address, reason)

    @staticmethod
    def _refusal(address: str | None, reason: str) -> UnauthorizedError:
        """Log a failure of the function, in one line without the caller's data; return the caller's error."""
        logger.error("authenticate failed for a caller at %s: refused, %s", address, reason)
        return UnauthorizedError("the login could not be checked")


def _request(scope: Mapping[str, Any], token: str | None, *, with_cookies: bool) -> HTTPConnection:
    """Return a request as the application may use it."""
    own = dict(scope)
    headers = cast("list[tuple[bytes, bytes]]", own["headers"])
    if not with_cookies:
        headers = [pair for pair in headers if not _is_ambient(*pair)]
        own |= {name: value() for name, value in _LOGGED_OUT.items() if name in own}
    if token is not None:
        others = [pair for pair in headers if pair[0].lower() != b"authorization"]
        headers = [*others, (b"authorization", b"Bearer " + token.encode())]
    own["headers"] = headers
    return HTTPConnection(own)


def _is_ambient(name: bytes, value: bytes) -> bool:
    """Return whether a browser adds this header to the requests of any page."""
    name = name.lower()
    scheme = value.decode("latin-1").strip().partition(" ")[0].lower()
    return name == b"cookie" or (name == b"authorization" and scheme in _AMBIENT)


def _checked(answer: object) -> Principal | None:
    """Return the principal with its subject as text; None if it cannot be used."""
    if not isinstance(answer, Principal):
        return None
    try:
        subject = owner_text(answer.subject)
    except BadRequestError:
        return None
    grants = cast("tuple[object, ...]", answer.grants)
    is_usable = (
        subject is not None
        and _is_time(answer.expires_at)
        and isinstance(cast("object", answer.claims), Mapping)
        and isinstance(cast("object", grants), tuple)
        and all(isinstance(grant, Grant) for grant in grants)
    )
    return replace(answer, subject=subject, source="application") if is_usable else None


def _is_time(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
