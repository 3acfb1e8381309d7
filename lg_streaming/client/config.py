"""How a client is set up."""

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
"""A token, or what gives one, sync or async. A callable is asked before each connection and whenever the server says
that the token expires, so it keeps a token that is still good by itself."""


class ClientOptions(TypedDict, total=False):
    """The options of a client; each may be left out."""

    token: Token | None
    """Who we are. Default: nobody."""
    headers: Mapping[str, str]
    """Headers of every request beside our own."""
    auto_reconnect: bool
    """Whether a lost connection is made again. Default: yes."""
    reconnect_delay: float
    """Seconds before the first try again. Default: 1."""
    max_reconnect_delay: float
    """Seconds that no pause of ours exceeds. Default: 30. What the server asks for may be longer."""
    backoff_factor: float
    """By how much each pause is longer than the one before. Default: 2."""
    jitter: float
    """The random share that is taken off a pause, 0 to 1. Default: 0.5."""
    max_reconnect_attempts: int | None
    """Tries again after which a client gives up, counted since a connection last proved good. Default: 0, no end; None
    is the same."""
    give_up_after: float | None
    """Seconds without a good connection after which a client gives up; its last try begins then. Default: never."""
    connect_timeout: float
    """Seconds until a connection must stand, and a request be answered, with the time for a token. Default: 10."""
    silence_timeout: float | None
    """Seconds without a sign of life after which a connection counts as dead. Default: 2.5 times the heartbeat interval
    that the server announces; never, where it has no heartbeats."""
    with_credentials: bool
    """Whether cookies that the server sets are kept and sent back, as a load balancer may want it. Default: no."""
    ssl_context: ssl.SSLContext | None
    """For `https`: what to check the server's certificate with. Default: the usual authorities."""
    max_event_bytes: int
    """Bytes of the largest message that is read. Default: 16 MiB."""


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
    """The same, complete and checked.

    Raises:
        ValueError: The address or a value cannot be used.
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
        _ = self.backoff  # its values are checked now rather than when a connection is lost

    @property
    def address(self) -> str:
        """The url as messages show it, without a user name and a password."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def backoff(self) -> Backoff:
        """The pauses between tries."""
        return Backoff(
            delay=self.reconnect_delay,
            factor=self.backoff_factor,
            max_delay=self.max_reconnect_delay,
            jitter=self.jitter,
        )

    def silence_limit(self, heartbeat_interval: object) -> float | None:
        """Seconds of silence after which a connection counts as dead, at the interval the server says; None: never."""
        if self.silence_timeout is not None:
            return self.silence_timeout
        if not isinstance(heartbeat_interval, (int, float)) or heartbeat_interval <= 0:
            return None
        return _MISSED_HEARTBEATS * heartbeat_interval

    def with_options(self, options: Mapping[str, object]) -> Self:
        """The same with other options. Raises TypeError for one that is not there."""
        present = {each.name: cast("object", getattr(self, each.name)) for each in fields(self)}
        return type(self)(**{**present, **options})  # pyright: ignore[reportArgumentType]


def _validate_token(token: object) -> Token | None:
    if token is None or isinstance(token, str) or callable(token):
        return cast("Token | None", token)
    raise ValueError(f"token is a string, or a function that returns one, not {type(token).__name__}")


class TokenSource:
    """Gives tokens, and knows whether asking for another may help."""

    def __init__(self, token: Token | None) -> None:
        self._token = _validate_token(token)

    async def get(self) -> str | None:
        """A token for the next connection. Raises what the callable raises."""
        if self._token is None or isinstance(self._token, str):
            return self._token
        token = self._token()
        return await token if inspect.isawaitable(token) else token

    def replace(self, token: Token | None) -> None:
        """From now on another token, or another way to get one."""
        self._token = _validate_token(token)

    def can_refresh(self, error: StreamingError) -> bool:
        """Whether a fresh token may do where this error was told."""
        return callable(self._token) and isinstance(error, UnauthorizedError)
