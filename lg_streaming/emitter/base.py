"""The core of an emitter: its scope, its run, and the target of its updates."""

from __future__ import annotations

import itertools
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

from lg_streaming.emitter.open_spans import OpenSpans
from lg_streaming.emitter.scoped import ScopedPublisher
from lg_streaming.errors import BadRequestError
from lg_streaming.events import validate_scope
from lg_streaming.publisher import NO_SCOPE, UpdateRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

    from lg_streaming.events import Priority
    from lg_streaming.publisher import Delivery, LargeUpdates, LiveDefaults, OnMissingRun, Publisher, Scope

__all__ = ["BaseEmitter", "UpdatePipeline"]

logger: logging.Logger = logging.getLogger(__name__)


class UpdatePipeline(Protocol):
    """Pipeline of a node: publishes updates of the node's emitters in order with those of its models and tools."""

    def put(self, type: str, data: dict[str, Any], scope: Scope) -> bool:
        """Accept a piece of text. Return False if the node streams no text: the emitter then publishes it."""
        ...

    def emit(self, update: UpdateRequest, *, delivery: Delivery | None) -> bool:
        """Accept an event, after the text before it. Return False if the emitter has to publish it.

        ``delivery`` is None where the caller of the emitter named none.
        """
        ...

    def flush(self) -> None:
        """Publish the buffered text."""
        ...


