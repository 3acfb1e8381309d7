"""Protocol of a log: the ordered, replayable record of each execution.

A log assigns each update its position, once, when the update is appended. The rest of the library reads that order.
The protocol fits a log on another machine. Publishers do not need positions. Batches are numbered, so that a log
recognizes a retried one. Reads show which updates are evicted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, cast

from lg_streaming.codec import add_position, decode, decode_data, to_datetime
from lg_streaming.events import FINAL_TYPES, Position, StreamMetadata, StreamUpdate, kind_of

if TYPE_CHECKING:
    from lg_streaming.events import Kind, Priority
    from lg_streaming.log.fleet import Fleet
    from lg_streaming.log.usage import Usage
    from lg_streaming.publisher import Delivery, Scope

__all__ = [
    "AFTER_ALL",
    "Batch",
    "EventLog",
    "ExecutionState",
    "Listener",
    "LogState",
    "Opening",
    "PendingUpdate",
    "PositionListener",
    "ReadResult",
    "Start",
    "StoredUpdate",
    "is_ordered_by_start",
    "latest_state",
    "state_after",
]

Opening = Literal["any", "joins", "first", "exclusive"]
"""``joins``: the run has a participant from its start, a graph call or a block. ``first``: the start, and its run, are
refused if the execution has had a run that ended. ``exclusive``: like ``joins``. The start, and its run,
are refused while a run of the execution is open that this process does not hold."""

ExecutionState = Literal["running", "interrupted", "completed", "failed", "cancelled", "abandoned"]

AFTER_ALL: Final = 2**53
"""Sequence number after every update."""


async def latest_state(log: EventLog, execution_id: str) -> LogState | None:
    """Return the state of an execution, also just after an append of another process; None if it is unknown.

    `EventLog.state` may lack that append until its notification arrives. Here a log of several processes asks its
    server each time. Raises like `EventLog.read`.
    """
    found = await log.read(execution_id, AFTER_ALL, 0)
    return found.state if found is not None else None


def is_ordered_by_start(log: object) -> bool:
    """Return whether a log has `EventLog.list_newest`, which a log of a program's own may lack."""
    return callable(getattr(log, "list_newest", None))


_STATES: dict[str, ExecutionState] = {
    "workflow_start": "running",
    "workflow_interrupted": "interrupted",
    "workflow_complete": "completed",
    "workflow_error": "failed",
    "workflow_cancelled": "cancelled",
    "workflow_abandoned": "abandoned",
}

_QUIET_TYPES: Final = frozenset({"human_prompt", "human_response", "workflow_progress"})


def state_after(state: ExecutionState, type: str) -> ExecutionState:
    """Return the state of an execution after an update of ``type``, from its ``state`` before.

    A prompt, an answer or the run's progress leaves an interrupted run interrupted: other prompts may be open.
    """
    return _STATES.get(type) or ("running" if state == "interrupted" and type not in _QUIET_TYPES else state)


class PendingUpdate(NamedTuple):
    """Encoded update without a position."""

    type: str
    scope: Scope
    priority: Priority
    timestamp: float
    """Seconds since 1970."""
    body: bytes
    """Wire JSON without its end, see `add_position`."""
    key: str | None = None
    """Key of an update that is stored exactly once: a log skips an update whose key it has."""
    delivery: Delivery = "at-least-once"
    opening: Opening = "any"
    """Condition for the start of a run, see `Opening`."""
    usage: Usage | None = None
    """Usage that the update adds to that of its run: the log adds it to `LogState.usage`."""


class StoredUpdate(NamedTuple):
    """Update with its position in the log. Readers share these records."""

    type: str
    scope: Scope
    priority: Priority
    timestamp: float
    """Seconds since 1970."""
    json: bytes
    """Complete wire JSON of the update."""
    key: str | None
    seq: int
    epoch: str
    merged_from: int | None = None
    """First sequence number of the records that were merged into this one; None for a single record."""

    @classmethod
    def from_pending(cls, update: PendingUpdate, seq: int, epoch: str) -> StoredUpdate:
        """Return ``update`` with its position."""
        name, scope, priority, timestamp, body, key = update[:6]
        return cls(name, scope, priority, timestamp, add_position(body, seq, epoch), key, seq, epoch)

    @property
    def kind(self) -> Kind:
        """Kind of the type: ``token``, ``progress``, ``status`` or ``event``."""
        return kind_of(self.type)

    @property
    def position(self) -> Position:
        """Position of a reader that has this record."""
        return Position(self.epoch, self.seq)

    @property
    def is_final(self) -> bool:
        """True if it ends its run."""
        return self.type in FINAL_TYPES

    @property
    def update(self) -> StreamUpdate:
        """Update decoded from `json`, anew each time."""
        return decode(self.json)

    def to_update(self, execution_id: str) -> StreamUpdate:
        """Return `update`, made of the record's fields and only the data of its JSON if that is enough."""
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


