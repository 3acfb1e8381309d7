"""What a log is: the ordered, replayable record of each execution, behind ten methods.

A log gives each update its position, once, when it is appended. Everything else in the library is a reader
of that order. The protocol is shaped for a log on another machine: nothing above it knows a position when
an update is published, appends come in numbered batches so that a retried one is recognised, and reads say
plainly what is no longer there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from lg_streaming.codec import add_position, decode, decode_data, to_datetime
from lg_streaming.events import FINAL_TYPES, Position, StreamMetadata, StreamUpdate, kind_of

if TYPE_CHECKING:
    from lg_streaming.events import Kind, Priority
    from lg_streaming.publisher import Delivery, Scope

__all__ = [
    "Batch",
    "EventLog",
    "ExecutionState",
    "Listener",
    "LogState",
    "PendingUpdate",
    "PositionListener",
    "ReadResult",
    "StoredUpdate",
    "state_after",
]

ExecutionState = Literal["running", "interrupted", "completed", "failed", "cancelled", "abandoned"]

_STATES: dict[str, ExecutionState] = {
    "workflow_start": "running",
    "workflow_interrupted": "interrupted",
    "workflow_complete": "completed",
    "workflow_error": "failed",
    "workflow_cancelled": "cancelled",
    "workflow_abandoned": "abandoned",
}


def state_after(state: ExecutionState, type: str) -> ExecutionState:
    """The state of an execution in ``state`` after an update of ``type``."""
    return _STATES.get(type) or ("running" if state == "interrupted" else state)


class PendingUpdate(NamedTuple):
    """An update that is encoded but has no place in the log yet."""

    type: str
    scope: Scope
    priority: Priority
    timestamp: float
    """Seconds since 1970."""
    body: bytes
    """The wire JSON without its end, see `seal`."""
    key: str | None = None
    """Set on an update that is to be stored exactly once: a log leaves out a draft whose key it has."""
    delivery: Delivery = "at-least-once"


class StoredUpdate(NamedTuple):
    """An update in its place in the log. Readers share records."""

    type: str
    scope: Scope
    priority: Priority
    timestamp: float
    """Seconds since 1970."""
    json: bytes
    """The complete wire JSON of the update."""
    key: str | None
    seq: int
    epoch: str
    merged_from: int | None = None
    """The first sequence number of the records that were merged into this one; None for a single record."""

    @classmethod
    def from_pending(cls, draft: PendingUpdate, seq: int, epoch: str) -> StoredUpdate:
        """Return ``draft`` in its place."""
        name, scope, priority, timestamp, body, key, _ = draft
        return cls(name, scope, priority, timestamp, add_position(body, seq, epoch), key, seq, epoch)

    @property
    def kind(self) -> Kind:
        """``token``, ``progress``, ``status`` or ``event``."""
        return kind_of(self.type)

    @property
    def position(self) -> Position:
        """Where a reader stands that has this record."""
        return Position(self.epoch, self.seq)

    @property
    def is_final(self) -> bool:
        """Whether it ends its run."""
        return self.type in FINAL_TYPES

    @property
    def update(self) -> StreamUpdate:
        """The update as a reader of `json` would have it, made anew at each call."""
        return decode(self.json)

    def to_update(self, execution_id: str) -> StreamUpdate:
        """The same as `update`, made of what the record knows where that is enough."""
        if self.scope.extra is not None or self.merged_from is not None:
            return self.update
        return StreamUpdate(
            type=self.type,
            data=decode_data(self.json),
            metadata=StreamMetadata(
                timestamp=to_datetime(self.timestamp),
                sequence_number=self.seq,
                execution_id=execution_id,
                epoch=self.epoch,
                scope=self.scope,
                priority=self.priority,
            ),
        )


class Batch(NamedTuple):
    """What a producer appends in one go, in order.

    ``producer`` and ``number`` make a retry recognisable: a log stores each pair once. Numbers of one producer
    rise by one from batch to batch of the same execution.
    """

    execution_id: str
    drafts: Sequence[PendingUpdate]
    producer: str
    number: int
    owner: str | None = None
    """Set on the batch that opens an execution for somebody."""
    at: float | None = None
    """When it was made, by the log's own monotonic clock, where the producer has the same; None: look at the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """What a log knows of one execution."""

    epoch: str
    oldest: int
    """The first sequence number that is still kept; ``head + 1`` when nothing is."""
    head: int
    """The last sequence number that was given; 0 when none was."""
    state: ExecutionState
    owner: str | None
    started_at: float
    updated_at: float
    final_seq: int = 0
    """The sequence number of the last final update; 0 when there was none."""
    progress_record: StoredUpdate | None = None
    """What the last run said of its progress last: its newest `workflow_progress`, or else its newest `progress`."""
    start_record: StoredUpdate | None = None
    """The `workflow_start` of the last run."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the last run was opened with, as it may leave. It is decoded anew each time."""
        data = self.start_record.update.data if self.start_record is not None else None
        told = cast("dict[str, object]", data).get("metadata") if isinstance(data, dict) else None
        return cast("dict[str, Any]", told) if isinstance(told, dict) else {}

    @property
    def progress(self) -> float | None:
        """How far the last run is, 0 to 100; None where it has not said. It is decoded anew each time."""
        data = self.progress_record.update.data if self.progress_record is not None else None
        told = cast("dict[str, object]", data).get("progress") if isinstance(data, dict) else None
        return told if isinstance(told, (int, float)) and not isinstance(told, bool) else None

    @property
    def ended(self) -> bool:
        """Whether the last run has ended."""
        return self.final_seq == self.head and self.head > 0


