"""The runs that executions are made of: how they begin, who takes part, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import threading
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import (
    ExecutionExistsError,
    ExecutionLimitError,
    ExecutionNotFoundError,
    HubClosedError,
    UpdateTooLargeError,
    describe_error,
)
from lg_streaming.events import ROOM_PREFIX, check_execution_id, priority_within
from lg_streaming.hub.appender import Appender
from lg_streaming.hub.drafts import Drafts
from lg_streaming.hub.execution import Execution
from lg_streaming.hub.idle import IdleWatch
from lg_streaming.hub.opening import Opening, new_id
from lg_streaming.hub.signal import Signal
from lg_streaming.hub.statistics import Tally, no_updates
from lg_streaming.log.base import state_after
from lg_streaming.scope import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lg_streaming.codec import Redact
    from lg_streaming.events import Kind, Priority
    from lg_streaming.hub.opening import IdleTimeout
    from lg_streaming.log.base import EventLog
    from lg_streaming.pipeline import TokenStreamingService
    from lg_streaming.scope import Missing, Trace
    from lg_streaming.settings import StreamingSettings

__all__ = ["Runs"]

_SWEEP_INTERVAL: Final = 30.0


class Runs:
    """Executions and their runs: see `Producers`, which adds publishing."""

    tokens: TokenStreamingService
    """The token streams: open ones, their statistics, and streams of your own."""

    def __init__(
        self, settings: StreamingSettings, log: EventLog, redact: Redact | None, clock: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.log = log
        limits = settings.limits
        self._clock = clock
        self._new_id = new_id
        self._producer = secrets.token_hex(8)
        self._lives = itertools.count()
        self._executions: dict[str, Execution] = {}
        self._lock = threading.Lock()
        self._tally = Tally()
        self._drafts = Drafts(limits, redact, clock, self._tally)
        self._appender = Appender(log, settings, self._drafts, self._tally)
        self._idle = IdleWatch(self._executions, self._end_if_idle)
        self._closed = False
        self._stopping = False  # runs may go on to their ends, and none begins
        self._ends = Signal()  # told of every end
        self._swept_at = clock()
        self._running = 0
        self._forgotten = no_updates()  # published to executions that were swept

    @property
    def debug(self) -> bool:
        """Whether stack traces may leave (``settings.debug``)."""
        return self.settings.debug

    @property
    def trace(self) -> Trace | None:
        """Who follows the runs and nodes of this hub; None when nobody does."""
        return self._drafts.trace

    @trace.setter
    def trace(self, trace: Trace | None) -> None:
        self._drafts.trace = trace

    @property
    def id(self) -> str:
        """Names this hub; no other has the same."""
        return self._producer

    def open(
        self,
        execution_id: str,
        *,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        idle_timeout: IdleTimeout = "default",
    ) -> str:
        """Opens a run, unless one is open; returns the run's id. The first update of a run is its ``workflow_start``.

        Args:
            execution_id: 1 to 256 printable characters without spaces.
            owner: Who may read it beside those the application allows; compared with a token's ``sub``.
            metadata: Kept with the run, and sent with ``workflow_start``. Where a run is open already, that one keeps
                its own.
            priority: Of the execution's updates for which neither their publisher nor their type names one;
                ``medium`` where it was never named.
            idle_timeout: Seconds after which the run ends as abandoned when nothing happens in it; None or 0 for
                never, ``"default"`` for ``limits.idle_timeout``.

        The owner, the priority and the idle timeout are the execution's: one that is named holds at once, and for later
        runs too.

        Raises:
            BadRequestError: The id cannot name an execution, or the priority or the timeout is none.
            ForbiddenError: The execution has another owner.
            ExecutionLimitError: ``limits.max_executions`` executions are running.
            HubClosedError: The hub was closed.
        """
        return self._open(execution_id, Opening.of(owner, metadata, priority, idle_timeout))

    def create(
        self,
        execution_id: str | None = None,
        *,
        owner: str | None = None,
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
        opening = Opening.of(owner, metadata, priority, idle_timeout, fresh=True)
        if execution_id is not None:
            self._open(execution_id, opening)
            return execution_id
        while True:
            made = self._new_id()
            if made not in self._executions:
                with contextlib.suppress(ExecutionExistsError):
                    self._open(made, opening)
                    return made

    def enter_run(self, execution_id: str, *, owner: str | None = None, name: str | None = None) -> str:
        """Takes part in the open run, opening one where none is; returns its id. Raises like `open`.

        ``name`` is the graph's, sent with ``workflow_start``. Leave with `leave_run`.
        """
        return self._open(execution_id, Opening(owner=owner, name=name, join=True))

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
        opening = Opening(name=name, metadata=dict(metadata or {}), join=True, fresh=True)
        try:
            return self._open(execution_id, opening)
        except ExecutionExistsError:
            return None

    def find_run(self, execution_id: str, missing: Missing | None = None) -> str | None:
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

    def open_run(self, execution_id: str) -> str | None:
        """The id of the open run; None where none is."""
        execution = self._executions.get(execution_id)
        return execution.run_id if execution is not None else None

    def leave_run(self, execution_id: str, run_id: str, outcome: Outcome, *, joined: bool = True) -> None:
        """Leaves a run; the last participant to leave ends it with its outcome. A no-op when it is over.

        One that had not `joined` only ends a run that nobody takes part in.
        """
        execution = self._executions.get(execution_id)
        if execution is None:
            return
        self.tokens.flush_execution(execution_id)
        with execution.lock:
            if execution.run_id != run_id:
                return
            said = execution.leave(outcome, joined=joined)
            if said is not None:
                self._say(execution, said, ends=said.type != "workflow_interrupted")
        if not execution.running:
            self.tokens.close_execution_token_streams(execution_id)

    def pause(self, execution_id: str, run_id: str, task: str) -> None:
        """See `Publisher.pause`."""
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                if execution.run_id == run_id:
                    execution.pause(task)

    def is_running(self, execution_id: str) -> bool:
        """Whether a run of the execution is open."""
        execution = self._executions.get(execution_id)
        return execution is not None and execution.running

    def next_attempt(self, execution_id: str, task: str) -> int:
        """See `Publisher.next_attempt`."""
        execution = self._executions.get(execution_id)
        if execution is None:
            return 1
        with execution.lock:
            return execution.next_attempt(task)

    def _open(self, execution_id: str, opening: Opening) -> str:
        if self._closed:
            raise HubClosedError
        while True:
            execution = self._execution(execution_id)
            with execution.lock:
                if self._executions.get(execution_id) is execution:  # else it was swept between the two lines
                    return self._open_locked(execution, opening)

    def _open_locked(self, execution: Execution, opening: Opening) -> str:
        run_id = execution.run_id
        if opening.fresh and run_id is not None:
            raise ExecutionExistsError(execution_id=execution.execution_id)
        execution.claim(opening.owner)
        if opening.priority is not None:
            execution.priority = opening.priority
        if opening.idle_timeout != "default":
            execution.idle_timeout = opening.idle_timeout or None
        if run_id is None:
            run_id = self._begin(execution, opening)
            if opening.join:
                execution.join()
        elif opening.join and execution.join():
            self._say(execution, Outcome("status", {"status": "resumed"}), ends=False)
        if execution.idle_timeout is not None:
            self._idle.watch(execution.idle_timeout)
        return run_id

    def _execution(self, execution_id: str) -> Execution:
        known = self._executions.get(execution_id)
        if known is not None:
            return known
        check_execution_id(execution_id)
        self._sweep_now_and_then()
        with self._lock:
            known = self._executions.get(execution_id)
            if known is None:
                producer = f"{self._producer}-{next(self._lives)}"
                known = self._executions[execution_id] = Execution(execution_id, producer, self._clock())
                if not execution_id.startswith(ROOM_PREFIX):
                    known.idle_timeout = self.settings.limits.idle_timeout or None
            return known

    def _begin(self, execution: Execution, opening: Opening) -> str:
        limit = self.settings.limits.max_executions
        with self._lock:
            if self._stopping:
                raise HubClosedError
            if limit is not None and self._running >= limit:
                if execution.forgettable:
                    self._executions.pop(execution.execution_id, None)
                raise ExecutionLimitError(
                    f"limits.max_executions allows {limit} running executions",
                    execution_id=execution.execution_id,
                    details={"limit": limit},
                )
            self._running += 1
        run_id = self._new_id()
        execution.begin(run_id, opening.metadata, self._clock())
        self._say(execution, Outcome("workflow_start", {"run_id": run_id, **opening.data}), ends=False)
        return run_id

    def _say(self, execution: Execution, outcome: Outcome, *, ends: bool) -> None:
        """Publishes a status update of the open run and, where it is the final one, closes the run."""
        if self._closed:
            raise HubClosedError
        scope, priority = execution.run_scope, priority_within("high", execution.priority)
        try:
            draft = self._drafts.of(execution, outcome.type, outcome.data, scope, priority)
        except UpdateTooLargeError:
            shorter = {"message": "the details were too large to send"}
            draft = self._drafts.of(execution, outcome.type, shorter, scope, priority)
        self._appender.append(execution, [draft])
        if ends:
            execution.end(state_after("running", outcome.type))
            with self._lock:
                self._running -= 1
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
        self._end(execution_id, Outcome("workflow_complete", said))
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
            self._end(execution_id, Outcome("workflow_error", {"error": described}))
        else:
            self.tokens.flush_execution(execution_id)
            execution = self._executions.get(execution_id)
            if execution is not None:
                with execution.lock:
                    if execution.running:
                        self._say(execution, Outcome("error", described), ends=False)
        await self.flush()

    def _end(self, execution_id: str, outcome: Outcome, run_id: str | None = None) -> None:
        """Ends the open run, if it is the one of ``run_id`` or no matter which."""
        self.tokens.close_execution_token_streams(execution_id)
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                if execution.running and run_id in {None, execution.run_id}:
                    self._say(execution, outcome, ends=True)

    def _published(self) -> dict[Kind, int]:
        """Updates given to the log so far, by kind."""
        published = dict(self._forgotten)
        for execution in list(self._executions.values()):
            for kind, count in execution.published.items():
                published[kind] += count
        return published

    async def flush(self) -> None:
        """Returns when everything published so far is in the log (or given up)."""
        if self._appender.writer is not None:
            await asyncio.wrap_future(self._appender.writer.flush())

    # --- keeping house ------------------------------------------------------------------------------------

    def _end_if_idle(self, execution: Execution, timeout: float, now: float) -> bool:
        """Ends the open run if nothing has happened in it for so long; whether it did."""
        with execution.lock:
            run_id = execution.run_id
            if execution.idle_for(now) < timeout:
                return False
        self.tokens.flush_execution(execution.execution_id)  # what a token stream holds is something to hear
        with execution.lock:
            idle = execution.idle_for(now)
            if execution.run_id is None or execution.run_id != run_id or idle < timeout:
                return False
            said: dict[str, Any] = {"reason": "idle_timeout", "idle_s": round(idle, 3)}
            self._say(execution, Outcome("workflow_abandoned", said), ends=True)
        self.tokens.close_execution_token_streams(execution.execution_id)
        return True

    def _sweep_now_and_then(self) -> None:
        if self._clock() - self._swept_at >= _SWEEP_INTERVAL:
            self.sweep()

    def sweep(self) -> None:
        """Forgets what is past its time. It happens by itself as executions come; a server also calls it."""
        self._swept_at = now = self._clock()
        retention = self.settings.retention
        for execution_id, execution in list(self._executions.items()):
            with execution.lock:
                # one that is owned is known as long as the log knows it: nobody else may open it meanwhile
                ttl = retention.ttl if execution.owner is None else retention.record_ttl
                over = not execution.running and now - execution.touched_at >= ttl
                if over and self._executions.pop(execution_id, None) is not None:
                    for kind, count in execution.published.items():
                        self._forgotten[kind] += count
        self.tokens.sweep()
        self.log.trim()
