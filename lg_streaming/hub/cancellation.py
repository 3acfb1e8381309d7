"""Cancel runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lg_streaming.hub.callbacks import RegisteredHandler
from lg_streaming.publisher import RunOutcome
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.errors import StreamingError
    from lg_streaming.hub.callbacks import CallbackRunner, CancelHandler
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.runs import RunManager

__all__ = ["RunCanceller"]

logger: logging.Logger = logging.getLogger(__name__)


class RunCanceller:
    """Canceller of the runs of this process: by their handlers, or by force after `limits.cancel_grace` seconds.

    Args:
        runs: The runs.
        callbacks: Calls the handlers.
    """

    def __init__(self, runs: RunManager, callbacks: CallbackRunner) -> None:
        self._runs = runs
        self._registry = runs.registry
        self._callbacks = callbacks

    @property
    def _grace(self) -> float:
        return self._registry.settings.limits.cancel_grace

    async def cancel(self, execution_id: str, reason: str | None = None, *, run_id: str | None = None) -> bool:
        """Cancel the open run of this process; return whether one was open. See `StreamHub.cancel`."""
        if not self.request(execution_id, reason, run_id=run_id):
            return False
        if self._runs.current_run_id(execution_id) is None:
            await self._runs.writer.flush()
        return True

    def request(self, execution_id: str, reason: str | None, *, run_id: str | None = None) -> bool:
        """Begin to cancel the open run, like `cancel`, on any thread. The application's `redact` may be called."""
        execution = self._registry.executions.get(execution_id)
        return execution is not None and self._request(execution, reason, run_id)

    def _request(self, execution: Execution, reason: str | None, only: str | None = None) -> bool:
        """Call the handlers, or end the run if it has none; return whether a run was open: the one of ``only``."""
        with execution.lock:
            run_id, requested_before = execution.run_id, execution.cancelling
            if run_id is None or only not in {None, run_id}:
                return False
            registered = execution.handlers.cancel.values() if execution.handlers is not None else ()
            # the library's own first: a handler of the program may cancel the task whose threads they look for
            handlers = sorted(registered, key=lambda each: each.still_running is None)
            execution.cancelling, execution.cancel_reason = True, reason
        if not handlers:
            self._runs.end_run(execution.execution_id, self.outcome(reason), run_id)
        elif not requested_before:
            current_timer().schedule_relative(self._grace, self._on_grace, (execution, run_id))
            self._callbacks.call(handlers, execution.execution_id, reason)
        return True

    def abandon(self, execution: Execution, run_id: str | None, error: StreamingError) -> None:
        """Close a run that the log refused, without an update, and call its handlers so that it stops."""
        with execution.lock:
            if run_id is None or execution.run_id != run_id:
                return
            called_before = execution.cancelling
            registered = tuple(execution.handlers.cancel.values()) if execution.handlers is not None else ()
            handlers = [each for each in registered if each.if_abandoned]
        if self._runs.statuses.abandon(execution, run_id) and not (called_before or self._registry.closed):
            self._callbacks.call(handlers, execution.execution_id, error.message)

    async def cancel_all(self, reason: str) -> None:
        """Cancel all open runs; runs with handlers share one grace period. No run begins any more.

        An error of one run is logged and does not delay the others.
        """
        registry = self._registry
        with registry.lock:
            registry.stopping = True
        for execution in list(registry.open_runs.values()):
            try:
                self._request(execution, reason)
            except Exception:
                logger.exception("execution %r could not be cancelled", execution.execution_id)
        await registry.run_ended.wait_for(lambda: not registry.open_runs, self._grace)
        for execution in list(registry.open_runs.values()):
            try:
                self._force_end(execution, execution.run_id)
            except Exception:
                logger.exception("execution %r could not be ended", execution.execution_id)

    def _on_grace(self, _: object, run: tuple[Execution, str] | None) -> None:
        if run is not None:
            self._force_end(*run)

    def _force_end(self, execution: Execution, run_id: str | None) -> None:
        """End a run that did not end within the grace period."""
        if run_id is None or execution.run_id != run_id or self._registry.closed:
            return
        self._registry.run_listeners.flush_execution(execution.execution_id)
        _note_still_running(execution)
        if self._runs.statuses.finish(execution, run_id, self.outcome(execution.cancel_reason)):
            self._registry.run_listeners.close_execution(execution.execution_id)

    def on_cancel(self, execution_id: str, handler: CancelHandler) -> Callable[[], None]:
        """Call `handler(reason)` at each cancel; return a function that removes it. See `StreamHub.on_cancel`."""
        execution = self._registry.get_or_create(execution_id)
        return execution.add_handler(lambda handlers: handlers.cancel, RegisteredHandler.here(handler))

    @staticmethod
    def outcome(reason: str | None) -> RunOutcome:
        """Return the outcome of a run that is cancelled."""
        return RunOutcome("workflow_cancelled", {"reason": reason} if reason else {})


def _note_still_running(execution: Execution) -> None:
    """Note the nodes of a cancelled run that are still at work."""
    with execution.lock:
        handlers = tuple(execution.handlers.cancel.values()) if execution.handlers is not None else ()
    nodes = [node for each in handlers if each.still_running is not None for node in each.still_running()]
    with execution.lock:
        execution.note_still_running(nodes)
