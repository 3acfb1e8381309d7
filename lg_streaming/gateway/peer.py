"""Who is at the other end of a connection, as far as the request itself tells."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Peer"]

_PROXY_PREFIXES: Final = (
    "x-forwarded",
    "x-original-",
    "x-envoy-",
    "x-amzn-",
    "x-appengine-",
    "x-azure-",
    "x-arr-",
    "cf-",
)
_PROXY_HEADERS: Final = frozenset(
    {
        "cdn-loop",
        "client-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cloud-trace-context",
        "x-cluster-client-ip",
        "x-nginx-proxy",
        "x-proxy-user-ip",
        "x-real-ip",
        "x-real-port",
        "x-remote-addr",
        "x-remote-ip",
    }
)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,\[\]/@]+)(?::[0-9]{1,5})?")
_OTHER_SITES: Final = frozenset({"cross-site", "same-site"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The caller's address and request headers (lower-case names; a repeated header is joined by commas)."""

    address: str | None
    headers: Mapping[str, str]
    http_version: str = "1.1"
    scheme: str = "http"

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Self:
        """Reads an ASGI scope."""
        values: dict[str, list[str]] = {}
        for raw_name, raw_value in cast("list[tuple[bytes, bytes]]", scope.get("headers", [])):
            values.setdefault(raw_name.decode("latin-1").lower(), []).append(raw_value.decode("latin-1"))
        client = cast("tuple[str, int] | None", scope.get("client"))
        return cls(
            address=client[0] if client else None,
            headers={name: ("; " if name == "cookie" else ",").join(found) for name, found in values.items()},
            http_version=str(scope.get("http_version", "1.1")),
            scheme=str(scope.get("scheme", "http")),
        )

    @property
    def origin(self) -> str | None:
        """The page a browser says it acts for; other programs send none."""
        return self.headers.get("origin")

    @property
    def is_proxied(self) -> bool:
        """Whether the request shows a proxy on its way, so that the address is not the caller's own.

        Signs are a header that proxies add, HTTP/1.0, which nginx speaks to its upstreams unless it is told otherwise,
        `Connection: upgrade` without an `Upgrade`, and a browser that says "same origin" on a page of a host that is
        not of this machine. A proxy that leaves none of them cannot be recognised, nor can a TCP forwarder.
        """
        return (
            self.http_version in {"0.9", "1.0"}
            or any(name.startswith(_PROXY_PREFIXES) or name in _PROXY_HEADERS for name in self.headers)
            or ("upgrade" not in self.headers and "upgrade" in self.headers.get("connection", "").lower())
            or self._page_is_elsewhere
        )

    @property
    def _page_is_elsewhere(self) -> bool:
        if self.headers.get("sec-fetch-site") != "same-origin":
            return False
        page = self.origin or self.headers.get("referer", "")
        host = _host_name(page.partition("://")[2].partition("/")[0])
        return bool(host) and not _is_loopback_name(host)

    @property
    def is_embedded(self) -> bool:
        """Whether a page of another site loads this as a part of itself, such as an image or a script."""
        return (
            self.origin is None
            and self.headers.get("sec-fetch-site") in _OTHER_SITES
            and self.headers.get("sec-fetch-mode") != "navigate"
        )

    @property
    def is_local(self) -> bool:
        """Whether the request shows that the caller runs on this machine and meant this machine.

        The host the request was made to is looked at too: a page from elsewhere can point a name of its own at
        127.0.0.1, and then its origin and its host agree.
        """
        return self.why_not_local is None

    @property
    def why_not_local(self) -> str | None:
        """What keeps the caller from passing for one on this machine; None when nothing does."""
        if self.address is None or not _is_loopback(self.address):
            return "this request does not come from a loopback address"
        if self.is_proxied:
            return "this request shows a proxy on its way (a header of one, or HTTP/1.0)"
        if not _is_loopback_name(_host_name(self.headers.get("host", ""))):
            return "the Host of this request is no name of this machine, such as localhost"
        return None

    @property
    def is_same_origin(self) -> bool:
        """Whether the page came from the host that is asked; over TLS, also whether the page itself did."""
        origin, host = self.origin, self.headers.get("host")
        if origin is None or host is None:
            return False
        scheme, _, name = origin.lower().partition("://")
        if scheme == "http" and self.scheme in {"https", "wss"}:
            return False
        return name == host.lower()

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
    """The name in a `Host`; empty where it is malformed, or there are several."""
    found = _HOST.fullmatch(host.strip())
    return found[1].strip("[]") if found is not None else ""


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
