"""Log on Redis."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from redis import exceptions

from lg_streaming.errors import RunRefusedError
from lg_streaming.events import Position
from lg_streaming.fork import bury, new_lock, restart_after_fork
from lg_streaming.log.base import AFTER_ALL, Start
from lg_streaming.log.redis.batches import OWNER_REFUSED, RUN_REFUSED, AppendCalls, changes_state, last_change
from lg_streaming.log.redis.connection import connect_async, connect_sync, to_unavailable
from lg_streaming.log.redis.fleet import RedisFleet
from lg_streaming.log.redis.follower import Follower
from lg_streaming.log.redis.index import ExecutionIndex
from lg_streaming.log.redis.io_thread import IoThread
from lg_streaming.log.redis.keys import Keys
from lg_streaming.log.redis.open_runs import OpenRuns
from lg_streaming.log.redis.reading import Reader
from lg_streaming.log.redis.repair import LossRepair
from lg_streaming.log.redis.scripts import APPEND, DROP
from lg_streaming.log.redis.store import Store, retrieve_error
from lg_streaming.log.redis.target import RedisTarget
from lg_streaming.settings import RedisSettings, RetentionSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from concurrent.futures import Future

    from lg_streaming.log.base import Batch, Listener, LogState, PendingUpdate, PositionListener, ReadResult
    from lg_streaming.log.redis.connection import AsyncClient, SyncClient
    from lg_streaming.settings import StreamingSettings

__all__ = ["RedisLog"]

logger: logging.Logger = logging.getLogger(__name__)
T = TypeVar("T")

_SWEEP_INTERVAL: Final = 30.0
_MAX_RUNS: Final = 10_000
"""Open runs of one process that are compared for readers of all executions."""


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
        self._store = Store(self.client, settings.prefix)
        self.reader: Reader = Reader(self._store, self.keys)
        self._follower = Follower(
            self,
            self._io,
            self.keys,
            check_interval=settings.check_interval,
            notify=self._notify,
            notify_position=self._notify_position,
        )
        self.fleet: RedisFleet = RedisFleet(
            self._store,
            self._io,
            self._follower.subscribe,
            lease=settings.lease,
            abandon=self._abandon,
            open_runs=lambda: self._runs.executions,
            restore_runs=self._restore_runs,
        )
        self.fleet.on_lease_lost(self._lose_runs)
        self.fleet.on_message("run_taken", self._forget_taken)
        self._index = ExecutionIndex(self._store, self.keys, self._retention.record_ttl, clock)
        self._start_empty()
        restart_after_fork(self)

    @classmethod
    def from_settings(cls, settings: StreamingSettings) -> Self:
        """Return the log at ``settings.log``, with the settings ``retention`` and ``redis``. Raises like the class."""
        return cls(settings.log, retention=settings.retention, redis=settings.redis)

    def _start_empty(self) -> None:
        self._sync: SyncClient | None = None
        self._async: AsyncClient | None = None
        self._calls = AppendCalls(self.keys, self._retention, self._clock, self._new_epoch)
        self._repair = LossRepair(self._store, self.keys, self._new_epoch)
        self._runs = OpenRuns(
            self._store, self.keys, self._calls, self.fleet, clock=self._clock, add_to_index=self._add_to_index
        )
        self._unindexed: set[str] = set()
        """Executions that are to be added to the index again."""
        self._index_changes: set[Future[object]] = set()
        """Changes of the index that have not ended."""
        self._closed = False
        self._swept_at = time.monotonic()

    def after_fork(self) -> None:
        """Connect anew at the next use: the present connections belong to the parent."""
        bury(self._sync, self._async)
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
        process_id = self.fleet.process_id
        commands: list[tuple[str | bytes | int, ...]] = []
        epoch = self._new_epoch()  # one for all: each is a system call, during which other threads take the GIL
        for batch in batches:
            keys, arguments = self._calls.call(batch, process_id, epoch=epoch)
            commands.append(("EVALSHA", APPEND.sha, len(keys), *keys, *arguments))
        try:
            pipeline = cast("Any", self._sync_client().pipeline(transaction=False))
            known, unindexed = self._calls.acknowledged, self._unindexed
            new = [batch for batch in batches if (each := batch.execution_id) not in known or each in unindexed]
            added = [batch.execution_id for batch in new]
            self._index.add_new(pipeline, [self._start_of(batch) for batch in new])
            begun, ended = self._runs.record(batches, process_id)
            for command in begun:
                pipeline.execute_command(*command)
            skipped = len(pipeline)
            for command in (*commands, *ended):
                pipeline.execute_command(*command)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
            if added:
                failed = any(isinstance(answer, Exception) for answer in answers[:skipped])
                (self._unindexed.update if failed else self._unindexed.difference_update)(added)
            answers = answers[skipped : skipped + len(commands)]
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
        if begun and process_id != self.fleet.process_id:  # these runs may have missed the end of the others
            self._io.spawn(self._runs.abandon_all([command[2] for command in begun], process_id))
        return [self._to_result(batch, answer) for batch, answer in zip(batches, answers, strict=True)]

    def _start_of(self, batch: Batch) -> Start:
        """Return the start of an execution that may be new with this batch."""
        first = batch.updates[0] if batch.updates else None
        if first is not None and first.type == "workflow_start":
            return Start(first.timestamp, batch.execution_id)
        return Start(self._clock(), batch.execution_id)

    def _use(self) -> None:
        """Connect, at the first use and at the first after `aclose`."""
        if self._closed:
            self._closed = False
            self.fleet.reopen()
        self.fleet.start()

    def _load_scripts(self) -> None:
        cast("Any", self._sync_client()).script_load(APPEND.text)

    def _to_result(self, batch: Batch, answer: Any) -> int | Exception:
        if isinstance(answer, Exception):
            return to_unavailable(answer)
        execution_id = batch.execution_id
        status, epoch, head, repeated, other_process, other_run, appended, *began = answer
        if status in {RUN_REFUSED, OWNER_REFUSED}:
            self._runs.forget(execution_id)
        if status == RUN_REFUSED:
            return RunRefusedError(execution_id=execution_id)
        if status == OWNER_REFUSED:
            return RunRefusedError("the execution has another owner: choose another id", execution_id=execution_id)
        self._acknowledge(batch, epoch.decode(), head)
        if began:
            owner = self._calls.acknowledged[execution_id].owner
            self._index_soon(self._index.note_start(Start(float(began[0]), execution_id), owner))
        if other_process:
            self._hand_over(execution_id, other_process.decode(), other_run.decode(), batch)
        if appended:
            position = Position(epoch.decode(), head)
            self._follower.expect(execution_id, position, is_change=changes_state(batch.updates))
            if not self._follower.follows(execution_id):
                self._notify(execution_id)
        return repeated

    def _hand_over(self, execution_id: str, process_id: str, run_id: str, batch: Batch) -> None:
        """Record that another process held the run before, or holds it from now on."""
        change = last_change(batch.updates)
        if change is not None and change.type == "workflow_start":
            self.fleet.publish("run_taken", {"execution_id": execution_id, "run_id": run_id, "process_id": process_id})
        else:
            self._io.spawn(self._store.command(*self.fleet.add_run(execution_id, process_id)))

    def _acknowledge(self, batch: Batch, epoch: str, head: int) -> None:
        execution_id = batch.execution_id
        before, now = self._calls.acknowledge(batch, epoch, head)
        if before is not None and before.epoch != epoch:
            if now.at - before.at < self._retention.record_ttl:  # else it has expired
                self._repair.note_loss(execution_id)
            self._index_soon(self._add_to_index(execution_id, now.owner))
        elif now.owner is not None and (before is None or before.owner != now.owner):
            self._index_soon(self._add_owner(execution_id, now.owner))

    def _index_soon(self, change: Coroutine[Any, Any, None]) -> None:
        """Change the index in the background. Lists and drops of this process wait for it."""
        future = self._io.spawn(change)
        self._index_changes.add(future)
        future.add_done_callback(self._index_changes.discard)

    async def _wait_for_index(self) -> None:
        """Wait until the index has what this process has appended so far."""
        if changes := [asyncio.wrap_future(each) for each in tuple(self._index_changes)]:
            for change in changes:
                change.add_done_callback(retrieve_error)
            await asyncio.wait(changes)

    async def _list(self, read: Callable[[], Awaitable[T]]) -> T:
        await self._wait_for_index()
        return await read()

    async def _add_to_index(self, execution_id: str, owner: str | None) -> None:
        found = await self.reader.fetch(execution_id, AFTER_ALL, 0)
        started_at = found.state.run_started_at if found is not None else self._clock()
        await self._index.add(Start(started_at, execution_id))
        if owner is not None:
            await self._add_owner(execution_id, owner)

    async def _add_owner(self, execution_id: str, owner: str) -> None:
        found = await self.reader.fetch(execution_id, AFTER_ALL, 0)
        if found is not None and found.state.owner == owner:
            await self._index.add_owner(Start(found.state.run_started_at, execution_id), owner)

    # --- runs ---------------------------------------------------------------------------------------------------

    async def end_for(
        self, execution_id: str, process_id: str | None, make_update: Callable[[str], PendingUpdate]
    ) -> bool:
        """See `EventLog.end_for`."""
        return await self._io.run(
            self._changed(execution_id, lambda: self._runs.end(execution_id, process_id, make_update))
        )

    async def keep_open(self, execution_id: str) -> bool:
        """See `EventLog.keep_open`."""
        return await self._io.run(self._runs.keep_open(execution_id))

    async def take_over(self, execution_id: str, process_id: str | None) -> str | None:
        """See `EventLog.take_over`."""
        self._use()
        return await self._io.run(self._changed(execution_id, lambda: self._runs.take_over(execution_id, process_id)))

    async def _changed(self, execution_id: str, change: Callable[[], Awaitable[T]]) -> T:
        """Make a change of an execution, and return its result when the readers of this process can get it."""
        try:
            return await change()
        finally:
            self._follower.drop_tail(execution_id)

    async def _abandon(self, execution_id: str, process_id: str) -> None:
        await self._runs.abandon(execution_id, process_id)

    def _lose_runs(self, process_id: str) -> None:
        """Forget the runs of a former id of this process, which was declared dead, and end those that are open yet."""
        self._io.spawn(self._runs.abandon_all(self._runs.forget_all(), process_id))

    def _forget_taken(self, payload: Any) -> None:
        """Forget a run that waited for a human here, and that another process has taken over."""
        if payload["process_id"] == self.fleet.process_id:
            self._runs.forget(payload["execution_id"], payload["run_id"])

    def _restore_runs(self) -> None:
        self._io.spawn(self._runs.restore())

    async def repair_runs(self) -> None:
        """Renew executions whose open runs this process holds, and of which Redis has lost updates, on the I/O thread.

        An execution that is missing may have been dropped: its next update begins it anew. If Redis has lost all data,
        `OpenRuns.restore` begins it before.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        known = self._calls.acknowledged
        if held := {each: found for each in self._runs.executions if (found := known.get(each)) is not None}:
            await self._repair.renew_lost(held)

    async def renew_epoch(self, execution_id: str, epoch: str) -> None:
        """See `LossRepair.renew_epoch`."""
        await self._repair.renew_epoch(execution_id, epoch)

    async def recent_ids(self, seconds: float, *, running: bool) -> set[str]:
        """Return executions that began in the last seconds, with ``running`` also those with an open run.

        Called on the I/O thread.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        live = tuple(self.fleet.live) if running else ()
        found = await asyncio.gather(
            *(self._store.command("SRANDMEMBER", self.fleet.runs_key(each), _MAX_RUNS) for each in live),
            self._index.begun_since(seconds),
        )
        return {each.decode() for ids in found for each in ids}

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
        self._io.spawn(self._follow_all())
        return lambda: self._remove_position_listener(listener)

    def _remove_position_listener(self, listener: PositionListener) -> None:
        with self._lock:
            self._position_listeners = tuple(each for each in self._position_listeners if each is not listener)
            if not self._position_listeners:
                self._follower.follow_all_no_more()

    async def ready(self) -> None:
        """See `EventLog.ready`."""
        await self._io.run(self._follow_all())

    async def _follow_all(self) -> None:
        if self._position_listeners:
            await self._follower.follow_all()

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
        if found is not None or (after <= 0 and self._follower.is_absent(execution_id)):
            return found
        return await self._io.run(self._read(execution_id, after, limit))

    async def _read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        absent = await self._follower.follow(execution_id)
        found = self._follower.read(execution_id, after, limit)
        if found is None and not absent:
            found = await self.reader.fetch(execution_id, after, limit)
            self._follower.check_tail(execution_id, found.state if found is not None else None)
        return found

    async def state(self, execution_id: str) -> LogState | None:
        """See `EventLog.state`. For a watched execution it is the state that its readers get."""
        state = self._follower.state(execution_id)
        return state if state is not None else await self._io.run(self._state(execution_id))

    async def _state(self, execution_id: str) -> LogState | None:
        absent = await self._follower.follow(execution_id)
        state = self._follower.state(execution_id)
        if state is None and not absent:
            found = await self.reader.fetch(execution_id, AFTER_ALL, 0)
            if found is not None:
                state = found.state
                self._follower.check_tail(execution_id, state)
        return state

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
        return await self._io.run(
            self._list(lambda: self._index.list_ids(after=after, limit=limit, owner=owner, prefix=prefix))
        )

    async def list_newest(
        self, *, before: Start | None = None, limit: int = 500, owner: str | None = None
    ) -> Sequence[Start]:
        """See `EventLog.list_newest`. A start of another process may be missing for a moment."""
        return await self._io.run(self._list(lambda: self._index.list_newest(before=before, limit=limit, owner=owner)))

    async def drop(self, execution_id: str) -> None:
        """See `EventLog.drop`."""
        await self._io.run(self._drop(execution_id))
        self._notify(execution_id)

    async def _drop(self, execution_id: str) -> None:
        self._calls.forget(execution_id)
        self._runs.forget(execution_id)
        keys = self.keys.execution(execution_id)
        names = (keys.updates, keys.state, keys.idempotency)
        await self._wait_for_index()  # else a late change would add the execution again
        await self._changed(
            execution_id, lambda: self._store.run(DROP, names, keys.channel, self.keys.all_updates, execution_id)
        )
        await self._index.remove(execution_id)

    # --- upkeep -------------------------------------------------------------------------------------------------

    def trim(self, limit: int | None = None) -> bool:  # noqa: ARG002 (part of the protocol)
        """Remove expired executions from the index, in the background. Redis itself removes expired updates."""
        now = time.monotonic()
        if now - self._swept_at >= _SWEEP_INTERVAL:
            self._swept_at = now
            self._io.spawn(self._index.sweep())
        return False

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