class Start(NamedTuple):
    """Start of the last run of an execution, by which `EventLog.list_newest` orders executions."""

    at: float
    """Seconds since 1970."""
    execution_id: str


class Batch(NamedTuple):
    """Updates that a producer appends in one step, in order.

    ``producer`` and ``number`` identify a batch, also when it is retried: a log stores each pair once. The numbers of
    one producer rise by one from batch to batch of the same execution.
    """

    execution_id: str
    updates: Sequence[PendingUpdate]
    producer: str
    number: int
    owner: str | None = None
    """Owner of an execution, on the batch that opens it."""
    at: float | None = None
    """Time of the batch by the log's monotonic clock, if the producer shares it; with None the log reads its clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """State of one execution in a log."""

    epoch: str
    oldest: int
    """First sequence number that is kept; ``head + 1`` if none is."""
    head: int
    """Last sequence number that was assigned; 0 if none was."""
    state: ExecutionState
    owner: str | None
    started_at: float
    updated_at: float
    final_seq: int = 0
    """Sequence number of the last final update; 0 if there was none."""
    progress_record: StoredUpdate | None = None
    """Newest `workflow_progress` of the last run, or else its newest `progress`."""
    start_record: StoredUpdate | None = None
    """`workflow_start` of the last run."""
    process: str | None = None
    """Process that holds the open run, in a log of several processes: see `Fleet`. None without one."""
    ended_at: float | None = None
    """Time of the final update of the last run, in seconds since 1970; None while the run is open."""
    usage: Usage | None = None
    """Usage of models in the last run: the sum of `PendingUpdate.usage`. None if no update had one."""

    @property
    def start_data(self) -> Mapping[str, Any]:
        """Data of the last run's `workflow_start`, redacted; decoded anew each time."""
        data = self.start_record.update.data if self.start_record is not None else None
        return cast("dict[str, Any]", data) if isinstance(data, dict) else {}

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Metadata of the last run, redacted; decoded anew each time."""
        metadata = self.start_data.get("metadata")
        return cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else {}

    @property
    def progress(self) -> float | None:
        """Progress of the last run, 0 to 100; None if it has published none. It is decoded anew each time."""
        data = self.progress_record.update.data if self.progress_record is not None else None
        progress = cast("dict[str, object]", data).get("progress") if isinstance(data, dict) else None
        return progress if isinstance(progress, (int, float)) and not isinstance(progress, bool) else None

    @property
    def run_started_at(self) -> float:
        """Time at which the last run began; that of the first update if there was no run."""
        return self.started_at if self.start_record is None else self.start_record.timestamp

    def has(self, position: Position) -> bool:
        """Return whether a position is of this epoch and not after the head."""
        return position.epoch == self.epoch and position.seq <= self.head

    @property
    def ended(self) -> bool:
        """True if the last run has ended."""
        return self.final_seq == self.head and self.head > 0


@dataclass(frozen=True, slots=True)
class ReadResult:
    """Result of one read."""

    state: LogState
    records: Sequence[StoredUpdate]
    """Updates after the position that was read from, in order and without holes. May be empty."""


Listener = Callable[[str], None]
"""Callback with an execution id, called on any thread when there are new updates to read."""

PositionListener = Callable[[str, "Position | None"], None]
"""Callback like a `Listener`, also with the position before the new updates; None at the beginning."""


class EventLog(Protocol):
    """Ordered, replayable record of each execution."""

    blocking: bool
    """True if ``append`` may take long. A hub appends to a blocking log from a separate thread, never from the
    publisher's."""
    recheck: float | None
    """Seconds after which a reader reads again without a notification, because one may be lost. None: the log finds
    lost notifications itself, or loses none."""

    @property
    def fleet(self) -> Fleet | None:
        """Processes that share the log; None for a log of one process."""
        ...

    def append(self, batch: Batch) -> int:
        """Append ``batch``, all or nothing, and assign each update the next sequence number.

        Thread-safe. A batch whose producer and number are known is not stored again. An update is skipped if its key
        is that of a kept update of the execution, or of an earlier update of the batch. A key is removed together with
        its update.

        Returns:
            Number of updates that were skipped because of their key.

        Raises:
            LogUnavailableError: If the batch was not appended, or may not have been. Retry it under the same number,
                unchanged or without its ``at-most-once`` updates.
            RunRefusedError: If nothing of the batch was appended, because a run of its updates ended in another
                process, or the execution has another owner. Do not retry it. Of a batch with updates of several runs,
                append those of each run by themselves, under new numbers.
        """
        ...

    def append_all(self, batches: Sequence[Batch]) -> Sequence[int | Exception]:
        """Append batches of different executions, with one request if the log is on another machine.

        Each batch is appended or fails by itself, as with `append`.

        Returns:
            For each batch what `append` returns, or the exception that it raises.
        """
        ...

    async def end_for(
        self, execution_id: str, process_id: str | None, make_update: Callable[[str], PendingUpdate]
    ) -> bool:
        """Append the final update of an open run in place of the process that holds it; return whether it held it.

        Args:
            execution_id: The execution.
            process_id: The process, which is dead or has forgotten the run; None for a run that no process holds.
            make_update: Returns the final update of the run of an id.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        ...

    async def keep_open(self, execution_id: str) -> bool:
        """Keep the open run of this process open after the death or the stop of the process; return whether it is held.

        The run then stays open without a process, like one that waits for a human, so that another may take it over.
        Called only for a log of several processes. Raises like `end_for`.
        """
        ...

    async def take_over(self, execution_id: str, process_id: str | None) -> str | None:
        """Make this process the holder of an open run; return the run's id, or None if that is not possible.

        It takes a run that waits for a human, or that `keep_open` keeps. Of several processes exactly one gets it; the
        log refuses updates of the run from the others. Called only for a log of several processes. Raises like
        `end_for`.

        Args:
            execution_id: The execution.
            process_id: The process that has to hold the run, which is dead; None for a run that no process holds.
        """
        ...

    def watch(self, execution_id: str) -> Callable[[], None]:
        """Notify listeners of the updates that other processes append to an execution, until the result is called.

        Called by the readers of an execution, once for each; a no-op for a log of one process.
        """
        ...

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """Return up to ``limit`` records after sequence number ``after``; None if the execution is unknown.

        If records after ``after`` are evicted, the result begins at the oldest that is kept: compare its first record
        with ``after + 1``. Other processes may append. If ``after`` is higher than the head that this process knows, it
        returns the present state.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        ...

    async def state(self, execution_id: str) -> LogState | None:
        """Return the state of an execution; None if it is unknown. Raises like `read`."""
        ...

    async def executions(self) -> Sequence[str]:
        """Return the ids of all executions in the log. Raises like `read`."""
        ...

    async def list_ids(
        self, *, after: str = "", limit: int = 500, owner: str | None = None, prefix: str = ""
    ) -> Sequence[str]:
        """Return up to ``limit`` ids above ``after``, in order: of all executions, or of those of ``owner``.

        Only ids that begin with ``prefix`` are returned. The cost does not depend on the number of executions. Raises
        like `read`.
        """
        ...

    async def list_newest(
        self, *, before: Start | None = None, limit: int = 500, owner: str | None = None
    ) -> Sequence[Start]:
        """Return up to ``limit`` executions whose last run began before ``before``, the latest first.

        An execution is listed by its last `workflow_start` that was stored, and before the first one by its first
        update. Of equal times the greater id comes first. With ``owner`` only executions of that owner are returned.
        The cost does not depend on the number of executions. Raises like `read`. Without this method, the server
        refuses lists by start.
        """
        ...

    async def drop(self, execution_id: str) -> None:
        """Remove an execution. A later one with the same id has a new epoch. Raises like `read`."""
        ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` after every append, in this process, or in another to a watched execution.

        Returns:
            A function that stops that.
        """
        ...

    def listen_positions(self, listener: PositionListener) -> Callable[[], None]:
        """Call ``listener`` after every append, with the position before it. Return a function that stops that.

        It costs nothing per execution, so that a reader of all executions may begin without reading each state.
        """
        ...

    async def ready(self) -> None:
        """Wait until the present listeners get all notifications. Raises like `read`.

        A log of one process returns at once.
        """
        ...

    def trim(self, limit: int | None = None) -> bool:
        """Remove expired updates and executions. Called periodically; cheap if none has expired.

        Args:
            limit: Most executions to check; None for all that have expired.

        Returns:
            True if more have expired.
        """
        ...

    async def aclose(self) -> None:
        """Free the resources of the log. Repeated calls do nothing.

        A closed log that is used again reconnects: see `HubLifespan.restart`.
        """
        ...
