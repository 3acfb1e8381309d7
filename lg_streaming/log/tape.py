"""The updates that the log in memory keeps of one execution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from lg_streaming.codec import add_position
from lg_streaming.events import FINAL_TYPES
from lg_streaming.log.base import LogState, PendingUpdate, StoredUpdate, state_after

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.log.base import Batch, ExecutionState
    from lg_streaming.settings import RetentionSettings

__all__ = ["TAPE_BYTES", "UpdateStream", "held_bytes"]

RECORD_BYTES: Final = 224
"""What a record takes beside its JSON: the objects around it, its place in the list, its scope's share."""
KEY_BYTES: Final = 192
"""What a key takes beside its characters."""
TAPE_BYTES: Final = 1_152
"""What an execution takes beside its records, with its places in the log's indexes."""
_LARGE: Final = 512
"""Bytes of an update in which `RECORD_BYTES` covers the scope."""
_MOST_PRODUCERS: Final = 256
_CUT_AT: Final = 64
_new: Final = cast("Any", tuple.__new__)
_NOTED: Final = FINAL_TYPES | {"workflow_start", "workflow_interrupted", "workflow_progress", "progress"}


def held_bytes(record: StoredUpdate) -> int:
    """Return the bytes of memory that ``record`` takes, about."""
    held = len(record.json) + RECORD_BYTES
    if record.key is not None:
        held += len(record.key) + KEY_BYTES
    if len(record.json) > _LARGE:
        held += 3 * len(record.scope.fragment)  # its JSON, its keys and values, and the user's own objects
    return held


class _Marks:
    """The state of the run after its lifecycle updates. Immutable."""

    __slots__ = ("final", "held", "interrupted", "progress", "start", "state")

    def __init__(
        self,
        state: ExecutionState = "running",
        final: StoredUpdate | None = None,
        progress: StoredUpdate | None = None,
        start: StoredUpdate | None = None,
    ) -> None:
        self.state: ExecutionState = state
        self.interrupted: bool = state == "interrupted"
        self.final: StoredUpdate | None = final
        self.progress: StoredUpdate | None = progress
        self.start: StoredUpdate | None = start
        self.held: int = sum(held_bytes(each) for each in (final, progress, start) if each is not None)
        """Bytes of these records, which stay when the list lets them go."""

    def after(self, record: StoredUpdate) -> _Marks:
        """The state after ``record``."""
        final, progress, start = self.final, self.progress, self.start
        if record.type in FINAL_TYPES:
            final = record
        elif record.type == "workflow_start":
            start, progress = record, None
        elif record.type == "workflow_progress" or (
            record.type == "progress" and (progress is None or progress.type == "progress")
        ):
            progress = record
        return _Marks(state_after(self.state, record.type), final, progress, start)


_NO_MARKS: Final = _Marks()


class _Shelf:
    """A list of records with consecutive numbers. Trimmed places hold None until the list is made anew."""

    __slots__ = ("base", "cleared", "records")

    def __init__(self, records: list[StoredUpdate | None], base: int) -> None:
        self.records: list[StoredUpdate | None] = records
        self.base: int = base
        """The number before that of the first place."""
        self.cleared: int = 0
        """Places before this one are empty."""


class _Live(NamedTuple):
    """All that an append changes: it is replaced in one step, so an append happens whole or not at all."""

    shelf: _Shelf
    start: int = 0
    """Places of the shelf before this one are trimmed."""
    head: int = 0
    """Records of the shelf above this number come from an append that was interrupted."""
    size: int = 0
    producer: str = ""
    """Of the last batch."""
    number: int = 0
    marks: _Marks = _NO_MARKS
    owner: str | None = None


_Fields = tuple[_Shelf, int, int, int, str, int, _Marks, "str | None"]


def _fields(live: _Live) -> _Fields:
    return tuple(live)  # pyright: ignore[reportReturnType]


