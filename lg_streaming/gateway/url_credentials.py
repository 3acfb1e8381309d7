"""Credentials in the address of a request: tickets, which are void once they came, and tokens, which are refused.

Addresses end up in logs. So both are taken out of the ASGI scope, in place, before anything else looks at it. An access
log that writes the scope's query shows `***`.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote_plus

from lg_streaming.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.gateway.tickets import Tickets, UsedTicket

__all__ = ["UrlCredentials", "credentials_in", "take_credentials", "token_refused"]

_KEY: Final = "lg_streaming.credentials"
_TICKET: Final = "ticket"
_TOKEN_NAMES: Final = frozenset(
    {"token", "access_token", "id_token", "jwt", "auth", "authorization", "bearer", "bearer_token"}
)
_JWT: Final = re.compile(r"\s*(?:[Bb]earer\s+)?eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\s*")
_HIDDEN: Final = b"***"
_LONGEST_NAME: Final = 80


@dataclass(frozen=True, slots=True)
class UrlCredentials:
    """What an address held."""

    ticket: UsedTicket | None = None
    token_name: str | None = None
    """The name of the option that held a token."""


_NONE: Final = UrlCredentials()


def credentials_in(scope: Mapping[str, Any]) -> UrlCredentials:
    """Return what `take_credentials` found in a scope."""
    return cast("UrlCredentials", scope.get(_KEY, _NONE))


def take_credentials(tickets: Tickets, scope: MutableMapping[str, Any]) -> UrlCredentials:
    """Redeem the tickets in an address, note a token, and hide both from the access log.

    Of several tickets all are void, and the last one counts. Harmless when repeated.
    """
    query = cast("bytes", scope.get("query_string", b""))
    if not query or _KEY in scope:
        return credentials_in(scope)
    is_question = scope.get("method") == "OPTIONS"  # a browser asks at the same address before it sends the request
    ticket: UsedTicket | None = None
    token_name: str | None = None
    parts: list[bytes] = []
    for part in query.split(b"&"):
        raw_name, _, raw_value = part.partition(b"=")
        name, value = _text(raw_name), _text(raw_value)
        if name == _TICKET:
            ticket = None if is_question else tickets.use(value)
        elif name.strip().lower() in _TOKEN_NAMES or _JWT.fullmatch(value):
            token_name = name[:_LONGEST_NAME]
        else:
            parts.append(part)
            continue
        parts.append(raw_name + b"=" + _HIDDEN)
    found = UrlCredentials(ticket, token_name)
    scope["query_string"] = b"&".join(parts)
    scope[_KEY] = found
    return found


def token_refused(name: str) -> BadRequestError:
    """Return the error for a token in an address."""
    return BadRequestError(
        f"a token may not travel in the address: drop {name!r} and send an Authorization header or the cookie"
    )


def _text(raw: bytes) -> str:
    return unquote_plus(raw.decode("latin-1"))
