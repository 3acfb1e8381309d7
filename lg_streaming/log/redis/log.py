"""Log on Redis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, Self, cast

from redis import exceptions

from lg_streaming.codec import Codec
from lg_streaming.errors import RunRefusedError
from lg_streaming.events import ROOM_PREFIX, Position, Scope
from lg_streaming.fork import bury, new_lock, restart_after_fork
from lg_streaming.log.base import Batch, LogState, PendingUpdate, ReadResult
from lg_streaming.log.redis.batches import last_change, segments
from lg_streaming.log.redis.connection import connect_async, connect_sync, to_unavailable
from lg_streaming.log.redis.fleet import RedisFleet
from lg_streaming.log.redis.follower import Follower
from lg_streaming.log.redis.index import ExecutionIndex
from lg_streaming.log.redis.io_thread import IoThread
from lg_streaming.log.redis.keys import Keys
from lg_streaming.log.redis.records import decode_records
from lg_streaming.log.redis.repair import Acknowledged, LossRepair
from lg_streaming.log.redis.script_runner import ScriptRunner, retrieve_error
from lg_streaming.log.redis.scripts import APPEND, DROP, HEADS, READ
from lg_streaming.log.redis.target import RedisTarget
from lg_streaming.settings import RedisSettings, RetentionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lg_streaming.log.base import ExecutionState, Listener, PositionListener, StoredUpdate
    from lg_streaming.log.redis.connection import AsyncClient, SyncClient
    from lg_streaming.settings import StreamingSettings

__all__ = ["RedisLog"]

logger: logging.Logger = logging.getLogger(__name__)

_MAX_ACKNOWLEDGED: Final = 20_000
"""Executions whose acknowledged head is remembered."""
_INLINE_BYTES: Final = 65_536
"""Most bytes of updates that a notification contains."""
_PAGE_BYTES: Final = 4 * 1024 * 1024
"""Bytes of updates after which a read returns."""
_SWEEP_INTERVAL: Final = 30.0
_MAX_RUNS: Final = 10_000
"""Open runs of one process that are compared for readers of all executions."""

_APPENDED, _REPEATED, _RUN_REFUSED, _OWNER_REFUSED = range(4)


class RedisLog:
    """Log on Redis 7 or later, or Valkey, that several processes share.

    Args:
        url: The server, sentinels or cluster; see `RedisTarget.parse`.
        retention: Limits of one execution. The memory of all is limited by the ``maxmemory`` of Redis.
        redis: Prefix of the keys, lease and timeouts.
        clock: Seconds since 1970, for timestamps.
        new_epoch: Returns the name of a new life of an execution.

    An append is one atomic script. Redis assigns positions, keeps the state of the run and notifies readers, so all
    processes have one order. Readers in this process share the newest updates of an execution, from notifications.

    Raises:
        StreamingConfigError: If the URL cannot be used.
    """

    blocking = True
    recheck: float | None = None

    def __init__(
        self,
        url: str,
        *,
        retention: RetentionSettings | None = None,
        redis: RedisSettings | None = None,
        clock: Callable[[], float] = time.time,
        new_epoch: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        settings = redis or RedisSettings()
        self.target: RedisTarget = RedisTarget.parse(url)
        self.keys: Keys = Keys(settings.prefix)
        self._settings = settings
        self._retention = retention or RetentionSettings()
        self._clock = clock
        self._new_epoch = new_epoch
        self._lock = new_lock()
        self._io = IoThread()
        self._io.on_close = self._close_client
        self._listeners: tuple[Listener, ...] = ()
        self._position_listeners: tuple[PositionListener, ...] = ()
        self._follower = Follower(
            self,
            self._io,
            self.keys,
            check_interval=settings.check_interval,
            notify=self._notify,
            notify_position=self._notify_position,
        )
        self.fleet: RedisFleet = RedisFleet(
            self.client,
            self._io,
            prefix=settings.prefix,
            lease=settings.lease,
            abandon=self._abandon,
            open_runs=lambda: tuple(self._open_runs),
            restore_runs=self._restore_runs,
            subscribe=self._follower.subscribe,
        )
        self._index = ExecutionIndex(self.keys, self._retention.record_ttl, clock)
        self._start_empty()
        restart_after_fork(self)

    @classmethod
    def from_settings(cls, settings: StreamingSettings) -> Self:
        """Return the log at ``settings.log``, with the settings ``retention`` and ``redis``. Raises like the class."""
        return cls(settings.log, retention=settings.retention, redis=settings.redis)

    def _start_empty(self) -> None:
        self._sync: SyncClient | None = None
        self._async: AsyncClient | None = None
        self._acknowledged: OrderedDict[str, Acknowledged] = OrderedDict()
        self._scripts = ScriptRunner(self.client)
        self._repair = LossRepair(self.keys, self._scripts, self._new_epoch, one_by_one=self.target.kind == "cluster")
        self._open_runs: dict[str, str] = {}
        """Ids of the open runs that this process holds, by execution."""
        self._closed = False
        self._reads: dict[tuple[str, int, int], asyncio.Task[ReadResult | None]] = {}
        self._swept_at = time.monotonic()

    def after_fork(self) -> None:
        """Connect anew at the next use: the present connections belong to the parent."""
        bury(self._sync, self._async, self._reads)
        self._follower.reset()
        self._start_empty()

    # --- clients ------------------------------------------------------------------------------------------------

    def client(self) -> AsyncClient:
        """Return the client of the I/O thread. Call it there."""
        if self._async is None:
            self._async = connect_async(self.target, timeout=self._settings.timeout)
        return self._async

    def _sync_client(self) -> SyncClient:
        with self._lock:
            if self._sync is None:
                self._sync = connect_sync(self.target, timeout=self._settings.timeout)
            return self._sync

    # --- appending ----------------------------------------------------------------------------------------------

    def append(self, batch: Batch) -> int:
        """See `EventLog.append`. Blocks for a round trip to Redis."""
        (result,) = self.append_all([batch])
        if isinstance(result, Exception):
            raise result
        return result

    def append_all(self, batches: Sequence[Batch]) -> Sequence[int | Exception]:
        """See `EventLog.append_all`. One round trip for all batches, or two if one begins an execution."""
        self._use()
        commands: list[tuple[str | bytes | int, ...]] = []
        epoch = self._new_epoch()  # one for all: each is a system call, during which other threads take the GIL
        for batch in batches:
            keys, arguments = self._append_call(batch, epoch=epoch)
            commands.append(("EVALSHA", APPEND.sha, len(keys), *keys, *arguments))
        try:
            pipeline = cast("Any", self._sync_client().pipeline(transaction=False))
            added = [batch for batch in batches if batch.execution_id not in self._acknowledged]
            self._index.add(pipeline, [batch.execution_id for batch in added])
            begun, ended = self._record_runs(batches)
            for command in begun:
                pipeline.execute_command(*command)
            skipped = len(pipeline)
            for command in (*commands, *ended):
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute(raise_on_error=False)[skipped : skipped + len(commands)]
            unknown = [at for at, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
            if unknown:
                self._load_scripts()
                pipeline = cast("Any", self._sync_client().pipeline(transaction=False))
                for at in unknown:
                    pipeline.execute_command(*commands[at])
                for at, answer in zip(unknown, pipeline.execute(raise_on_error=False), strict=True):
                    answers[at] = answer
        except Exception as error:  # noqa: BLE001 (returned, as the protocol requires)
            failure = to_unavailable(error)
            return [failure] * len(batches)
        return [self._to_result(batch, answer) for batch, answer in zip(batches, answers, strict=True)]

    def _record_runs(self, batches: Sequence[Batch]) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """Return the commands that record which runs this process holds: before the batches, and after them."""
        begun: list[tuple[str, ...]] = []
        ended: list[tuple[str, ...]] = []
        process_id = self.fleet.process_id
        for batch in batches:
            execution_id, change = batch.execution_id, last_change(batch.updates)
            if change is None or execution_id.startswith(ROOM_PREFIX):
                continue
            if change.type == "workflow_start":
                self._open_runs[execution_id] = change.scope.run_id or ""
                begun.append(self.fleet.add_run(execution_id, process_id))
            else:
                self._open_runs.pop(execution_id, None)
                ended.append(self.fleet.remove_run(execution_id, process_id))
        return begun, ended

    def _restore_runs(self) -> None:
        self._io.spawn(self._reopen(dict(self._open_runs)))

    async def _reopen(self, runs: Mapping[str, str]) -> None:
        """Begin executions anew that Redis has lost during a run, so that readers get a gap at once."""
        producer, number = f"{self.fleet.process_id}-reopen", round(time.time() * 1000)
        for execution_id, run_id in runs.items():
            if execution_id not in self._open_runs:
                continue  # it was dropped, or has ended
            known = self._acknowledged.get(execution_id)
            owner = known.owner if known is not None else None
            keys, arguments = self._append_call(Batch(execution_id, [], producer, number, owner))
            await self._scripts.run(APPEND, keys, *arguments, 0, "", "", run_id, "")
            await self._add_to_index(execution_id)
            if owner is not None:
                await self._add_owner(execution_id, owner)

    async def repair_runs(self) -> None:
        """Renew executions whose open runs this process holds, and of which Redis has lost updates, on the I/O thread.

        An execution that is missing may have been dropped: its next update begins it anew. If Redis has lost all data,
        `_reopen` begins it before.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        held = {each: known for each in tuple(self._open_runs) if (known := self._acknowledged.get(each)) is not None}
        if held:
            await self._repair.renew_lost(held)

    async def renew_epoch(self, execution_id: str, epoch: str) -> None:
        """See `LossRepair.renew_epoch`."""
        await self._repair.renew_epoch(execution_id, epoch)

    async def recent_ids(self, seconds: float) -> set[str]:
        """Return executions with an open run, and those that began in the last seconds, on the I/O thread.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        commands = [("SRANDMEMBER", self.fleet.runs_key(each), _MAX_RUNS) for each in self.fleet.live]
        try:
            found = await asyncio.gather(
                *(cast("Any", self.client()).execute_command(*each) for each in commands),
                self._index.begun_since(self.client(), seconds),
            )
        except Exception as error:
            raise to_unavailable(error) from error
        return {each.decode() for ids in found for each in ids}

    def _use(self) -> None:
        """Connect, at the first use and at the first after `aclose`."""
        if self._closed:
            self._closed = False
            self.fleet.reopen()
        self.fleet.start()

    def _load_scripts(self) -> None:
        cast("Any", self._sync_client()).script_load(APPEND.text)

    def _append_call(
        self, batch: Batch, *, epoch: str = "", mode: str = "", holder: str = "", live: str = ""
    ) -> tuple[Sequence[str], Sequence[str | bytes | int]]:
        """Return keys and arguments of ``append.lua``; ``epoch`` is for an execution that begins."""
        execution_id, updates = batch.execution_id, batch.updates
        keys, retention = self.keys.execution(execution_id), self._retention
        known = self._acknowledged.get(execution_id)
        return (keys.updates, keys.state, keys.idempotency), (
            batch.producer,
            batch.number,
            self.fleet.process_id,
            epoch or self._new_epoch(),
            batch.owner or "",
            repr(updates[-1].timestamp) if updates else "0",
            repr(self._clock()),
            retention.max_updates,
            retention.max_bytes,
            round(retention.ttl * 1000),
            round(retention.record_ttl * 1000),
            known.epoch if known is not None else "",
            known.head if known is not None else 0,
            keys.channel,
            self.keys.all_updates,
            execution_id,
            _INLINE_BYTES,
            mode,
            holder,
            live,
            known.number if known is not None and known.producer == batch.producer else 0,
            *segments(updates),
        )

    def _to_result(self, batch: Batch, answer: Any) -> int | Exception:
        if isinstance(answer, Exception):
            return to_unavailable(answer)
        execution_id = batch.execution_id
        status, epoch, head, repeated, other_process, other_run, appended = answer
        if status in {_RUN_REFUSED, _OWNER_REFUSED}:
            self._open_runs.pop(execution_id, None)
        if status == _RUN_REFUSED:
            return RunRefusedError(execution_id=execution_id)
        if status == _OWNER_REFUSED:
            return RunRefusedError("the execution has another owner: choose another id", execution_id=execution_id)
        self._acknowledge(batch, epoch.decode(), head)
        if other_process:
            self._hand_over(execution_id, other_process.decode(), other_run.decode(), batch)
        if appended and not self._follower.follows(execution_id):
            self._notify(execution_id)
        return repeated

    def _hand_over(self, execution_id: str, process_id: str, run_id: str, batch: Batch) -> None:
        """Record that another process held the run before, or holds it from now on."""
        change = last_change(batch.updates)
        if change is not None and change.type == "workflow_start":
            self.fleet.publish("run_taken", {"execution_id": execution_id, "run_id": run_id, "process_id": process_id})
        else:
            self._io.spawn(self._add_run(execution_id, process_id))

    async def _add_run(self, execution_id: str, process_id: str) -> None:
        try:
            await cast("Any", self.client()).execute_command(*self.fleet.add_run(execution_id, process_id))
        except Exception as error:
            raise to_unavailable(error) from error

    def _acknowledge(self, batch: Batch, epoch: str, head: int) -> None:
        execution_id = batch.execution_id
        with self._lock:
            before = self._acknowledged.pop(execution_id, None)
            owner = batch.owner or (before.owner if before is not None else None)
            self._acknowledged[execution_id] = Acknowledged(epoch, head, owner, batch.producer, batch.number)
            if len(self._acknowledged) > _MAX_ACKNOWLEDGED:
                self._acknowledged.popitem(last=False)
        lost = before is not None and before.epoch != epoch
        if lost:
            logger.warning("Redis has lost updates of execution %r: its readers get a gap", execution_id)
            self._io.spawn(self._add_to_index(execution_id))
        if owner is not None and (lost or before is None or before.owner != owner):
            self._io.spawn(self._add_owner(execution_id, owner))

    async def end_for(
        self,
        execution_id: str,
        process_id: str | None,
        make_update: Callable[[str], PendingUpdate],
        *,
        release: bool = False,
        live: Sequence[str] = ("-",),
    ) -> bool:
        """Append the final update of a run whose process is gone; return whether that process held the run.

        Args:
            execution_id: The execution.
            process_id: Process that has to hold the open run; None for an interrupted run that no process holds.
            make_update: Returns the final update of the run of an id.
            release: Whether an interrupted run stays open, without a process, so that another may resume it.
            live: Processes with a lease. A run in which one of them takes part goes on.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        return await self._io.run(self._end_for(execution_id, process_id or "", make_update, release, live))

    async def _end_for(
        self,
        execution_id: str,
        process_id: str,
        make_update: Callable[[str], PendingUpdate],
        release: bool,  # noqa: FBT001 (see `end_for`)
        live: Sequence[str],
    ) -> bool:
        try:
            run: bytes | None = await cast("Any", self.client()).hget(self.keys.execution(execution_id).state, "r")
        except Exception as error:
            raise to_unavailable(error) from error
        if not run:
            return False
        batch = Batch(execution_id, [make_update(run.decode())], f"end-{secrets.token_hex(8)}", 1)
        mode = "release" if release else "end"
        keys, arguments = self._append_call(batch, mode=mode, holder=process_id, live=",".join(live))
        answer = await self._scripts.run(APPEND, keys, *arguments)
        return answer[0] == _APPENDED

    async def _abandon(self, execution_id: str, process_id: str) -> None:
        """End the run of a process that is gone as abandoned; one that waits for a human stays open."""
        codec = Codec()

        def make_update(run_id: str) -> PendingUpdate:
            scope, now = Scope(run_id=run_id), self._clock()
            data = {"reason": "process_lost", "process_id": process_id}
            body = codec.encode(execution_id, "workflow_abandoned", data, scope, "high", now)
            return PendingUpdate("workflow_abandoned", scope, "high", now, body)

        await self._end_for(execution_id, process_id, make_update, release=True, live=tuple(self.fleet.live))

    async def _add_to_index(self, execution_id: str) -> None:
        pipeline = cast("Any", self.client().pipeline(transaction=False))
        self._index.add(pipeline, [execution_id])
        try:
            await pipeline.execute()
        except Exception as error:
            raise to_unavailable(error) from error

    async def _add_owner(self, execution_id: str, owner: str) -> None:
        found = await self.fetch(execution_id, 0, 0)
        if found is not None and found.state.owner == owner:
            await self._index.add_owner(self.client(), execution_id, owner)

    # --- notifications ------------------------------------------------------------------------------------------

    def watch(self, execution_id: str) -> Callable[[], None]:
        """See `EventLog.watch`."""
        self._use()
        return self._follower.watch(execution_id)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `EventLog.listen`."""
        with self._lock:
            self._listeners = (*self._listeners, listener)
        return lambda: self._remove_listener(listener)

    def _remove_listener(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

    def listen_positions(self, listener: PositionListener) -> Callable[[], None]:
        """See `EventLog.listen_positions`. It takes effect when `ready` returns."""
        with self._lock:
            self._position_listeners = (*self._position_listeners, listener)
        self._io.spawn(self._follower.follow_all())
        return lambda: self._remove_position_listener(listener)

    def _remove_position_listener(self, listener: PositionListener) -> None:
        with self._lock:
            self._position_listeners = tuple(each for each in self._position_listeners if each is not listener)
            if not self._position_listeners:
                self._follower.follow_all_no_more()

    async def ready(self) -> None:
        """See `EventLog.ready`."""
        if self._position_listeners:
            await self._io.run(self._follower.follow_all())

    def _notify(self, execution_id: str) -> None:
        for listener in self._listeners:
            listener(execution_id)

    def _notify_position(self, execution_id: str, before: Position | None) -> None:
        for listener in self._position_listeners:
            listener(execution_id, before)

    # --- reading ------------------------------------------------------------------------------------------------

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """See `EventLog.read`. The newest updates of a watched execution are read without a request."""
        found = self._follower.read(execution_id, after, limit)
        return found if found is not None else await self._io.run(self._read(execution_id, after, limit))

    async def _read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        await self._follower.follow(execution_id)
        found = self._follower.read(execution_id, after, limit)
        if found is None:
            found = await self.fetch(execution_id, after, limit)
            self._follower.check_tail(execution_id, found.state if found is not None else None)
        return found

    async def state(self, execution_id: str) -> LogState | None:
        """See `EventLog.state`. For a watched execution it is the state that its readers get."""
        state = self._follower.state(execution_id)
        return state if state is not None else await self._io.run(self._state(execution_id))

    async def _state(self, execution_id: str) -> LogState | None:
        await self._follower.follow(execution_id)
        state = self._follower.state(execution_id)
        if state is None:
            found = await self.fetch(execution_id, _FAR, 0)
            state = found.state if found is not None else None
        return state

    async def fetch(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """Read from Redis, on the I/O thread. Equal reads that wait at one time share a request."""
        key = (execution_id, after, limit)
        task = self._reads.get(key)
        if task is None:
            task = self._reads[key] = asyncio.create_task(self._fetch(key))
            task.add_done_callback(retrieve_error)
        return await asyncio.shield(task)

    async def _fetch(self, key: tuple[str, int, int]) -> ReadResult | None:
        execution_id, after, limit = key
        keys = self.keys.execution(execution_id)

        def stop_sharing() -> None:  # a later reader may have been notified of updates that come after this read
            self._reads.pop(key, None)

        try:
            answer = await self._scripts.run(
                READ, (keys.updates, keys.state), after, limit, _PAGE_BYTES, on_send=stop_sharing
            )
        finally:
            if self._reads.get(key) is asyncio.current_task():  # it ended before it was sent
                stop_sharing()
        return _parse_read(answer, after, limit) if answer else None

    async def fetch_heads(self, execution_ids: Sequence[str]) -> Mapping[str, Position | None]:
        """Return epoch and head of executions, on the I/O thread; None for unknown ones."""
        states = [self.keys.execution(each).state for each in execution_ids]
        if self.target.kind == "cluster":
            answers = await asyncio.gather(*(self._scripts.run(HEADS, [state]) for state in states))
            flat = [each for answer in answers for each in answer]
        else:
            flat = await self._scripts.run(HEADS, states)
        heads: dict[str, Position | None] = {}
        for at, execution_id in enumerate(execution_ids):
            epoch, head = flat[2 * at : 2 * at + 2]
            heads[execution_id] = Position(epoch.decode(), int(head)) if epoch else None
        return heads

    async def executions(self) -> Sequence[str]:
        """See `EventLog.executions`."""
        ids: list[str] = []
        while page := await self.list_ids(after=ids[-1] if ids else "", limit=10_000):
            ids += page
        return ids

    async def list_ids(
        self, *, after: str = "", limit: int = 500, owner: str | None = None, prefix: str = ""
    ) -> Sequence[str]:
        """See `EventLog.list_ids`. An execution that has expired may be listed for up to 30 seconds more."""
        return await self._io.run(self._list_ids(after, limit, owner, prefix))

    async def _list_ids(self, after: str, limit: int, owner: str | None, prefix: str) -> Sequence[str]:
        try:
            return await self._index.list_ids(self.client(), after=after, limit=limit, owner=owner, prefix=prefix)
        except Exception as error:
            raise to_unavailable(error) from error

    async def drop(self, execution_id: str) -> None:
        """See `EventLog.drop`."""
        await self._io.run(self._drop(execution_id))
        self._notify(execution_id)

    async def _drop(self, execution_id: str) -> None:
        with self._lock:
            self._acknowledged.pop(execution_id, None)
            self._open_runs.pop(execution_id, None)
        keys = self.keys.execution(execution_id)
        names = (keys.updates, keys.state, keys.idempotency)
        await self._scripts.run(DROP, names, keys.channel, self.keys.all_updates, execution_id)
        try:
            await self._index.remove(self.client(), execution_id)
        except Exception as error:
            raise to_unavailable(error) from error

    # --- upkeep -------------------------------------------------------------------------------------------------

    def trim(self, limit: int | None = None) -> bool:  # noqa: ARG002 (part of the protocol)
        """Remove expired executions from the index, in the background. Redis itself removes expired updates."""
        now = time.monotonic()
        if now - self._swept_at >= _SWEEP_INTERVAL:
            self._swept_at = now
            self._io.spawn(self._sweep())
        return False

    async def _sweep(self) -> None:
        try:
            await self._index.sweep(self.client())
        except Exception as error:
            raise to_unavailable(error) from error

    async def aclose(self) -> None:
        """See `EventLog.aclose`."""
        if self._closed:
            return
        await self.fleet.aclose()
        await asyncio.to_thread(self._io.close)
        sync, self._sync = self._sync, None
        if sync is not None:
            sync.close()
        self._listeners = self._position_listeners = ()
        self._follower.reset()
        self._start_empty()
        self._closed = True

    async def _close_client(self) -> None:
        client, self._async = self._async, None
        if client is not None:
            with contextlib.suppress(Exception):  # it may be broken
                await client.aclose()


_FAR: Final = 2**53
"""Sequence number after every update."""


def _parse_read(answer: Sequence[Any], after: int, limit: int) -> ReadResult:
    fields, has_stream, *chunks = answer
    epoch_, head_, oldest_, owner, state, run, process, started, updated, final, final_record, start, progress = fields
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
        ),
        records,
    )


def _parse_record(stored: bytes, epoch: str) -> StoredUpdate:
    seq, _, record = stored.partition(b" ")
    return decode_records(record, int(seq), epoch)[0]
