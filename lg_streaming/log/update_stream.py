"""Updates of one execution in the log in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from lg_streaming.codec import add_position
from lg_streaming.log.base import LogState, PendingUpdate, ReadResult, StoredUpdate
from lg_streaming.log.run_state import LARGE_UPDATE, NEW_RUN, RECORD_BYTES, STATE_TYPES, RunState, memory_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.log.base import Batch, Start
    from lg_streaming.settings import RetentionSettings

__all__ = ["STREAM_BYTES", "UpdateStream"]

STREAM_BYTES: Final = 1_152
"""Memory of an execution without its records, with its entries in the log's indexes."""
_MAX_PRODUCERS: Final = 1_024
_MIN_CLEARED: Final = 64
_new: Final = cast("Any", tuple.__new__)


class _Segment:
    """List of records with consecutive numbers. Trimmed places hold None until the list is copied."""

    __slots__ = ("base", "cleared", "records")

    def __init__(self, records: list[StoredUpdate | None], base: int) -> None:
        self.records: list[StoredUpdate | None] = records
        self.base: int = base
        """Number before that of the first place."""
        self.cleared: int = 0
        """First place that is not empty."""


class _Contents(NamedTuple):
    """All fields that an append changes. They are replaced in one step, so that an append is atomic."""

    segment: _Segment
    start: int = 0
    """First place of the segment that is not trimmed."""
    head: int = 0
    """Last sequence number. Records of the segment above it come from an append that was interrupted."""
    size: int = 0
    producer: str = ""
    """Producer of the last batch."""
    number: int = 0
    run: RunState = NEW_RUN
    owner: str | None = None


_Fields = tuple[_Segment, int, int, int, str, int, RunState, "str | None"]


def _fields(contents: _Contents) -> _Fields:
    return tuple(contents)  # pyright: ignore[reportReturnType]


