"""Rates over all processes, counted by the library ``limits``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import MissingExtraError
from lg_streaming.log.redis.connection import to_unavailable
from lg_streaming.values import replace_lone_surrogates

try:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import SlidingWindowCounterRateLimiter
except ImportError as missing:
    raise MissingExtraError("a log on Redis needs limits: pip install 'lg-streaming[redis]'") from missing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lg_streaming.log.redis.connection import AsyncClient
    from lg_streaming.log.redis.store import Store

__all__ = ["Rates"]

_URL: Final = "redis://unused:6379"
"""A URL that the library requires. The storage uses the client of the log."""


class Rates:
    """Hits of keys in sliding windows. Use it on one event loop.

    Args:
        store: Keys and the client.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._client: AsyncClient | None = None
        self._limiter: SlidingWindowCounterRateLimiter | None = None

    async def hit(self, kind: str, key: str, amount: int, seconds: float) -> bool:
        """See `Fleet.hit`."""
        item = RateLimitItemPerSecond(amount, max(1, round(seconds)), kind)
        return await self._run(lambda limiter: limiter.hit(item, replace_lone_surrogates(key)))

    async def allows(self, kind: str, key: str, amount: int, seconds: float) -> bool:
        """See `Fleet.allows`."""
        item = RateLimitItemPerSecond(amount, max(1, round(seconds)), kind)
        return await self._run(lambda limiter: limiter.test(item, replace_lone_surrogates(key)))

    async def _run(self, ask: Callable[[SlidingWindowCounterRateLimiter], Awaitable[bool]]) -> bool:
        try:
            return await ask(self._current())
        except Exception as error:
            raise to_unavailable(error) from error

    def _current(self) -> SlidingWindowCounterRateLimiter:
        """Return the limiter on the present client, which changes after a reconnection of the log."""
        client = self._store.client
        if self._limiter is None or client is not self._client:
            storage = RedisStorage(_URL, implementation="redispy", key_prefix=self._store.key("rate"))
            bridge = cast("Any", storage.bridge)
            bridge.storage = client
            bridge.connection_getter = lambda _=False: client
            bridge.register_scripts()
            self._client, self._limiter = client, SlidingWindowCounterRateLimiter(storage)
        return self._limiter
