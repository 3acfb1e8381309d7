"""Index of the executions: their ids in order, of all and of each owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.log.redis.keys import Keys
    from lg_streaming.log.redis.store import Store

__all__ = ["ExecutionIndex"]

_MAX_BEGUN: Final = 10_000
_SWEEP: Final = 500
"""Executions that one sweep checks."""


class ExecutionIndex:
    """Index of the executions in Redis, apart from the executions themselves.

    An id is added before the execution's first update, and removed after the execution. So the index may contain an
    execution that has expired, until a sweep; it never lacks one.

    Coroutines raise `LogUnavailableError` if Redis cannot be reached.

    Args:
        store: Commands of Redis.
        keys: Names of the keys.
        record_ttl: Seconds after which an execution without updates may have expired.
        clock: Seconds since 1970.
    """

    def __init__(self, store: Store, keys: Keys, record_ttl: float, clock: Callable[[], float]) -> None:
        self._store = store
        self._keys = keys
        self._record_ttl = record_ttl
        self._clock = clock

    def add_new(self, pipeline: Any, execution_ids: Sequence[str]) -> None:
        """Add the commands for new executions to a pipeline."""
        if execution_ids:
            pipeline.zadd(self._keys.ids, dict.fromkeys(execution_ids, 0))
            pipeline.zadd(self._keys.due, dict.fromkeys(execution_ids, self._due()))

    async def add(self, execution_id: str) -> None:
        """Add an execution that Redis has lost."""
        await self._store.command("ZADD", self._keys.ids, 0, execution_id)
        await self._store.command("ZADD", self._keys.due, self._due(), execution_id)

    def _due(self) -> int:
        return round((self._clock() + self._record_ttl) * 1000)

    async def begun_since(self, seconds: float) -> Sequence[bytes]:
        """Return up to 10,000 executions that began in the last seconds, and possibly some others."""
        first = round((self._clock() + self._record_ttl - seconds) * 1000)
        return await self._store.command("ZRANGEBYSCORE", self._keys.due, first, "+inf", "LIMIT", 0, _MAX_BEGUN)

    async def add_owner(self, execution_id: str, owner: str) -> None:
        """Add an execution to those of its owner."""
        await self._store.command("HSET", self._keys.owners, execution_id, owner)
        await self._store.command("ZADD", self._keys.owned(owner), 0, execution_id)

    async def remove(self, execution_id: str) -> None:
        """Remove an execution."""
        owner: bytes | None = await self._store.command("HGET", self._keys.owners, execution_id)
        if owner is not None:
            await self._store.command("ZREM", self._keys.owned(owner.decode()), execution_id)
            await self._store.command("HDEL", self._keys.owners, execution_id)
        await self._store.command("ZREM", self._keys.ids, execution_id)
        await self._store.command("ZREM", self._keys.due, execution_id)

    async def list_ids(self, *, after: str, limit: int, owner: str | None, prefix: str) -> Sequence[str]:
        """Return ids in order; see `EventLog.list_ids`."""
        key = self._keys.ids if owner is None else self._keys.owned(owner)
        start = b"(%b" % after.encode() if after >= prefix and after else b"[%b" % prefix.encode() if prefix else b"-"
        end = b"(%b\xff" % prefix.encode() if prefix else b"+"
        found: Sequence[bytes] = await self._store.command("ZRANGEBYLEX", key, start, end, "LIMIT", 0, limit)
        return [each.decode() for each in found]

    async def sweep(self) -> None:
        """Remove executions that have expired, up to 500; note for others the time at which they may have."""
        now = round(self._clock() * 1000)
        due: Sequence[bytes] = await self._store.command(
            "ZRANGEBYSCORE", self._keys.due, "-inf", now, "LIMIT", 0, _SWEEP
        )
        for each in due:
            execution_id = each.decode()
            left: int = await self._store.command("PTTL", self._keys.execution(execution_id).state)
            if left >= 0:
                await self._store.command("ZADD", self._keys.due, now + left + 1_000, execution_id)
            else:
                await self.remove(execution_id)