class UpdateStream:
    """Updates of one execution. All access is under the log's lock.

    Args:
        execution_id: The execution.
        epoch: Name of this life of it.
        owner: Its owner.
        now: Seconds since 1970.
        appended_at: Seconds, monotonic.
        retention: Limits.
    """

    __slots__ = (
        "_contents",
        "_emptied_at",
        "_ending",
        "_keys",
        "_max_bytes",
        "_max_updates",
        "_numbers",
        "_retention",
        "appended_at",
        "epoch",
        "execution_id",
        "expiry",
        "indexed_oldest",
        "indexed_owner",
        "indexed_start",
        "inherited",
        "serial",
        "started_at",
    )

    def __init__(  # noqa: PLR0917 (made in one place)
        self,
        execution_id: str,
        epoch: str,
        owner: str | None,
        now: float,
        appended_at: float,
        retention: RetentionSettings,
    ) -> None:
        self.execution_id: str = execution_id
        self.epoch: str = epoch
        self._ending = b',"epoch":"%b"}}' % epoch.encode()  # of the JSON of each record
        self.started_at: float = now
        self._contents: _Fields = _fields(_Contents(_Segment([], 0), owner=owner))
        self._emptied_at = now  # seconds since 1970; the time of an empty stream
        self.appended_at: float = appended_at
        """Time of the last append, monotonic."""
        self._numbers: dict[str, int] | None = None  # of producers before the last one
        self._keys: dict[str, int] | None = None
        self._max_updates = retention.max_updates
        self._max_bytes = retention.max_bytes
        self._retention = retention
        self.inherited: bool = False
        """True if the stream belongs to the parent process, so that it is read-only here."""
        # its keys in the log's indexes
        self.serial: int = 0
        self.indexed_owner: str | None = None
        self.indexed_start: Start | None = None
        self.expiry: float | None = None
        self.indexed_oldest: float | None = None

    @property
    def contents(self) -> _Contents:
        """Fields that an append changes. They are kept as a plain tuple, which is read faster."""
        return _Contents._make(self._contents)

    @contents.setter
    def contents(self, contents: _Contents) -> None:
        self._contents = _fields(contents)

    # --- reading ----------------------------------------------------------------------------------------------

    @property
    def head(self) -> int:
        """Last sequence number that was assigned."""
        return self._contents[2]

    @property
    def oldest(self) -> int:
        """First sequence number that is kept; ``head + 1`` if none is."""
        contents = self.contents
        return contents.segment.base + contents.start + 1

    @property
    def run_started_at(self) -> float:
        """Time at which the last run began; that of the first update if there was no run."""
        start = self._contents[6].start
        return self.started_at if start is None else start.timestamp

    @property
    def count(self) -> int:
        """Number of kept records."""
        return self.head - self.oldest + 1

    @property
    def owner(self) -> str | None:
        """Owner of the execution."""
        return self._contents[7]

    @property
    def ended(self) -> bool:
        """True if the last run has ended."""
        return self._contents[6].state not in {"running", "interrupted"}

    @property
    def expired(self) -> bool:
        """True if at most one update is left."""
        return self.count <= 1

    @property
    def size(self) -> int:
        """Memory of the kept records, in bytes."""
        return self._contents[3]

    @property
    def memory(self) -> int:
        """Memory of the whole stream, in bytes."""
        contents = self.contents
        return contents.size + contents.run.memory + STREAM_BYTES

    @property
    def first_at(self) -> float:
        """Time of the oldest record, in seconds since 1970."""
        records = self.after(0, 1)
        return records[0].timestamp if records else self._emptied_at

    @property
    def updated_at(self) -> float:
        """Time of the newest record, in seconds since 1970."""
        records = self.after(self.head - 1, 1)
        return records[0].timestamp if records else self._emptied_at

    def after(self, seq: int, limit: int) -> Sequence[StoredUpdate]:
        """Return up to ``limit`` records after ``seq``."""
        segment, start, head = self._contents[:3]
        begin = max(start, seq - segment.base)
        return segment.records[begin : min(begin + limit, head - segment.base)]  # pyright: ignore[reportReturnType]

    def read(self, seq: int, limit: int) -> ReadResult:
        """Return the state, and up to ``limit`` records after ``seq``."""
        segment, start, head, _, _, _, run, owner = self._contents
        base, records = segment.base, segment.records
        newest = records[head - base - 1] if head > base + start else None
        state = LogState(
            epoch=self.epoch,
            oldest=base + start + 1,
            head=head,
            state=run.state,
            owner=owner,
            started_at=self.started_at,
            updated_at=self._emptied_at if newest is None else newest.timestamp,
            final_seq=run.final.seq if run.final is not None else 0,
            progress_record=run.progress,
            start_record=run.start,
            ended_at=run.ended_at,
            usage=run.usage,
        )
        begin = max(start, seq - base)  # as `after` does
        return ReadResult(state, records[begin : min(begin + limit, head - base)])  # pyright: ignore[reportArgumentType]

    # --- appending --------------------------------------------------------------------------------------------

    def append(  # noqa: C901 (one step, at every update)
        self, batch: Batch, appended_at: float
    ) -> tuple[int, int, int, bool]:
        """Append the batch, unless it was appended before.

        All changes are invisible until the last step; the next append removes the leftovers of an interrupted one.

        Returns:
            Updates skipped because of their key, updates appended, growth of the memory in bytes, and True if the
            log's indexes have to be updated.
        """
        segment, start, head, size, producer, number, run, owner = self._contents
        _, drafts, by, count, opened_for, _ = batch
        records = segment.records
        if len(records) != head - segment.base:
            self._remove_leftovers()
        if by == producer:
            if count <= number:
                return 0, 0, 0, False
        elif not self._is_new(batch, producer, number):
            return 0, 0, 0, False
        seq, grown, before, repeated, epoch, ending = head, size, run, 0, self.epoch, self._ending
        added: list[StoredUpdate | None] = []
        for draft in drafts:
            name, scope, priority, timestamp, body, key, _, _, usage = draft
            if key is not None:
                if self._has_key(key, added):
                    repeated += 1
                    continue
                self._store_key(key, seq + 1)
            seq += 1
            json = b'%b,"sequence_number":%d%b' % (body, seq, ending)  # as `add_position` does
            # inlines `StoredUpdate.from_pending`, for each update
            record: StoredUpdate = _new(StoredUpdate, (name, scope, priority, timestamp, json, key, seq, epoch, None))
            added.append(record)
            memory = len(json)  # as `memory_of` does, too
            grown += memory + RECORD_BYTES if memory <= LARGE_UPDATE and key is None else memory_of(record)
            if name in STATE_TYPES or run.interrupted:
                run = run.after(record, usage)
        records += added
        if seq - segment.base - start > self._max_updates or grown + run.memory > self._max_bytes:
            start, grown = self._trim(segment, start, seq - segment.base - start, grown, run.memory)
        opened_for = owner or opened_for
        self.appended_at = appended_at
        self._contents = (segment, start, seq, grown, by, count, run, opened_for)
        if start > segment.cleared:
            self._clear(segment, start)
        if run is before and opened_for is owner and self.indexed_oldest is not None:
            return repeated, seq - head, grown - size, False
        return repeated, seq - head, grown - size + run.memory - before.memory, True

    def _remove_leftovers(self) -> None:
        """Remove the records of an append that was interrupted before its last step."""
        contents = self.contents
        del contents.segment.records[contents.head - contents.segment.base :]

    def _is_new(self, batch: Batch, producer: str, number: int) -> bool:
        numbers = self._numbers
        if numbers is None:
            if not number:
                return True
            numbers = self._numbers = {}
        numbers[producer] = number
        if len(numbers) > _MAX_PRODUCERS:
            del numbers[next(iter(numbers))]
        return numbers.get(batch.producer, 0) < batch.number

    def _has_key(self, key: str, added: Sequence[StoredUpdate | None]) -> bool:
        """Return whether a kept or an added record has ``key``. The index may have keys of an interrupted append."""
        seq = self._keys.get(key) if self._keys is not None else None
        if seq is None:
            return False
        if seq <= self.head:
            place = seq - self.contents.segment.base - 1
            record = self.contents.segment.records[place] if place >= self.contents.start else None
        else:
            place = seq - self.head - 1
            record = added[place] if place < len(added) else None
        return record is not None and record.key == key

    def _store_key(self, key: str, seq: int) -> None:
        if self._keys is None:
            self._keys = {}
        self._keys[key] = seq

    def _trim(self, segment: _Segment, start: int, count: int, size: int, pinned: int) -> tuple[int, int]:
        """Return the first place to keep within the limits, and the memory of the records from there on."""
        records, most, room = segment.records, self._max_updates, self._max_bytes - pinned
        while count > most or (size > room and count > 1):
            record = records[start]
            if record is not None:
                memory = len(record.json)  # as in `append`
                size -= memory + RECORD_BYTES if memory <= LARGE_UPDATE and record.key is None else memory_of(record)
            start += 1
            count -= 1
        return start, size

    def _clear(self, segment: _Segment, start: int) -> None:
        """Free the records before ``start``."""
        records, keys = segment.records, self._keys
        for place in range(segment.cleared, start):
            record = records[place]
            if keys is not None and record is not None and keys.get(record.key or "") == record.seq:
                del keys[record.key or ""]
            records[place] = None
            segment.cleared = place + 1
        if start > _MIN_CLEARED and start * 2 > len(records):
            contents = self.contents
            self.contents = contents._replace(segment=_Segment(records[start:], segment.base + start), start=0)

    # --- eviction ---------------------------------------------------------------------------------------------

    def drop_oldest(self, until: float, enough: float) -> None:
        """Evict records up to the time ``until``, until ``enough`` bytes are free; never the newest record."""
        contents = self.contents
        segment, start, size = contents.segment, contents.start, contents.size
        last = contents.head - segment.base - 1
        while start < last and enough > 0:
            record = segment.records[start]
            if record is not None:
                if record.timestamp > until:
                    break
                size -= memory_of(record)
                enough -= memory_of(record)
            start += 1
        self.contents = contents._replace(start=start, size=size)
        self._clear(segment, start)

    def expire(self) -> None:
        """Evict all records but the final update, if that is the last one."""
        contents = self.contents
        final = contents.run.final
        keep = [final] if final is not None and final.seq == contents.head else []
        self._emptied_at = self.updated_at
        self.contents = contents._replace(
            segment=_Segment([*keep], contents.head - len(keep)), start=0, size=sum(memory_of(each) for each in keep)
        )
        self._keys = None

    def copy_with_epoch(self, epoch: str) -> UpdateStream:
        """Return a copy under a new epoch, for updates that the original does not get."""
        contents = self.contents
        copy = UpdateStream(
            self.execution_id, epoch, contents.owner, self.started_at, self.appended_at, self._retention
        )
        records: list[StoredUpdate | None] = []
        size, run = 0, NEW_RUN
        for record in self.after(0, self.count):
            body = record.json.removesuffix(add_position(b"", record.seq, self.epoch))
            draft = PendingUpdate(record.type, record.scope, record.priority, record.timestamp, body, record.key)
            again = StoredUpdate.from_pending(draft, record.seq, epoch)
            records.append(again)
            size += memory_of(again)
            if again.key is not None:
                copy._store_key(again.key, again.seq)
            if again.type in STATE_TYPES or run.interrupted:
                run = run.after(again)
        run = RunState(run.state, run.final, run.progress, run.start, contents.run.usage)
        copy.contents = _Contents(
            _Segment(records, self.oldest - 1), 0, contents.head, size, run=run, owner=contents.owner
        )
        copy._emptied_at = self.updated_at
        return copy
