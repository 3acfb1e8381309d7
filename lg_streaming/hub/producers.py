"""The writing side of a hub: publishing, and the decorators' defaults."""

from __future__ import annotations

import functools
import itertools
import time
from typing import TYPE_CHECKING, Any

from lg_streaming.emitter import Emitter, current_emitter
from lg_streaming.errors import (
    BadRequestError,
    ExecutionNotFoundError,
    HubClosedError,
    LimitError,
    StreamingError,
    UpdateTooLargeError,
)
from lg_streaming.events import check_execution_id, validate_scope
from lg_streaming.fork import release_owned
from lg_streaming.hub.execution import Execution
from lg_streaming.hub.runs import Runs
from lg_streaming.hub.statistics import TIMED_EVERY
from lg_streaming.publisher import NO_SCOPE, LiveDefaults, Scope, UpdateRequest, current_block
from lg_streaming.settings import NodeDefaults

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lg_streaming.codec import Redact
    from lg_streaming.events import Priority
    from lg_streaming.log.base import EventLog, PendingUpdate
    from lg_streaming.publisher import Delivery, LargeUpdates, OnMissingRun
    from lg_streaming.settings import StreamingSettings

__all__ = ["Producers"]


@functools.lru_cache(maxsize=1_024)
def _categorised(category: str, run_id: str | None) -> Scope:
    """One scope for many updates: its JSON is made once."""
    return Scope(category=category, run_id=run_id)