class UpdateStream:
    """The records of one execution. All access is under the log's lock.

    Args:
        execution_id: The execution.
        epoch: Names this life of it.
        owner: Its owner.
        now: Seconds since 1970.
        touched: Seconds, monotonic.
        retention: How much is kept.
    """

    __slots__ = (
        "_emptied_at",
        "_ending",
        "_keys",
        "_live",
        "_max_bytes",
        "_max_updates",
        "_numbers",
        "_retention",
        "age",
        "due",
        "epoch",
        "execution_id",
        "filed_owner",
        "inherited",
        "serial",
        "started_at",
        "touched",
    )

    def __init__(  # noqa: PLR0917 (made in one place)
        self,
        execution_id: str,
        epoch: str,
        owner: str | None,
        now: float,
        touched: float,
        retention: RetentionSettings,
    ) -> None:
        self.execution_id: str = execution_id
        self.epoch: str = epoch
        self._ending = b',"epoch":"%b"}}' % epoch.encode()  # of the JSON of each record
        self.started_at: float = now
        self._live: _Fields = _fields(_Live(_Shelf([], 0), owner=owner))
        self._emptied_at = now  # seconds since 1970; the time of an empty tape
        self.touched: float = touched
        """When the last batch came, by a clock that never goes back."""
        self._numbers: dict[str, int] | None = None  # of producers before the last one
        self._keys: dict[str, int] | None = None
        self._max_updates = retention.max_updates
        self._max_bytes = retention.max_bytes
        self._retention = retention
        self.inherited: bool = False
        """Whether it is the parent process's, to be read only."""
        # What the log's indexes know of it.
        self.serial: int = 0
        self.filed_owner: str | None = None
        self.due: float | None = None
        self.age: float | None = None

    @property
    def live(self) -> _Live:
        """All that an append changes; kept as a plain tuple, which is read faster."""
        return _Live._make(self._live)

    @live.setter
    def live(self, live: _Live) -> None:
        self._live = _fields(live)

    # --- what there is ----------------------------------------------------------------------------------------

    @property
    def head(self) -> int:
        """The last number that was given."""
        return self._live[2]

    @property
    def oldest(self) -> int:
        """The first number that is kept; ``head + 1`` when none is."""
        live = self.live
        return live.shelf.base + live.start + 1

    @property
    def kept(self) -> int:
        """The number of records."""
        return self.head - self.oldest + 1

    @property
    def owner(self) -> str | None:
        """The owner."""
        return self._live[7]

    @property
    def marks(self) -> _Marks:
        """The state of the run; replaced by a new object when it changes."""
        return self._live[6]

    @property
    def ended(self) -> bool:
        """Whether the last run has ended."""
        return self._live[6].state not in {"running", "interrupted"}

    @property
    def expired(self) -> bool:
        """Whether at most one update is left."""
        return self.kept <= 1

    @property
    def size(self) -> int:
        """Bytes of the kept records."""
        return self._live[3]

    @property
    def held(self) -> int:
        """Bytes of all that is kept."""
        live = self.live
        return live.size + live.marks.held + TAPE_BYTES

    @property
    def first_at(self) -> float:
        """The time of the oldest record, in seconds since 1970."""
        records = self.after(0, 1)
        return records[0].timestamp if records else self._emptied_at

    @property
    def updated_at(self) -> float:
        """The time of the newest record, in seconds since 1970."""
        records = self.after(self.head - 1, 1)
        return records[0].timestamp if records else self._emptied_at

    @property
    def _bytes(self) -> int:
        return self._live[3]

    @property
    def _records(self) -> Sequence[StoredUpdate]:
        return self.after(0, self.kept)

    @property
    def _start(self) -> int:
        """Records that are trimmed and still held: none."""
        live = self.live
        return live.start - live.shelf.cleared

    def after(self, seq: int, limit: int) -> Sequence[StoredUpdate]:
        """Up to ``limit`` records after ``seq``."""
        shelf, start, head = self._live[:3]
        begin = max(start, seq - shelf.base)
        return shelf.records[begin : min(begin + limit, head - shelf.base)]  # pyright: ignore[reportReturnType]

    def describe(self) -> LogState:
        """Its state."""
        live = self.live
        marks = live.marks
        return LogState(
            epoch=self.epoch,
            oldest=live.shelf.base + live.start + 1,
            head=live.head,
            state=marks.state,
            owner=live.owner,
            started_at=self.started_at,
            updated_at=self.updated_at,
            final_seq=marks.final.seq if marks.final is not None else 0,
            progress_record=marks.progress,
            start_record=marks.start,
        )

    # --- appending --------------------------------------------------------------------------------------------

    def append(  # noqa: C901 (one step, at every update)
        self, batch: Batch, touched: float
    ) -> tuple[int, int, int, bool]:
        """Appends the batch unless it was appended before.

        What is prepared before the last step is invisible; the next append removes what an interrupted one left.

        Returns:
            How many drafts were left out because of their key, how many were appended, by how many bytes what is held
            has grown, and whether it may belong elsewhere in the log's indexes.
        """
        shelf, start, head, size, producer, number, marks, owner = self._live
        _, drafts, by, count, opened_for, _ = batch
        records = shelf.records
        if len(records) != head - shelf.base:
            self._remove_leftovers()
        if by == producer:
            if count <= number:
                return 0, 0, 0, False
        elif not self._is_new(batch, producer, number):
            return 0, 0, 0, False
        seq, grown, before, repeated, epoch, ending = head, size, marks, 0, self.epoch, self._ending
        added: list[StoredUpdate | None] = []
        for draft in drafts:
            name, scope, priority, timestamp, body, key, _ = draft
            if key is not None:
                if self._has_key(key, added):
                    repeated += 1
                    continue
                self._note_key(key, seq + 1)
            seq += 1
            json = b'%b,"sequence_number":%d%b' % (body, seq, ending)  # as `seal` does
            # inlines `StoredUpdate.of`, for each update
            record: StoredUpdate = _new(StoredUpdate, (name, scope, priority, timestamp, json, key, seq, epoch, None))
            added.append(record)
            held = len(json)  # as `held_bytes` does, too
            grown += held + RECORD_BYTES if held <= _LARGE and key is None else held_bytes(record)
            if name in _NOTED or marks.interrupted:
                marks = marks.after(record)
        records += added
        if seq - shelf.base - start > self._max_updates or grown + marks.held > self._max_bytes:
            start, grown = self._trimmed(shelf, start, seq - shelf.base - start, grown, marks.held)
        opened_for = owner or opened_for
        self.touched = touched
        self._live = (shelf, start, seq, grown, by, count, marks, opened_for)
        if start > shelf.cleared:
            self._clear(shelf, start)
        if marks is before and opened_for is owner and self.age is not None:
            return repeated, seq - head, grown - size, False
        return repeated, seq - head, grown - size + marks.held - before.held, True

    def _remove_leftovers(self) -> None:
        """Removes the records of an append that was interrupted before it happened."""
        live = self.live
        del live.shelf.records[live.head - live.shelf.base :]

    def _is_new(self, batch: Batch, producer: str, number: int) -> bool:
        numbers = self._numbers
        if numbers is None:
            if not number:
                return True
            numbers = self._numbers = {}
        numbers[producer] = number
        if len(numbers) > _MOST_PRODUCERS:
            del numbers[next(iter(numbers))]
        return numbers.get(batch.producer, 0) < batch.number

    def _has_key(self, key: str, added: Sequence[StoredUpdate | None]) -> bool:
        """Whether a kept or an added record has ``key``. The index may name numbers of an interrupted append."""
        seq = self._keys.get(key) if self._keys is not None else None
        if seq is None:
            return False
        if seq <= self.head:
            place = seq - self.live.shelf.base - 1
            record = self.live.shelf.records[place] if place >= self.live.start else None
        else:
            place = seq - self.head - 1
            record = added[place] if place < len(added) else None
        return record is not None and record.key == key

    def _note_key(self, key: str, seq: int) -> None:
        if self._keys is None:
            self._keys = {}
        self._keys[key] = seq

    def _trimmed(self, shelf: _Shelf, start: int, count: int, size: int, pinned: int) -> tuple[int, int]:
        """Where the kept records begin, and their bytes, once there are no more of them than may be."""
        records, most, room = shelf.records, self._max_updates, self._max_bytes - pinned
        while count > most or (size > room and count > 1):
            record = records[start]
            if record is not None:
                held = len(record.json)  # as in `append`
                size -= held + RECORD_BYTES if held <= _LARGE and record.key is None else held_bytes(record)
            start += 1
            count -= 1
        return start, size

    def _clear(self, shelf: _Shelf, start: int) -> None:
        """Frees the records before ``start``."""
        records, keys = shelf.records, self._keys
        for place in range(shelf.cleared, start):
            record = records[place]
            if keys is not None and record is not None and keys.get(record.key or "") == record.seq:
                del keys[record.key or ""]
            records[place] = None
            shelf.cleared = place + 1
        if start > _CUT_AT and start * 2 > len(records):
            live = self.live
            self.live = live._replace(shelf=_Shelf(records[start:], shelf.base + start), start=0)

    # --- letting go -------------------------------------------------------------------------------------------

    def drop_oldest(self, until: float, enough: float) -> None:
        """Lets go of the records before the time ``until``, up to ``enough`` bytes of them; never of the newest."""
        live = self.live
        shelf, start, size = live.shelf, live.start, live.size
        last = live.head - shelf.base - 1
        while start < last and enough > 0:
            record = shelf.records[start]
            if record is not None:
                if record.timestamp > until:
                    break
                size -= held_bytes(record)
                enough -= held_bytes(record)
            start += 1
        self.live = live._replace(start=start, size=size)
        self._clear(shelf, start)

    def expire(self) -> None:
        """Lets go of everything but the final update, where it is the last one."""
        live = self.live
        final = live.marks.final
        keep = [final] if final is not None and final.seq == live.head else []
        self._emptied_at = self.updated_at
        self.live = live._replace(
            shelf=_Shelf([*keep], live.head - len(keep)), start=0, size=sum(held_bytes(each) for each in keep)
        )
        self._keys = None

    def branch(self, epoch: str) -> UpdateStream:
        """A copy with an epoch of its own, for updates that the original does not get."""
        live = self.live
        copy = UpdateStream(self.execution_id, epoch, live.owner, self.started_at, self.touched, self._retention)
        records: list[StoredUpdate | None] = []
        size, marks = 0, _NO_MARKS
        for record in self.after(0, self.kept):
            body = record.json.removesuffix(add_position(b"", record.seq, self.epoch))
            draft = PendingUpdate(record.type, record.scope, record.priority, record.timestamp, body, record.key)
            again = StoredUpdate.of(draft, record.seq, epoch)
            records.append(again)
            size += held_bytes(again)
            if again.key is not None:
                copy._note_key(again.key, again.seq)
            if again.type in _NOTED or marks.interrupted:
                marks = marks.after(again)
        copy.live = _Live(_Shelf(records, self.oldest - 1), 0, live.head, size, marks=marks, owner=live.owner)
        copy._emptied_at = self.updated_at
        return copy
