"""The write handle: everything a program says about an execution goes through an emitter."""

from __future__ import annotations

import itertools
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Self, cast

from lg_streaming.errors import StreamingError, UpdateTooLargeError
from lg_streaming.scope import NO_SCOPE

if TYPE_CHECKING:
    from lg_streaming.events import Priority
    from lg_streaming.scope import LiveDefaults, Publisher, Scope

__all__ = ["Emitter", "current_emitter", "emitter_var"]

logger = logging.getLogger(__name__)


class Emitter:
    """Writes to one execution, about one scope. Thread-safe, never waits, works with and without an event loop.

    Get one with ``hub.emitter("exec-1", node_id="write")``, or inside a decorated node with
    :func:`current_emitter`. An emitter belongs to the run that was open when it was made: when that run has
    ended, what it writes is dropped and counted, since nothing may follow a run's final update.

    An emitter of a decorated node never raises into the node; one from ``hub.emitter`` raises
    ``UpdateTooLargeError`` and ``HubClosedError`` to its caller.
    """

    __slots__ = ("_execution_id", "_index", "_publisher", "_scope", "_strict")

    def __init__(
        self, publisher: Publisher | None, execution_id: str, scope: Scope = NO_SCOPE, *, strict: bool = True
    ) -> None:
        self._publisher = publisher
        self._execution_id = execution_id
        self._scope = scope
        self._strict = strict
        self._index = itertools.count()

    @property
    def active(self) -> bool:
        """Whether anything written arrives anywhere; False for the emitter outside of a decorated node."""
        return self._publisher is not None

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

    def scoped(self, **changes: Any) -> Self:
        """An emitter of the same execution about a part of this scope: ``scoped(task_id="t1")``.

        The names are those of :class:`~lg_streaming.events.StreamMetadata`, and ``extra`` for your own keys.
        """
        return type(self)(self._publisher, self._execution_id, self._scope.derive(**changes), strict=self._strict)

    def event(self, type: str, data: object = None, *, priority: Priority = "medium") -> None:
        """One update of any type. ``data`` is anything; what JSON cannot hold becomes its nearest JSON value.

        Raises:
            UpdateTooLargeError: It is over ``limits.update_bytes``; never inside a decorated node.
        """
        self.send(type, data, self._scope, priority=priority)

    def send(self, type: str, data: object, scope: Scope, *, priority: Priority = "medium") -> None:
        """The same about another scope. Raises like :meth:`event`."""
        if self._publisher is None:
            return
        try:
            self._publisher.publish(self._execution_id, type, data, scope=scope, priority=priority)
        except UpdateTooLargeError as error:
            if self._strict:
                raise
            logger.warning("an update of type %r of execution %r is too large: %s", type, self._execution_id, error)
            if isinstance(data, dict) and "result" in data:  # readers need the node's end more than its result
                shorter = {**cast("dict[str, Any]", data), "result": {"message": "withheld: too large to send"}}
                self.send(type, shorter, scope, priority=priority)
        except StreamingError as error:
            if self._strict:
                raise
            logger.warning("an update of type %r of execution %r was refused: %s", type, self._execution_id, error)
        except Exception:
            if self._strict:
                raise
            logger.exception("an update of type %r of execution %r could not be published", type, self._execution_id)

    def token(self, content: str, *, role: str = "ai") -> None:
        """One piece of text. Readers join the pieces of a message; an empty piece is not sent."""
        if content:
            self.event("token", {"content": content, "index": next(self._index), "role": role})

    def thinking(self, content: str) -> None:
        """One piece of a model's reasoning."""
        if content:
            self.event("thinking", {"content": content, "index": next(self._index)})

    def progress(self, current: float, total: float, *, text: str | None = None) -> None:
        """How far a piece of work is: ``current`` of ``total`` in any unit."""
        percent = 0.0 if total <= 0 else min(100.0, max(0.0, 100.0 * current / total))
        data = {"progress": round(percent, 1), "current": current, "total": total, "status": "running"}
        self.event("progress", data | ({"text": text} if text is not None else {}))

    def status(self, status: str, **details: Any) -> None:
        """The state of what is going on, in a word, with any details."""
        self.event("status", {"status": status, **details})

    def custom(self, name: str, data: object = None) -> None:
        """An event of your own, of type ``custom``: ``{name, data}``."""
        self.event("custom", {"name": name, "data": data})


NO_EMITTER: Final = Emitter(None, "")

emitter_var: ContextVar[Emitter] = ContextVar("lg_streaming_emitter", default=NO_EMITTER)
"""Set while a decorated node runs."""


def current_emitter() -> Emitter:
    """The emitter of the decorated node that is running; outside of one, an emitter that does nothing."""
    return emitter_var.get()
