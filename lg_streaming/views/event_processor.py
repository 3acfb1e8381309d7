"""Work on updates: of an ``Observable``, of a list, or of an execution in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import reactivex
from reactivex import Observable
from reactivex import operators as ops

from lg_streaming.events import StreamUpdate, check_execution_id
from lg_streaming.views.update_operators import (
    EventCriteria,
    TokenAggregate,
    aggregate_tokens,
    batched,
    buffer_updates,
    by_type,
    filter_updates,
    map_updates,
)

if TYPE_CHECKING:
    from reactivex import GroupedObservable
    from reactivex.abc import SchedulerBase

    from lg_streaming.events import Kind
    from lg_streaming.hub import StreamHub

__all__ = ["EventStats", "EventStreamProcessor"]

T = TypeVar("T")
R = TypeVar("R")

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStats:
    """Counts of an execution's updates in the log."""

    execution_id: str
    state: str
    """``running``, ``interrupted``, ``completed``, ``failed``, ``cancelled`` or ``abandoned``."""
    total: int
    """Updates so far, also those that are no longer kept."""
    kept: int
    by_type: Mapping[str, int]
    """Counts of the updates that are kept."""
    by_kind: Mapping[Kind, int]
    """Counts of the updates that are kept."""
    first: datetime | None
    """The time of the first update that is kept."""
    last: datetime | None


class EventStreamProcessor:
    """Operators on updates: of an ``Observable`` such as ``hub.observe(…)``, of a list, or of the log.

    It has no state. ``StreamingModule().events`` is one.

    Args:
        hub: The executions.
        scheduler: The timer; see `batched`.
    """

    def __init__(self, hub: StreamHub, *, scheduler: SchedulerBase | None = None) -> None:
        self._hub = hub
        self._scheduler = scheduler

    def process_batch(
        self, events: Observable[T] | Iterable[T], batch_size: int = 10, debounce: float = 0.1
    ) -> Observable[list[T]]:
        """Return ``events`` as lists of up to ``batch_size``; the last, partial one after ``debounce`` seconds.

        See `batched`.
        """
        return _stream(events).pipe(batched(batch_size, debounce, scheduler=self._scheduler))

    def group_events_by_type(
        self, events: Observable[StreamUpdate] | Iterable[StreamUpdate], *, per_execution: bool = False
    ) -> Observable[GroupedObservable[str, StreamUpdate]]:
        """Return one observable for each type. See `by_type`."""
        return _stream(events).pipe(by_type(per_execution=per_execution))

    def aggregate_by_execution(
        self, execution_id: str, events: Observable[StreamUpdate] | Iterable[StreamUpdate]
    ) -> Observable[dict[str, list[StreamUpdate]]]:
        """Return the updates of one execution by type, in order; one mapping, when ``events`` end."""
        return _stream(events).pipe(buffer_updates(execution_id))

    def filter_events(
        self,
        events: Observable[StreamUpdate] | Iterable[StreamUpdate],
        criteria: EventCriteria | Mapping[str, Any],
    ) -> Observable[StreamUpdate]:
        """Return the updates that meet ``criteria``. See `matching`."""
        return _stream(events).pipe(filter_updates(criteria))

    def transform_events(
        self,
        events: Observable[StreamUpdate] | Iterable[StreamUpdate],
        function: Callable[[StreamUpdate], R | None],
    ) -> Observable[R | StreamUpdate]:
        """Return the results of ``function``; None drops an update. See `transformed`."""
        return _stream(events).pipe(map_updates(function))

    def aggregate_tokens(
        self, events: Observable[StreamUpdate] | Iterable[StreamUpdate], quiet: float = 0.5
    ) -> Observable[TokenAggregate]:
        """Return the text of each execution, after ``quiet`` seconds without any. See `aggregate_tokens`."""
        return _stream(events).pipe(aggregate_tokens(quiet, scheduler=self._scheduler))

    def buffer_events(
        self, execution_id: str, events: Observable[StreamUpdate] | Iterable[StreamUpdate]
    ) -> Observable[StreamUpdate]:
        """Pass ``events`` on and publish each to an execution, so that `replay_events` has it.

        Updates that are of this execution already are not published again.

        Raises:
            BadRequestError: If the id cannot name an execution.
        """
        check_execution_id(execution_id)

        def keep(update: StreamUpdate) -> None:
            if update.metadata.execution_id != execution_id:
                self._hub.publish(execution_id, update.type, update.data, large="shorten")

        return _stream(events).pipe(ops.do_action(keep))

    async def replay_events(self, execution_id: str, from_sequence: int = 1) -> list[StreamUpdate]:
        """Return the updates of an execution in the log, from the sequence number ``from_sequence`` on (inclusive).

        The list begins later where the log has dropped some; compare the first ``sequence_number``. It is empty for an
        unknown execution. For live updates too, use ``hub.subscribe``.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        updates: list[StreamUpdate] = []
        after = max(0, from_sequence - 1)
        while (found := await self._hub.log.read(execution_id, after, _PAGE)) is not None and found.records:
            updates += [record.to_update(execution_id) for record in found.records]
            after = found.records[-1].seq
            if after >= found.state.head:
                break
        return updates

    async def get_event_stats(self, execution_id: str) -> EventStats | None:
        """Return the counts of an execution's updates; None when it is unknown. Raises like `replay_events`."""
        state = await self._hub.log.state(execution_id)
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
        """Return the number of updates in the log, of an execution or of all. Raises like `replay_events`."""
        names = [execution_id] if execution_id is not None else await self._hub.log.executions()
        states = [await self._hub.log.state(name) for name in names]
        return sum(state.head - state.oldest + 1 for state in states if state is not None)

    async def clear_buffer(self, execution_id: str | None = None) -> None:
        """Drop an execution from the log; without an id, all whose run has ended. Raises like `replay_events`.

        Readers of an execution that is cleared while it runs get a ``gap``.
        """
        log = self._hub.log
        if execution_id is not None:
            await log.drop(execution_id)
            return
        for name in await log.executions():
            state = await log.state(name)
            if state is not None and state.ended:
                await log.drop(name)


def _stream(events: Observable[T] | Iterable[T]) -> Observable[T]:
    return events if isinstance(events, Observable) else reactivex.from_iterable(events)
