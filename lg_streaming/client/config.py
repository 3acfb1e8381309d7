"""Options of a client."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Final, Self, TypedDict, cast
from urllib.parse import urlsplit, urlunsplit

from lg_streaming.backoff import Backoff
from lg_streaming.checks import count, seconds
from lg_streaming.errors import StreamingError, UnauthorizedError

__all__ = ["ClientConfig", "ClientOptions", "Token", "TokenSource"]

Token = str | Callable[[], str | Awaitable[str]]
"""A token, or a sync or async function that returns one.

A client calls the function before each connection, and when the server reports that the token expires soon. The
function itself caches a token that is still valid."""


class ClientOptions(TypedDict, total=False):
    """Options of a client; each is optional."""

    token: Token | None
    """Token that authenticates the client. Default: none."""
    headers: Mapping[str, str]
    """Additional headers of every request."""
    auto_reconnect: bool
    """True: the client replaces a lost connection. Default: True."""
    reconnect_delay: float
    """Seconds before the first reconnect. Default: 1."""
    max_reconnect_delay: float
    """Longest pause between attempts, in seconds. Default: 30. The server may ask for a longer one."""
    backoff_factor: float
    """Factor from each pause to the next. Default: 2."""
    jitter: float
    """Random share by which a pause is shortened, 0 to 1. Default: 0.5."""
    max_reconnect_attempts: int | None
    """Reconnects after which a client fails, counted from the last healthy connection. Default: 0, no limit; None is
    the same."""
    give_up_after: float | None
    """Seconds without a healthy connection until the last attempt; then the client fails. Default: no limit."""
    connect_timeout: float
    """Seconds for a connection, a response or a token. Default: 10."""
    silence_timeout: float | None
    """Seconds of silence after which a connection counts as dead. Default: 2.5 times the heartbeat interval that the
    server announces; no limit for a server without heartbeats."""
    with_credentials: bool
    """True: the client keeps and returns cookies, which some load balancers need. Default: False."""
    ssl_context: ssl.SSLContext | None
    """TLS context that verifies the server's certificate. Default: the certificate authorities of the system."""
    max_event_bytes: int
    """Size of the largest message, in bytes. Default: 16 MiB."""


_MISSED_HEARTBEATS: Final = 2.5
_NUMBERS: Final = {
    "reconnect_delay": seconds(zero="tries at once"),
    "max_reconnect_delay": seconds(zero="tries at once"),
    "max_reconnect_attempts": count("tries", zero="for no end", none="for no end"),
    "give_up_after": seconds(none="never to give up"),
    "connect_timeout": seconds(),
    "silence_timeout": seconds(none="for 2.5 heartbeats"),
    "max_event_bytes": count("bytes"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Complete and validated options.

    Raises:
        ValueError: If the url or a value is not valid.
    """

    url: str
    token: Token | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    auto_reconnect: bool = True
    reconnect_delay: float = 1.0
    max_reconnect_delay: float = 30.0
    backoff_factor: float = 2.0
    jitter: float = 0.5
    max_reconnect_attempts: int | None = 0
    give_up_after: float | None = None
    connect_timeout: float = 10.0
    silence_timeout: float | None = None
    with_credentials: bool = False
    ssl_context: ssl.SSLContext | None = None
    max_event_bytes: int = 16_777_216

    def __post_init__(self) -> None:
        address = urlsplit(self.url if isinstance(self.url, str) else "")  # pyright: ignore[reportUnnecessaryIsInstance]
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise ValueError(f"the url is where the gateway is, such as 'http://127.0.0.1:8000', not {self.url!r:.200}")
        if address.query or address.fragment:
            raise ValueError(f"the url ends with the gateway's prefix and has no query: {self.url!r:.200}")
        for name, number in _NUMBERS.items():
            number.check(name, getattr(self, name), ValueError)
        object.__setattr__(self, "url", self.url.rstrip("/"))
        _ = self.backoff  # validates its values now rather than when a connection is lost

    @property
    def address(self) -> str:
        """The url without user name and password, for messages."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def backoff(self) -> Backoff:
        """The pauses between attempts."""
        return Backoff(
            delay=self.reconnect_delay,
            factor=self.backoff_factor,
            max_delay=self.max_reconnect_delay,
            jitter=self.jitter,
        )

    def silence_limit(self, heartbeat_interval: object) -> float | None:
        """Return the seconds of silence after which a connection counts as dead; None: no limit.

        Args:
            heartbeat_interval: Seconds between heartbeats, as the server announces them.
        """
        if self.silence_timeout is not None:
            return self.silence_timeout
        if not isinstance(heartbeat_interval, (int, float)) or heartbeat_interval <= 0:
            return None
        return _MISSED_HEARTBEATS * heartbeat_interval

    def with_options(self, options: Mapping[str, object]) -> Self:
        """Return a copy with other options.

        Raises:
            TypeError: If no option has that name.
        """
        current = {each.name: cast("object", getattr(self, each.name)) for each in fields(self)}
        return type(self)(**{**current, **options})  # pyright: ignore[reportArgumentType]


def _validate_token(token: object) -> Token | None:
    if token is None or isinstance(token, str) or callable(token):
        return cast("Token | None", token)
    raise ValueError(f"token is a string, or a function that returns one, not {type(token).__name__}")


class TokenSource:
    """Source of tokens."""

    def __init__(self, token: Token | None) -> None:
        self._token = _validate_token(token)

    async def get(self) -> str | None:
        """Return a token for the next connection. Errors of the function are passed on."""
        if self._token is None or isinstance(self._token, str):
            return self._token
        token = self._token()
        return await token if inspect.isawaitable(token) else token

    def replace(self, token: Token | None) -> None:
        """Use another token, or another function, from now on."""
        self._token = _validate_token(token)

    def can_refresh(self, error: StreamingError) -> bool:
        """Return whether a fresh token may resolve `error`."""
        return callable(self._token) and isinstance(error, UnauthorizedError)
