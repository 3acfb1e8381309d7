"""Open, join, leave and end the runs of executions."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import Unpack

from lg_streaming.errors import (
    ExecutionExistsError,
    ExecutionLimitError,
    ExecutionNotFoundError,
    HubClosedError,
    describe_error,
)
from lg_streaming.events import check_execution_id, clamp_priority
from lg_streaming.fork import release_owned
from lg_streaming.hub.callbacks import RegisteredHandler
from lg_streaming.hub.idle import IdleMonitor
from lg_streaming.hub.open_options import OpenOptions
from lg_streaming.hub.options import RunOptions
from lg_streaming.log.base import state_after
from lg_streaming.prompts import breakpoint_prompt, locate_prompts, prompts_of_interrupts
from lg_streaming.publisher import RunOutcome, new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lg_streaming.codec import Encoded
    from lg_streaming.events import Priority
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.registry import ExecutionRegistry
    from lg_streaming.hub.run_listeners import RunListeners
    from lg_streaming.hub.writer import UpdateWriter
    from lg_streaming.log.base import Opening
    from lg_streaming.prompts import Prompt
    from lg_streaming.publisher import CancelTarget, OnMissingRun

__all__ = ["RunManager"]

logger: logging.Logger = logging.getLogger(__name__)


class PreparedStatus(NamedTuple):
    """A status update of a run, encoded and ready to append."""

    type: str
    data: Encoded


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


class RunManager:
    """Manager of runs: it opens, joins, leaves and ends them, and ends idle ones. Implements `publisher.RunTracker`.

    Status updates are redacted and encoded before the execution is locked. Both call code of the application, which
    may block, and may itself publish.

    Args:
        registry: The executions.
        writer: Appends the status updates.
        new_id: Makes the ids of runs, and of executions that are created without an id.
    """

    def __init__(
        self, registry: ExecutionRegistry, writer: UpdateWriter, *, new_id: Callable[[], str] = new_id
    ) -> None:
        self.registry = registry
        self.writer = writer
        self.run_listeners: RunListeners = registry.run_listeners
        """Listeners above the hub: see `RunListener`."""
        self.on_open: Callable[[str], None] | None = None
        """Called with the execution after a run was opened, under the execution's lock: it must not block."""
        self.on_interrupt: Callable[[Execution, Sequence[Prompt]], None] = lambda _execution, _prompts: None
        """Called after a run published the prompts that it waits for."""
        self._executions = registry.executions
        self._lock = registry.lock
        self._new_id = new_id
        self._idle = IdleMonitor(self._end_if_idle)

    def close(self) -> None:
        """Stop the watch on idle runs, and the timeouts of prompts. Open runs stay open."""
        self._idle.close()
        for execution in list(self.registry.open_runs.values()):
            with execution.lock:
                execution.stop_prompt_timers()

    def reopen(self) -> None:
        """Watch idle runs again."""
        self._idle = IdleMonitor(self._end_if_idle)

    # --- opening ------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Return an id for a run that begins later."""
        return self._new_id()

    def open(self, execution_id: str, **options: Unpack[RunOptions]) -> str:
        """Open a run, unless one is open; return the run's id. See `StreamHub.open`."""
        return self._open(execution_id, OpenOptions.from_arguments(**options))

    def create(self, execution_id: str | None = None, **options: Unpack[RunOptions]) -> str:
        """Open a run of an execution that has no open run; return the execution's id. See `StreamHub.create`."""
        opening = replace(OpenOptions.from_arguments(**options), fresh=True)
        if execution_id is not None:
            self._open(execution_id, opening)
            return execution_id
        while True:
            new_id = self._new_id()
            if new_id not in self._executions:
                with contextlib.suppress(ExecutionExistsError):
                    self._open(new_id, opening)
                    return new_id

    def join_run(
        self,
        execution_id: str,
        *,
        owner: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        parent: Mapping[str, Any] | None = None,
    ) -> str:
        """Join the open run, or open one; return its id. Raises like `open`.

        ``name`` is the graph's name, and ``parent`` the node that called the graph. The `workflow_start` contains both.
        Each `join_run` needs a `leave_run`.
        """
        options = OpenOptions.from_arguments(owner=owner, metadata=metadata, priority=priority)
        return self._open(execution_id, replace(options, name=name, parent=parent, join=True))

    def resume_run(self, execution_id: str) -> str | None:
        """Join the open run if it is interrupted, and return its id; otherwise return None."""
        execution = self._executions.get(execution_id)
        if execution is None or not execution.interrupted:
            return None
        return self.join_run(execution_id)

    def begin_run(
        self,
        execution_id: str,
        *,
        owner: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        parent: Mapping[str, Any] | None = None,
        resumed_from: str | None = None,
        run_id: str | None = None,
        exclusive: bool = False,
    ) -> str | None:
        """Open a run, join it and return its id; return None if a run is open. Raises like `open`.

        Args:
            execution_id: The execution.
            owner: See `open`.
            name: The graph's name.
            metadata: See `open`.
            parent: The node in which the run is started.
            resumed_from: The run that it continues, which the log does not have any more.
            run_id: The run's id; None for a new one.
            exclusive: Whether the log refuses the run while another process has an open one. A log of several
                processes then closes the run here, and calls its handlers of `on_cancel`.
        """
        options = OpenOptions(
            owner=owner,
            name=name,
            metadata=dict(metadata or {}),
            parent=parent,
            resumed_from=resumed_from,
            join=True,
            fresh=True,
            run_id=run_id,
            exclusive=exclusive,
        )
        try:
            return self._open(execution_id, options)
        except ExecutionExistsError:
            return None

    def adopt_run(
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
        registry = self.registry
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

    def disown_run(self, execution_id: str, run_id: str) -> None:
        """Close a run of `adopt_run` without an update, because another process has taken it over."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            self.abandon_run(execution, run_id)

    def count_attempts(self, execution_id: str, attempts: Mapping[str, int]) -> None:
        """Count the attempts that the open run has made in other processes, by task: see `next_attempt`."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                execution.count_attempts(attempts)

    def is_abandoned(self, execution_id: str, run_id: str) -> bool:
        """Return whether a run was closed here as abandoned: the log refused it, or it was idle."""
        execution = self._executions.get(execution_id)
        return (
            execution is not None
            and execution.run_id is None
            and execution.run_scope.run_id == run_id
            and execution.outcome == "abandoned"
        )

    def current_run_id(self, execution_id: str) -> str | None:
        """Return the id of the open run, or None."""
        execution = self._executions.get(execution_id)
        return execution.run_id if execution is not None else None

    def run_of(self, execution_id: str, missing: OnMissingRun | None = None) -> str | None:
        """Return the id of the open run.

        Args:
            execution_id: The execution.
            missing: What to do without an open run: `open` one, `drop` (returns None), or `raise`. None: the value of
                `settings.auto_open`.

        Raises:
            ExecutionNotFoundError: If no run is open, and none shall be opened.
        """
        run_id = self.current_run_id(execution_id)
        if run_id is not None:
            return run_id
        match missing or ("open" if self.registry.settings.auto_open else "raise"):
            case "open":
                return self.open(execution_id)
            case "drop":
                check_execution_id(execution_id)
                return None
            case "raise":
                check_execution_id(execution_id)
                raise ExecutionNotFoundError(execution_id=execution_id)

    def open_unless_ended(self, execution_id: str) -> None:
        """Open a run, unless one is open or has ended. A log that processes share refuses it after the end of a run.

        Without such a log, or `settings.auto_open`, this does nothing: a publish does the same.
        """
        if self.registry.log.fleet is not None and self.registry.settings.auto_open:
            self._open(execution_id, OpenOptions(unless_ended=True))

    def _open(self, execution_id: str, options: OpenOptions) -> str:
        if self.registry.closed:
            raise HubClosedError
        self.registry.maybe_sweep()
        while True:
            execution = self.registry.get_or_create(execution_id)
            prepared = self._prepare_opening(execution, options)
            try:
                with execution.lock:
                    # otherwise a sweep removed it, or another thread opened, ended or interrupted a run
                    if self._executions.get(execution_id) is execution and prepared.matches(execution, options):
                        return self._open_locked(execution, options, prepared)
            except BaseException:
                release_owned(self._lock)
                release_owned(execution.lock)
                raise

    def _prepare_opening(self, execution: Execution, options: OpenOptions) -> PreparedOpening:
        start = resumed = None
        run_id = ""
        if not execution.running:
            run_id = options.run_id or self._new_id()
            start = self._encode(RunOutcome("workflow_start", {"run_id": run_id, **options.data}))
        elif options.join and execution.interrupted:
            resumed = self._encode(RunOutcome("status", {"status": "resumed"}))
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
            self._append_status(execution, prepared.resumed, ends=False)
        if execution.idle_timeout is not None:
            self._idle.watch(execution, execution.idle_timeout)
        return run_id or prepared.run_id

    def _begin(self, execution: Execution, options: OpenOptions, run_id: str, start: PreparedStatus) -> str:
        registry, limit = self.registry, self.registry.settings.limits.max_executions
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
            self._append_status(execution, start, ends=False, opening=options.opening)
        except Exception:
            raise
        except BaseException:  # an interrupt: a run is open if, and only if, the log has its start
            if execution.number == number and self.writer.buffer is None:
                execution.run_id, execution.run_scope = None, scope
                registry.open_runs.pop(execution.execution_id, None)
            raise
        if self.on_open is not None:
            self.on_open(execution.execution_id)
        return run_id

    # --- an open run --------------------------------------------------------------------------------------

    def on_cancel(
        self, execution_id: str, run_id: str, target: CancelTarget, *, if_abandoned: bool = False
    ) -> Callable[[], None]:
        """Cancel ``target`` with the run, at once if that is cancelled already. See `RunTracker.on_cancel`."""
        execution = self.registry.get_or_create(execution_id)
        handler = RegisteredHandler(target.cancel, None, target.still_running, if_abandoned)
        with execution.lock:
            remove = execution.add_handler(lambda handlers: handlers.cancel, handler)
            is_open, reason = execution.run_id == run_id, execution.cancel_reason
            is_cancelled = (
                execution.cancelling if is_open else not execution.running and execution.outcome == "cancelled"
            )
        if is_cancelled:
            target.cancel(reason)
        return remove

    def keep_alive(self, execution_id: str, run_id: str) -> Callable[[], None]:
        """Keep the run from ending as idle, until the returned function is called."""
        execution = self._executions.get(execution_id)

        def count(change: int) -> None:
            if execution is not None:
                with execution.lock:
                    if execution.run_id == run_id:
                        execution.at_work += change

        count(1)
        return lambda: count(-1)

    def pause(self, execution_id: str, run_id: str, task: str, interrupts: Sequence[Mapping[str, Any]] = ()) -> None:
        """Mark ``task`` as waiting for a human. The run cannot complete before the task is tried again."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                if execution.run_id == run_id:
                    execution.pause(task, interrupts)

    def note_interrupted_tool(self, execution_id: str, tool_call_id: str, interrupt_ids: Iterable[str]) -> None:
        """Remember the tool call that asks at these interrupts; of nested calls, the innermost."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                for each in interrupt_ids:
                    execution.interrupted_tools.setdefault(each, tool_call_id)

    def next_attempt(self, execution_id: str, task: str) -> int:
        """Count an attempt of ``task`` in the open run; return its number, from 1."""
        execution = self._executions.get(execution_id)
        if execution is None:
            return 1
        with execution.lock:
            return execution.next_attempt(task)

    def note_message(self, execution_id: str, message_id: str, namespace: str | None) -> None:
        """Remember the namespace in which a message was streamed."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                execution.note_message(message_id, namespace)

    def is_streamed(self, execution_id: str, message_id: str, *, except_in: str | None) -> bool:
        """Return whether a message was streamed in another namespace than ``except_in``."""
        execution = self._executions.get(execution_id)
        return execution is not None and execution.messages.get(message_id, except_in) != except_in

    def is_silent(self, execution_id: str, run_id: str) -> bool:
        """Return whether the run has no update but its start."""
        execution = self._executions.get(execution_id)
        return (
            execution is not None and execution.run_id == run_id and execution.updates <= execution.updates_before + 1
        )

    # --- ending -------------------------------------------------------------------------------------------

    def leave_run(
        self,
        execution_id: str,
        run_id: str,
        outcome: RunOutcome,
        *,
        joined: bool = True,
        prompts: Sequence[Prompt] | None = None,
    ) -> None:
        """Leave a run; the last participant to leave ends it with its outcome. A no-op when the run has ended.

        A caller that had not `joined` ends the run only if it has no participants. A run that is interrupted publishes
        a ``human_prompt`` for each interrupt.

        Args:
            execution_id: The execution.
            run_id: The run.
            outcome: The outcome of this participant.
            joined: Whether this participant had joined.
            prompts: The prompts of an interrupted run; when not given, those of the interrupts that nodes reported.
        """
        execution = self._executions.get(execution_id)
        if execution is None:
            return
        self.run_listeners.flush_execution(execution_id)
        try:
            with execution.lock:
                if execution.run_id != run_id:
                    return
                status = execution.leave(outcome, joined=joined)
                calls = execution.interrupted_tools
                interrupts = [{"tool_call_id": calls.get(each.get("id", "")), **each} for each in execution.interrupts]
        except BaseException:
            release_owned(execution.lock)
            raise
        if status is not None and status.type == "workflow_interrupted":
            self._interrupt_run(execution, run_id, status, interrupts, prompts)
        elif status is not None:
            self.finish_run(execution, run_id, status, unless=lambda: execution.participants > 0)
        if not execution.running:
            self.run_listeners.close_execution(execution_id)

    def _interrupt_run(
        self,
        execution: Execution,
        run_id: str,
        status: RunOutcome,
        interrupts: Sequence[Mapping[str, Any]],
        prompts: Sequence[Prompt] | None,
    ) -> None:
        """Publish the prompts of an interrupted run, and that it waits."""
        rest = dict(status.data)
        stopped_at = rest.pop("breakpoint", None)
        asked = prompts_of_interrupts(interrupts, run_id) if prompts is None else locate_prompts(prompts, interrupts)
        if prompts is None and not asked and stopped_at is not None:
            asked = [breakpoint_prompt(stopped_at, (), run_id)]
        shown = {"prompts": [each.data for each in asked]} if asked else {}
        encoded = [(each, self.writer.encoder.codec.encode_data("human_prompt", each.data)) for each in asked]

        def publish_prompts() -> None:
            for prompt, data in encoded:
                execution.open_prompt(prompt)
                drafts = self.writer.encoder.encode(execution, "human_prompt", data, prompt.scope, None, by_hub=True)
                self.writer.append(execution, drafts)

        outcome = RunOutcome(status.type, {**rest, **shown})
        unless = lambda: execution.participants > 0  # noqa: E731
        if self.finish_run(execution, run_id, outcome, ends=False, unless=unless, before=publish_prompts) and asked:
            self.on_interrupt(execution, asked)

    async def close_run(self, execution_id: str, result: object = None, *, reason: str | None = None) -> None:
        """End the open run with ``workflow_complete``. See `StreamHub.close`."""
        fields = {"result": result, "reason": reason}
        data = {name: value for name, value in fields.items() if value is not None}
        self.end_run(execution_id, RunOutcome("workflow_complete", data))
        await self.writer.flush()

    async def fail_run(self, execution_id: str, error: BaseException | str, *, terminate: bool = True) -> None:
        """Publish an error, and with ``terminate`` end the open run with it. See `StreamHub.fail`."""
        described = describe_error(error, debug=self.registry.settings.debug)
        if terminate:
            self.end_run(execution_id, RunOutcome("workflow_error", {"error": described}))
        else:
            self.run_listeners.flush_execution(execution_id)
            execution = self._executions.get(execution_id)
            if execution is not None:
                self.finish_run(execution, execution.run_id, RunOutcome("error", described), ends=False)
        await self.writer.flush()

    def end_run(self, execution_id: str, outcome: RunOutcome, run_id: str | None = None) -> None:
        """End the open run, if it is the run of ``run_id``; None: any run."""
        self.run_listeners.close_execution(execution_id)
        execution = self._executions.get(execution_id)
        if execution is not None:
            self.finish_run(execution, run_id or execution.run_id, outcome)

    def abandon_run(self, execution: Execution, run_id: str) -> bool:
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
            self._close_run(execution, "workflow_abandoned")
        self.run_listeners.close_execution(execution.execution_id)
        return True

    def finish_run(
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
        status = self._encode(outcome)
        try:
            with execution.lock:
                if execution.run_id != run_id or unless():
                    return False
                before()
                self._append_status(execution, status, ends=ends)
        except BaseException:
            release_owned(self._lock)
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

    def _encode(self, outcome: RunOutcome) -> PreparedStatus:
        """Redact and encode a status update. Must not be called under the execution's lock."""
        return PreparedStatus(outcome.type, self.writer.encoder.codec.encode_data(outcome.type, outcome.data))

    def _append_status(
        self, execution: Execution, status: PreparedStatus, *, ends: bool, opening: Opening = "any"
    ) -> None:
        """Append a status update of the open run, and close the run if it ``ends``. Requires the execution's lock."""
        if self.registry.closed:
            raise HubClosedError
        scope, priority = execution.run_scope, clamp_priority("high", execution.priority)
        number = execution.number
        try:
            drafts = self.writer.encoder.encode(execution, status.type, status.data, scope, priority, by_hub=True)
            if opening != "any":
                drafts[0] = drafts[0]._replace(opening=opening)
            self.writer.append(execution, drafts)
            if ends:
                self._close_run(execution, status.type)
        except Exception:
            raise
        except BaseException:  # an interrupt: the run has ended if the log has its final update
            if ends and execution.number != number:
                self._close_run(execution, status.type)
            raise

    def _close_run(self, execution: Execution, type: str) -> None:
        execution.end(state_after("running", type))
        self.registry.open_runs.pop(execution.execution_id, None)
        self._idle.forget(execution)
        self.registry.run_ended.notify()

    def _end_if_idle(self, execution: Execution, timeout: float, now: float) -> bool:
        """End the open run if it was idle for ``timeout`` seconds; return whether it ended."""
        with execution.lock:
            run_id = execution.run_id
            if execution.idle_for(now) < timeout:
                return False
        self.run_listeners.flush_execution(execution.execution_id)  # buffered text counts as activity
        with execution.lock:
            idle = execution.idle_for(now)
        abandoned = RunOutcome("workflow_abandoned", {"reason": "idle_timeout", "idle_s": round(idle, 3)})
        if not self.finish_run(execution, run_id, abandoned, unless=lambda: execution.idle_for(now) < timeout):
            return False
        self.run_listeners.close_execution(execution.execution_id)
        return True
