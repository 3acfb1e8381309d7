"""Segments of runs: our run stays open while it waits for people; on this wire each request is another run."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from lg_streaming.codec import decode_data
from lg_streaming.events import FINAL_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.log.base import EventLog, LogState, StoredUpdate

__all__ = ["Segment", "SegmentIndex", "SegmentTable", "Status", "data_of", "resumes", "segment_id"]

Status = Literal["pending", "running", "success", "error", "interrupted", "timeout"]

_ENDS: Final[Mapping[str, Status]] = {
    "workflow_complete": "success",
    "workflow_error": "error",
    "workflow_cancelled": "interrupted",
    "workflow_abandoned": "timeout",
}
_MOST: Final = 2_000
"""Executions whose segments are kept in memory."""
_PAGE: Final = 2_000


def segment_id(run_id: str, epoch: str, interrupted_at: int) -> str:
    """Return the id of the segment that follows an interruption: the same in each process, also after a restart.

    Args:
        run_id: The id of the run in the log.
        epoch: The epoch of the execution.
        interrupted_at: Number of the run's ``workflow_interrupted``.
    """
    return str(uuid.uuid5(_namespace(run_id), f"{epoch}:{interrupted_at}"))


def _namespace(run_id: str) -> uuid.UUID:
    try:
        return uuid.UUID(run_id)
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, run_id)


@dataclass(slots=True)
class Segment:
    """Part of a run between two waits for people."""

    run_id: str
    """Id on the wire."""
    own_run: str
    """Id of the run in the log."""
    begin: int
    """Number of the update before its first."""
    end: int | None = None
    """Number of its last update; None while it goes on."""
    status: Status = "running"
    graph: str | None = None
    error: Mapping[str, Any] | None = None
    """Error of a failed run: ``{message, type?}``."""
    started_at: float = 0.0
    """Seconds since 1970, like `updated_at`."""
    updated_at: float = 0.0


@dataclass(slots=True)
class SegmentTable:
    """Segments of one execution, oldest first, read from its log."""

    epoch: str
    segments: list[Segment] = field(default_factory=list[Segment])
    seq: int = 0
    """Number of the last update that was read."""
    prompts: dict[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Data of the open prompts of a run that waits for people, by id."""
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    """Segments that end with the loss of the log, and the run that goes on."""
    _by_id: dict[str, Segment] = field(default_factory=dict[str, Segment], init=False, repr=False)
    interrupted_at: int = 0
    """Number of the ``workflow_interrupted`` after which no segment has begun; 0 without one."""

    @property
    def last(self) -> Segment | None:
        """The newest segment."""
        return self.segments[-1] if self.segments else None

    @property
    def next_id(self) -> str | None:
        """Id of the segment that begins when the run resumes; None if it does not wait for people."""
        last = self.last
        if last is None or not self.interrupted_at:
            return None
        return segment_id(last.own_run, self.epoch, self.interrupted_at)

    def find(self, run_id: str) -> Segment | None:
        """Return a segment by its id on the wire."""
        return self._by_id.get(run_id)

    def at(self, seq: int) -> Segment | None:
        """Return the segment that has an update of this number."""
        found = [each for each in self.segments if each.begin < seq]
        return found[-1] if found else None

    def of_run(self, own_run: str) -> list[Segment]:
        """Return the segments of a run of the log, oldest first."""
        return [each for each in self.segments if each.own_run == own_run]

    def feed(self, records: Sequence[StoredUpdate]) -> None:
        """Read further updates."""
        for record in records:
            if record.seq > self.seq:
                self.seq = record.seq
                self._read(record)

    def _read(self, record: StoredUpdate) -> None:
        last, type = self.last, record.type  # noqa: A001 (the field's name)
        own_run = record.scope.run_id
        if type == "workflow_start":
            self._begin(record, own_run or "")
        elif type == "human_response":
            self.prompts.pop(data_of(record).get("prompt_id", ""), None)
        elif last is None or (own_run is not None and last.own_run != own_run):
            if own_run is not None:  # its start is no longer kept
                self._begin(record, own_run)
        elif type == "workflow_interrupted":
            self._interrupt(last, record)
        elif type in FINAL_TYPES:
            self._end(last, record)
        elif self.interrupted_at and resumes(record):
            begin, self.interrupted_at = self.interrupted_at, 0
            self.prompts = {}
            self._add(
                Segment(
                    segment_id(last.own_run, self.epoch, begin),
                    last.own_run,
                    begin,
                    graph=last.graph,
                    started_at=record.timestamp,
                    updated_at=record.timestamp,
                )
            )

    def _add(self, segment: Segment) -> None:
        self.segments.append(segment)
        self._by_id[segment.run_id] = segment

    def _begin(self, record: StoredUpdate, own_run: str) -> None:
        data: Mapping[str, Any] = data_of(record) if record.type == "workflow_start" else {}
        self.prompts, self.interrupted_at = {}, 0
        if isinstance(before := data.get("resumed_from"), str):
            self.aliases[before] = own_run
        graph, now = data.get("name"), record.timestamp
        self._add(Segment(own_run, own_run, record.seq - 1, graph=graph, started_at=now, updated_at=now))
        if record.type == "workflow_interrupted" or record.type in FINAL_TYPES:
            self._read(record)

    def _interrupt(self, last: Segment, record: StoredUpdate) -> None:
        data = data_of(record)
        if data.get("paused"):
            return
        prompts = cast("list[Mapping[str, Any]]", data.get("prompts") or [])
        self.prompts = {str(each.get("prompt_id")): each for each in prompts}
        if not self.interrupted_at:
            self.interrupted_at = record.seq
            last.end, last.status, last.updated_at = record.seq, "interrupted", record.timestamp

    def _end(self, last: Segment, record: StoredUpdate) -> None:
        if not self.interrupted_at:
            last.end, last.status, last.updated_at = record.seq, _ENDS[record.type], record.timestamp
            error = data_of(record).get("error") if record.type == "workflow_error" else None
            last.error = cast("Mapping[str, Any]", error) if isinstance(error, Mapping) else None
        self.prompts, self.interrupted_at = {}, 0


def data_of(record: StoredUpdate) -> Mapping[str, Any]:
    """Return the data of an update; an empty mapping for data of another kind."""
    data: object = decode_data(record.json) if record.scope.extra is None else record.update.data
    return cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else {}


def resumes(record: StoredUpdate) -> bool:
    """Return whether an update is the first of a run that has waited for people."""
    return record.type == "status" and data_of(record).get("status") == "resumed"


class SegmentIndex:
    """Tables of segments of the executions of a log: each reads only what was appended since its last use.

    Args:
        log: The log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._tables: OrderedDict[str, SegmentTable] = OrderedDict()

    async def load(self, execution_id: str) -> tuple[SegmentTable, LogState] | None:
        """Return the table and the state of an execution; None if the log does not have it.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        table = self._tables.get(execution_id)
        while True:
            found = await self._log.read(execution_id, table.seq if table is not None else 0, _PAGE)
            if found is None:
                self._tables.pop(execution_id, None)
                return None
            if table is None or table.epoch != found.state.epoch:
                is_new = table is None
                table = SegmentTable(found.state.epoch)
                if not is_new:
                    continue
            table.feed(found.records)
            if not found.records or table.seq >= found.state.head:
                break
        self._tables[execution_id] = table
        self._tables.move_to_end(execution_id)
        while len(self._tables) > _MOST:
            self._tables.popitem(last=False)
        return table, found.state
