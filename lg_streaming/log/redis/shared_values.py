"""Values with an expiry."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.log.redis.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.log.redis.store import Store

__all__ = ["Values"]

_PUT: Final = Script.load("put_value.lua")
_VALUES_PER_READ: Final = 256


class Values:
    """JSON values by kind and key: each a key of Redis that expires, and an index of the keys of a kind."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, kind: str, key: str, value: bytes, ttl: float) -> None:
        """Store a value."""
        await self._store.run(
            _PUT, [self._key(kind, key), self._index(kind)], max(math.ceil(ttl * 1000), 1), value, key
        )

    async def get(self, kind: str, key: str) -> Any:
        """See `Fleet.get`."""
        return _decode(await self._store.command("GET", self._key(kind, key)))

    async def take(self, kind: str, key: str) -> Any:
        """See `Fleet.take`."""
        return _decode(await self._store.command("GETDEL", self._key(kind, key)))

    async def values(self, kind: str) -> Mapping[str, Any]:
        """See `Fleet.values`."""
        keys = [
            key.decode(errors="surrogatepass") for key in await self._store.command("ZRANGE", self._index(kind), 0, -1)
        ]
        found: dict[str, Any] = {}
        for start in range(0, len(keys), _VALUES_PER_READ):
            part = keys[start : start + _VALUES_PER_READ]
            values = await self._store.command("MGET", *(self._key(kind, key) for key in part))
            found |= {key: orjson.loads(value) for key, value in zip(part, values, strict=True) if value is not None}
        return found

    def _key(self, kind: str, key: str) -> str:
        return self._store.key("value", f"{{{kind}}}", key)

    def _index(self, kind: str) -> str:
        return self._store.key("values", f"{{{kind}}}")


def _decode(value: bytes | None) -> Any:
    return None if value is None else orjson.loads(value)
