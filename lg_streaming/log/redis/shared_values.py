"""Values with an expiry, and counters with a share for each process."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.log.redis.keyed_locks import KeyedLocks
from lg_streaming.log.redis.scripts import Script
from lg_streaming.log.redis.store import ScriptCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.log.redis.lease import Lease
    from lg_streaming.log.redis.store import Store

__all__ = ["Counters", "Values"]

_PUT: Final = Script.load("put_value.lua")
_SET_SHARE: Final = Script.load("set_share.lua")
_VALUES_PER_READ: Final = 256
_SHARE_SECONDS: Final = 3600.0
_REFRESH_SECONDS: Final = 1200.0


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


class Counters:
    """Counters: hashes of the processes' shares. Use it on one event loop.

    Redis gets the whole share of this process, not its change, so that a repeated or a lost request does no harm.
    A counter expires an hour after its last refreshment.
    """

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._locks = KeyedLocks()
        self._shares: dict[tuple[str, str], int] = {}
        self._unwritten: set[tuple[str, str]] = set()
        self._refreshed_at = 0.0

    async def count(self, kind: str, key: str, change: int) -> int:
        """See `Fleet.count`."""
        counter = (kind, key)
        async with self._locks[counter]:
            self._change(counter, change)
            self._unwritten.add(counter)  # a later renewal of the lease writes it if this request fails
            (flat,) = await self._store.run_all([self._write(counter)])
            self._unwritten.discard(counter)
        shares = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        others = shares.keys() - {self._lease.process_id}
        if not others <= self._lease.live:
            live, dead = await self._lease.refresh(renewed=False)
            if gone := others - live - dead:  # an id never comes back once it was removed
                await self._store.command("HDEL", self._key(counter), *gone)
        return sum(share for each, share in shares.items() if each in self._lease.live)

    def _change(self, counter: tuple[str, str], change: int) -> None:
        share = max(self._shares.get(counter, 0) + change, 0)
        if share:
            self._shares[counter] = share
        else:
            self._shares.pop(counter, None)

    def rewrite(self) -> None:
        """Write all shares at the next renewal, because Redis has lost them or this process has another id."""
        self._unwritten |= self._shares.keys()

    async def renew(self, now: float) -> None:
        """Write the shares that Redis lacks, and all shares before they expire."""
        if now - self._refreshed_at > _REFRESH_SECONDS:
            self._refreshed_at = now
            self.rewrite()
        written = {counter: self._shares.get(counter, 0) for counter in self._unwritten}
        await self._store.run_all(self._write(counter) for counter in written)
        # A share that has changed since may have been written in the other order.
        self._unwritten -= {counter for counter, share in written.items() if share == self._shares.get(counter, 0)}

    async def remove_all(self) -> None:
        """Remove the shares of this process."""
        counters, self._shares = [*self._shares], {}
        await self._store.run_all(self._write(counter) for counter in counters)

    def _write(self, counter: tuple[str, str]) -> ScriptCall:
        share = self._shares.get(counter, 0)
        return ScriptCall(
            _SET_SHARE, [self._key(counter)], [self._lease.process_id, share, round(_SHARE_SECONDS * 1000)]
        )

    def _key(self, counter: tuple[str, str]) -> str:
        kind, key = counter
        return self._store.key("count", kind, f"{{{key}}}")
