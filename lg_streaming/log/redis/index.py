"""Index of the executions: their ids in order, of all and of each owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.log.redis.connection import AsyncClient
    from lg_streaming.log.redis.keys import Keys

__all__ = ["ExecutionIndex"]

_MAX_BEGUN: Final = 10_000
_SWEEP: Final = 500
"""Executions that one sweep checks."""


class ExecutionIndex:
    """Index of the executions in Redis, apart from the executions themselves.

    An id is added before the execution's first update, and removed after the execution. So the index may contain an
    execution that has expired, until a sweep; it never lacks one.

    Args:
        keys: Names of the keys.
        record_ttl: Seconds after which an execution without updates may have expired.
        clock: Seconds since 1970.
    """

    def __init__(self, keys: Keys, record_ttl: float, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._record_ttl = record_ttl
        self._clock = clock

    def add(self, pipeline: Any, execution_ids: Sequence[str]) -> None:
        """Add the commands for new executions to a pipeline."""
        if execution_ids:
            due = round((self._clock() + self._record_ttl) * 1000)
            pipeline.zadd(self._keys.ids, dict.fromkeys(execution_ids, 0))
            pipeline.zadd(self._keys.due, dict.fromkeys(execution_ids, due))

    async def begun_since(self, client: AsyncClient, seconds: float) -> Sequence[bytes]:
        """Return up to 10,000 executions that began in the last seconds, and possibly some others."""
        first = round((self._clock() + self._record_ttl - seconds) * 1000)
        return await cast("Any", client).zrangebyscore(self._keys.due, first, "+inf", start=0, num=_MAX_BEGUN)

    async def add_owner(self, client: AsyncClient, execution_id: str, owner: str) -> None:
        """Add an execution to those of its owner."""
        await cast("Any", client).hset(self._keys.owners, execution_id, owner)
        await cast("Any", client).zadd(self._keys.owned(owner), {execution_id: 0})

    async def remove(self, client: AsyncClient, execution_id: str) -> None:
        """Remove an execution."""
        redis = cast("Any", client)
        owner: bytes | None = await redis.hget(self._keys.owners, execution_id)
        if owner is not None:
            await redis.zrem(self._keys.owned(owner.decode()), execution_id)
            await redis.hdel(self._keys.owners, execution_id)
        await redis.zrem(self._keys.ids, execution_id)
        await redis.zrem(self._keys.due, execution_id)

    async def list_ids(
        self, client: AsyncClient, *, after: str, limit: int, owner: str | None, prefix: str
    ) -> Sequence[str]:
        """Return ids in order; see `EventLog.list_ids`."""
        key = self._keys.ids if owner is None else self._keys.owned(owner)
        start = b"(%b" % after.encode() if after >= prefix and after else b"[%b" % prefix.encode() if prefix else b"-"
        end = b"(%b\xff" % prefix.encode() if prefix else b"+"
        found: Sequence[bytes] = await cast("Any", client).zrangebylex(key, start, end, start=0, num=limit)
        return [each.decode() for each in found]

    async def sweep(self, client: AsyncClient) -> None:
        """Remove executions that have expired, up to 500; note for others the time at which they may have."""
        redis = cast("Any", client)
        now = round(self._clock() * 1000)
        due: Sequence[bytes] = await redis.zrangebyscore(self._keys.due, "-inf", now, start=0, num=_SWEEP)
        for each in due:
            execution_id = each.decode()
            left: int = await redis.pttl(self._keys.execution(execution_id).state)
            if left >= 0:
                await redis.zadd(self._keys.due, {execution_id: now + left + 1_000})
            else:
                await self.remove(client, execution_id)
