"""Rates over all processes, counted by the library ``limits``."""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import MissingExtraError
from lg_streaming.log.redis.connection import to_unavailable
from lg_streaming.log.redis.scripts import Script

try:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import SlidingWindowCounterRateLimiter
except ImportError as missing:
    raise MissingExtraError("a log on Redis needs limits: pip install 'lg-streaming[redis]'") from missing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lg_streaming.log.redis.store import Store

__all__ = ["Rates"]

_URL: Final = "redis://unused:6379"
"""A URL that the library requires. The storage uses the client of the log."""


class _Client:
    """Client of the library ``limits``, whose scripts share the requests of the store.

    The library would take a connection for each check, and a rush of callers all connections.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def register_script(self, source: str | bytes) -> Callable[..., Awaitable[Any]]:
        text = source.decode() if isinstance(source, bytes) else source
        script = Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())

        async def run(keys: Sequence[str], arguments: Sequence[float]) -> Any:
            return await self._store.run(script, keys, *arguments)

        return run


class Rates:
    """Hits of keys in sliding windows. Use it on one event loop.

    Args:
        store: Keys and commands.
    """

    def __init__(self, store: Store) -> None:
        storage = RedisStorage(_URL, implementation="redispy", key_prefix=store.key("rate"))
        bridge = cast("Any", storage.bridge)
        client = _Client(store)
        bridge.storage = client
        bridge.connection_getter = lambda _=False: client
        bridge.register_scripts()
        self._limiter = SlidingWindowCounterRateLimiter(storage)

    async def hit(self, kind: str, key: str, amount: int, seconds: float) -> bool:
        """See `Fleet.hit`."""
        item = RateLimitItemPerSecond(amount, max(1, round(seconds)), kind)
        return await self._run(self._limiter.hit(item, key))

    async def allows(self, kind: str, key: str, amount: int, seconds: float) -> bool:
        """See `Fleet.allows`."""
        item = RateLimitItemPerSecond(amount, max(1, round(seconds)), kind)
        return await self._run(self._limiter.test(item, key))

    async def _run(self, answer: Awaitable[bool]) -> bool:
        try:
            return await answer
        except Exception as error:
            raise to_unavailable(error) from error
