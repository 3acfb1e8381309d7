"""The core of an emitter: one execution, one scope, one run, and the way its updates take."""

from __future__ import annotations

import itertools
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from lg_streaming.emitter.open_spans import OpenSpans
from lg_streaming.errors import BadRequestError, StreamingError
from lg_streaming.events import validate_scope
from lg_streaming.publisher import NO_SCOPE, UpdateRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence

    from lg_streaming.events import Priority
    from lg_streaming.publisher import (
        Delivery,
        LargeUpdates,
        LiveDefaults,
        OnMissingRun,
        Publisher,
        Scope,
        TokenStreams,
    )

__all__ = ["BaseEmitter", "EventRoute", "TextRoute"]

logger: logging.Logger = logging.getLogger(__name__)

_NO_RUN: Final = ""
"""A run that is over, or never was: what is written to it is dropped and counted."""


class TextRoute(Protocol):
    """The way of a node's text: what an emitter says goes with what the models in the node say, in order."""

    def take(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """One piece of text."""
        ...

    def flush(self) -> None:
        """What is held leaves now."""
        ...


class EventRoute(Protocol):
    """The way of a node's events: what an emitter says goes with what is heard of the node, in order."""

    def emit(self, update: UpdateRequest, *, delivery: Delivery | None) -> None:
        """One event; ``delivery`` is None where the emitter's user named none."""
        ...


class BaseEmitter:
    """Writes to one execution, about one scope; see `Emitter`, which adds the words.

    Args:
        publisher: Where updates go; None: nowhere.
        execution_id: The execution.
        scope: What the updates are about.
        strict: Whether what goes wrong is raised; otherwise it is logged.
        missing: What becomes of an update when no run is open, and the scope names none; None: what the publisher does.
            Otherwise the handle finds its run once, and keeps to it.
        parts: What is open; nothing when not given.
    """

    __slots__ = (
        "_direct",
        "_event_route",
        "_execution_id",
        "_heard",
        "_index",
        "_missing",
        "_parts",
        "_publisher",
        "_route",
        "_scope",
        "_strict",
    )

    def __init__(
        self,
        publisher: Publisher | None,
        execution_id: str,
        scope: Scope = NO_SCOPE,
        *,
        strict: bool = True,
        missing: OnMissingRun | None = None,
        parts: OpenSpans | None = None,
    ) -> None:
        self._publisher = publisher
        self._execution_id = execution_id
        self._scope = scope
        self._strict = strict
        self._missing: OnMissingRun | None = missing
        self._direct = publisher if strict else None
        """Receives updates of a known run without a detour; its errors reach the caller. None: use `send`."""
        self._index = itertools.count()
        self._parts = parts or OpenSpans()
        self._route: TextRoute | None = None
        self._heard: Collection[str] = ()
        self._event_route: EventRoute | None = None

    def through(self, route: TextRoute | None = None, *, heard: Collection[str] | None = None) -> None:
        """From now on its text goes by ``route``, and messages of the ids ``heard`` are known already."""
        self._route = route or self._route
        self._heard = heard if heard is not None else self._heard

    def through_events(self, route: EventRoute | None) -> None:
        """From now on its events go by ``route``."""
        self._event_route = route

    @property
    def active(self) -> bool:
        """Whether what is written arrives; False once its run is over, and outside of a decorated node."""
        publisher, run_id = self._publisher, self._scope.run_id
        return publisher is not None and (run_id is None or publisher.runs.current_run_id(self._execution_id) == run_id)

    @property
    def execution_id(self) -> str:
        """The execution it writes to; empty when it is not active."""
        return self._execution_id

    @property
    def scope(self) -> Scope:
        """What its updates are about."""
        return self._scope

    @property
    def defaults(self) -> LiveDefaults | None:
        """The decorators' defaults of its execution; None when it is not active."""
        return self._publisher.defaults(self._execution_id) if self._publisher is not None else None

    @property
    def token_streams(self) -> TokenStreams | None:
        """Where the token streams of its hub are known; None when it is not active."""
        return self._publisher.token_streams if self._publisher is not None else None

    def writes_to(self, publisher: Publisher, execution_id: str | None = None) -> bool:
        """Whether it writes to this publisher, and to this execution where one is named."""
        return self._publisher is publisher and (execution_id is None or execution_id == self._execution_id)

    @property
    def raises(self) -> bool:
        """Whether what cannot be written is raised to the caller; in a decorated node, or not active, it never is."""
        return self._strict and self._publisher is not None

    @property
    def debug(self) -> bool:
        """Whether stack traces may leave (`settings.debug`)."""
        return self._publisher is not None and self._publisher.debug

    def scoped(self, **changes: Any) -> Self:
        """An emitter of the same execution about a part of this scope: `scoped(task_id="t1")`.

        The names are those of `StreamMetadata`, and `extra` for your own keys. What it opens, this one may close.

        Raises:
            BadRequestError: A name is none of a scope's.
        """
        try:
            validate_scope(changes)
        except BadRequestError as error:
            if self._strict and self._publisher is not None:
                raise
            logger.warning("an emitter of execution %r keeps its scope: %s", self._execution_id, error)
            return self._about(self._scope)
        return self._about(self._scope.derive(**changes))

    def strict(self) -> Self:
        """The same, but what goes wrong is raised to the caller, and what it opens is its own."""
        emitter = type(self)(self._publisher, self._execution_id, self._scope, missing=self._missing)
        return self._alike(emitter)

    def _about(self, scope: Scope) -> Self:
        emitter = type(self)(
            self._publisher, self._execution_id, scope, strict=self._strict, missing=self._missing, parts=self._parts
        )
        return self._alike(emitter)

    def _alike(self, emitter: Self) -> Self:
        emitter.through(self._route, heard=self._heard)
        emitter.through_events(self._event_route)
        return emitter

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
        """One update of any type. ``data`` is anything; what JSON cannot hold becomes its nearest JSON value.

        Args:
            type: A type of `StreamEventType`, or a name of your own.
            data: What there is to say.
            priority: ``low``, ``medium``, ``high`` or ``critical``; the type's own when not given.
            delivery: What may happen to it before it is in the log. ``at-most-once``: under pressure it may be
                dropped, which is counted. ``at-least-once``: it is not. ``exactly-once``: it needs a ``key``. When not
                given, ``@stream_event``'s own level holds in a node that has it, and ``at-least-once`` elsewhere.
            key: 1 to 512 characters. A second update of the execution with the same key is left out for as long as
                the log keeps the first; so a retried node does not repeat it. A key alone means ``exactly-once``.
            large: What to do where it is over ``limits.update_bytes``: ``refuse`` it, or ``shorten`` it. When not
                given, it is shortened inside a decorated node, and elsewhere ``limits.large_updates`` holds.

        Raises:
            BadRequestError: The priority, the delivery or the key cannot be used, or the type is the hub's own.
            UpdateTooLargeError: It is over ``limits.update_bytes`` and ``limits.large_updates`` is ``refuse``. Never
                inside a decorated node, where it leaves shortened, and never for text, which is split.
        """
        scope, direct = self._scope, self._direct
        if direct is not None and scope.run_id is not None and self._route is None and self._event_route is None:
            direct.publish(  # inlines `_emit` and `send`, for each update
                self._execution_id,
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
        if self._route is not None:
            self._route.flush()
        level = delivery or "at-least-once"
        if self._event_route is None:
            self.send(type, data, scope, priority=priority, delivery=level, key=key, large=large)
            return
        try:
            self._event_route.emit(UpdateRequest(type, data, scope, priority, level, key), delivery=delivery)
        except Exception as error:
            if self._strict:
                raise
            self._note(error, type)

    def send(
        self,
        type: str,
        data: object,
        scope: Scope,
        *,
        priority: Priority | None = None,
        delivery: Delivery = "at-least-once",
        key: str | None = None,
        large: LargeUpdates | None = None,
    ) -> bool:
        """The same about another scope, past what a node holds; whether it was taken. Raises like `event`."""
        if self._publisher is None:
            return False
        try:
            if self._missing is not None and scope.run_id is None:
                scope = self._in_run(self._publisher, self._missing, scope)
            if large is None and self._strict:
                self._publisher.publish(
                    self._execution_id, type, data, scope=scope, priority=priority, delivery=delivery, key=key
                )
            else:
                self._publisher.publish(
                    self._execution_id,
                    type,
                    data,
                    scope=scope,
                    priority=priority,
                    delivery=delivery,
                    key=key,
                    large=large if self._strict else "shorten",
                )
        except Exception as error:
            if self._strict:
                raise
            self._note(error, type)
            return False
        return True

    def send_all(self, updates: Sequence[UpdateRequest]) -> bool:
        """Several updates, which follow each other in the log; whether all were taken. Raises like `event`."""
        if self._publisher is None:
            return False
        try:
            missing = self._missing
            if missing is not None:
                publisher = self._publisher
                updates = [
                    each
                    if each.scope.run_id is not None
                    else each._replace(scope=self._in_run(publisher, missing, each.scope))
                    for each in updates
                ]
            self._publisher.publish_all(self._execution_id, updates, large=None if self._strict else "shorten")
        except Exception as error:
            if self._strict:
                raise
            self._note(error, *(update.type for update in updates))
            return False
        return True

    @contextmanager
    def at_work(self) -> Generator[None]:
        """While the block lasts its run does not end as idle, however long nothing is said; where none is open, one is.

        `execution(...)` blocks, graphs, decorated nodes and `with hub.emitter(…)` do so by themselves.
        """
        run_id = self._ready().run_id
        release = (
            self._publisher.runs.keep_alive(self._execution_id, run_id)
            if self._publisher is not None and run_id
            else None
        )
        try:
            yield
        finally:
            if release is not None:
                release()

    def _in_run(self, publisher: Publisher, missing: OnMissingRun, scope: Scope) -> Scope:
        """`scope` in the run this emitter belongs to, which is found now if it was not before."""
        if self._scope.run_id is None:
            run_id = publisher.runs.run_of(self._execution_id, missing)
            if run_id is None:
                return scope.derive(run_id=_NO_RUN)
            self._scope = self._scope.derive(run_id=run_id)
        return scope.derive(run_id=self._scope.run_id)

    def _ready(self) -> Scope:
        """Its scope, in the run it belongs to: for what is derived from it and used many times."""
        if self._publisher is not None and self._missing is not None and self._scope.run_id is None:
            try:
                self._in_run(self._publisher, self._missing, self._scope)
            except Exception as error:
                if self._strict:
                    raise
                self._note(error, "workflow_start")
        return self._scope

    def _note(self, error: Exception, *types: str) -> None:
        names = ", ".join(map(str, types))
        if isinstance(error, StreamingError):
            if self._publisher is not None:
                self._publisher.note_refused(self._execution_id, names, error)
        else:
            logger.error(
                "an update of type %r of execution %r could not be published",
                names,
                self._execution_id,
                exc_info=error,
            )

    def encode(self, data: object) -> bytes:
        """``data`` as JSON, as it is now: for what is sent later, when the object may have changed. Never raises."""
        return self._publisher.encode(data) if self._publisher is not None else b"null"

    def note_failure(self) -> None:
        """Counts an exception of one of the user's own callables in the hub's statistics."""
        if self._publisher is not None:
            self._publisher.note_failure()

    def say(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """A piece of a message (`token`, `thinking`, `tool_args`) about another scope, by the way text goes.

        `data` is the emitter's from now on. Raises like `event`.
        """
        if self._route is not None:
            self._route.take(type, data, scope)
        else:
            self.send(type, data, scope)

    def flush(self) -> None:
        """Text of the node that is held leaves now. A no-op where none is."""
        if self._route is not None:
            self._route.flush()
