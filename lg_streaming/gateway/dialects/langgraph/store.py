"""Values of the wire that live longer than an update: records of threads and runs."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lg_streaming.log.fleet import Fleet

__all__ = ["RecordStore"]

_MOST: Final = 100_000
"""Records that one process keeps, where it shares no log with others."""


class RecordStore:
    """JSON values by kind and key, which expire: shared by the processes of a fleet, else of this process.

    Args:
        fleet: The processes that share the log; None without any.
        ttl: Seconds that a value is kept after it was stored.
        clock: Seconds that never go back.
    """

    def __init__(self, fleet: Fleet | None, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._ttl = ttl
        self._clock = clock
        self._values: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._keys: dict[str, dict[str, None]] = {}

    async def put(self, kind: str, key: str, value: object) -> None:
        """Store a value. Raises LogUnavailableError, like the other methods."""
        if self._fleet is not None:
            await self._fleet.put(kind, key, value, ttl=self._ttl)
            return
        self._values[kind, key] = self._clock() + self._ttl, orjson.dumps(value)
        self._values.move_to_end((kind, key))
        self._keys.setdefault(kind, {})[key] = None
        now = self._clock()
        while self._values:
            first = next(iter(self._values))
            if len(self._values) <= _MOST and self._values[first][0] > now:
                break
            self._remove(*first)

    async def get(self, kind: str, key: str) -> Any:
        """Return a value, or None."""
        if self._fleet is not None:
            return await self._fleet.get(kind, key)
        expires_at, value = self._values.get((kind, key), (0.0, b""))
        return orjson.loads(value) if expires_at > self._clock() else None

    async def remove(self, kind: str, key: str) -> None:
        """Remove a value. Harmless without one."""
        if self._fleet is not None:
            await self._fleet.take(kind, key)
        elif (kind, key) in self._values:
            self._remove(kind, key)

    async def values(self, kind: str) -> Mapping[str, Any]:
        """Return all values of a kind, by key."""
        if self._fleet is not None:
            return await self._fleet.values(kind)
        found = {key: await self.get(kind, key) for key in list(self._keys.get(kind, ()))}
        return {key: value for key, value in found.items() if value is not None}

    def _remove(self, kind: str, key: str) -> None:
        del self._values[kind, key]
        keys = self._keys[kind]
        del keys[key]
        if not keys:
            del self._keys[kind]
