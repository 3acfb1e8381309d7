"""The writing side of a hub: publishing, and the runs that executions are made of."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import uuid_utils

from lg_streaming.emitter import Emitter
from lg_streaming.errors import (
    ExecutionLimitError,
    HubClosedError,
    StreamingError,
    UpdateTooLargeError,
    describe_error,
)
from lg_streaming.events import check_execution_id
from lg_streaming.hub.appender import Appender
from lg_streaming.hub.drafts import Drafts
from lg_streaming.hub.execution import Execution
from lg_streaming.hub.statistics import TIMED_EVERY, Tally, no_updates
from lg_streaming.scope import NO_SCOPE, LiveDefaults, Outcome, Outgoing, Scope
from lg_streaming.settings import NodeDefaults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lg_streaming.codec import Redact
    from lg_streaming.events import Kind, Priority
    from lg_streaming.log.base import Draft, EventLog
    from lg_streaming.pipeline import TokenStreamingService
    from lg_streaming.scope import Delivery, Trace
    from lg_streaming.settings import StreamingSettings

__all__ = ["Producers"]

_SWEEP_INTERVAL: Final = 30.0


class Producers:
    """Everything that writes: see `Control`, which adds what is asked of runs."""

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
        self._calls = itertools.count()
        self._executions: dict[str, Execution] = {}
        self._lock = threading.Lock()
        self._tally = Tally()
        self._drafts = Drafts(limits, redact, clock, self._tally)
        self._appender = Appender(log, limits, self._drafts, self._tally)
        self._defaults = LiveDefaults(
            NodeDefaults(
                token=settings.token_defaults, event=settings.event_defaults, progress=settings.progress_defaults
            )
        )
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

    # --- the decorators' defaults --------------------------------------------------------------------------

    def defaults(self, execution_id: str) -> LiveDefaults:
        """See `Publisher.defaults`."""
        execution = self._executions.get(execution_id)
        own = execution.defaults if execution is not None else None
        return own if own is not None else self._defaults

    def configure(
        self,
        execution_id: str,
        *,
        token: Mapping[str, Any] | None = None,
        event: Mapping[str, Any] | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Changes the decorators' defaults of one execution: of nodes that start, and of those that run.

        An option that a decorator sets itself stays as it is. What was changed before stays changed.

        Args:
            execution_id: The execution; it need not have started.
            token: Options of ``@stream_token``, as in ``settings.token_defaults``.
            event: Options of ``@stream_event``.
            progress: Options of ``@stream_progress``.

        Raises:
            BadRequestError: The id cannot name an execution.
            pydantic.ValidationError: An option is not known, or its value cannot be used.
        """
        execution = self._execution(execution_id)
        with execution.lock:
            before = execution.defaults or LiveDefaults(self._defaults.current)
            changed = before.current.changed(token=token, event=event, progress=progress)
            if execution.defaults is None:
                execution.defaults = LiveDefaults(changed)
                self._defaults.version += 1  # nodes that run look again, and find their execution's own
            else:
                execution.defaults.change(changed)

    # --- writing ------------------------------------------------------------------------------------------

    def publish(
        self,
        execution_id: str,
        type: str,
        data: object = None,
        *,
        scope: Scope = NO_SCOPE,
        priority: Priority | None = None,
        delivery: Delivery = "at-least-once",
        key: str | None = None,
    ) -> None:
        """Appends one update.

        An execution nobody opened is opened; one whose run has ended takes nothing more (the update is dropped
        and counted) until it is opened again.

        The other arguments are those of `Emitter.event`; ``scope`` says what the update is about.

        Raises:
            BadRequestError: The id cannot name an execution, the priority or the delivery is unknown, the key cannot be
                used or is missing, or the type is one that only the hub itself may write: a run's start, its final
                update, a gap.
            UpdateTooLargeError: The encoded update is over ``limits.update_bytes``.
            ExecutionLimitError: It would open one execution more than ``limits.max_executions``.
            HubClosedError: The hub was closed.
        """
        began = 0.0 if next(self._calls) % TIMED_EVERY else time.perf_counter()
        execution = self._writable(execution_id, scope)
        if execution is None:
            self._tally.late.add()
            return
        draft = self._drafts.of_outgoing(execution, Outgoing(type, data, scope, priority, delivery, key))
        with execution.lock:
            if execution.run_id is None or execution.run_id != draft.scope.run_id:
                self._tally.late.add()
                return
            self._appender.append(execution, self._drafts.within_rate(execution, [draft]))
        if began:
            self._tally.publishing.observe(time.perf_counter() - began)

    def publish_all(self, execution_id: str, updates: Sequence[Outgoing]) -> None:
        """Appends several updates in one go: they follow each other in the log, with nothing in between.

        Raises like `publish`, for the first update that is refused, after the others were appended.
        """
        began = 0.0 if next(self._calls) % TIMED_EVERY else time.perf_counter()
        execution = self._writable(execution_id, updates[0].scope)
        if execution is None:
            self._tally.late.add(len(updates))
            return
        drafts: list[Draft] = []
        refused: StreamingError | None = None
        for update in updates:
            try:
                drafts.append(self._drafts.of_outgoing(execution, update))
            except StreamingError as error:
                refused = refused or error
        with execution.lock:
            fit = [draft for draft in drafts if draft.scope.run_id == execution.run_id is not None]
            self._appender.append(execution, self._drafts.within_rate(execution, fit))
        if began:
            self._tally.publishing.observe(time.perf_counter() - began)
        if len(fit) < len(drafts):
            self._tally.late.add(len(drafts) - len(fit))
        if refused is not None:
            raise refused

    def _writable(self, execution_id: str, scope: Scope) -> Execution | None:
        """The execution to write to, opened where nobody did; None where what is written belongs to a run that is over.

        An execution that is not known had its run, if the scope names one, before it was forgotten.
        """
        execution = self._executions.get(execution_id)
        if execution is None or execution.run_scope is NO_SCOPE:  # not there, or only configured
            if scope.run_id is not None:
                return None
            execution = self._opened(execution_id)
        if self._closed:
            raise HubClosedError
        return execution

    def encode(self, data: object) -> bytes:
        """See `Publisher.encode`."""
        return self._drafts.codec.dumps(data)

    def note_failure(self) -> None:
        """See `Publisher.note_failure`."""
        self._tally.callables.add()

    def emitter(self, execution_id: str, **scope: Any) -> Emitter:
        """A write handle, bound to the open run; where none is open, one is.

        Args:
            execution_id: The execution to write to.
            scope: What the updates are about: ``node_id``, ``agent_type``, ``task_id``, ``request_id``,
                ``tool_call_id``, ``message_id``, ``category``, and ``extra`` for keys of your own.

        Raises:
            BadRequestError: The id cannot name an execution.
            ExecutionLimitError: ``limits.max_executions`` executions are running.
        """
        self.open(execution_id)
        return Emitter(self, execution_id, Scope(**scope, run_id=self._executions[execution_id].run_id))

    # --- runs ---------------------------------------------------------------------------------------------

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

    def leave_run(self, execution_id: str, run_id: str, outcome: Outcome) -> None:
        """Leaves a run; the last participant to leave ends it with its outcome. A no-op when it is over."""
        execution = self._executions.get(execution_id)
        if execution is None:
            return
        self.tokens.flush_execution(execution_id)
        with execution.lock:
            if execution.run_id != run_id:
                return
            said = execution.leave(outcome)
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

    def _opened(self, execution_id: str) -> Execution:
        self._open(execution_id, owner=None, data=None, join=False)
        return self._executions[execution_id]

    def _open(self, execution_id: str, *, owner: str | None, data: dict[str, Any] | None, join: bool) -> str:
        if self._closed:
            raise HubClosedError
        while True:
            execution = self._execution(execution_id)
            with execution.lock:
                if self._executions.get(execution_id) is execution:  # else it was swept between the two lines
                    return self._open_locked(execution, owner=owner, data=data, join=join)

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
