"""The log in this process's memory."""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING, Final

from lg_streaming.codec import seal
from lg_streaming.events import FINAL_TYPES, Position
from lg_streaming.fork import new_lock, restart_after_fork
from lg_streaming.log.base import Draft, LogState, Record, Slice, state_after
from lg_streaming.settings import RetentionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.log.base import Batch, ExecutionState, Listener, PlaceListener

__all__ = ["MemoryLog"]

_COMPACT_AT: Final = 1_024
_NOTED: Final = FINAL_TYPES | {"workflow_start", "workflow_interrupted", "workflow_progress", "progress"}


class _Tape:
    """The records of one execution. All access is under the log's lock for it."""

    def __init__(self, epoch: str, owner: str | None, now: float, retention: RetentionSettings) -> None:
        self.lock = threading.Lock()
        self.epoch = epoch
        self.owner = owner
        self.started_at = self.updated_at = now
        self.state: ExecutionState = "running"
        self.head = 0
        self.final: Record | None = None
        self.progress: Record | None = None
        self.start: Record | None = None
        self._records: list[Record] = []
        self._start = 0  # records before this index are trimmed and wait to be cut off
        self._bytes = 0
        self._numbers: dict[str, int] = {}
        self._keys: set[str] = set()
        self._max_updates = retention.max_updates
        self._max_bytes = retention.max_bytes
        self._retention = retention

    def append(self, batch: Batch, now: float) -> int:
        """Appends the batch unless it was appended before; returns how many of its drafts were left out."""
        if self._numbers.get(batch.producer, 0) >= batch.number:
            return 0
        self._numbers[batch.producer] = batch.number
        self.owner = self.owner or batch.owner
        epoch, seq, repeated = self.epoch, self.head, 0
        for draft in batch.drafts:
            if draft.key is not None:
                if draft.key in self._keys:
                    repeated += 1
                    continue
                self._keys.add(draft.key)
            seq += 1
            record = Record(draft, seq, epoch)
            self._records.append(record)
            self._bytes += len(record.json)
            if record.type in _NOTED or self.state == "interrupted":
                self._note(record)
        self.head = seq
        self.updated_at = now
        if self._bytes > self._max_bytes or len(self._records) - self._start > self._max_updates:
            self._trim()
        return repeated

    def _note(self, record: Record) -> None:
        """It says how the run stands."""
        self.state = state_after(self.state, record.type)
        if record.type in FINAL_TYPES:
            self.final = record
        elif record.type == "workflow_start":
            self.start, self.progress = record, None
        elif record.type == "workflow_progress" or (
            record.type == "progress" and (self.progress is None or self.progress.type == "progress")
        ):
            self.progress = record

    def _trim(self) -> None:
        start, records = self._start, self._records
        while len(records) - start > self._max_updates or (self._bytes > self._max_bytes and len(records) - start > 1):
            self._bytes -= len(records[start].json)
            self._keys.discard(records[start].key or "")
            start += 1
        self._start = start
        if start > _COMPACT_AT and start * 2 > len(records):
            self._cut()

    def _cut(self) -> None:
        del self._records[: self._start]
        self._start = 0

    def expire(self) -> None:
        """Lets go of everything but the final update, where it is the last one."""
        keep = self._records[-1:] if self.final is not None and self.final.seq == self.head else []
        self._start, self._records = 0, keep
        self._bytes = sum(len(record.json) for record in keep)
        self._keys.clear()

    def after_fork(self) -> None:
        """Free the lock; where another thread held it, finish what that thread had begun."""
        if not self.lock.locked():
            return
        self.lock = threading.Lock()
        self._start = 0
        self._bytes = sum(len(record.json) for record in self._records)
        if self._records:
            self.head = self._records[-1].seq
            if self._records[-1].type in _NOTED:
                self._note(self._records[-1])

    def branch(self, epoch: str) -> _Tape:
        """A copy with an epoch of its own, for updates that the original does not get."""
        copy = _Tape(epoch, self.owner, self.started_at, self._retention)
        copy.updated_at = self.updated_at
        for record in self._records[self._start :]:
            body = record.json.removesuffix(seal(b"", record.seq, self.epoch))
            draft = Draft(record.type, record.scope, record.priority, record.timestamp, body, record.key)
            copy._keep(Record(draft, record.seq, epoch))
        copy.head = self.head
        return copy

    def _keep(self, record: Record) -> None:
        self._records.append(record)
        self._bytes += len(record.json)
        if record.key is not None:
            self._keys.add(record.key)
        if record.type in _NOTED or self.state == "interrupted":
            self._note(record)

    @property
    def oldest(self) -> int:
        return self.head - (len(self._records) - self._start) + 1

    def after(self, seq: int, limit: int) -> Sequence[Record]:
        """Up to ``limit`` records after ``seq``."""
        begin = max(self._start, len(self._records) - (self.head - seq))
        return self._records[begin : begin + limit]

    @property
    def size(self) -> int:
        """Bytes of the kept records."""
        return self._bytes

    def describe(self) -> LogState:
        return LogState(
            epoch=self.epoch,
            oldest=self.oldest,
            head=self.head,
            state=self.state,
            owner=self.owner,
            started_at=self.started_at,
            updated_at=self.updated_at,
            final_seq=self.final.seq if self.final is not None else 0,
            progress_record=self.progress,
            start_record=self.start,
        )


