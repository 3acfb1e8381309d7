"""Append the status updates of runs, and close the runs that they end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from lg_streaming.errors import HubClosedError
from lg_streaming.events import clamp_priority
from lg_streaming.fork import release_owned
from lg_streaming.hub.idle import IdleMonitor
from lg_streaming.log.base import state_after
from lg_streaming.publisher import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.codec import Encoded
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.registry import ExecutionRegistry
    from lg_streaming.hub.writer import UpdateWriter
    from lg_streaming.log.base import Opening

__all__ = ["PreparedStatus", "StatusWriter"]

logger: logging.Logger = logging.getLogger(__name__)


class PreparedStatus(NamedTuple):
    """A status update of a run, encoded and ready to append."""

    type: str
    data: Encoded


class StatusWriter:
    """Writer of the status updates of runs: starts, interrupts, ends.

    Status updates are redacted and encoded before the execution is locked. Both call code of the application, which
    may block, and may itself publish.

    Args:
        registry: The executions.
        writer: Appends the updates.
    """

    def __init__(self, registry: ExecutionRegistry, writer: UpdateWriter) -> None:
        self._registry = registry
        self.writer = writer
        self._end_handlers: dict[str, Callable[[], None]] = {}

    def on_end(self, execution_id: str, run_id: str, handler: Callable[[], None]) -> Callable[[], None]:
        """Call ``handler()`` when a run has ended here, at once if it has; return a function that prevents that.

        The handler is called on any thread, under the execution's lock: it must not block. A run has one handler. It is
        not called for a run that the log refused, whose handlers of cancels are called.
        """
        self._end_handlers[run_id] = handler
        execution = self._registry.executions.get(execution_id)
        if execution is None or execution.run_id != run_id:
            self._call_end_handler(run_id)
        return lambda: self._end_handlers.pop(run_id, None) and None

    def _call_end_handler(self, run_id: str | None) -> None:
        handler = self._end_handlers.pop(run_id or "", None)
        if handler is not None:
            handler()

    def encode(self, outcome: RunOutcome) -> PreparedStatus:
        """Redact and encode a status update. Must not be called under the execution's lock."""
        return PreparedStatus(outcome.type, self.writer.encoder.codec.encode_data(outcome.type, outcome.data))

    def append(self, execution: Execution, status: PreparedStatus, *, ends: bool, opening: Opening = "any") -> None:
        """Append a status update of the open run, and close the run if it ``ends``. Requires the execution's lock."""
        if self._registry.closed:
            raise HubClosedError
        scope, priority = execution.run_scope, clamp_priority("high", execution.priority)
        number = execution.number
        try:
            drafts = self.writer.encoder.encode(execution, status.type, status.data, scope, priority, by_hub=True)
            if opening != "any":
                drafts[0] = drafts[0]._replace(opening=opening)
            self.writer.append(execution, drafts)
            if ends:
                self._close(execution, status.type)
        except Exception:
            raise
        except BaseException:  # an interrupt: the run has ended if the log has its final update
            if ends and execution.number != number:
                self._close(execution, status.type)
            raise

    def _close(self, execution: Execution, type: str) -> None:
        run_id = execution.run_id
        execution.end(state_after("running", type))
        self._registry.open_runs.pop(execution.execution_id, None)
        IdleMonitor.forget(execution)
        self._call_end_handler(run_id)
        self._registry.run_ended.notify()

    def finish(
        self,
        execution: Execution,
        run_id: str | None,
        outcome: RunOutcome,
        *,
        ends: bool = True,
        unless: Callable[[], bool] = lambda: False,
        before: Callable[[], None] = lambda: None,
    ) -> bool:
        """Publish the outcome of the run of ``run_id``, if it is open and ``unless()`` is false.

        Args:
            execution: The execution.
            run_id: The run.
            outcome: Its outcome, or another status update.
            ends: Whether this closes the run.
            unless: Called under the execution's lock.
            before: Called under the execution's lock just before the outcome is appended.

        Returns:
            Whether the outcome was published.
        """
        if run_id is None or execution.run_id != run_id:
            return False
        nodes = execution.still_running if outcome.type == "workflow_cancelled" else ()
        if nodes:
            outcome = RunOutcome(outcome.type, {**outcome.data, "still_running": list(nodes)})
        status = self.encode(outcome)
        try:
            with execution.lock:
                if execution.run_id != run_id or unless():
                    return False
                before()
                self.append(execution, status, ends=ends)
        except BaseException:
            release_owned(self._registry.lock)
            release_owned(execution.lock)
            raise
        self.writer.counters.drops.report()
        if nodes:
            logger.warning(
                "the run of execution %r is cancelled, but code in a thread goes on until it returns: node %s",
                execution.execution_id,
                ", ".join(map(repr, nodes)),
            )
        return True

    def abandon(self, execution: Execution, run_id: str) -> bool:
        """Close the run of ``run_id`` without an update, if it is open; return whether it was.

        The log refuses the run's updates. A later `open` begins another run.
        """
        with execution.lock:
            if execution.run_id != run_id:
                return False
            if self.writer.encoder.trace is not None:
                self.writer.encoder.trace.on_update(
                    execution.execution_id, "workflow_abandoned", execution.run_scope, None
                )
            self._end_handlers.pop(run_id, None)
            self._close(execution, "workflow_abandoned")
        self._registry.run_listeners.close_execution(execution.execution_id)
        return True
