"""Index of the executions: their ids in order, of all and of each owner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.log.redis.keys import Keys
    from lg_streaming.log.redis.store import Store

__all__ = ["ExecutionIndex"]

_MAX_BEGUN: Final = 10_000
_AT_ONCE: Final = 500
"""Executions that a sweep checks at once."""


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
        start = b"(%b" % _encode(after) if after >= prefix and after else b"[%b" % _encode(prefix) if prefix else b"-"
        end = b"(%b\xff" % _encode(prefix) if prefix else b"+"
        found: Sequence[bytes] = await self._store.command("ZRANGEBYLEX", key, start, end, "LIMIT", 0, limit)
        return [execution_id for each in found if (execution_id := _decode(each)) is not None]

    async def sweep(self) -> None:
        """Remove executions that have expired; note for others the time at which they may have."""
        now = round(self._clock() * 1000)
        while due := await self._store.command("ZRANGEBYSCORE", self._keys.due, "-inf", now, "LIMIT", 0, _AT_ONCE):
            await asyncio.gather(*(self._check(each, now) for each in due))
            if len(due) < _AT_ONCE:
                break

    async def _check(self, member: bytes, now: int) -> None:
        execution_id = _decode(member)
        if execution_id is None:  # another application has added it
            await self._store.command("ZREM", self._keys.ids, member)
            await self._store.command("ZREM", self._keys.due, member)
            return
        state = self._keys.execution(execution_id).state
        left: int = await self._store.command("PTTL", state)
        if left >= 0:
            await self._store.command("ZADD", self._keys.due, now + left + 1_000, execution_id)
            return
        await self.remove(execution_id)
        found: Sequence[bytes | None] = await self._store.command("HMGET", state, "e", "o")
        if found[0] is not None:  # it began again since
            await self.add(execution_id)
            if found[1] is not None and (owner := _decode(found[1])) is not None:
                await self.add_owner(execution_id, owner)


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # the text may come from a client


def _decode(member: bytes) -> str | None:
    """Return the text of a member; None for one that another application has added."""
    try:
        return member.decode()
    except UnicodeDecodeError:
        return None
