"""The peer of a connection, as far as the request identifies it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, cast

from lg_streaming.gateway.auth.url_credentials import credentials_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.gateway.auth.tickets import UsedTicket

__all__ = ["Peer"]

_PROXY_HEADER: Final = re.compile(
    r"""
    (?:akamai|cdn|cf|fastly|fly|incap|ngrok|remote|ssl|surrogate|tailscale)-
    | true-client
    | x-(?:
        (?:accel|akamai|amz-cf|amzn|appengine|arr|auth-request|authenticated|authentik|azure|backend|cdn|cluster|consumer
          |edgeconnect|envoy|gateway|gitpod|goog-authenticated|goog-iap|haproxy|kong|litespeed|ngrok|original
          |originating|railway|real|remote|replit|rewrite|sendfile|ssl|sucuri|traefik|tunnel|vercel|webauth)-
        | client-cert | host | ms-client-principal | proxy | varnish
        | (?:anonymous-consumer|client-port|cloud-trace-context|coming-from|country-code|credential-identifier
            |http-destinationurl|lb|port|proto|request-start|scheme|ssl|timer|url-scheme)\Z
      )
    | (?:front-end-https|rndr-id)\Z
    | .*(?:forward | prox(?:y|ied)(?:-|\Z) | (?:^|-)(?:via|ips?|client-?ip|host-override|orig(?:in)?-host)(?:-|\Z))
    """,
    re.VERBOSE,
)
"""Names of the headers that proxies add. Proxies choose many names, and callers on this machine use none of these."""
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,\[\]/@]+)(?::([0-9]{1,5}))?", re.ASCII)
_TOKEN_VALUE: Final = re.compile(r"(?:bearer +)?([\w-]+\.[\w-]+\.[\w-]+|lgl_[\w-]+)", re.ASCII | re.IGNORECASE)
_OTHER_SITES: Final = frozenset({"cross-site", "same-site"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The caller's address and request headers (lower-case names; a repeated header is joined by commas)."""

    address: str | None
    headers: Mapping[str, str] = field(repr=False)
    http_version: str = "1.1"
    scheme: str = "http"
    server: tuple[str, int | None] | None = None
    """The address and port that the connection was made to, where the server names them."""
    ticket: UsedTicket | None = None
    """The ticket in the address, which is already redeemed."""
    url_token: str | None = None
    """The name of the option that held a token in the address."""
    scope: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    """The request, if the application checks it; else None, as a scope takes memory as long as its connection lives."""

    @classmethod
    def from_scope(cls, scope: Mapping[str, Any], *, keep: bool = False) -> Self:
        """Read an ASGI scope; with `keep`, the peer refers to it."""
        values: dict[str, list[str]] = {}
        for raw_name, raw_value in cast("list[tuple[bytes, bytes]]", scope.get("headers", [])):
            values.setdefault(raw_name.decode("latin-1").lower(), []).append(raw_value.decode("latin-1"))
        client = cast("tuple[str, int] | None", scope.get("client"))
        server = cast("tuple[str, int | str | None] | None", scope.get("server"))
        found = credentials_in(scope)
        return cls(
            address=client[0] if client else None,
            headers={name: ("; " if name == "cookie" else ",").join(found) for name, found in values.items()},
            http_version=str(scope.get("http_version", "1.1")),
            scheme=str(scope.get("scheme", "http")),
            server=(server[0], _number(server[1])) if server else None,
            ticket=found.ticket,
            url_token=found.token_name,
            scope=scope if keep else None,
        )

    @property
    def origin(self) -> str | None:
        """The origin that a browser sends; other programs send none."""
        return self.headers.get("origin")

    @property
    def page_origin(self) -> str | None:
        """The origin of the page, from `Origin` or, where a browser sends none, from `Referer`."""
        if self.origin is not None:
            return self.origin
        scheme, colon, rest = self.headers.get("referer", "").partition("://")
        return f"{scheme}://{rest.partition('/')[0]}" if colon else None

    @property
    def is_cross_site(self) -> bool:
        """Return whether the browser's headers name a page of another origin as the source of this request."""
        return self.headers.get("sec-fetch-site", "").strip().lower() in _OTHER_SITES

    @property
    def is_proxied(self) -> bool:
        """Return whether the request shows a proxy on its way, so that the address is not the caller's own.

        Signs are a header that proxies add, `Connection: upgrade` without an `Upgrade`, and HTTP/1.0, which nginx uses
        to its upstreams by default. Another is a browser's same-origin request whose page is on another machine.
        A proxy without any of these signs cannot be recognised, nor can a TCP forwarder.
        """
        return (
            self.http_version in {"0.9", "1.0"}
            or any(_PROXY_HEADER.match(name.replace("_", "-")) for name in self.headers)
            or ("upgrade" not in self.headers and "upgrade" in self.headers.get("connection", "").lower())
            or self._page_is_elsewhere
        )

    @property
    def _page_is_elsewhere(self) -> bool:
        """Return whether the page has an address on another machine, although the browser reports the same site."""
        said = self.headers.get("sec-fetch-site")
        if said != "same-origin" and not (said is None and self.origin is None):
            return False
        page = self.page_origin or ""
        host, _ = _host_and_port(page.partition("://")[2], secure=False)
        return bool(host) and not _is_loopback_name(host)

    @property
    def why_not_local(self) -> str | None:
        """Return why the caller cannot count as local; None if it can.

        The `Host` has to be a name of this listener. A foreign page can point its domain at 127.0.0.1; its origin and
        its host then agree.
        """
        if self.address is None or not _is_loopback(self.address):
            return "this request does not come from a loopback address"
        if self.is_proxied:
            return "this request shows a proxy on its way (a header of one, or HTTP/1.0)"
        return self._why_not_this_listener

    @property
    def _why_not_this_listener(self) -> str | None:
        name, port = _host_and_port(self.headers.get("host", ""), secure=self._is_secure)
        if not _is_loopback_name(name):
            return "the Host of this request is no name of this machine, such as localhost"
        if self.server is None or self.server[1] is None:
            return "the server does not name the address it listens on, so the Host cannot be compared with it"
        own, own_port = self.server
        if port != own_port or (_is_loopback(name) and not _same_address(name, own)):
            return f"the Host of this request is not this listener's own name and port, such as localhost:{own_port}"
        return None

    @property
    def _is_secure(self) -> bool:
        return self.scheme in {"https", "wss"}

    @property
    def may_be_secure(self) -> bool:
        """Return whether the page was loaded over TLS, according to the server or to the header of a proxy.

        The header needs no trust: it can only make the rule for origins stricter.
        """
        proto = self.headers.get("x-forwarded-proto", "").lower()
        forwarded = self.headers.get("forwarded", "").lower().replace('"', "")
        return self._is_secure or "https" in proto or "proto=https" in forwarded

    @property
    def is_same_origin(self) -> bool:
        """Return whether the page has the host of the request; if the request uses TLS, the page must use TLS too."""
        origin, host = self.page_origin, self.headers.get("host")
        if origin is None or host is None or self.is_cross_site:
            return False
        scheme, _, name = origin.lower().partition("://")
        if scheme not in {"http", "https"} or (scheme == "http" and self.may_be_secure):
            return False
        default = ":443" if scheme == "https" else ":80"
        return name.removesuffix(default) == host.lower().removesuffix(default)

    @property
    def bearer(self) -> str | None:
        """The token of the ``Authorization`` header."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    def token_in(self, header: str) -> str | None:
        """Return the token in another header, with or without ``Bearer``; None if it has no form of a JWT or a link."""
        found = _TOKEN_VALUE.fullmatch(self.headers.get(header, "").strip())
        return None if found is None else found[1]

    def cookie(self, name: str) -> str | None:
        """Return the value of a cookie; None without one, or with several that differ.

        Another host of the same domain can add a cookie, and must not choose the one that counts.
        """
        pairs = (pair.partition("=") for pair in self.headers.get("cookie", "").split(";"))
        values = {value.strip().strip('"') for key, _, value in pairs if key.strip() == name}
        return (values.pop() or None) if len(values) == 1 else None


def _number(port: object) -> int | None:
    """Return a port as a number; granian passes text."""
    return int(port) if isinstance(port, int | str) and str(port).isdecimal() else None


def _host_and_port(host: str, *, secure: bool) -> tuple[str, int]:
    """Return the name and port in a `Host`; the name is empty if the header is malformed or has several values."""
    found = _HOST.fullmatch(host.strip())
    if found is None:
        return "", 0
    port = found[2]
    return found[1].strip("[]"), int(port) if port is not None else (443 if secure else 80)


def _same_address(one: str, other: str) -> bool:
    try:
        return _plain(one) == _plain(other)
    except ValueError:
        return _is_loopback_name(other)  # the server names its listener by a name


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an address; an IPv4 address in IPv6 notation becomes IPv4.

    Raises:
        ValueError: If the text is not an address.
    """
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return parsed if mapped is None else mapped


def _is_loopback(address: str) -> bool:
    try:
        return _plain(address).is_loopback
    except ValueError:
        return False


def _is_loopback_name(name: str) -> bool:
    name = name.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)