class BaseEmitter:
    """Core of an emitter: publishes updates of one scope to a pipeline, or else to a publisher; see `Emitter`.

    Args:
        publisher: The destination; None drops everything.
        execution_id: The execution.
        scope: The scope of its updates.
        strict: Raise errors to the caller; otherwise they are logged.
        missing: See `ScopedPublisher`.
        pipeline: The pipeline of the node that the emitter is about.
        captured_message_ids: Messages of captured models, which are streamed already.
        spans: Open spans to share; none when not given.
    """

    __slots__ = ("_captured_message_ids", "_direct", "_index", "_output", "_pipeline", "_spans")

    def __init__(
        self,
        publisher: Publisher | None,
        execution_id: str,
        scope: Scope = NO_SCOPE,
        *,
        strict: bool = True,
        missing: OnMissingRun | None = None,
        pipeline: UpdatePipeline | None = None,
        captured_message_ids: Collection[str] = (),
        spans: OpenSpans | None = None,
    ) -> None:
        self._output = ScopedPublisher(publisher, execution_id, scope, strict=strict, missing=missing)
        self._pipeline = pipeline
        self._direct = publisher if strict and pipeline is None else None
        """Accepts updates of a known run directly; its errors reach the caller."""
        self._index = itertools.count()
        self._captured_message_ids = captured_message_ids
        self._spans = spans or OpenSpans()

    @property
    def active(self) -> bool:
        """True while updates arrive; False once the run has ended, and outside of a decorated node."""
        publisher, run_id = self._output.publisher, self.scope.run_id
        return publisher is not None and (run_id is None or publisher.runs.current_run_id(self.execution_id) == run_id)

    @property
    def execution_id(self) -> str:
        """The execution it writes to; empty when it is not active."""
        return self._output.execution_id

    @property
    def scope(self) -> Scope:
        """The scope of its updates."""
        return self._output.scope

    @property
    def defaults(self) -> LiveDefaults | None:
        """The decorators' defaults of its execution; None when it is not active."""
        return self._output.defaults

    def is_bound_to(self, publisher: Publisher, execution_id: str | None = None) -> bool:
        """Return whether it writes to this publisher, and to this execution where one is named."""
        return self._output.publisher is publisher and (execution_id is None or execution_id == self.execution_id)

    @property
    def raises_errors(self) -> bool:
        """True if errors are raised to the caller. In a decorated node, or when not active, they never are."""
        return self._output.strict and self._output.publisher is not None

    @property
    def debug(self) -> bool:
        """True if stack traces may be published (`settings.debug`)."""
        return self._output.publisher is not None and self._output.publisher.debug

    def scoped(self, **changes: Any) -> Self:
        """Return an emitter of the same execution for a part of this scope: `scoped(task_id="t1")`.

        The names are those of `StreamMetadata`, and `extra` for your own keys. Either may close what the other opened.

        Raises:
            BadRequestError: If a name is not one of a scope's.
        """
        try:
            validate_scope(changes)
        except BadRequestError as error:
            if self.raises_errors:
                raise
            logger.warning("an emitter of execution %r keeps its scope: %s", self.execution_id, error)
            return self._with_scope(self.scope)
        return self._with_scope(self.scope.derive(**changes))

    def strict(self) -> Self:
        """Return a copy that raises errors to the caller, and has separate open spans."""
        return self._clone(self.scope, strict=True, spans=None)

    def _with_scope(self, scope: Scope) -> Self:
        return self._clone(scope, strict=self._output.strict, spans=self._spans)

    def _clone(self, scope: Scope, *, strict: bool, spans: OpenSpans | None) -> Self:
        output = self._output
        return type(self)(
            output.publisher,
            output.execution_id,
            scope,
            strict=strict,
            missing=output.missing,
            pipeline=self._pipeline,
            captured_message_ids=self._captured_message_ids,
            spans=spans,
        )

    def event(
        self,
        type: str,
        data: object = None,
        *,
        priority: Priority | None = None,
        delivery: Delivery | None = None,
        key: str | None = None,
        large: LargeUpdates | None = None,
    ) -> None:
        """Publish one update of any type. Data that JSON cannot hold becomes its nearest JSON value.

        Args:
            type: A type of `StreamEventType`, or a name of your own.
            data: The update's data: any object.
            priority: ``low``, ``medium``, ``high`` or ``critical``; the type's own when not given.
            delivery: The guarantee until the update is in the log. ``at-most-once``: under pressure it may be dropped,
                which is counted. ``at-least-once``: it is not dropped. ``exactly-once``: it needs a ``key``. When not
                given, ``@stream_event``'s own level holds in a node that has it, and ``at-least-once`` elsewhere.
            key: 1 to 512 characters. A second update with the same key is left out while the log keeps the first, so a
                retried node does not repeat it. A key alone means ``exactly-once``.
            large: The treatment of an update over ``limits.update_bytes``: ``refuse`` it, or ``shorten`` it. When not
                given, it is shortened inside a decorated node, and elsewhere ``limits.large_updates`` holds.

        Raises:
            BadRequestError: If the priority, the delivery or the key cannot be used, or the type is the hub's own.
            UpdateTooLargeError: If it exceeds ``limits.update_bytes`` and ``limits.large_updates`` is ``refuse``. Never
                inside a decorated node, where it is shortened, and never for text, which is split.
        """
        output, direct = self._output, self._direct
        scope = output.scope
        if direct is not None and scope.run_id is not None:
            direct.publish(  # inlines `_emit` and `ScopedPublisher.publish`, for each update
                output.execution_id,
                type,
                data,
                scope=scope,
                priority=priority,
                delivery=delivery or "at-least-once",
                key=key,
                large=large,
            )
        else:
            self._emit(type, data, scope, priority=priority, delivery=delivery, key=key, large=large)

    def _emit(
        self,
        type: str,
        data: object,
        scope: Scope,
        *,
        priority: Priority | None = None,
        delivery: Delivery | None = None,
        key: str | None = None,
        large: LargeUpdates | None = None,
    ) -> None:
        """Publish an event, after the text before it."""
        level = delivery or "at-least-once"
        output = self._output
        if self._pipeline is not None:
            try:
                if self._pipeline.emit(UpdateRequest(type, data, scope, priority, level, key), delivery=delivery):
                    return
            except Exception as error:
                if output.strict:
                    raise
                output.note_refused(error, type)
                return
        output.publish(type, data, scope, priority=priority, delivery=level, key=key, large=large)

    @contextmanager
    def keep_alive(self) -> Generator[None]:
        """Keep the run from ending as idle while the block lasts, and open a run where none is open.

        `execution(...)` blocks, graphs, decorated nodes and `with hub.emitter(…)` do so by themselves.
        """
        run_id, publisher = self._output.find_run().run_id, self._output.publisher
        release = publisher.runs.keep_alive(self.execution_id, run_id) if publisher is not None and run_id else None
        try:
            yield
        finally:
            if release is not None:
                release()

    def note_failure(self) -> None:
        """Count an exception of a user's function, in the hub's statistics."""
        self._output.note_failure()

    def publish_text(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Publish a piece of a message (`token`, `thinking`, `tool_args`) of any scope, in order with other text.

        `data` belongs to the emitter from now on. Raises like `event`.
        """
        if self._pipeline is None or not self._pipeline.put(type, data, scope):
            self._output.publish(type, data, scope)

    def flush(self) -> None:
        """Publish the buffered text of the node. A no-op outside of a decorated node."""
        if self._pipeline is not None:
            self._pipeline.flush()
