"""Index of the executions: their ids in order, of all and of each owner."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.log.base import Start
from lg_streaming.log.redis.records import get_timestamp

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

    def add_new(self, pipeline: Any, starts: Sequence[Start]) -> None:
        """Add the commands for executions that may be new to a pipeline."""
        if starts:
            ids = [each.execution_id for each in starts]
            pipeline.zadd(self._keys.ids, dict.fromkeys(ids, 0))
            pipeline.zadd(self._keys.due, dict.fromkeys(ids, self._due()))
            pipeline.zadd(self._keys.starts, {each.execution_id: each.at for each in starts}, nx=True)

    async def add(self, start: Start) -> None:
        """Add an execution that Redis has lost."""
        await self._store.command("ZADD", self._keys.ids, 0, start.execution_id)
        await self._store.command("ZADD", self._keys.due, self._due(), start.execution_id)
        await self._store.command("ZADD", self._keys.starts, repr(start.at), start.execution_id)

    async def note_start(self, start: Start, owner: str | None) -> None:
        """Record that a run of an execution has begun."""
        for key in (self._keys.starts, *(() if owner is None else (self._keys.owned_starts(owner),))):
            await self._store.command("ZADD", key, "XX", repr(start.at), start.execution_id)

    def _due(self) -> int:
        return round((self._clock() + self._record_ttl) * 1000)

    async def begun_since(self, seconds: float) -> Sequence[bytes]:
        """Return up to 10,000 executions that began in the last seconds, and possibly some others."""
        first = round((self._clock() + self._record_ttl - seconds) * 1000)
        return await self._store.command("ZRANGEBYSCORE", self._keys.due, first, "+inf", "LIMIT", 0, _MAX_BEGUN)

    async def add_owner(self, start: Start, owner: str) -> None:
        """Add an execution to those of its owner."""
        await self._store.command("HSET", self._keys.owners, start.execution_id, owner)
        await self._store.command("ZADD", self._keys.owned(owner), 0, start.execution_id)
        await self._store.command("ZADD", self._keys.owned_starts(owner), repr(start.at), start.execution_id)

    async def remove(self, execution_id: str) -> None:
        """Remove an execution."""
        owner: bytes | None = await self._store.command("HGET", self._keys.owners, execution_id)
        if owner is not None:
            await self._store.command("ZREM", self._keys.owned(owner.decode()), execution_id)
            await self._store.command("ZREM", self._keys.owned_starts(owner.decode()), execution_id)
            await self._store.command("HDEL", self._keys.owners, execution_id)
        await self._store.command("ZREM", self._keys.ids, execution_id)
        await self._store.command("ZREM", self._keys.due, execution_id)
        await self._store.command("ZREM", self._keys.starts, execution_id)

    async def list_ids(self, *, after: str, limit: int, owner: str | None, prefix: str) -> Sequence[str]:
        """Return ids in order; see `EventLog.list_ids`."""
        key = self._keys.ids if owner is None else self._keys.owned(owner)
        start = b"(%b" % _encode(after) if after >= prefix and after else b"[%b" % _encode(prefix) if prefix else b"-"
        end = b"(%b\xff" % _encode(prefix) if prefix else b"+"
        found: Sequence[bytes] = await self._store.command("ZRANGEBYLEX", key, start, end, "LIMIT", 0, limit)
        return [execution_id for each in found if (execution_id := _decode(each)) is not None]

    async def list_newest(self, *, before: Start | None, limit: int, owner: str | None) -> Sequence[Start]:
        """Return starts, the latest first; see `EventLog.list_newest`."""
        key = self._keys.starts if owner is None else self._keys.owned_starts(owner)
        first = "+inf" if before is None else repr(before.at)
        found: list[Start] = []
        at, size = 0, limit + (before is not None)
        while len(found) < limit:  # more than one round only if many starts have the time of `before`
            answer: Sequence[Any] = await self._store.command(
                *("ZRANGE", key, first, "-inf", "BYSCORE", "REV", "LIMIT", at, size, "WITHSCORES")
            )
            starts = _parse_starts(answer)
            found += [each for each in starts if each is not None and (before is None or _is_before(each, before))]
            at += len(starts)
            if len(starts) < size:
                break
        return found[:limit]

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
            await self._store.command("ZREM", self._keys.starts, member)
            return
        state = self._keys.execution(execution_id).state
        left: int = await self._store.command("PTTL", state)
        if left >= 0:
            await self._store.command("ZADD", self._keys.due, now + left + 1_000, execution_id)
            return
        await self.remove(execution_id)
        found: Sequence[bytes | None] = await self._store.command("HMGET", state, "t", "o", "sr")
        began, owner, record = found
        if began is not None:  # it began again since
            start = Start(float(began) if not record else get_timestamp(record.partition(b" ")[2]), execution_id)
            await self.add(start)
            if owner is not None and (name := _decode(owner)) is not None:
                await self.add_owner(start, name)


def _parse_starts(answer: Sequence[Any]) -> list[Start | None]:
    """Return the starts of an answer with scores; None for a member that another application has added."""
    pairs = answer if answer and isinstance(answer[0], (list, tuple)) else zip(answer[::2], answer[1::2], strict=True)
    return [
        None if (execution_id := _decode(member)) is None else Start(float(at), execution_id) for member, at in pairs
    ]


def _is_before(start: Start, other: Start) -> bool:
    return (start.at, start.execution_id.encode()) < (other.at, other.execution_id.encode(errors="surrogatepass"))


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # the text may come from a client


def _decode(member: bytes) -> str | None:
    """Return the text of a member; None for one that another application has added."""
    try:
        return member.decode()
    except UnicodeDecodeError:
        return None
