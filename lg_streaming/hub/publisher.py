"""Publish updates, make emitters, and keep the decorators' defaults."""

from __future__ import annotations

import functools
import itertools
import time
from typing import TYPE_CHECKING, Any

from lg_streaming.context import current_block
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
from lg_streaming.hub.statistics import TIMED_EVERY
from lg_streaming.publisher import NO_SCOPE, LiveDefaults, Scope, UpdateRequest
from lg_streaming.settings import NodeDefaults

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.events import Priority
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.runs import RunManager
    from lg_streaming.log.base import PendingUpdate
    from lg_streaming.publisher import Delivery, LargeUpdates, OnMissingRun, Trace
    from lg_streaming.token_streams import OpenTokenStreams

__all__ = ["HubPublisher"]


@functools.lru_cache(maxsize=1_024)
def _category_scope(category: str, run_id: str | None) -> Scope:
    """Return one scope for many updates, whose JSON is made once."""
    return Scope(category=category, run_id=run_id)


class HubPublisher:
    """Publisher of executions' updates. Implements `publisher.Publisher`; emitters and captured graphs refer to it.

    Args:
        runs: The runs; their registry and writer are used, too.
    """

    token_streams: OpenTokenStreams
    """The token streams that are open."""

    def __init__(self, runs: RunManager) -> None:
        self.runs = runs
        self._registry = runs.registry
        self._executions = runs.registry.executions
        self._writer = runs.writer
        self._counters = runs.writer.counters
        self._drops = self._counters.drops
        self._notices = self._drops.notices  # checked with every update
        self._calls = itertools.count()
        self.capture_plan: object = None
        """The plan of nodes to capture in addition to decorated ones; None: none."""
        settings = runs.registry.settings
        self.debug: bool = settings.debug
        """True if stack traces may be published (``settings.debug``)."""
        self._defaults = LiveDefaults(
            NodeDefaults(
                token=settings.token_defaults, event=settings.event_defaults, progress=settings.progress_defaults
            )
        )

    @property
    def trace(self) -> Trace | None:
        """The trace of runs and nodes; None without tracing."""
        return self._writer.encoder.trace

    @trace.setter
    def trace(self, trace: Trace | None) -> None:
        self._writer.encoder.trace = trace

    # --- the decorators' defaults --------------------------------------------------------------------------

    def defaults(self, execution_id: str) -> LiveDefaults:
        """Return the decorators' defaults of an execution."""
        execution = self._executions.get(execution_id)
        defaults = execution.defaults if execution is not None else None
        return defaults if defaults is not None else self._defaults

    def configure(
        self,
        execution_id: str,
        *,
        token: Mapping[str, Any] | None = None,
        event: Mapping[str, Any] | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Change the decorators' defaults of one execution. See `StreamHub.configure`."""
        execution = self._registry.get_or_create(execution_id)
        with execution.lock:
            before = execution.defaults or LiveDefaults(self._defaults.current)
            changed = before.current.changed(token=token, event=event, progress=progress)
            if execution.defaults is None:
                execution.defaults = LiveDefaults(changed)
                self._defaults.version += 1  # running nodes look again, and find the execution's own defaults
            else:
                execution.defaults.change(changed)

    # --- publishing ---------------------------------------------------------------------------------------

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
        """Append one update. See `StreamHub.publish`."""
        began = 0.0 if next(self._calls) % TIMED_EVERY else time.perf_counter()
        registry, writer = self._registry, self._writer
        execution = self._executions.get(execution_id)
        if execution is None or execution.run_scope is NO_SCOPE or registry.closed:
            execution = self._writable(execution_id, scope, missing)
            if execution is None:
                self._drop_without_run(execution_id, type, scope)
                return
        encoder = writer.encoder
        appended = False
        try:
            drafts = encoder.encode(execution, type, data, scope, priority, delivery, key, large)
            with execution.lock:
                if execution.run_id is not None and execution.run_id == drafts[0].scope.run_id:
                    writer.append(execution, encoder.within_rate(execution, drafts) if encoder.limited else drafts)
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
        if execution.used_at >= registry.sweep_at or not appended:
            registry.maybe_sweep()
        if began:
            self._counters.publishing.observe(time.perf_counter() - began)

    def publish_all(
        self, execution_id: str, updates: Sequence[UpdateRequest], *, large: LargeUpdates | None = None
    ) -> None:
        """Append several updates, which follow each other in the log without other updates between them.

        Raises like `publish`, for the first update that is refused, after the others were appended.
        """
        began = 0.0 if next(self._calls) % TIMED_EVERY else time.perf_counter()
        execution = self._writable(execution_id, updates[0].scope)
        if execution is None:
            self._drop_without_run(execution_id, updates[0].type, updates[0].scope, len(updates))
            return
        encoder = self._writer.encoder
        drafts: list[PendingUpdate] = []
        refused: StreamingError | None = None
        for update in updates:
            try:
                drafts += encoder.encode(execution, *update, large)
            except StreamingError as error:
                refused = refused or error
        try:
            with execution.lock:
                in_run = [draft for draft in drafts if draft.scope.run_id == execution.run_id is not None]
                self._writer.append(execution, encoder.within_rate(execution, in_run))
                if len(in_run) < len(drafts):
                    self._drop_late(execution, drafts[0].type, len(drafts) - len(in_run))
        except BaseException:
            release_owned(execution.lock)
            raise
        self._drops.report()
        self._registry.maybe_sweep()
        if began:
            self._counters.publishing.observe(time.perf_counter() - began)
        if refused is not None:
            raise refused

    def _writable(self, execution_id: str, scope: Scope, missing: OnMissingRun | None = None) -> Execution | None:
        """Return the execution to write to, which may open a run; None if the update's run has ended.

        An execution without a run had one before it was forgotten, if the scope names a run.
        """
        execution = self._executions.get(execution_id)
        if execution is None or execution.run_scope is NO_SCOPE:  # not there, or only configured
            if scope.run_id is not None:
                return None
            if self.runs.run_of(execution_id, missing) is None:
                return None
            execution = self._executions[execution_id]
        if self._registry.closed:
            raise HubClosedError
        return execution

    def _drop_late(self, execution: Execution, type: str, amount: int = 1) -> None:
        reason = "late" if execution.run_id is None else "foreign_run"
        self._drops.note(reason, execution, execution.execution_id, type, amount=amount)

    def _drop_without_run(self, execution_id: str, type: str, scope: Scope, amount: int = 1) -> None:
        reason = "late" if scope.run_id else "no_run"
        self._drops.note(reason, self._executions.get(execution_id), execution_id, type, amount=amount)
        self._drops.report()

    def encode(self, data: object) -> bytes:
        """Return ``data`` as JSON, as it is now. A later publish is not affected by changes of the object."""
        return self._writer.encoder.codec.to_json(data)

    def redact(self, type: str, data: object) -> Any:
        """Return data without the secrets that an update of this type would not have. Never raises."""
        return self._writer.encoder.codec.apply_redact(type, data)

    def note_refused(self, execution_id: str, type: str, error: Exception) -> None:
        """Count and log an update that was refused where no error may be raised."""
        match error:
            case UpdateTooLargeError():
                return  # the encoder has counted it
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
        """Count an exception of one of the user's own callables."""
        self._counters.callables.add()

    # --- emitters -----------------------------------------------------------------------------------------

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
        """Publish one update from any place in the program. See `StreamHub.emit`."""
        if category is not None and not isinstance(category, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadRequestError(f"a category is a string, not {category!r:.80}")
        inside = current_emitter()
        if inside.is_bound_to(self, execution_id):
            emitter = inside.scoped(category=category) if category is not None else inside
            emitter.strict().event(type, data, priority=priority, delivery=delivery, key=key, large=large)
            return
        run_id = self.runs.current_run_id(execution_id) if category is not None else None
        self.publish(
            execution_id,
            type,
            data,
            scope=NO_SCOPE if category is None else _category_scope(category, run_id),
            priority=priority,
            delivery=delivery or "at-least-once",
            key=key,
            missing=missing,
            large=large,
        )

    def emitter(self, execution_id: str | None = None, *, missing: OnMissingRun | None = None, **scope: Any) -> Emitter:
        """Return an emitter of an execution. See `StreamHub.emitter`."""
        if self._registry.closed:
            raise HubClosedError
        validate_scope(scope)
        inside, block = current_emitter(), current_block()
        if execution_id is not None:
            check_execution_id(execution_id)
        if inside.is_bound_to(self, execution_id):
            return inside.scoped(**scope).strict()
        if (
            block is not None
            and block.context.publisher is self
            and (execution_id is None or execution_id == block.context.execution_id)
        ):
            return Emitter(self, block.context.execution_id, Scope(**scope, run_id=block.context.run_id))
        if execution_id is None:
            raise BadRequestError("no execution is in force here: name the one to write to")
        missing = missing or ("open" if self._registry.settings.auto_open else "raise")
        run_id = self.runs.current_run_id(execution_id)
        return Emitter(self, execution_id, Scope(**scope, run_id=run_id), missing=missing)
