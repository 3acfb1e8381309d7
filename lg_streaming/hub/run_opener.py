"""Open runs, and join those that are open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from lg_streaming.errors import ExecutionExistsError, ExecutionLimitError, HubClosedError
from lg_streaming.fork import release_owned
from lg_streaming.publisher import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.idle import IdleMonitor
    from lg_streaming.hub.open_options import OpenOptions
    from lg_streaming.hub.registry import ExecutionRegistry
    from lg_streaming.hub.status_writer import PreparedStatus, StatusWriter

__all__ = ["RunOpener"]


class PreparedOpening(NamedTuple):
    """Status updates that open or join a run."""

    run_id: str
    """The id of a run that begins."""
    start: PreparedStatus | None
    resumed: PreparedStatus | None

    def matches(self, execution: Execution, options: OpenOptions) -> bool:
        """Return whether the updates fit the execution's present state. Requires its lock."""
        resumes = execution.running and execution.interrupted and options.join
        return execution.running == (self.start is None) and (not resumes or self.resumed is not None)


class RunOpener:
    """Opener of runs: it checks owner and limits, and appends the `workflow_start`.

    Args:
        registry: The executions.
        statuses: Appends the status updates.
        idle: Watches runs with an idle timeout.
        new_id: Makes the ids of runs.
    """

    def __init__(
        self, registry: ExecutionRegistry, statuses: StatusWriter, idle: IdleMonitor, new_id: Callable[[], str]
    ) -> None:
        self.on_open: Callable[[str], None] | None = None
        """Called with the execution after a run was opened, under the execution's lock: it must not block."""
        self._registry = registry
        self._statuses = statuses
        self._idle = idle
        self._executions = registry.executions
        self._lock = registry.lock
        self._new_id = new_id

    def open(self, execution_id: str, options: OpenOptions) -> str:
        """Open a run, or join the open one; return its id. Raises like `StreamHub.open`."""
        if self._registry.closed:
            raise HubClosedError
        self._registry.maybe_sweep()
        while True:
            execution = self._registry.get_or_create(execution_id)
            prepared = self._prepare(execution, options)
            try:
                with execution.lock:
                    # otherwise a sweep removed it, or another thread opened, ended or interrupted a run
                    if self._executions.get(execution_id) is execution and prepared.matches(execution, options):
                        return self._open_locked(execution, options, prepared)
            except BaseException:
                release_owned(self._lock)
                release_owned(execution.lock)
                raise

    def _prepare(self, execution: Execution, options: OpenOptions) -> PreparedOpening:
        start = resumed = None
        run_id = ""
        if not execution.running:
            run_id = options.run_id or self._new_id()
            start = self._statuses.encode(RunOutcome("workflow_start", {"run_id": run_id, **options.data}))
        elif options.join and execution.interrupted:
            resumed = self._statuses.encode(RunOutcome("status", {"status": "resumed"}))
        return PreparedOpening(run_id, start, resumed)

    def _open_locked(self, execution: Execution, options: OpenOptions, prepared: PreparedOpening) -> str:
        run_id = execution.run_id
        if options.fresh and run_id is not None:
            raise ExecutionExistsError(execution_id=execution.execution_id)
        execution.claim(options.owner)
        if options.priority is not None:
            execution.priority = options.priority
        if options.idle_timeout != "default":
            execution.idle_timeout = options.idle_timeout or None
        if prepared.start is not None:
            run_id = self._begin(execution, options, prepared.run_id, prepared.start)
            if options.join:
                execution.join()
        elif options.join and execution.join() and prepared.resumed is not None:
            self._statuses.append(execution, prepared.resumed, ends=False)
        if execution.idle_timeout is not None:
            self._idle.watch(execution, execution.idle_timeout)
        return run_id or prepared.run_id

    def _begin(self, execution: Execution, options: OpenOptions, run_id: str, start: PreparedStatus) -> str:
        registry, limit = self._registry, self._registry.settings.limits.max_executions
        with self._lock:
            if registry.stopping:
                raise HubClosedError
            if limit is not None and len(registry.open_runs) >= limit:
                if execution.is_evictable:
                    registry.forget(execution)
                raise ExecutionLimitError(
                    f"limits.max_executions allows {limit} running executions",
                    execution_id=execution.execution_id,
                    details={"limit": limit},
                )
            registry.open_runs[execution.execution_id] = execution
        number, scope = execution.number, execution.run_scope
        try:
            execution.begin(run_id, options.metadata, registry.clock())
            self._statuses.append(execution, start, ends=False, opening=options.opening)
        except Exception:
            raise
        except BaseException:  # an interrupt: a run is open if, and only if, the log has its start
            if execution.number == number and self._statuses.writer.buffer is None:
                execution.run_id, execution.run_scope = None, scope
                registry.open_runs.pop(execution.execution_id, None)
            raise
        if self.on_open is not None:
            self.on_open(execution.execution_id)
        return run_id

    def adopt(
        self,
        execution_id: str,
        run_id: str,
        *,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Join a run that the log has open, and that this process takes over; return False if one is open here.

        Args:
            execution_id: The execution.
            run_id: The run.
            owner: The owner of the execution.
            metadata: The metadata of the run.

        Raises:
            ForbiddenError: If the execution has another owner here.
            HubClosedError: If the hub was closed.
        """
        registry = self._registry
        registry.ensure_open()
        while True:
            execution = registry.get_or_create(execution_id)
            with execution.lock:
                if self._executions.get(execution_id) is not execution:
                    continue  # a sweep removed it
                if execution.running:
                    return False
                execution.claim(owner)
                with self._lock:
                    if registry.stopping:
                        raise HubClosedError
                    registry.open_runs[execution_id] = execution
                execution.begin(run_id, metadata or {}, registry.clock())
                execution.join()
                if execution.idle_timeout is not None:
                    self._idle.watch(execution, execution.idle_timeout)
            if self.on_open is not None:
                self.on_open(execution_id)
            return True
