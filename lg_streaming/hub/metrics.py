"""List executions, and report the health and the statistics of a hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from lg_streaming.codec import to_datetime
from lg_streaming.errors import BadRequestError
from lg_streaming.hub.fleet_statistics import FleetReporter
from lg_streaming.hub.statistics import HubStatistics, RunCounts
from lg_streaming.log.base import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from lg_streaming.events import Priority
    from lg_streaming.hub.attachments import SinkManager
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.fleet_statistics import FleetStatistics
    from lg_streaming.hub.readers import SubscriptionRegistry
    from lg_streaming.hub.registry import ExecutionRegistry
    from lg_streaming.hub.writer import UpdateWriter

__all__ = ["ExecutionInfo", "HubHealth", "HubMetrics"]


_STATES: Final = frozenset[str](get_args(ExecutionState))
_OPEN: Final = frozenset({"running", "interrupted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionInfo:
    """An execution that a hub writes to, at one moment."""

    execution_id: str
    state: ExecutionState
    """The state of its open run, or of the last one. ``interrupted``: it waits for a human, and has no participant."""
    owner: str | None
    priority: Priority
    """The priority of updates for which neither their publisher nor their type names one."""
    metadata: Mapping[str, Any]
    """The metadata of the open run, or of the last one; as it was passed, not redacted."""
    run_id: str | None
    """The open run; None without an open run."""
    idle_timeout: float | None
    """Seconds without any activity after which a run ends; None for never."""
    started_at: datetime
    """The start of the open run, or of the last one; in UTC."""
    updated_at: datetime
    """The time of its last update, in UTC."""
    updates: int
    """Updates published to it through this hub, over all its runs."""
    readers: int
    """Open subscriptions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubHealth:
    """The health of a hub, at one moment."""

    status: Literal["ok", "log_unavailable", "closed"]
    """``log_unavailable``: updates wait, because the last append to the log failed."""
    hub_id: str
    executions: int
    """Executions that it has written to and not forgotten."""
    running: int
    """Executions with an open run."""
    max_executions: int | None
    """The most executions that may be running; None for no limit."""
    subscriptions: int


class HubMetrics:
    """Reporter of a hub's state.

    Args:
        registry: The executions.
        writer: The writer of updates, with their counters.
        readers: The subscriptions.
        sinks: The attached sinks.
    """

    def __init__(
        self, registry: ExecutionRegistry, writer: UpdateWriter, readers: SubscriptionRegistry, sinks: SinkManager
    ) -> None:
        self._registry = registry
        self._writer = writer
        self._readers = readers
        self._sinks = sinks
        self.reporter: FleetReporter = FleetReporter(registry.log, lambda: registry.hub_id, registry.clock)
        """The reporter of counts to other processes."""
        self.reporter.add("hub", self._counts)
        self.run_counts: Callable[[], RunCounts] = RunCounts
        """Returns the counts of the runner of graphs, if there is one."""

    async def fleet(self) -> FleetStatistics:
        """Return the live processes that share the log, with their counts and the sums of these.

        A report is as old as the last renewal of its process's lease. With a log of one process, only this process is
        there.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        return await self.reporter.collect()

    def _counts(self) -> dict[str, int]:
        statistics = self.statistics()
        return {
            "executions": statistics.executions,
            "running": statistics.running,
            "subscriptions": statistics.subscriptions,
            "sinks": statistics.sinks,
            "published": statistics.published,
            "delivered": statistics.delivered,
            "dropped": sum(statistics.dropped.values()),
            "waiting": statistics.waiting,
            "append_failures": statistics.append_failures,
        }

    def executions(self, state: ExecutionState | Iterable[ExecutionState] | None = None) -> list[ExecutionInfo]:
        """List the executions, oldest first. See `StreamHub.executions`."""
        states = {state} if isinstance(state, str) else None if state is None else set(state)
        if unknown := (states or set()) - _STATES:
            choices = ", ".join(get_args(ExecutionState))
            raise BadRequestError(f"{', '.join(map(repr, unknown))} is no state: use some of {choices}")
        registry = self._registry
        registry.maybe_sweep()
        only_open = states is not None and states <= _OPEN
        executions = list((registry.open_runs if only_open else registry.executions).values())
        infos = [self._info(each) for each in executions]
        return [info for info in infos if info is not None and (states is None or info.state in states)]

    def info(self, execution_id: str) -> ExecutionInfo | None:
        """Return an execution that this hub writes to, or None. See `StreamHub.info`."""
        self._registry.maybe_sweep()
        execution = self._registry.executions.get(execution_id)
        return None if execution is None else self._info(execution)

    def _info(self, execution: Execution) -> ExecutionInfo | None:
        readers = self._readers.count(execution.execution_id)
        with execution.lock:
            state = execution.state
            if state is None:
                return None
            return ExecutionInfo(
                execution_id=execution.execution_id,
                state=state,
                owner=execution.owner,
                priority=execution.priority,
                metadata=dict(execution.metadata),
                run_id=execution.run_id,
                idle_timeout=execution.idle_timeout,
                started_at=to_datetime(execution.started_at),
                updated_at=to_datetime(execution.touched_at),
                updates=execution.updates,
                readers=readers,
            )

    def health(self) -> HubHealth:
        """Return the health of the hub, without a request to the log. See `StreamHub.health`."""
        registry, buffer = self._registry, self._writer.buffer
        registry.maybe_sweep()
        failing = buffer is not None and buffer.failing
        return HubHealth(
            status="closed" if registry.closed else "log_unavailable" if failing else "ok",
            hub_id=registry.hub_id,
            executions=len(registry.executions),
            running=len(registry.open_runs),
            max_executions=registry.settings.limits.max_executions,
            subscriptions=self._readers.open,
        )

    def statistics(self) -> HubStatistics:
        """Return the counts since the hub was made, and the present numbers."""
        registry, buffer, counters = self._registry, self._writer.buffer, self._writer.counters
        registry.maybe_sweep()
        published = dict(counters.published)
        dropped = counters.drops.counts
        return HubStatistics(
            executions=len(registry.executions),
            running=len(registry.open_runs),
            runs=self.run_counts(),
            subscriptions=self._readers.open,
            published=sum(published.values()),
            published_by_kind=published,
            delivered=self._readers.delivered,
            publish_seconds=counters.publishing.snapshot(),
            dropped=dropped,
            shortened=counters.drops.shortened,
            dropped_late=dropped["late"] + dropped["foreign_run"] + dropped["no_run"],
            dropped_too_large=dropped["too_large"],
            dropped_over_rate=dropped["over_rate"],
            dropped_at_most_once=dropped["at_most_once"],
            repeated=counters.repeated.value,
            lost=dropped["lost"],
            waiting=buffer.waiting if buffer is not None else 0,
            append_batches=counters.batches.value,
            append_failures=buffer.failures if buffer is not None else 0,
            append_seconds=counters.appending.snapshot(),
            encode_fallbacks=self._writer.encoder.codec.fallbacks,
            observer_errors=self._readers.observer_errors,
            callable_errors=counters.callables.value,
            sinks=self._sinks.open,
            sink_errors=self._sinks.errors,
        )