class Producers(Runs):
    """Everything that writes: see `Control`, which adds what is asked of runs."""

    def __init__(
        self,
        settings: StreamingSettings,
        log: EventLog,
        redact: Redact | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(settings, log, redact, clock, monotonic)
        self._calls = itertools.count()
        self.capture_plan: Any = None
        """What to capture beside decorated nodes; None for nothing."""
        self._notices = self._drops.notices  # looked at with every update
        self._defaults = LiveDefaults(
            NodeDefaults(
                token=settings.token_defaults, event=settings.event_defaults, progress=settings.progress_defaults
            )
        )

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
        missing: OnMissingRun | None = None,
        large: LargeUpdates | None = None,
    ) -> None:
        """Appends one update.

        An execution whose run has ended takes nothing more until it is opened again: the update is dropped and counted.

        Args:
            execution_id: The execution to write to.
            type: A type of `StreamEventType`, or a name of your own.
            data: What there is to say.
            scope: What the update is about.
            priority: See `Emitter.event`.
            delivery: See `Emitter.event`.
            key: See `Emitter.event`.
            missing: What to do where the execution had no run yet: `open` one, `drop` the update (which is counted), or
                `raise`. None: what `settings.auto_open` says.
            large: What to do where it is over ``limits.update_bytes``: `refuse` it, or `shorten` it. None: what
                ``limits.large_updates`` says. A text (`token`, `thinking`, `tool_args`) always leaves, in several
                updates that join to the same text.

        Raises:
            BadRequestError: The id cannot name an execution, the priority or the delivery is unknown, the key cannot be
                used or is missing, or the type is one that only the hub itself may write: a run's start, its final
                update, a gap.
            UpdateTooLargeError: The encoded update is over ``limits.update_bytes``, and `large` is `refuse`.
            ExecutionNotFoundError: The execution had no run yet, and none shall be opened.
            ExecutionLimitError: It would open one execution more than ``limits.max_executions``.
            HubClosedError: The hub was closed.
        """
        began = 0.0 if next(self._calls) % TIMED_EVERY else time.perf_counter()
        execution = self._executions.get(execution_id)
        if execution is None or execution.run_scope is NO_SCOPE or self._closed:
            execution = self._writable(execution_id, scope, missing)
            if execution is None:
                self._drop_unopened(execution_id, type, scope)
                return
        drafts = self._drafts
        appended = False
        try:
            made = drafts.checked(execution, type, data, scope, priority, delivery, key, large)
            with execution.lock:
                if execution.run_id is not None and execution.run_id == made[0].scope.run_id:
                    self._appender.append(execution, drafts.within_rate(execution, made) if drafts.limited else made)
                    appended = True
                else:
                    began = 0.0
                    self._drop_late(execution, type)
        except BaseException:
            release_owned(execution.lock)
            raise
        finally:
            if self._notices:
                self._drops.report()
        if execution.used_at >= self._sweep_at or not appended:
            self._sweep_now_and_then()
        if began:
            self._tally.publishing.observe(time.perf_counter() - began)

    def _drop_late(self, execution: Execution, type: str, amount: int = 1) -> None:
        reason = "late" if execution.run_id is None else "foreign_run"
        self._drops.note(reason, execution, execution.execution_id, type, amount=amount)

    def _drop_unopened(self, execution_id: str, type: str, scope: Scope, amount: int = 1) -> None:
        reason = "late" if scope.run_id else "no_run"
        self._drops.note(reason, self._executions.get(execution_id), execution_id, type, amount=amount)
        self._drops.report()

    def publish_all(
        self, execution_id: str, updates: Sequence[UpdateRequest], *, large: LargeUpdates | None = None
    ) -> None:
        """Appends several updates in one go: they follow each other in the log, with nothing in between.

        Raises like `publish`, for the first update that is refused, after the others were appended.
        """
        began = 0.0 if next(self._calls) % TIMED_EVERY else time.perf_counter()
        execution = self._writable(execution_id, updates[0].scope)
        if execution is None:
            self._drop_unopened(execution_id, updates[0].type, updates[0].scope, len(updates))
            return
        drafts: list[PendingUpdate] = []
        refused: StreamingError | None = None
        for update in updates:
            try:
                drafts += self._drafts.checked(execution, *update, large)
            except StreamingError as error:
                refused = refused or error
        try:
            with execution.lock:
                fit = [draft for draft in drafts if draft.scope.run_id == execution.run_id is not None]
                self._appender.append(execution, self._drafts.within_rate(execution, fit))
                if len(fit) < len(drafts):
                    self._drop_late(execution, drafts[0].type, len(drafts) - len(fit))
        except BaseException:
            release_owned(execution.lock)
            raise
        self._drops.report()
        self._sweep_now_and_then()
        if began:
            self._tally.publishing.observe(time.perf_counter() - began)
        if refused is not None:
            raise refused

    def _writable(self, execution_id: str, scope: Scope, missing: OnMissingRun | None = None) -> Execution | None:
        """The execution to write to, opened where nobody did; None where what is written belongs to a run that is over.

        An execution that is not known had its run, if the scope names one, before it was forgotten.
        """
        execution = self._executions.get(execution_id)
        if execution is None or execution.run_scope is NO_SCOPE:  # not there, or only configured
            if scope.run_id is not None:
                return None
            if self.find_run(execution_id, missing) is None:
                return None
            execution = self._executions[execution_id]
        if self._closed:
            raise HubClosedError
        return execution

    def encode(self, data: object) -> bytes:
        """See `Publisher.encode`."""
        return self._drafts.codec.to_json(data)

    def note_refused(self, execution_id: str, type: str, error: Exception) -> None:
        """See `Publisher.note_refused`."""
        match error:
            case UpdateTooLargeError():
                return  # counted where it was found to be so
            case HubClosedError():
                reason = "closed"
            case LimitError():
                reason = "limit"
            case ExecutionNotFoundError():
                reason = "no_run"
            case _:
                reason = "invalid"
        self._drops.note(reason, self._executions.get(execution_id), execution_id, type, details=str(error))
        self._drops.report()

    def note_failure(self) -> None:
        """See `Publisher.note_failure`."""
        self._tally.callables.add()

    def emit(
        self,
        execution_id: str,
        type: str,
        data: object = None,
        *,
        category: str | None = None,
        priority: Priority | None = None,
        delivery: Delivery | None = None,
        key: str | None = None,
        missing: OnMissingRun | None = None,
        large: LargeUpdates | None = None,
    ) -> None:
        """One update of any type, from anywhere: `hub.emit("doc-7", "saved", {"pages": 4}, category="document")`.

        In a decorated node of the execution it is the node's, like everything `current_emitter` writes. A run that
        nobody else ends is ended with `hub.close` or `hub.fail`; what comes after that is dropped and counted, until a
        run is open again. Raises like `publish`.

        Args:
            execution_id: The execution to write to.
            type: A type of `StreamEventType`, or a name of your own.
            data: What there is to say.
            category: A free word that readers may filter by.
            priority: See `Emitter.event`.
            delivery: See `Emitter.event`.
            key: See `Emitter.event`.
            missing: See `publish`.
            large: See `publish`.
        """
        if category is not None and not isinstance(category, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadRequestError(f"a category is a string, not {category!r:.80}")
        inside = current_emitter()
        if inside.writes_to(self, execution_id):
            own = inside.scoped(category=category) if category is not None else inside
            own.strict().event(type, data, priority=priority, delivery=delivery, key=key, large=large)
            return
        scope = _categorised(category, self.open_run(execution_id)) if category is not None else NO_SCOPE
        level = delivery or "at-least-once"
        self.publish(
            execution_id,
            type,
            data,
            scope=scope,
            priority=priority,
            delivery=level,
            key=key,
            missing=missing,
            large=large,
        )

    def emitter(self, execution_id: str | None = None, *, missing: OnMissingRun | None = None, **scope: Any) -> Emitter:
        """A write handle.

        In a decorated node of this execution it is about the node, and its text and events go with the node's; what you
        name replaces parts of that scope. In an `execution(...)` block it writes to the run of the block.

        Args:
            execution_id: The execution to write to; the one that is in force when not given.
            missing: What its first update does where no run is open: `open` one, `drop` it and what follows until one
                is open (which is counted), or `raise`. None: what `settings.auto_open` says.
            scope: What the updates are about: `node_id`, `agent_type`, `task_id`, `request_id`, `tool_call_id`,
                `message_id`, `category`, and `extra` for keys of your own.

        Raises:
            BadRequestError: The id cannot name an execution, or none is given and none is in force.
            HubClosedError: The hub was closed.
        """
        if self._closed:
            raise HubClosedError
        validate_scope(scope)
        inside, block = current_emitter(), current_block()
        if execution_id is not None:
            check_execution_id(execution_id)
        if inside.writes_to(self, execution_id):
            return inside.scoped(**scope).strict()
        if (
            block is not None
            and block.binding.publisher is self
            and (execution_id is None or execution_id == block.binding.execution_id)
        ):
            return Emitter(self, block.binding.execution_id, Scope(**scope, run_id=block.binding.run_id))
        if execution_id is None:
            raise BadRequestError("no execution is in force here: name the one to write to")
        missing = missing or ("open" if self.settings.auto_open else "raise")
        return Emitter(self, execution_id, Scope(**scope, run_id=self.open_run(execution_id)), missing=missing)
