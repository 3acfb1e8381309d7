"""Credentials in the address of a request: tickets, which are void on arrival, and tokens, which are refused.

Addresses end up in logs. So both are removed from the ASGI scope, in place, before other code reads it. An access log
that writes the scope's query shows `***`.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote_plus

from lg_streaming.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from lg_streaming.gateway.auth.tickets import UsedTicket

    UseTicket = Callable[[str], Awaitable[UsedTicket]]

__all__ = ["UrlCredentials", "credentials_in", "for_a_log", "take_credentials", "token_refused"]

_KEY: Final = "lg_streaming.credentials"
_TICKET: Final = "ticket"
_TOKEN_NAMES: Final = frozenset({"jwt", "auth", "authorization", "bearer"})
"""Names of options that hold a token, like all names that end with `token`. Case and punctuation do not count."""
_TOKEN: Final = re.compile(r"(?<![A-Za-z0-9_-])(?:eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]*\.|lgl_[A-Za-z0-9_-]{64})")
"""The beginning of a JWT or a link in a text. The pattern starts at the beginning of a word, so a search is linear."""
_SEPARATORS: Final = re.compile(rb"([&;])")
_PATH: Final = re.compile(r"([/?;&])")
_HIDDEN: Final = b"***"
_LONGEST_NAME: Final = 80
_MAX_TICKETS: Final = 16
"""Most tickets of one address that are redeemed, each with a request to the fleet."""


@dataclass(frozen=True, slots=True)
class UrlCredentials:
    """Credentials that an address held."""

    ticket: UsedTicket | None = None
    token_name: str | None = None
    """The name of the option that held a token."""


_NONE: Final = UrlCredentials()


def credentials_in(scope: Mapping[str, Any]) -> UrlCredentials:
    """Return what `take_credentials` found in a scope."""
    return cast("UrlCredentials", scope.get(_KEY, _NONE))


async def take_credentials(use: UseTicket, scope: MutableMapping[str, Any]) -> UrlCredentials:
    """Redeem the tickets in an address, record a token's option, and hide both from the access log.

    All of several tickets become void, up to 16, and the last one counts. Harmless when repeated.

    Args:
        use: Voids a ticket.
        scope: ASGI scope of the request.
    """
    query = cast("bytes", scope.get("query_string", b""))
    if not query or _KEY in scope:
        return credentials_in(scope)
    is_question = scope.get("method") == "OPTIONS"  # a browser asks at the same address before it sends the request
    ticket: UsedTicket | None = None
    token_name: str | None = None
    used = 0
    is_plain = True
    parts: list[bytes] = []
    for part in _SEPARATORS.split(query):
        credential = _credential_in(part)
        if credential is None:
            parts.append(part)
            continue
        is_plain = False
        parts.append(credential.shown)
        if credential.ticket is None:
            token_name = credential.name
        elif not is_question and used < _MAX_TICKETS:
            used += 1
            ticket = await use(credential.ticket)
    if is_plain:  # one more key would make the scope of each connection larger
        return _NONE
    found = UrlCredentials(ticket, token_name)
    scope["query_string"] = b"".join(parts)
    scope[_KEY] = found
    return found


def for_a_log(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a scope whose path and query show no credential."""
    path, query = str(scope.get("path", "")), cast("bytes", scope.get("query_string", b""))
    words = (word if "=" not in word and not _TOKEN.search(word) else _shown(word) for word in _PATH.split(path))
    shown = b"".join(_shown(part.decode("latin-1")).encode("latin-1") for part in _SEPARATORS.split(query))
    return {**scope, "path": "".join(words), "query_string": shown}


def _shown(part: str) -> str:
    credential = _credential_in(part.encode("latin-1", "replace"))
    return part if credential is None else credential.shown.decode("latin-1")


def token_refused(name: str) -> BadRequestError:
    """Return the error for a token in an address."""
    return BadRequestError(
        f"a token may not travel in the address: drop {name!r} and send an Authorization header or the cookie"
    )


@dataclass(frozen=True, slots=True)
class _Credential:
    name: str
    shown: bytes
    ticket: str | None = None


def _credential_in(part: bytes) -> _Credential | None:
    """Return the ticket or token in a part of a query, or None."""
    raw_name, _, raw_value = part.partition(b"=")
    name, value = _text(raw_name), _text(raw_value)
    if _TOKEN.search(name):
        return _Credential("***", _HIDDEN)
    plain = "".join(filter(str.isalnum, name.lower()))
    is_ticket = plain == _TICKET
    if is_ticket or plain in _TOKEN_NAMES or plain.endswith("token") or _TOKEN.search(value):
        return _Credential(name[:_LONGEST_NAME], raw_name + b"=" + _HIDDEN, value if is_ticket else None)
    return None


def _text(raw: bytes) -> str:
    return unquote_plus(raw.decode("latin-1"))
