"""Who is at the other end of a connection, as far as the request itself tells."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Peer"]

_PROXY_HEADERS: Final = ("forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The caller's address and request headers (lower-case names; a repeated header is joined by commas)."""

    address: str | None
    headers: Mapping[str, str]

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Self:
        """Reads an ASGI scope."""
        headers: dict[str, str] = {}
        for raw_name, raw_value in cast("list[tuple[bytes, bytes]]", scope.get("headers", [])):
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            separator = "; " if name == "cookie" else ","
            headers[name] = f"{headers[name]}{separator}{value}" if name in headers else value
        client = cast("tuple[str, int] | None", scope.get("client"))
        return cls(address=client[0] if client else None, headers=headers)

    @property
    def origin(self) -> str | None:
        """The page a browser says it acts for; other programs send none."""
        return self.headers.get("origin")

    @property
    def is_proxied(self) -> bool:
        """Whether somebody stands between, so that the address is not the caller's own."""
        return any(name.startswith("x-forwarded") or name in _PROXY_HEADERS for name in self.headers)

    @property
    def is_local(self) -> bool:
        """Whether it is known that the caller runs on this machine and meant this machine.

        The host the request was made to is looked at too: a page from elsewhere can point a name of its own at
        127.0.0.1, and then its origin and its host agree.
        """
        return (
            not self.is_proxied
            and self.address is not None
            and _is_loopback(self.address)
            and _is_loopback_name(_host_name(self.headers.get("host", "")))
        )

    @property
    def is_same_origin(self) -> bool:
        """Whether the page came from the host that is asked."""
        origin, host = self.origin, self.headers.get("host")
        return origin is not None and host is not None and origin.lower().partition("://")[2] == host.lower()

    @property
    def bearer(self) -> str | None:
        """The token of the ``Authorization`` header."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    def cookie(self, name: str) -> str | None:
        """The value of a cookie; None when there is none, or when there are several and they differ.

        Another host of the same domain can add a cookie, and which one the browser sends first is not for it to decide.
        """
        pairs = (pair.partition("=") for pair in self.headers.get("cookie", "").split(";"))
        values = {value.strip().strip('"') for key, _, value in pairs if key.strip() == name}
        return (values.pop() or None) if len(values) == 1 else None


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback


def _is_loopback_name(name: str) -> bool:
    name = name.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)
