"""Work on updates: on an ``Observable``, on a list, or on what the log has kept of an execution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

import reactivex
from reactivex import Observable
from reactivex import operators as ops

from lg_streaming.events import StreamUpdate, check_execution_id
from lg_streaming.pipeline.update_operators import (
    EventCriteria,
    TokenAggregate,
    aggregate_tokens,
    batched,
    by_type,
    collected,
    matching,
    transformed,
)

if TYPE_CHECKING:
    from reactivex import GroupedObservable
    from reactivex.abc import SchedulerBase

    from lg_streaming.events import Kind

__all__ = ["EventStats", "EventStreamProcessor", "Recorded"]

T = TypeVar("T")
R = TypeVar("R")

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStats:
    """What the log has of an execution."""

    execution_id: str
    state: str
    """``running``, ``interrupted``, ``completed``, ``failed``, ``cancelled`` or ``abandoned``."""
    total: int
    """Updates so far, also those that are no longer kept."""
    kept: int
    by_type: Mapping[str, int]
    """Of those that are kept."""
    by_kind: Mapping[Kind, int]
    """Of those that are kept."""
    first: datetime | None
    """The time of the first that is kept."""
    last: datetime | None


class _State(Protocol):
    @property
    def state(self) -> str: ...
    @property
    def oldest(self) -> int: ...
    @property
    def head(self) -> int: ...
    @property
    def ended(self) -> bool: ...


class _Record(Protocol):
    @property
    def seq(self) -> int: ...
    def to_update(self, execution_id: str) -> StreamUpdate: ...


class _Slice(Protocol):
    @property
    def state(self) -> _State: ...
    @property
    def records(self) -> Sequence[_Record]: ...


class _Log(Protocol):
    async def read(self, execution_id: str, after: int, limit: int) -> _Slice | None: ...
    async def state(self, execution_id: str) -> _State | None: ...
    async def executions(self) -> Sequence[str]: ...
    async def drop(self, execution_id: str) -> None: ...


class Recorded(Protocol):
    """Where executions are: the hub."""

    @property
    def log(self) -> _Log:
        """The log."""
        ...

    def publish(
        self, execution_id: str, type: str, data: object = None, *, large: Literal["refuse", "shorten"] | None = None
    ) -> None:
        """Appends an update."""
        ...


class EventStreamProcessor:
    """Works on updates: on an ``Observable`` such as ``hub.observe(…)``, on a list, or on what the log has kept.

    It holds nothing itself. ``StreamingModule().events`` is one.

    Args:
        recorded: Where executions are.
        scheduler: For all that waits; see `batched`.
    """

    def __init__(self, recorded: Recorded, *, scheduler: SchedulerBase | None = None) -> None:
        self._recorded = recorded
        self._scheduler = scheduler

    def process_batch(
        self, events: Observable[T] | Iterable[T], batch_size: int = 10, debounce: float = 0.1
    ) -> Observable[list[T]]:
        """``events`` as lists of up to ``batch_size``; the last, partial one after ``debounce`` seconds.

        See `batched`.
        """
        return _stream(events).pipe(batched(batch_size, debounce, scheduler=self._scheduler))

    def group_events_by_type(
        self, events: Observable[StreamUpdate] | Iterable[StreamUpdate], *, per_execution: bool = False
    ) -> Observable[GroupedObservable[str, StreamUpdate]]:
        """One observable for each type. See `by_type`."""
        return _stream(events).pipe(by_type(per_execution=per_execution))

    def aggregate_by_execution(
        self, execution_id: str, events: Observable[StreamUpdate] | Iterable[StreamUpdate]
    ) -> Observable[dict[str, list[StreamUpdate]]]:
        """The updates of one execution by type, in order; one mapping, when ``events`` end."""
        return _stream(events).pipe(collected(execution_id))

    def filter_events(
        self,
        events: Observable[StreamUpdate] | Iterable[StreamUpdate],
        criteria: EventCriteria | Mapping[str, Any],
    ) -> Observable[StreamUpdate]:
        """The updates that meet ``criteria``. See `matching`."""
        return _stream(events).pipe(matching(criteria))

    def transform_events(
        self,
        events: Observable[StreamUpdate] | Iterable[StreamUpdate],
        function: Callable[[StreamUpdate], R | None],
    ) -> Observable[R | StreamUpdate]:
        """What ``function`` makes of each update; None drops it. See `transformed`."""
        return _stream(events).pipe(transformed(function))

    def aggregate_tokens(
        self, events: Observable[StreamUpdate] | Iterable[StreamUpdate], quiet: float = 0.5
    ) -> Observable[TokenAggregate]:
        """The text of each execution, after ``quiet`` seconds without any. See `aggregate_tokens`."""
        return _stream(events).pipe(aggregate_tokens(quiet, scheduler=self._scheduler))

    def buffer_events(
        self, execution_id: str, events: Observable[StreamUpdate] | Iterable[StreamUpdate]
    ) -> Observable[StreamUpdate]:
        """Passes ``events`` on and publishes each to an execution, so that `replay_events` has it.

        Updates that are of this execution already are not published again.

        Raises:
            BadRequestError: The id cannot name an execution.
        """
        check_execution_id(execution_id)

        def keep(update: StreamUpdate) -> None:
            if update.metadata.execution_id != execution_id:
                self._recorded.publish(execution_id, update.type, update.data, large="shorten")

        return _stream(events).pipe(ops.do_action(keep))

    async def replay_events(self, execution_id: str, from_sequence: int = 1) -> list[StreamUpdate]:
        """What the log has kept of an execution, from the sequence number ``from_sequence`` on (inclusive), in order.

        It begins later where the log no longer has that; compare the first ``sequence_number``. Empty for an
        execution that is not known. For what comes live as well, use ``hub.subscribe``.

        Raises:
            LogUnavailableError: The log cannot be reached.
        """
        updates: list[StreamUpdate] = []
        after = max(0, from_sequence - 1)
        while (found := await self._recorded.log.read(execution_id, after, _PAGE)) is not None and found.records:
            updates += [record.to_update(execution_id) for record in found.records]
            after = found.records[-1].seq
            if after >= found.state.head:
                break
        return updates

    async def get_event_stats(self, execution_id: str) -> EventStats | None:
        """How many updates an execution has, of which types; None when it is not known. Raises like the replay."""
        state = await self._recorded.log.state(execution_id)
        if state is None:
            return None
        updates = await self.replay_events(execution_id)
        return EventStats(
            execution_id=execution_id,
            state=state.state,
            total=state.head,
            kept=len(updates),
            by_type=dict(Counter(update.type for update in updates)),
            by_kind=dict(Counter(update.kind for update in updates)),
            first=updates[0].metadata.timestamp if updates else None,
            last=updates[-1].metadata.timestamp if updates else None,
        )

    async def get_buffer_size(self, execution_id: str | None = None) -> int:
        """How many updates the log has kept of an execution, or of all. Raises like the replay."""
        names = [execution_id] if execution_id is not None else await self._recorded.log.executions()
        states = [await self._recorded.log.state(name) for name in names]
        return sum(state.head - state.oldest + 1 for state in states if state is not None)

    async def clear_buffer(self, execution_id: str | None = None) -> None:
        """Forgets what the log has of an execution; without one, of all whose run is over. Raises like the replay.

        Readers of an execution that is cleared while it runs are told of it by a ``gap``.
        """
        log = self._recorded.log
        if execution_id is not None:
            await log.drop(execution_id)
            return
        for name in await log.executions():
            state = await log.state(name)
            if state is not None and state.ended:
                await log.drop(name)


def _stream(events: Observable[T] | Iterable[T]) -> Observable[T]:
    return events if isinstance(events, Observable) else reactivex.from_iterable(events)
