"""Reads of executions in Redis."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from lg_streaming.errors import StreamingError
from lg_streaming.events import Position
from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.log.base import LogState, ReadResult
from lg_streaming.log.redis.rare_log import RareLog
from lg_streaming.log.redis.records import decode_records, get_timestamp
from lg_streaming.log.redis.scripts import HEADS, READ
from lg_streaming.log.redis.store import retrieve_error
from lg_streaming.log.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.log.base import ExecutionState, StoredUpdate
    from lg_streaming.log.redis.connection import AsyncClient
    from lg_streaming.log.redis.keys import Keys
    from lg_streaming.log.redis.store import Store

__all__ = ["FollowedLog", "Reader"]

_rare: Final = RareLog(logging.getLogger(__name__))
_PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of updates after which a read returns."""


class FollowedLog(Protocol):
    """Log whose executions are followed: its reads and repairs, on the I/O thread."""

    @property
    def reader(self) -> Reader:
        """Reads of Redis."""
        ...

    def client(self) -> AsyncClient:
        """Return the client of the I/O thread."""
        ...

    async def repair_runs(self) -> None:
        """Begin anew the executions of this process's open runs of which Redis has lost updates."""
        ...

    async def renew_epoch(self, execution_id: str, epoch: str) -> None:
        """Begin a new epoch of an execution of which Redis has lost updates, unless it has another one."""
        ...

    async def recent_ids(self, seconds: float, *, running: bool) -> set[str]:
        """Return executions that began in the last seconds, with ``running`` also those with an open run."""
        ...


class Reader:
    """Reader of updates, states and heads, on the I/O thread.

    Args:
        store: Commands of Redis.
        keys: Names of the keys.
    """

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._keys = keys
        self._reads: dict[tuple[str, int, int], asyncio.Task[ReadResult | None]] = {}
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the present reads: they belong to the parent."""
        bury(self._reads)
        self._reads = {}

    async def fetch(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """Read an execution; see `EventLog.read`. A negative ``after`` counts from the head.

        Equal reads that wait at one time share a request.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
            StreamingError: If Redis has no execution at its key, or a part of one only.
        """
        key = (execution_id, after, limit)
        task = self._reads.get(key)
        if task is None:
            task = self._reads[key] = asyncio.create_task(self._fetch(key))
            task.add_done_callback(retrieve_error)
        return await asyncio.shield(task)

    async def _fetch(self, key: tuple[str, int, int]) -> ReadResult | None:
        execution_id, after, limit = key
        keys = self._keys.execution(execution_id)

        def stop_sharing() -> None:  # a later reader may have been notified of updates that come after this read
            self._reads.pop(key, None)

        try:
            answer = await self._store.run(
                READ, (keys.updates, keys.state), after, limit, _PAGE_BYTES, on_send=stop_sharing
            )
            return _parse_read(answer, after, limit) if answer else None
        except StreamingError:
            raise
        except Exception as error:
            _rare.note("an execution cannot be read", error)
            raise StreamingError(
                "what Redis has of the execution cannot be read: another application may have changed it",
                execution_id=execution_id,
            ) from error
        finally:
            if self._reads.get(key) is asyncio.current_task():  # it ended before it was sent
                stop_sharing()

    async def fetch_heads(self, execution_ids: Sequence[str]) -> Mapping[str, Position | None]:
        """Return epoch and head of executions; None for unknown ones."""
        states = [self._keys.execution(each).state for each in execution_ids]
        if self._store.is_cluster:
            answers = await asyncio.gather(*(self._store.run(HEADS, [state]) for state in states))
            flat = [each for answer in answers for each in answer]
        else:
            flat = await self._store.run(HEADS, states)
        heads: dict[str, Position | None] = {}
        for at, execution_id in enumerate(execution_ids):
            epoch, head = flat[2 * at : 2 * at + 2]
            heads[execution_id] = Position(epoch.decode(errors="replace"), int(head)) if epoch else None
        return heads


def _parse_read(answer: Sequence[Any], after: int, limit: int) -> ReadResult:
    fields, has_stream, *chunks = answer
    (
        epoch_,
        head_,
        oldest_,
        owner,
        state,
        run,
        process,
        started,
        updated,
        final,
        final_record,
        start,
        progress,
        usage,
    ) = fields
    epoch, head, oldest, final_seq = epoch_.decode(), int(head_), int(oldest_), int(final)
    records: list[StoredUpdate] = []
    if not has_stream:
        oldest = head + 1
        if final_record and final_seq == head > 0:
            oldest = head
            if after < head and limit:
                records.append(_parse_record(final_record, epoch))
    if after < 0:
        after = max(0, head + after)
    for at in range(0, len(chunks), 3):
        last, count, chunk = chunks[at : at + 3]
        records += decode_records(chunk, last - count + 1, epoch)
    first = max(after + 1, oldest)
    records = [record for record in records if record.seq >= first][:limit]
    open_run = state in {b"running", b"interrupted"} and run
    return ReadResult(
        LogState(
            epoch=epoch,
            oldest=oldest,
            head=head,
            state=cast("ExecutionState", state.decode()),
            owner=owner.decode() if owner else None,
            started_at=float(started),
            updated_at=float(updated or started),
            final_seq=final_seq,
            progress_record=_parse_record(progress, epoch) if progress else None,
            start_record=_parse_record(start, epoch) if start else None,
            process=process.decode() if open_run and process else None,
            ended_at=_time_of(final_record) if final_record and state not in {b"running", b"interrupted"} else None,
            usage=Usage.parse(usage.decode()) if usage else None,
        ),
        records,
    )


def _time_of(stored: bytes) -> float:
    return get_timestamp(stored.partition(b" ")[2])


def _parse_record(stored: bytes, epoch: str) -> StoredUpdate:
    seq, _, record = stored.partition(b" ")
    return decode_records(record, int(seq), epoch)[0]
