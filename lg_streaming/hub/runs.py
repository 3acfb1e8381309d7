"""The runs that executions are made of: how they begin, who takes part, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from lg_streaming.errors import (
    ExecutionExistsError,
    ExecutionLimitError,
    ExecutionNotFoundError,
    HubClosedError,
    describe_error,
)
from lg_streaming.events import check_execution_id, clamp_priority
from lg_streaming.fork import release_owned
from lg_streaming.hub.executions import Executions
from lg_streaming.hub.idle import IdleMonitor
from lg_streaming.hub.open_options import OpenOptions, owner_text
from lg_streaming.log.base import state_after
from lg_streaming.publisher import RunOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lg_streaming.codec import Encoded, Redact
    from lg_streaming.events import Priority
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.open_options import IdleTimeout, Owner
    from lg_streaming.log.base import EventLog
    from lg_streaming.publisher import OnMissingRun
    from lg_streaming.settings import StreamingSettings

__all__ = ["Runs"]


class PreparedStatus(NamedTuple):
    """What is said of a run, as it leaves."""

    type: str
    data: Encoded


class PreparedOpening(NamedTuple):
    """What there is to say when a run is opened, or joined."""

    run_id: str
    """Of a run that begins."""
    start: PreparedStatus | None
    resumed: PreparedStatus | None

    def fit(self, execution: Execution, opening: OpenOptions) -> bool:
        """Whether they are the right ones. Under the execution's lock."""
        resumes = execution.running and execution.interrupted and opening.join
        return execution.running == (self.start is None) and (not resumes or self.resumed is not None)


