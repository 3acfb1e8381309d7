"""The runs that executions are made of: how they begin, who takes part, and how they end."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import uuid_utils

from lg_streaming.errors import (
    ExecutionLimitError,
    ExecutionNotFoundError,
    HubClosedError,
    UpdateTooLargeError,
    describe_error,
)
from lg_streaming.events import check_execution_id
from lg_streaming.hub.appender import Appender
from lg_streaming.hub.drafts import Drafts
from lg_streaming.hub.execution import Execution
from lg_streaming.hub.statistics import Tally, no_updates
from lg_streaming.scope import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from lg_streaming.codec import Redact
    from lg_streaming.events import Kind
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
        self._producer = secrets.token_hex(8)
        self._lives = itertools.count()
        self._executions: dict[str, Execution] = {}
        self._lock = threading.Lock()
        self._tally = Tally()
        self._drafts = Drafts(limits, redact, clock, self._tally)
        self._appender = Appender(log, limits, self._drafts, self._tally)
        self._closed = False
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

    def open(self, execution_id: str, *, owner: str | None = None, metadata: Mapping[str, Any] | None = None) -> str:
        """Opens a run, unless one is open; returns its id. The first update of a run is its ``workflow_start``.

        Args:
            execution_id: 1 to 256 printable characters without spaces.
            owner: Who may read it beside those the application allows; compared with a token's ``sub``.
            metadata: Sent with ``workflow_start``, as its ``metadata``.

        Raises:
            BadRequestError: The id cannot name an execution.
            ForbiddenError: The execution has another owner.
            ExecutionLimitError: ``limits.max_executions`` executions are running.
            HubClosedError: The hub was closed.
        """
        return self._open(
            execution_id, owner=owner, data={"metadata": dict(metadata)} if metadata else None, join=False
        )

    def enter_run(self, execution_id: str, *, owner: str | None = None, name: str | None = None) -> str:
        """Takes part in the open run, opening one where none is; returns its id. Raises like `open`.

        ``name`` is the graph's, sent with ``workflow_start``. Leave with `leave_run`.
        """
        return self._open(execution_id, owner=owner, data={"name": name} if name else None, join=True)

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
        said = {"name": name, "metadata": dict(metadata) if metadata else None}
        data = {field: value for field, value in said.items() if value is not None}
        with self._holding(execution_id) as execution:
            if execution.running:
                return None
            run_id = self._begin(execution, data)
            execution.join()
            return run_id

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

    def _open(self, execution_id: str, *, owner: str | None, data: dict[str, Any] | None, join: bool) -> str:
        with self._holding(execution_id) as execution:
            return self._open_locked(execution, owner=owner, data=data, join=join)

    @contextmanager
    def _holding(self, execution_id: str) -> Generator[Execution]:
        """The execution under its lock, made where it is not known."""
        if self._closed:
            raise HubClosedError
        while True:
            execution = self._execution(execution_id)
            with execution.lock:
                if self._executions.get(execution_id) is execution:  # else it was swept between the two lines
                    yield execution
                    return

    def _open_locked(self, execution: Execution, *, owner: str | None, data: dict[str, Any] | None, join: bool) -> str:
        execution.claim(owner)
        run_id = execution.run_id
        if run_id is None:
            run_id = self._begin(execution, data)
            if join:
                execution.join()
        elif join and execution.join():
            self._say(execution, Outcome("status", {"status": "resumed"}), ends=False)
        return run_id

    def _execution(self, execution_id: str) -> Execution:
        known = self._executions.get(execution_id)
        if known is not None:
            return known
        check_execution_id(execution_id)
        self._sweep_now_and_then()
        with self._lock:
            producer = f"{self._producer}-{next(self._lives)}"
            return self._executions.setdefault(execution_id, Execution(execution_id, producer, self._clock()))

    def _begin(self, execution: Execution, data: dict[str, Any] | None) -> str:
        limit = self.settings.limits.max_executions
        with self._lock:
            if limit is not None and self._running >= limit:
                if execution.forgettable:
                    self._executions.pop(execution.execution_id, None)
                raise ExecutionLimitError(
                    f"limits.max_executions allows {limit} running executions", execution_id=execution.execution_id
                )
            self._running += 1
        run_id = str(uuid_utils.uuid7())
        execution.begin(run_id)
        self._say(execution, Outcome("workflow_start", {"run_id": run_id, **(data or {})}), ends=False)
        return run_id

    def _say(self, execution: Execution, outcome: Outcome, *, ends: bool) -> None:
        """Publishes a status update of the open run and, where it is the final one, closes the run."""
        if self._closed:
            raise HubClosedError
        scope, execution_id = execution.run_scope, execution.execution_id
        try:
            draft = self._drafts.of(execution_id, outcome.type, outcome.data, scope, "high")
        except UpdateTooLargeError:
            shorter = {"message": "the details were too large to send"}
            draft = self._drafts.of(execution_id, outcome.type, shorter, scope, "high")
        self._appender.append(execution, [draft])
        if ends:
            execution.end()
            with self._lock:
                self._running -= 1

    async def close(self, execution_id: str, result: object = None) -> None:
        """Ends the open run well: ``workflow_complete`` with ``result``. Returns when the log has it.

        A no-op when no run is open.
        """
        await self._end(execution_id, Outcome("workflow_complete", {} if result is None else {"result": result}))

    async def fail(self, execution_id: str, error: BaseException | str) -> None:
        """Ends the open run badly: ``workflow_error`` with the error's message. Otherwise like `close`."""
        await self._end(execution_id, Outcome("workflow_error", {"error": describe_error(error, debug=self.debug)}))

    async def _end(self, execution_id: str, outcome: Outcome) -> None:
        self.tokens.close_execution_token_streams(execution_id)
        execution = self._executions.get(execution_id)
        if execution is not None:
            with execution.lock:
                if execution.running:
                    self._say(execution, outcome, ends=True)
        await self.flush()

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
