"""The log in this process's memory."""

from __future__ import annotations

import itertools
import secrets
import sys
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from lg_streaming.events import Position
from lg_streaming.fork import new_rlock, release_owned, restart_after_fork
from lg_streaming.log.base import ReadResult
from lg_streaming.log.index import SortedKeys
from lg_streaming.log.tape import UpdateStream
from lg_streaming.settings import RetentionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.log.base import Batch, Listener, LogState, PlaceListener

__all__ = ["MemoryLog"]

_LOOKED_AT: Final = 512
"""How often one append looks for the running execution with the oldest update, at most."""


class MemoryLog:
    """Keeps executions in this process's memory; gone when it ends.

    Args:
        retention: How much is kept. The newest update of an execution is always kept.
        clock: Seconds since 1970, for timestamps.
        new_epoch: Makes a name for a new life of an execution.
        monotonic: Seconds that never go back, for durations.

    Each operation costs the same among ten executions and among a million. What an execution keeps changes in one step:
    an append that any exception interrupts, also between two bytecodes, happened whole or not at all.
    """

    blocking = False

    def __init__(
        self,
        retention: RetentionSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
        new_epoch: Callable[[], str] = lambda: secrets.token_hex(4),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._retention = retention or RetentionSettings()
        self._room = sys.maxsize if self._retention.total_bytes is None else self._retention.total_bytes
        self._clock = clock
        self.monotonic: Callable[[], float] = monotonic
        """Seconds that never go back."""
        self._new_epoch = new_epoch
        self._serials = itertools.count(1)
        self._tapes: dict[str, UpdateStream] = {}
        self._lock = new_rlock()
        self._listeners: tuple[Listener, ...] = ()
        self._place_listeners: tuple[PlaceListener, ...] = ()
        self._index()
        restart_after_fork(self)

    def _index(self) -> None:
        """Makes anew what is known from the tapes alone: an interrupted step may have left it half done."""
        self._total = sum(tape.held for tape in self._tapes.values())
        self._ids: SortedKeys[str] = SortedKeys(self._tapes)
        self._owned: dict[str, SortedKeys[str]] = {}
        self._due: SortedKeys[tuple[float, int, UpdateStream]] = SortedKeys()
        self._running: SortedKeys[tuple[float, int, UpdateStream]] = SortedKeys()  # by the time of the oldest update
        self._ended: OrderedDict[str, UpdateStream] = OrderedDict()  # the one that ended first is the first
        self._expired: OrderedDict[str, UpdateStream] = OrderedDict()  # of these only the final update is left
        for tape in sorted(self._tapes.values(), key=lambda tape: tape.touched):
            tape.filed_owner, tape.due, tape.age = None, None, None
            self._file(tape)
        self._torn = False

    def after_fork(self) -> None:
        """Keep the parent's executions to read. One that is appended to gets an epoch of its own, and its history."""
        for tape in self._tapes.values():
            tape.inherited = True
        self._torn = True

    # --- appending --------------------------------------------------------------------------------------------

    def append(self, batch: Batch) -> int:  # noqa: C901 (at every update, in one piece)
        """See `EventLog.append`. Never raises by itself, takes microseconds."""
        execution_id, forgotten = batch.execution_id, ()
        epoch, before = "", 0
        try:
            with self._lock:
                if self._torn:
                    self._index()
                tape = self._tapes.get(execution_id)
                if tape is None or tape.inherited:
                    tape, repeated, added = self._begin(batch, tape)
                    epoch, before = tape.epoch, tape.head - added
                else:
                    if self._place_listeners:
                        epoch, before = tape.epoch, tape.head
                    repeated, added, grown, moved = tape.append(batch, batch.at or self.monotonic())
                    self._total += grown
                    if moved:
                        self._file(tape)
                if self._total > self._room:
                    forgotten = self._make_room(tape)
            if added:
                if self._place_listeners:
                    self._notify(execution_id, epoch, before)
                else:  # inlines `_notify`, for each update
                    for listener in self._listeners:
                        listener(execution_id)
            for each in forgotten:
                self._notify(each)
        except BaseException:
            self._torn = True
            release_owned(self._lock)
            self._notify(execution_id, epoch, before)  # it may have happened
            raise
        return repeated

    def _begin(self, batch: Batch, inherited: UpdateStream | None) -> tuple[UpdateStream, int, int]:
        now, touched = self._clock(), batch.at or self.monotonic()
        if inherited is None:
            tape = UpdateStream(batch.execution_id, self._new_epoch(), batch.owner, now, touched, self._retention)
        else:
            tape = inherited.branch(self._new_epoch())
        repeated, added, _, _ = tape.append(batch, touched)
        if inherited is not None:
            self._unfile(inherited)
        self._tapes[batch.execution_id] = tape
        self._total += tape.held
        self._file(tape)
        return tape, repeated, added

    async def drop(self, execution_id: str) -> None:
        """See `EventLog.drop`."""
        try:
            with self._lock:
                if self._torn:
                    self._index()
                tape = self._tapes.get(execution_id)
                if tape is not None:
                    self._forget(tape)
            if tape is not None:
                self._notify(execution_id)
        except BaseException:
            self._torn = True
            release_owned(self._lock)
            self._notify(execution_id)  # it may have happened
            raise

    def _notify(self, execution_id: str, epoch: str = "", before: int = 0) -> None:
        for listener in self._listeners:
            listener(execution_id)
        if self._place_listeners:
            place = Position(epoch, before) if before else None
            for each in self._place_listeners:
                each(execution_id, place)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """See `EventLog.listen`."""
        self._change_listeners(lambda: (*self._listeners, listener), None)
        return lambda: self._change_listeners(
            lambda: tuple(each for each in self._listeners if each is not listener), None
        )

    def listen_places(self, listener: PlaceListener) -> Callable[[], None]:
        """See `EventLog.listen_places`."""
        self._change_listeners(None, lambda: (*self._place_listeners, listener))
        return lambda: self._change_listeners(
            None, lambda: tuple(each for each in self._place_listeners if each is not listener)
        )

    def _change_listeners(
        self,
        listeners: Callable[[], tuple[Listener, ...]] | None,
        place_listeners: Callable[[], tuple[PlaceListener, ...]] | None,
    ) -> None:
        try:
            with self._lock:
                if listeners is not None:
                    self._listeners = listeners()
                if place_listeners is not None:
                    self._place_listeners = place_listeners()
        except BaseException:
            release_owned(self._lock)
            raise

    # --- what is known of all -----------------------------------------------------------------------------------

    def _file(self, tape: UpdateStream) -> None:
        """Puts `tape` where it belongs in the indexes. Under the lock."""
        if not tape.serial:
            tape.serial = next(self._serials)
        self._ids.add(tape.execution_id)
        if tape.filed_owner is None and tape.owner is not None:
            tape.filed_owner = tape.owner
            self._owned.setdefault(tape.owner, SortedKeys()).add(tape.execution_id)
        if tape.ended:
            self._unqueue(tape)
            books, other = (self._expired, self._ended) if tape.expired else (self._ended, self._expired)
            other.pop(tape.execution_id, None)
            if tape.execution_id not in books:
                books[tape.execution_id] = tape
        else:
            self._ended.pop(tape.execution_id, None)
            self._expired.pop(tape.execution_id, None)
            if tape.age is None and tape.kept > 1:  # the newest update stays in any case
                tape.age = tape.first_at
                self._running.add((tape.age, tape.serial, tape))
        due = self._due_at(tape)
        if tape.due is None or due < tape.due:
            self._set_due(tape, due)

    def _unfile(self, tape: UpdateStream) -> None:
        self._total -= tape.held
        self._ids.discard(tape.execution_id)
        if tape.filed_owner is not None:
            owned = self._owned[tape.filed_owner]
            owned.discard(tape.execution_id)
            if not owned:
                del self._owned[tape.filed_owner]
            tape.filed_owner = None
        self._ended.pop(tape.execution_id, None)
        self._expired.pop(tape.execution_id, None)
        self._unqueue(tape)
        self._set_due(tape, None)

    def _unqueue(self, tape: UpdateStream) -> None:
        if tape.age is not None:
            self._running.discard((tape.age, tape.serial, tape))
            tape.age = None

    def _set_due(self, tape: UpdateStream, due: float | None) -> None:
        if tape.due is not None:
            self._due.discard((tape.due, tape.serial, tape))
        tape.due = due
        if due is not None:
            self._due.add((due, tape.serial, tape))

    def _due_at(self, tape: UpdateStream) -> float:
        """When something of `tape` is past its time, if nothing is appended until then."""
        keeps = self._retention.ttl if tape.ended and not tape.expired else self._retention.record_ttl
        return tape.touched + min(keeps, self._retention.record_ttl)

    def _forget(self, tape: UpdateStream) -> None:
        self._unfile(tape)
        del self._tapes[tape.execution_id]

    def _expire(self, tape: UpdateStream) -> None:
        held = tape.held
        tape.expire()
        self._total += tape.held - held
        self._file(tape)

    # --- bounds -------------------------------------------------------------------------------------------------

    def _make_room(self, newest: UpdateStream) -> Sequence[str]:
        """Lets go of as much as `retention.total_bytes` asks for; returns what was forgotten altogether.

        The updates of ended executions go first, then these executions, then the oldest updates of running ones.
        """
        room = self._room
        while self._total > room and self._ended:
            _, tape = self._ended.popitem(last=False)
            self._expire(tape)
        forgotten: list[str] = []
        while self._total > room and self._expired:
            execution_id, tape = next(iter(self._expired.items()))
            if tape is newest:
                if len(self._expired) == 1:
                    break
                self._expired.move_to_end(execution_id)
                continue
            self._forget(tape)
            forgotten.append(execution_id)
        for _ in range(_LOOKED_AT):
            if self._total <= room or not self._cut_oldest(self._total - room):
                break
        return forgotten

    def _cut_oldest(self, enough: float) -> bool:
        """Cuts the running execution with the oldest update; whether there may be more to cut."""
        first = self._running.first
        if first is None:
            return False
        age, _, tape = first
        self._unqueue(tape)
        if tape.first_at <= age:
            second = self._running.first
            held = tape.held
            tape.drop_oldest(float("inf") if second is None else max(second[0], age), enough)
            self._total += tape.held - held
        self._file(tape)
        return True

    def trim(self, limit: int | None = None) -> bool:
        """See `EventLog.trim`."""
        forgotten: list[str] = []
        now, retention = self.monotonic(), self._retention
        try:
            with self._lock:
                if self._torn:
                    self._index()
                for _ in itertools.count() if limit is None else range(limit):
                    first = self._due.first
                    if first is None or first[0] > now:
                        break
                    tape = first[2]
                    if tape.touched + retention.record_ttl <= now:
                        forgotten.append(tape.execution_id)
                        self._forget(tape)  # under the lock: an append that comes now begins a new epoch
                        continue
                    if tape.ended and not tape.expired and tape.touched + retention.ttl <= now:
                        self._expire(tape)
                    self._set_due(tape, self._due_at(tape))
                first = self._due.first
                more = first is not None and first[0] <= now
        except BaseException:
            self._torn = True
            release_owned(self._lock)
            raise
        for execution_id in forgotten:
            self._notify(execution_id)
        return more

    # --- reading ------------------------------------------------------------------------------------------------

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """See `EventLog.read`. Never waits."""
        return self.read_now(execution_id, after, limit)

    def read_now(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """The same as `read`, for readers without an event loop."""
        try:
            with self._lock:
                tape = self._tapes.get(execution_id)
                return None if tape is None else ReadResult(tape.describe(), tape.after(after, limit))
        except BaseException:
            release_owned(self._lock)
            raise

    async def state(self, execution_id: str) -> LogState | None:
        """See `EventLog.state`."""
        found = self.read_now(execution_id, 0, 0)
        return found.state if found is not None else None

    async def executions(self) -> Sequence[str]:
        """See `EventLog.executions`."""
        return tuple(self._tapes)

    async def list_ids(
        self, *, after: str = "", limit: int = 500, owner: str | None = None, prefix: str = ""
    ) -> Sequence[str]:
        """See `EventLog.list_ids`."""
        try:
            with self._lock:
                if self._torn:
                    self._index()
                keys = self._ids if owner is None else self._owned.get(owner)
                if keys is None:
                    return ()
                found = keys.after(after, limit) if after >= prefix else keys.since(prefix, limit)
        except BaseException:
            release_owned(self._lock)
            raise
        return [each for each in found if each.startswith(prefix)] if prefix else found

    def size(self, execution_id: str) -> int:
        """Bytes of memory that the kept updates of an execution take, about."""
        tape = self._tapes.get(execution_id)
        return 0 if tape is None else tape.size

    @property
    def total_bytes(self) -> int:
        """Bytes of memory that all executions take, about."""
        return self._total

    def owner_of(self, execution_id: str) -> str | None:
        """The owner of an execution; None where it has none, or is not known."""
        tape = self._tapes.get(execution_id)
        return None if tape is None else tape.owner

    async def aclose(self) -> None:
        """See `EventLog.aclose`."""
        self._listeners = self._place_listeners = ()
        with self._lock:
            self._tapes.clear()
            self._index()
