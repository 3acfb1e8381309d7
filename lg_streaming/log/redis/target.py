"""Redis servers that a URL names, and the options of connections to them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from lg_streaming.errors import StreamingConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["OPTIONS", "RedisTarget", "TargetKind"]

TargetKind = Literal["server", "socket", "sentinel", "cluster"]

_SCHEMES: Final[Mapping[str, tuple[TargetKind, bool]]] = MappingProxyType(
    {
        "redis": ("server", False),
        "rediss": ("server", True),
        "unix": ("socket", False),
        "redis+sentinel": ("sentinel", False),
        "rediss+sentinel": ("sentinel", True),
        "redis+cluster": ("cluster", False),
        "rediss+cluster": ("cluster", True),
    }
)
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\s:\[\]/@,]+))(?::(?P<port>\d{1,5}))?")
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTarget:
    """Redis servers and the options of connections to them: the parts of a URL.

    Neither `repr` nor `str` contains a password.
    """

    kind: TargetKind
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()
    """Addresses: of the server, the sentinels, or some nodes of the cluster."""
    path: str | None = None
    """Path of a Unix socket."""
    service: str | None = None
    """Name under which sentinels watch the master."""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)
    """Options of a connection, by the names of redis-py."""

    @classmethod
    def parse(cls, url: str) -> RedisTarget:
        """Return the target that ``url`` names.

        ```text
        redis://[[user]:password@]host[:6379][/db]            rediss:// for TLS
        unix://[[user]:password@]/path/of/the/socket[?db=1]
        redis+sentinel://[[user]:password@]host[:26379],…/service[/db]
        redis+cluster://[[user]:password@]host[:6379],…       some nodes of the cluster
        ```

        Options follow after `?`: see `docs/guide/operations.md`. Special characters of a user or password are
        percent-encoded.

        Raises:
            StreamingConfigError: If the URL cannot be used. The message never contains a password.
        """
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in _SCHEMES:
            raise StreamingConfigError(f"a Redis URL begins with one of {', '.join(f'{each}://' for each in _SCHEMES)}")
        kind, tls = _SCHEMES[scheme]
        try:
            parts = urlsplit(url)
        except ValueError:  # its message may quote a password
            raise StreamingConfigError(
                f"the {scheme}:// URL cannot be read: check its host names and brackets"
            ) from None
        if "@" in parts.path + parts.query or parts.fragment:
            raise StreamingConfigError(
                f"the {scheme}:// URL has '@' or '#' after its host: percent-encode the user and the password"
            )
        userinfo, _, netloc = parts.netloc.rpartition("@")
        username, _, password = userinfo.partition(":")
        options = _parse_options(parts.query, kind, tls=tls)
        db = options.pop("db", None)
        path, service = unquote(parts.path), None
        if kind == "socket":
            if netloc or path in {"", "/"}:
                raise StreamingConfigError("a Unix socket has three slashes: unix:///run/redis/redis.sock")
        elif kind == "sentinel":
            service, _, path = path.strip("/").partition("/")
            if not service:
                raise StreamingConfigError(
                    "a sentinel URL ends with the service name: redis+sentinel://host:26379/name"
                )
        if kind != "socket":
            db = _parse_db(path, db)
        if kind == "cluster" and db:
            raise StreamingConfigError("a Redis cluster has only database 0: remove the number from the URL")
        return cls(
            kind=kind,
            tls=tls,
            hosts=() if kind == "socket" else _parse_hosts(netloc, kind),
            path=path if kind == "socket" else None,
            service=service,
            db=db or 0,
            username=unquote(username) or None,
            password=unquote(password) or None,
            options=MappingProxyType(options),
        )

    def __str__(self) -> str:
        scheme = next(name for name, value in _SCHEMES.items() if value == (self.kind, self.tls))
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        service = f"/{self.service}" if self.service else ""
        user = f"{self.username}@" if self.username else ""
        db = f"/{self.db}" if self.db and self.kind != "socket" else ""
        return f"{scheme}://{user}{hosts}{self.path or ''}{service}{db}"


def _parse_hosts(netloc: str, kind: TargetKind) -> tuple[tuple[str, int], ...]:
    default = _SENTINEL_PORT if kind == "sentinel" else _PORT
    names = netloc.split(",") if netloc or kind != "server" else ["localhost"]
    if kind == "server" and len(names) > 1:
        raise StreamingConfigError("several hosts are for redis+cluster:// and redis+sentinel://: redis:// has one")
    hosts: list[tuple[str, int]] = []
    for number, name in enumerate(names, 1):
        match = _HOST.fullmatch(unquote(name))
        port = int(match["port"] or default) if match else 0
        if match is None or not 0 < port <= _MAX_PORT:  # the name may be a piece of a password: it is not quoted
            raise StreamingConfigError(
                f"host {number} of the Redis URL is not of the form host:port with a port of 1 to {_MAX_PORT}"
            )
        hosts.append((match["v6"] or match["name"], port))
    return tuple(hosts)


def _parse_db(path: str, db: int | None) -> int:
    digits = path.strip("/")
    if digits and not (digits.isascii() and digits.isdigit()):
        raise StreamingConfigError("the path of a Redis URL is the number of a database, such as /0")
    if digits and db is not None and int(digits) != db:
        raise StreamingConfigError("the Redis URL names two databases: in its path, and in the option db")
    return int(digits) if digits else db or 0


def _parse_options(query: str, kind: TargetKind, *, tls: bool) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        parser = OPTIONS.get(name)
        if parser is None:
            raise StreamingConfigError(f"unknown option {name!r} in the Redis URL: it may be {', '.join(OPTIONS)}")
        if name in options:
            raise StreamingConfigError(f"the option {name} is in the Redis URL twice")
        if name.startswith("ssl_") and not tls:
            raise StreamingConfigError(f"the option {name} needs TLS: rediss:// or rediss+…://")
        if name.startswith("sentinel_") and kind != "sentinel":
            raise StreamingConfigError(f"the option {name} is for redis+sentinel:// only")
        try:
            options[name] = parser(value)
        except ValueError as error:
            raise StreamingConfigError(f"the option {name} of the Redis URL: {error}") from None
    if ("ssl_keyfile" in options) != ("ssl_certfile" in options):
        raise StreamingConfigError("ssl_certfile and ssl_keyfile of the Redis URL belong together")
    return options


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise ValueError("a number of seconds above 0 is needed")
    return seconds


def _integer(low: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit()) or int(value) < low:
            raise ValueError(f"an integer from {low} is needed")
        return int(value)

    return parse


def _boolean(value: str) -> bool:
    lower = value.lower()
    if lower not in {"true", "yes", "1", "on", "false", "no", "0", "off"}:
        raise ValueError("yes or no is needed")
    return lower in {"true", "yes", "1", "on"}


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(choices)} is needed")
        return value

    return parse


def _file(value: str) -> str:
    try:
        with Path(value).open("rb"):
            return value
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from None


def _text(value: str) -> str:
    if not value:
        raise ValueError("a value is needed")
    return value


OPTIONS: Final[Mapping[str, Callable[[str], Any]]] = MappingProxyType(
    {
        "db": _integer(0),
        "socket_timeout": _seconds,
        "socket_connect_timeout": _seconds,
        "socket_keepalive": _boolean,
        "health_check_interval": _integer(0),
        "max_connections": _integer(1),
        "client_name": _text,
        "ssl_ca_certs": _file,
        "ssl_certfile": _file,
        "ssl_keyfile": _file,
        "ssl_cert_reqs": _choice("required", "optional", "none"),
        "ssl_check_hostname": _boolean,
        "ssl_min_version": _choice("TLSv1.2", "TLSv1.3"),
        "ssl_ciphers": _text,
        "sentinel_username": _text,
        "sentinel_password": _text,
    }
)
"""Options of a URL, and the functions that read their values."""