@dataclass(frozen=True, slots=True)
class ReadResult:
    """The answer to one read."""

    state: LogState
    records: Sequence[StoredUpdate]
    """What follows the asked position, in order, without a hole inside. May be empty."""


Listener = Callable[[str], None]
"""Called with an execution id, from any thread, when there is something new to read."""

PositionListener = Callable[[str, "Position | None"], None]
"""Called like a `Listener`, also with the position before what is new; None where that is the beginning."""


class EventLog(Protocol):
    """The ordered, replayable record of each execution."""

    blocking: bool
    """Whether ``append`` may take long. A hub appends to a blocking log from a thread of its own, never from
    the publisher's."""

    def append(self, batch: Batch) -> int:
        """Appends ``batch`` and gives each draft the next sequence number, all or nothing.

        Thread-safe. A batch whose producer and number were appended before is recognised and not stored twice.
        A draft whose key a kept update of the execution has, or an earlier draft of the batch, is left out; a key is
        forgotten together with the update that has it.

        Returns:
            How many drafts were left out because of their key.

        Raises:
            LogUnavailableError: It could not be appended, or it is not known whether it was: retry it under the same
                number, unchanged or without its ``at-most-once`` drafts.
        """
        ...

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """Up to ``limit`` records after sequence number ``after``; None when the execution is not known.

        When records after ``after`` are no longer kept, the slice starts at the oldest that is: compare its first
        record with ``after + 1``.

        Raises:
            LogUnavailableError: The log cannot be reached.
        """
        ...

    async def state(self, execution_id: str) -> LogState | None:
        """What is known of an execution, or None. Raises like `read`."""
        ...

    async def executions(self) -> Sequence[str]:
        """The ids of all executions in the log. Raises like `read`."""
        ...

    async def list_ids(
        self, *, after: str = "", limit: int = 500, owner: str | None = None, prefix: str = ""
    ) -> Sequence[str]:
        """Up to ``limit`` ids above ``after``, in order: of all executions, or of those of ``owner``.

        Only ids that begin with ``prefix``. It costs as much among ten executions as among a million. Raises like
        `read`.
        """
        ...

    async def drop(self, execution_id: str) -> None:
        """Forgets an execution. When it comes back it has a new epoch. Raises like `read`."""
        ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls ``listener`` after every append, in this process or another; returns what stops that."""
        ...

    def listen_positions(self, listener: PositionListener) -> Callable[[], None]:
        """Call ``listener`` after every append, with the place before it, and return what stops that.

        It costs nothing per execution, so that a reader of all may begin without looking at each.
        """
        ...

    def trim(self, limit: int | None = None) -> bool:
        """Removes what is past its time. Called now and then; cheap when nothing is due.

        Args:
            limit: The most executions to look at; None for all that are due.

        Returns:
            Whether more is due.
        """
        ...

    async def aclose(self) -> None:
        """Frees what the log holds. Harmless when repeated.

        A log that is used again afterwards connects again by itself: see `StreamHub.restart`.
        """
        ...