class MemoryLog:
    """Keeps executions in this process's memory; gone when it ends.

    Args:
        retention: How much is kept of each execution. The newest update is always kept.
        clock: Seconds since 1970.
        new_epoch: Makes a name for a new life of an execution.
    """

    blocking = False

    def __init__(
        self,
        retention: RetentionSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        new_epoch: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        self._retention = retention or RetentionSettings()
        self._clock = clock
        self._new_epoch = new_epoch
        self._tapes: dict[str, _Tape] = {}
        self._inherited: dict[str, _Tape] = {}  # of the parent process; read until this process appends
        self._lock = new_lock()
        self._listeners: tuple[Listener, ...] = ()
        self._place_listeners: tuple[PlaceListener, ...] = ()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Keep the parent's executions to read. One that is appended to gets an epoch of its own, and its history."""
        self._inherited |= self._tapes
        self._tapes = {}
        for tape in self._inherited.values():
            tape.after_fork()

    def _tape(self, execution_id: str) -> _Tape | None:
        return self._tapes.get(execution_id) or self._inherited.get(execution_id)

    def append(self, batch: Batch) -> int:
        """See `EventLog.append`. Never raises, takes microseconds."""
        now = self._clock()
        while True:
            tape = self._tapes.get(batch.execution_id) or self._create(batch, now)
            with tape.lock:
                if self._tapes.get(batch.execution_id) is not tape:
                    continue  # dropped between the two lines above
                before = tape.head
                repeated = tape.append(batch, now)
                changed = tape.head != before
            break
        if changed:
            self._tell(batch.execution_id, tape.epoch, before)
        return repeated

    def _create(self, batch: Batch, now: float) -> _Tape:
        with self._lock:
            known = self._tapes.get(batch.execution_id)
            if known is None:
                inherited = self._inherited.get(batch.execution_id)
                if inherited is None:
                    known = _Tape(self._new_epoch(), batch.owner, now, self._retention)
                else:
                    known = inherited.branch(self._new_epoch())
                self._tapes[batch.execution_id] = known
                self._inherited.pop(batch.execution_id, None)
            return known

    async def read(self, execution_id: str, after: int, limit: int) -> Slice | None:
        """See `EventLog.read`. Never waits."""
        return self.read_now(execution_id, after, limit)

    def read_now(self, execution_id: str, after: int, limit: int) -> Slice | None:
        """The same as `read`, for readers without an event loop."""
        tape = self._tape(execution_id)
        if tape is None:
            return None
        with tape.lock:
            return Slice(tape.describe(), tape.after(after, limit))

    async def state(self, execution_id: str) -> LogState | None:
        """See `EventLog.state`."""
        found = self.read_now(execution_id, 0, 0)
        return found.state if found is not None else None

    async def executions(self) -> Sequence[str]:
        """See `EventLog.executions`."""
        return tuple(self._inherited | self._tapes)

    async def drop(self, execution_id: str) -> None:
        """See `EventLog.drop`."""
        tape = self._tape(execution_id)
        if tape is None:
            return
        with tape.lock:
            self._tapes.pop(execution_id, None)
            self._inherited.pop(execution_id, None)
        self._tell(execution_id)

    def _tell(self, execution_id: str, epoch: str = "", before: int = 0) -> None:
        for listener in self._listeners:
            listener(execution_id)
        if self._place_listeners:
            place = Position(epoch, before) if before else None
            for each in self._place_listeners:
                each(execution_id, place)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `EventLog.listen`."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def stop() -> None:
            with self._lock:
                self._listeners = tuple(each for each in self._listeners if each is not listener)

        return stop

    def listen_places(self, listener: PlaceListener) -> Callable[[], None]:
        """See `EventLog.listen_places`."""
        with self._lock:
            self._place_listeners = (*self._place_listeners, listener)

        def stop() -> None:
            with self._lock:
                self._place_listeners = tuple(each for each in self._place_listeners if each is not listener)

        return stop

    def trim(self) -> None:
        """See `EventLog.trim`."""
        now = self._clock()
        for execution_id, tape in [*self._inherited.items(), *self._tapes.items()]:
            with tape.lock:
                idle = now - tape.updated_at
                ended = tape.state not in {"running", "interrupted"}
                if ended and idle >= self._retention.ttl:
                    tape.expire()
                forgotten = idle >= self._retention.record_ttl and self._tape(execution_id) is tape
                if forgotten:  # under the lock: an append that comes now begins a new epoch
                    self._tapes.pop(execution_id, None)
                    self._inherited.pop(execution_id, None)
            if forgotten:
                self._tell(execution_id)

    def size(self, execution_id: str) -> int:
        """Bytes kept of an execution."""
        tape = self._tape(execution_id)
        return 0 if tape is None else tape.size

    async def aclose(self) -> None:
        """See `EventLog.aclose`."""
        self._listeners = self._place_listeners = ()
        self._tapes.clear()
        self._inherited.clear()
