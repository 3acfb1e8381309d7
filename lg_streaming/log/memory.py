"""Log in this process's memory."""

from __future__ import annotations

import itertools
import secrets
import sys
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from lg_streaming.events import Position
from lg_streaming.fork import new_rlock, release_owned, restart_after_fork
from lg_streaming.log.base import Start
from lg_streaming.log.sorted_keys import SortedKeys
from lg_streaming.log.update_stream import UpdateStream
from lg_streaming.settings import RetentionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.log.base import Batch, Listener, LogState, PendingUpdate, PositionListener, ReadResult
    from lg_streaming.log.fleet import Fleet

__all__ = ["MemoryLog"]

_MAX_TRIMS_PER_APPEND: Final = 512
"""Most times that one append looks for the running execution with the oldest update."""


def _do_nothing() -> None:
    pass


class MemoryLog:
    """Log in this process's memory.

    Args:
        retention: Limits. The newest update of an execution is always kept.
        clock: Seconds since 1970, for timestamps.
        new_epoch: Returns the name of a new life of an execution.
        monotonic: Seconds that never go back, for durations.

    The cost of an operation does not depend on the number of executions. An append is atomic, also if an exception
    such as `KeyboardInterrupt` interrupts it between two bytecodes.
    """

    blocking = False
    recheck: float | None = None
    fleet: Fleet | None = None

    def __init__(
        self,
        retention: RetentionSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        new_epoch: Callable[[], str] = lambda: secrets.token_hex(4),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retention = retention or RetentionSettings()
        self._max_total = sys.maxsize if self._retention.total_bytes is None else self._retention.total_bytes
        self._clock = clock
        self.monotonic: Callable[[], float] = monotonic
        """Clock whose seconds never go back."""
        self._new_epoch = new_epoch
        self._serials = itertools.count(1)
        self._streams: dict[str, UpdateStream] = {}
        self._lock = new_rlock()
        self._listeners: tuple[Listener, ...] = ()
        self._position_listeners: tuple[PositionListener, ...] = ()
        self._rebuild_indexes()
        restart_after_fork(self)

    def _rebuild_indexes(self) -> None:
        """Rebuild the indexes from the streams: an interrupted step may have left them half updated."""
        self._total = sum(stream.memory for stream in self._streams.values())
        self._ids: SortedKeys[str] = SortedKeys(self._streams)
        self._owned: dict[str, SortedKeys[str]] = {}
        self._starts: SortedKeys[Start] = SortedKeys()
        self._owned_starts: dict[str, SortedKeys[Start]] = {}
        self._expiries: SortedKeys[tuple[float, int, UpdateStream]] = SortedKeys()
        self._running: SortedKeys[tuple[float, int, UpdateStream]] = SortedKeys()  # by the time of the oldest update
        self._ended: OrderedDict[str, UpdateStream] = OrderedDict()  # in the order in which they ended
        self._expired: OrderedDict[str, UpdateStream] = OrderedDict()  # only their final update is left
        for stream in sorted(self._streams.values(), key=lambda stream: stream.appended_at):
            stream.indexed_owner, stream.expiry, stream.indexed_oldest = None, None, None
            stream.indexed_start = None
            self._add_to_indexes(stream)
        self._needs_rebuild = False

    def after_fork(self) -> None:
        """Keep the parent's executions for reading. An execution that is appended to is copied under a new epoch."""
        for stream in self._streams.values():
            stream.inherited = True
        self._needs_rebuild = True

    # --- appending --------------------------------------------------------------------------------------------

    def append(self, batch: Batch) -> int:  # noqa: C901 (at every update, in one piece)
        """See `EventLog.append`. Never raises an error and takes microseconds."""
        execution_id, evicted = batch.execution_id, ()
        epoch, before = "", 0
        try:
            with self._lock:
                if self._needs_rebuild:
                    self._rebuild_indexes()
                stream = self._streams.get(execution_id)
                if stream is None or stream.inherited:
                    stream, repeated, added = self._open_stream(batch, stream)
                    epoch, before = stream.epoch, stream.head - added
                else:
                    if self._position_listeners:
                        epoch, before = stream.epoch, stream.head
                    repeated, added, grown, moved = stream.append(batch, batch.at or self.monotonic())
                    self._total += grown
                    if moved:
                        self._add_to_indexes(stream)
                if self._total > self._max_total:
                    evicted = self._evict(stream)
            if added:
                if self._position_listeners:
                    self._notify(execution_id, epoch, before)
                else:  # inlines `_notify`, for each update
                    for listener in self._listeners:
                        listener(execution_id)
            for each in evicted:
                self._notify(each)
        except BaseException:
            self._needs_rebuild = True
            release_owned(self._lock)
            self._notify(execution_id, epoch, before)  # the change may have happened
            raise
        return repeated

    def append_all(self, batches: Sequence[Batch]) -> Sequence[int | Exception]:
        """See `EventLog.append_all`."""
        return [self.append(batch) for batch in batches]

    async def end_for(
        self, execution_id: str, process_id: str | None, make_update: Callable[[str], PendingUpdate]
    ) -> bool:
        """Return False: no other process holds a run of this log."""
        del execution_id, process_id, make_update
        return False

    async def keep_open(self, execution_id: str) -> bool:  # noqa: ARG002 (part of the protocol)
        """Return False: the end of the process is the end of this log."""
        return False

    async def take_over(self, execution_id: str, process_id: str | None) -> str | None:
        """Return None: no other process holds a run of this log."""
        del execution_id, process_id

    def watch(self, execution_id: str) -> Callable[[], None]:  # noqa: ARG002 (part of the protocol)
        """See `EventLog.watch`: a no-op."""
        return _do_nothing

    def _open_stream(self, batch: Batch, inherited: UpdateStream | None) -> tuple[UpdateStream, int, int]:
        now, appended_at = self._clock(), batch.at or self.monotonic()
        if inherited is None:
            stream = UpdateStream(batch.execution_id, self._new_epoch(), batch.owner, now, appended_at, self._retention)
        else:
            stream = inherited.copy_with_epoch(self._new_epoch())
        repeated, added, _, _ = stream.append(batch, appended_at)
        if inherited is not None:
            self._remove_from_indexes(inherited)
        self._streams[batch.execution_id] = stream
        self._total += stream.memory
        self._add_to_indexes(stream)
        return stream, repeated, added

    async def drop(self, execution_id: str) -> None:
        """See `EventLog.drop`."""
        try:
            with self._lock:
                if self._needs_rebuild:
                    self._rebuild_indexes()
                stream = self._streams.get(execution_id)
                if stream is not None:
                    self._remove(stream)
            if stream is not None:
                self._notify(execution_id)
        except BaseException:
            self._needs_rebuild = True
            release_owned(self._lock)
            self._notify(execution_id)  # the change may have happened
            raise

    def _notify(self, execution_id: str, epoch: str = "", before: int = 0) -> None:
        for listener in self._listeners:
            listener(execution_id)
        if self._position_listeners:
            place = Position(epoch, before) if before else None
            for each in self._position_listeners:
                each(execution_id, place)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `EventLog.listen`."""
        self._change_listeners(lambda: (*self._listeners, listener), None)
        return lambda: self._change_listeners(
            lambda: tuple(each for each in self._listeners if each is not listener), None
        )

    def listen_positions(self, listener: PositionListener) -> Callable[[], None]:
        """See `EventLog.listen_positions`."""
        self._change_listeners(None, lambda: (*self._position_listeners, listener))
        return lambda: self._change_listeners(
            None, lambda: tuple(each for each in self._position_listeners if each is not listener)
        )

    async def ready(self) -> None:
        """See `EventLog.ready`."""

    def _change_listeners(
        self,
        listeners: Callable[[], tuple[Listener, ...]] | None,
        place_listeners: Callable[[], tuple[PositionListener, ...]] | None,
    ) -> None:
        try:
            with self._lock:
                if listeners is not None:
                    self._listeners = listeners()
                if place_listeners is not None:
                    self._position_listeners = place_listeners()
        except BaseException:
            release_owned(self._lock)
            raise

    # --- indexes ------------------------------------------------------------------------------------------------

    def _add_to_indexes(self, stream: UpdateStream) -> None:
        """Add `stream` to the indexes, or move it there. Called under the lock."""
        if not stream.serial:
            stream.serial = next(self._serials)
        self._ids.add(stream.execution_id)
        if stream.indexed_owner is None and stream.owner is not None:
            stream.indexed_owner = stream.owner
            self._owned.setdefault(stream.owner, SortedKeys()).add(stream.execution_id)
            self._set_start(stream, None)
        if stream.indexed_start is None or stream.indexed_start.at != stream.run_started_at:
            self._set_start(stream, Start(stream.run_started_at, stream.execution_id))
        if stream.ended:
            self._remove_from_running(stream)
            index, other = (self._expired, self._ended) if stream.expired else (self._ended, self._expired)
            other.pop(stream.execution_id, None)
            if stream.execution_id not in index:
                index[stream.execution_id] = stream
        else:
            self._ended.pop(stream.execution_id, None)
            self._expired.pop(stream.execution_id, None)
            if stream.indexed_oldest is None and stream.count > 1:  # the newest update stays in any case
                stream.indexed_oldest = stream.first_at
                self._running.add((stream.indexed_oldest, stream.serial, stream))
        due = self._next_expiry(stream)
        if stream.expiry is None or due < stream.expiry:
            self._set_expiry(stream, due)

    def _remove_from_indexes(self, stream: UpdateStream) -> None:
        self._total -= stream.memory
        self._ids.discard(stream.execution_id)
        self._set_start(stream, None)
        if stream.indexed_owner is not None:
            owned = self._owned[stream.indexed_owner]
            owned.discard(stream.execution_id)
            if not owned:
                del self._owned[stream.indexed_owner]
            stream.indexed_owner = None
        self._ended.pop(stream.execution_id, None)
        self._expired.pop(stream.execution_id, None)
        self._remove_from_running(stream)
        self._set_expiry(stream, None)

    def _set_start(self, stream: UpdateStream, start: Start | None) -> None:
        """Order a stream by ``start``; None removes it from the order."""
        owner, before = stream.indexed_owner, stream.indexed_start
        if before is not None:
            self._starts.discard(before)
            if owner is not None and (owned := self._owned_starts.get(owner)) is not None:
                owned.discard(before)
                if not owned:
                    del self._owned_starts[owner]
        stream.indexed_start = start
        if start is not None:
            self._starts.add(start)
            if owner is not None:
                self._owned_starts.setdefault(owner, SortedKeys()).add(start)

    def _remove_from_running(self, stream: UpdateStream) -> None:
        if stream.indexed_oldest is not None:
            self._running.discard((stream.indexed_oldest, stream.serial, stream))
            stream.indexed_oldest = None

    def _set_expiry(self, stream: UpdateStream, due: float | None) -> None:
        if stream.expiry is not None:
            self._expiries.discard((stream.expiry, stream.serial, stream))
        stream.expiry = due
        if due is not None:
            self._expiries.add((due, stream.serial, stream))

    def _next_expiry(self, stream: UpdateStream) -> float:
        """Return the time at which updates of `stream` expire, if none is appended until then."""
        keeps = self._retention.ttl if stream.ended and not stream.expired else self._retention.record_ttl
        return stream.appended_at + min(keeps, self._retention.record_ttl)

    def _remove(self, stream: UpdateStream) -> None:
        self._remove_from_indexes(stream)
        del self._streams[stream.execution_id]

    def _expire(self, stream: UpdateStream) -> None:
        memory = stream.memory
        stream.expire()
        self._total += stream.memory - memory
        self._add_to_indexes(stream)

    # --- bounds -------------------------------------------------------------------------------------------------

    def _evict(self, newest: UpdateStream) -> Sequence[str]:
        """Evict updates down to `retention.total_bytes`, and return the ids of executions that were removed.

        The updates of ended executions are evicted first, then these executions, then the oldest updates of running
        ones.
        """
        room = self._max_total
        while self._total > room and self._ended:
            _, stream = self._ended.popitem(last=False)
            self._expire(stream)
        evicted: list[str] = []
        while self._total > room and self._expired:
            execution_id, stream = next(iter(self._expired.items()))
            if stream is newest:
                if len(self._expired) == 1:
                    break
                self._expired.move_to_end(execution_id)
                continue
            self._remove(stream)
            evicted.append(execution_id)
        for _ in range(_MAX_TRIMS_PER_APPEND):
            if self._total <= room or not self._trim_oldest(self._total - room):
                break
        return evicted

    def _trim_oldest(self, enough: float) -> bool:
        """Evict the oldest updates of the running execution that has the oldest. Return whether there may be more."""
        first = self._running.first
        if first is None:
            return False
        age, _, stream = first
        self._remove_from_running(stream)
        if stream.first_at <= age:
            second = self._running.first
            memory = stream.memory
            stream.drop_oldest(float("inf") if second is None else max(second[0], age), enough)
            self._total += stream.memory - memory
        self._add_to_indexes(stream)
        return True

    def trim(self, limit: int | None = None) -> bool:
        """See `EventLog.trim`."""
        evicted: list[str] = []
        now, retention = self.monotonic(), self._retention
        try:
            with self._lock:
                if self._needs_rebuild:
                    self._rebuild_indexes()
                for _ in itertools.count() if limit is None else range(limit):
                    first = self._expiries.first
                    if first is None or first[0] > now:
                        break
                    stream = first[2]
                    if stream.appended_at + retention.record_ttl <= now:
                        evicted.append(stream.execution_id)
                        self._remove(stream)  # under the lock: a later append begins a new epoch
                        continue
                    if stream.ended and not stream.expired and stream.appended_at + retention.ttl <= now:
                        self._expire(stream)
                    self._set_expiry(stream, self._next_expiry(stream))
                first = self._expiries.first
                more = first is not None and first[0] <= now
        except BaseException:
            self._needs_rebuild = True
            release_owned(self._lock)
            raise
        for execution_id in evicted:
            self._notify(execution_id)
        return more

    # --- reading ------------------------------------------------------------------------------------------------

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """See `EventLog.read`. Never waits."""
        try:
            with self._lock:
                stream = self._streams.get(execution_id)
                return None if stream is None else stream.read(after, limit)
        except BaseException:
            release_owned(self._lock)
            raise

    async def state(self, execution_id: str) -> LogState | None:
        """See `EventLog.state`."""
        found = await self.read(execution_id, 0, 0)
        return found.state if found is not None else None

    async def executions(self) -> Sequence[str]:
        """See `EventLog.executions`."""
        return tuple(self._streams)

    async def list_ids(
        self, *, after: str = "", limit: int = 500, owner: str | None = None, prefix: str = ""
    ) -> Sequence[str]:
        """See `EventLog.list_ids`."""
        try:
            with self._lock:
                if self._needs_rebuild:
                    self._rebuild_indexes()
                keys = self._ids if owner is None else self._owned.get(owner)
                if keys is None:
                    return ()
                found = keys.after(after, limit) if after >= prefix else keys.from_key(prefix, limit)
        except BaseException:
            release_owned(self._lock)
            raise
        return [each for each in found if each.startswith(prefix)] if prefix else found

    async def list_newest(
        self, *, before: Start | None = None, limit: int = 500, owner: str | None = None
    ) -> Sequence[Start]:
        """See `EventLog.list_newest`."""
        try:
            with self._lock:
                if self._needs_rebuild:
                    self._rebuild_indexes()
                keys = self._starts if owner is None else self._owned_starts.get(owner)
                return () if keys is None else keys.before(before, limit)
        except BaseException:
            release_owned(self._lock)
            raise

    def size(self, execution_id: str) -> int:
        """Return about how many bytes of memory the kept updates of an execution take."""
        stream = self._streams.get(execution_id)
        return 0 if stream is None else stream.size

    @property
    def total_bytes(self) -> int:
        """Bytes of memory that all executions take, approximately."""
        return self._total

    def get_owner(self, execution_id: str) -> str | None:
        """Return the owner of an execution; None if it has none or is unknown."""
        stream = self._streams.get(execution_id)
        return None if stream is None else stream.owner

    async def aclose(self) -> None:
        """See `EventLog.aclose`."""
        self._listeners = self._position_listeners = ()
        with self._lock:
            self._streams.clear()
            self._rebuild_indexes()