class Runs(Executions):
    """Executions and their runs: see `Producers`, which adds publishing.

    What a run says of itself is redacted and encoded before its execution is locked: both call what is the
    application's own, which may wait for anything, and may itself publish.
    """

    def __init__(
        self,
        settings: StreamingSettings,
        log: EventLog,
        redact: Redact | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(settings, log, redact, clock, monotonic)
        self._idle = IdleMonitor(self._end_if_idle)

    def _open_again(self) -> None:
        self._idle = IdleMonitor(self._end_if_idle)
        super()._open_again()

    def open(
        self,
        execution_id: str,
        *,
        owner: Owner | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        idle_timeout: IdleTimeout = "default",
    ) -> str:
        """Opens a run, unless one is open; returns the run's id. The first update of a run is its ``workflow_start``.

        Args:
            execution_id: 1 to 256 printable characters without spaces.
            owner: Who may read it beside those the application allows; compared with a token's ``sub``. A whole number
                or a UUID counts as its text.
            metadata: Kept with the run, and sent with ``workflow_start``. Where a run is open already, that one keeps
                its own.
            priority: Of the execution's updates for which neither their publisher nor their type names one;
                ``medium`` where it was never named.
            idle_timeout: Seconds after which the run ends as abandoned when nothing happens in it; None or 0 for
                never, ``"default"`` for ``limits.idle_timeout``.

        The owner, the priority and the idle timeout are the execution's: one that is named holds at once, and for later
        runs too.

        Raises:
            BadRequestError: The id cannot name an execution, or the owner, the priority or the timeout cannot be used.
            ForbiddenError: The execution has another owner.
            ExecutionLimitError: ``limits.max_executions`` executions are running.
            HubClosedError: The hub was closed.
        """
        return self._open(execution_id, OpenOptions.of(owner, metadata, priority, idle_timeout))

    def create(
        self,
        execution_id: str | None = None,
        *,
        owner: Owner | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        idle_timeout: IdleTimeout = "default",
    ) -> str:
        """Opens a run of an execution that has none open; returns the execution's id. Otherwise like `open`.

        Args:
            execution_id: 1 to 256 printable characters without spaces; a new UUID when not given.
            owner: See `open`, here and below.
            metadata: What is kept with the run.
            priority: The usual priority.
            idle_timeout: Seconds without anything happening.

        Raises:
            ExecutionExistsError: The execution has an open run; that run stays as it is.
            StreamingError: Like `open`.
        """
        opening = OpenOptions.of(owner_text(owner), metadata, priority, idle_timeout, fresh=True)
        if execution_id is not None:
            self._open(execution_id, opening)
            return execution_id
        while True:
            made = self._new_id()
            if made not in self._executions:
                with contextlib.suppress(ExecutionExistsError):
                    self._open(made, opening)
                    return made

    def enter_run(
        self,
        execution_id: str,
        *,
        owner: Owner | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        parent: Mapping[str, Any] | None = None,
    ) -> str:
        """Takes part in the open run, opening one where none is; returns its id. Raises like `open`.

        ``name`` is the graph's and ``parent`` the node in which it was called, both sent with ``workflow_start``. Leave
        with `leave_run`.
        """
        opening = OpenOptions.of(owner_text(owner), metadata, priority, "default")
        return self._open(execution_id, replace(opening, name=name, parent=parent, join=True))

    def resume_run(self, execution_id: str) -> str | None:
        """Takes part in the open run if it waits for a human, and returns its id; else None."""
        execution = self._executions.get(execution_id)
        if execution is None or not execution.interrupted:
            return None
        return self.enter_run(execution_id)

    def begin_run(
        self, execution_id: str, *, name: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> str | None:
        """Opens a run, takes part in it and returns its id; where one is open, does nothing. Raises like `open`."""
        opening = OpenOptions(name=name, metadata=dict(metadata or {}), join=True, fresh=True)
        try:
            return self._open(execution_id, opening)
        except ExecutionExistsError:
            return None

    def find_run(self, execution_id: str, missing: OnMissingRun | None = None) -> str | None:
        """The id of the open run.

        Args:
            execution_id: The execution.
            missing: What to do where none is open: `open` one, `drop` (None is returned), or `raise`. None: what
                `settings.auto_open` says.

        Raises:
            ExecutionNotFoundError: No run is open, and none shall be opened.
        """
        run_id = self.open_run(execution_id)
        if run_id is not None:
            return run_id
        match missing or ("open" if self.settings.auto_open else "raise"):
            case "open":
                return self.open(execution_id)
            case "drop":
                check_execution_id(execution_id)
                return None
            case "raise":
                check_execution_id(execution_id)
                raise ExecutionNotFoundError(execution_id=execution_id)

    def leave_run(self, execution_id: str, run_id: str, outcome: RunOutcome, *, joined: bool = True) -> None:
        """Leaves a run; the last participant to leave ends it with its outcome. A no-op when it is over.

        One that had not `joined` only ends a run that nobody takes part in.
        """
        execution = self._executions.get(execution_id)
        if execution is None:
            return
        self.tokens.flush_execution(execution_id)
        try:
            with execution.lock:
                if execution.run_id != run_id:
                    return
                said = execution.leave(outcome, joined=joined)
        except BaseException:
            release_owned(execution.lock)
            raise
        if said is not None:
            final = said.type != "workflow_interrupted"
            self._conclude(execution, run_id, said, ends=final, unless=lambda: execution.participants > 0)
        if not execution.running:
            self.tokens.close_execution_token_streams(execution_id)

    def hold(self, execution_id: str, run_id: str) -> Callable[[], None]:
        """See `Publisher.hold`."""
        execution = self._executions.get(execution_id)

        def count(change: int) -> None:
            if execution is not None:
                with execution.lock:
                    if execution.run_id == run_id:
                        execution.at_work += change

        count(1)
        return lambda: count(-1)

    def pause(self, execution_id: str, run_id: str, task: str, interrupts: Sequence[Mapping[str, Any]] = ()) -> None:
        """See `Publisher.pause`."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                if execution.run_id == run_id:
                    execution.pause(task, interrupts)

    def note_message(self, execution_id: str, message_id: str, namespace: str | None) -> None:
        """See `Publisher.note_message`."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                execution.note_message(message_id, namespace)

    def is_streamed(self, execution_id: str, message_id: str, *, except_in: str | None) -> bool:
        """See `Publisher.is_streamed`."""
        execution = self._executions.get(execution_id)
        return execution is not None and execution.messages.get(message_id, except_in) != except_in

    def is_silent(self, execution_id: str, run_id: str) -> bool:
        """See `Publisher.is_silent`."""
        execution = self._executions.get(execution_id)
        return (
            execution is not None and execution.run_id == run_id and execution.updates <= execution.updates_before + 1
        )

    def next_attempt(self, execution_id: str, task: str) -> int:
        """See `Publisher.next_attempt`."""
        execution = self._executions.get(execution_id)
        if execution is None:
            return 1
        with execution.lock:
            return execution.next_attempt(task)

    def _open(self, execution_id: str, opening: OpenOptions) -> str:
        if self._closed:
            raise HubClosedError
        self._sweep_now_and_then()
        while True:
            execution = self._execution(execution_id)
            first_words = self._first_words(execution, opening)
            try:
                with execution.lock:
                    # else it was swept, or another thread has opened, ended or interrupted a run
                    if self._executions.get(execution_id) is execution and first_words.fit(execution, opening):
                        return self._open_locked(execution, opening, first_words)
            except BaseException:
                release_owned(self._lock)
                release_owned(execution.lock)
                raise

    def _first_words(self, execution: Execution, opening: OpenOptions) -> PreparedOpening:
        start = resumed = None
        run_id = ""
        if not execution.running:
            run_id = self._new_id()
            start = self._ready(RunOutcome("workflow_start", {"run_id": run_id, **opening.data}))
        elif opening.join and execution.interrupted:
            resumed = self._ready(RunOutcome("status", {"status": "resumed"}))
        return PreparedOpening(run_id, start, resumed)

    def _open_locked(self, execution: Execution, opening: OpenOptions, first_words: PreparedOpening) -> str:
        run_id = execution.run_id
        if opening.fresh and run_id is not None:
            raise ExecutionExistsError(execution_id=execution.execution_id)
        execution.claim(opening.owner)
        if opening.priority is not None:
            execution.priority = opening.priority
        if opening.idle_timeout != "default":
            execution.idle_timeout = opening.idle_timeout or None
        if first_words.start is not None:
            run_id = self._begin(execution, opening, first_words.run_id, first_words.start)
            if opening.join:
                execution.join()
        elif opening.join and execution.join() and first_words.resumed is not None:
            self._say(execution, first_words.resumed, ends=False)
        if execution.idle_timeout is not None:
            self._idle.watch(execution, execution.idle_timeout)
        return run_id or first_words.run_id

    def _begin(self, execution: Execution, opening: OpenOptions, run_id: str, start: PreparedStatus) -> str:
        limit = self.settings.limits.max_executions
        with self._lock:
            if self._stopping:
                raise HubClosedError
            if limit is not None and self._running >= limit:
                if execution.forgettable:
                    self._forget(execution)
                raise ExecutionLimitError(
                    f"limits.max_executions allows {limit} running executions",
                    execution_id=execution.execution_id,
                    details={"limit": limit},
                )
            self._open_runs[execution.execution_id] = execution
        number, scope = execution.number, execution.run_scope
        try:
            execution.begin(run_id, opening.metadata, self._clock())
            self._say(execution, start, ends=False)
        except Exception:
            raise
        except BaseException:  # an interrupt: a run is open if, and only if, the log has its start
            if execution.number == number and self._appender.writer is None:
                execution.run_id, execution.run_scope = None, scope
                self._open_runs.pop(execution.execution_id, None)
            raise
        return run_id

    def _ready(self, outcome: RunOutcome) -> PreparedStatus:
        """What is to be said of a run, redacted and encoded. Not under the execution's lock."""
        return PreparedStatus(outcome.type, self._drafts.codec.encode_data(outcome.type, outcome.data))

    def _conclude(
        self,
        execution: Execution,
        run_id: str | None,
        outcome: RunOutcome,
        *,
        ends: bool = True,
        unless: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Says how the run of `run_id` came out, if it is open and it is not `unless`; whether it did."""
        if run_id is None or execution.run_id != run_id:
            return False
        said = self._ready(outcome)
        try:
            with execution.lock:
                if execution.run_id != run_id or unless():
                    return False
                self._say(execution, said, ends=ends)
        except BaseException:
            release_owned(self._lock)
            release_owned(execution.lock)
            raise
        self._drops.report()
        return True

    def _say(self, execution: Execution, said: PreparedStatus, *, ends: bool) -> None:
        """Publishes a status update of the open run and, where it is the final one, closes the run. Under its lock."""
        if self._closed:
            raise HubClosedError
        scope, priority = execution.run_scope, clamp_priority("high", execution.priority)
        number = execution.number
        try:
            self._appender.append(execution, self._drafts.of(execution, said.type, said.data, scope, priority))
            if ends:
                self._close_run(execution, said.type)
        except Exception:
            raise
        except BaseException:  # an interrupt: what the log has taken has happened
            if ends and execution.number != number:
                self._close_run(execution, said.type)
            raise

    def _close_run(self, execution: Execution, type: str) -> None:
        execution.end(state_after("running", type))
        self._open_runs.pop(execution.execution_id, None)
        self._idle.forget(execution)
        self._ends.notify()

    async def close(self, execution_id: str, result: object = None, *, reason: str | None = None) -> None:
        """Ends the open run well: ``workflow_complete``. Returns when the log has it. A no-op when no run is open.

        Args:
            execution_id: The execution.
            result: What came of the run, sent as ``result``.
            reason: Why it ends, sent as ``reason``.
        """
        told = {"result": result, "reason": reason}
        said = {name: value for name, value in told.items() if value is not None}
        self._end(execution_id, RunOutcome("workflow_complete", said))
        await self.flush()

    async def fail(self, execution_id: str, error: BaseException | str, *, terminate: bool = True) -> None:
        """Says that something went wrong. Returns when the log has it. A no-op when no run is open.

        Args:
            execution_id: The execution.
            error: What went wrong. Readers get its message, its type, and its ``code`` where it has one.
            terminate: Whether that ends the run. True: ``workflow_error`` with the error as its ``error``. False: an
                ``error`` update, whose data is the error, and the run goes on.
        """
        described = describe_error(error, debug=self.debug)
        if terminate:
            self._end(execution_id, RunOutcome("workflow_error", {"error": described}))
        else:
            self.tokens.flush_execution(execution_id)
            execution = self._executions.get(execution_id)
            if execution is not None:
                self._conclude(execution, execution.run_id, RunOutcome("error", described), ends=False)
        await self.flush()

    def _end(self, execution_id: str, outcome: RunOutcome, run_id: str | None = None) -> None:
        """Ends the open run, if it is the one of ``run_id`` or no matter which."""
        self.tokens.close_execution_token_streams(execution_id)
        execution = self._executions.get(execution_id)
        if execution is not None:
            self._conclude(execution, run_id or execution.run_id, outcome)

    async def flush(self) -> None:
        """Returns when everything published so far is in the log (or given up)."""
        if self._appender.writer is not None:
            await asyncio.wrap_future(self._appender.writer.flush())

    def _end_if_idle(self, execution: Execution, timeout: float, now: float) -> bool:
        """Ends the open run if nothing has happened in it for so long; whether it did."""
        with execution.lock:
            run_id = execution.run_id
            if execution.idle_for(now) < timeout:
                return False
        self.tokens.flush_execution(execution.execution_id)  # what a token stream holds is something to hear
        with execution.lock:
            idle = execution.idle_for(now)
        abandoned = RunOutcome("workflow_abandoned", {"reason": "idle_timeout", "idle_s": round(idle, 3)})
        if not self._conclude(execution, run_id, abandoned, unless=lambda: execution.idle_for(now) < timeout):
            return False
        self.tokens.close_execution_token_streams(execution.execution_id)
        return True
