"""Open, join, leave and end the runs of executions."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from lg_streaming.errors import (
    ExecutionExistsError,
    ExecutionNotFoundError,
    describe_error,
)
from lg_streaming.events import check_execution_id
from lg_streaming.fork import release_owned
from lg_streaming.hub.callbacks import RegisteredHandler
from lg_streaming.hub.idle import IdleMonitor
from lg_streaming.hub.open_options import OpenOptions
from lg_streaming.hub.options import RunOptions
from lg_streaming.hub.run_opener import RunOpener
from lg_streaming.hub.status_writer import StatusWriter
from lg_streaming.prompts import breakpoint_prompt, locate_prompts, prompts_of_interrupts
from lg_streaming.publisher import RunOutcome, new_id
from lg_streaming.titles import graph_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lg_streaming.events import Priority
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.registry import ExecutionRegistry
    from lg_streaming.hub.run_listeners import RunListeners
    from lg_streaming.hub.writer import UpdateWriter
    from lg_streaming.prompts import Prompt
    from lg_streaming.publisher import CancelTarget, OnMissingRun

__all__ = ["RunManager"]


class RunManager:
    """Manager of runs: it opens, joins, leaves and ends them, and ends idle ones. Implements `publisher.RunTracker`.

    - `opener`: opens runs, and joins open ones.
    - `statuses`: appends the status updates, and closes the runs that they end.

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
        self.on_interrupt: Callable[[Execution, Sequence[Prompt]], None] = lambda _execution, _prompts: None
        """Called after a run published the prompts that it waits for."""
        self._executions = registry.executions
        self._new_id = new_id
        self._idle = IdleMonitor(self._end_if_idle)
        self.statuses: StatusWriter = StatusWriter(registry, writer)
        self.opener: RunOpener = RunOpener(registry, self.statuses, self._idle, new_id)

    def close(self) -> None:
        """Stop the watch on idle runs, and the timeouts of prompts. Open runs stay open."""
        self._idle.close()
        for execution in list(self.registry.open_runs.values()):
            with execution.lock:
                execution.stop_prompt_timers()

    def reopen(self) -> None:
        """Watch idle runs again."""
        self._idle.reopen()

    # --- opening ------------------------------------------------------------------------------------------

    def new_id(self) -> str:
        """Return an id for a run that begins later."""
        return self._new_id()

    def open(self, execution_id: str, **options: Unpack[RunOptions]) -> str:
        """Open a run, unless one is open; return the run's id. See `StreamHub.open`."""
        return self.opener.open(execution_id, OpenOptions.from_arguments(**options))

    def create(self, execution_id: str | None = None, **options: Unpack[RunOptions]) -> str:
        """Open a run of an execution that has no open run; return the execution's id. See `StreamHub.create`."""
        opening = replace(OpenOptions.from_arguments(**options), fresh=True)
        if execution_id is not None:
            self.opener.open(execution_id, opening)
            return execution_id
        while True:
            new_id = self._new_id()
            if new_id not in self._executions:
                with contextlib.suppress(ExecutionExistsError):
                    self.opener.open(new_id, opening)
                    return new_id

    def join_run(
        self,
        execution_id: str,
        *,
        owner: str | None = None,
        name: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        parent: Mapping[str, Any] | None = None,
    ) -> str:
        """Join the open run, or open one; return its id. Raises like `open`.

        ``name`` is the graph's name, ``title`` the first question, and ``parent`` the node that called the graph. The
        `workflow_start` contains them. Each `join_run` needs a `leave_run`.
        """
        options = OpenOptions.from_arguments(owner=owner, metadata=metadata, priority=priority)
        graph = graph_name(name)
        opening = replace(options, name=name, graph=graph, title=title, parent=parent, join=True)
        return self.opener.open(execution_id, opening)

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
        graph: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        parent: Mapping[str, Any] | None = None,
        resumed_from: str | None = None,
        thread_id: str | None = None,
        forked_from: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        exclusive: bool = False,
    ) -> str | None:
        """Open a run, join it and return its id; return None if a run is open. Raises like `open`.

        Args:
            execution_id: The execution.
            owner: See `open`.
            name: The name of the workflow.
            graph: The name of the graph; None for LangGraph's default.
            title: The first question.
            metadata: See `open`.
            parent: The node in which the run is started.
            resumed_from: The run that it continues, which the log does not have any more.
            thread_id: LangGraph's thread, where it is not the execution's id.
            forked_from: The execution and the checkpoint from which it goes on.
            run_id: The run's id; None for a new one.
            exclusive: Whether the log refuses the run while another process has an open one. A log of several
                processes then closes the run here, and calls its handlers of `on_cancel`.
        """
        options = OpenOptions(
            owner=owner,
            name=name,
            graph=graph,
            title=title,
            metadata=dict(metadata or {}),
            parent=parent,
            resumed_from=resumed_from,
            thread_id=thread_id,
            forked_from=forked_from,
            join=True,
            fresh=True,
            run_id=run_id,
            exclusive=exclusive,
        )
        try:
            return self.opener.open(execution_id, options)
        except ExecutionExistsError:
            return None

    def current_run_id(self, execution_id: str) -> str | None:
        """Return the id of the open run, or None."""
        execution = self._executions.get(execution_id)
        return execution.run_id if execution is not None else None

    def cancel_reason(self, execution_id: str, run_id: str) -> str | None:
        """Return the reason of the request to cancel a run that is open; None without a request or a reason."""
        execution = self._executions.get(execution_id)
        return execution.cancel_reason if execution is not None and execution.run_id == run_id else None

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
            self.opener.open(execution_id, OpenOptions(unless_ended=True))

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

    def count_attempts(self, execution_id: str, attempts: Mapping[str, int]) -> None:
        """Count the attempts that the open run has made in other processes, by task: see `next_attempt`."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                execution.count_attempts(attempts)

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
            self.statuses.finish(execution, run_id, status, unless=lambda: execution.participants > 0)
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
        if (
            self.statuses.finish(execution, run_id, outcome, ends=False, unless=unless, before=publish_prompts)
            and asked
        ):
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
                self.statuses.finish(execution, execution.run_id, RunOutcome("error", described), ends=False)
        await self.writer.flush()

    def end_run(self, execution_id: str, outcome: RunOutcome, run_id: str | None = None) -> None:
        """End the open run, if it is the run of ``run_id``; None: any run."""
        execution = self._executions.get(execution_id)
        if run_id is not None and (execution is None or execution.run_id != run_id):
            return
        self.run_listeners.close_execution(execution_id)
        if execution is not None:
            self.statuses.finish(execution, run_id or execution.run_id, outcome)

    def disown_run(self, execution_id: str, run_id: str) -> None:
        """Close a run of `RunOpener.adopt` without an update, because another process has taken it over."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            self.statuses.abandon(execution, run_id)

    def is_abandoned(self, execution_id: str, run_id: str) -> bool:
        """Return whether a run was closed here as abandoned: the log refused it, or it was idle."""
        execution = self._executions.get(execution_id)
        return (
            execution is not None
            and execution.run_id is None
            and execution.run_scope.run_id == run_id
            and execution.outcome == "abandoned"
        )

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
        if not self.statuses.finish(execution, run_id, abandoned, unless=lambda: execution.idle_for(now) < timeout):
            return False
        self.run_listeners.close_execution(execution.execution_id)
        return True
