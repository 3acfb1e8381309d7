"""The write handle: everything a program says about an execution goes through an emitter."""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Generator, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar, overload

from lg_streaming.chunks import message_id_of, parts_of_chunk
from lg_streaming.errors import StreamingError
from lg_streaming.scope import NO_SCOPE, Outgoing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.events import Priority
    from lg_streaming.scope import Delivery, LiveDefaults, Publisher, Scope, TokenStreams

__all__ = ["Emitter", "EventRoute", "TextRoute", "current_emitter", "emitter_var"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


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

    def emit(self, update: Outgoing, *, delivery: Delivery | None) -> None:
        """One event; ``delivery`` is None where the emitter's user named none."""
        ...


class Emitter:
    """Writes to one execution, about one scope. Thread-safe, never waits, works with and without an event loop.

    Get one with ``hub.emitter("exec-1", node_id="write")``, or inside a decorated node with
    `current_emitter`. An emitter belongs to the run that was open when it was made: when that run has
    ended, what it writes is dropped and counted, since nothing may follow a run's final update.

    In a node with ``@stream_token`` its text goes through the node's filter, processor and buffer, together with
    the text of the models; whatever else it writes comes after the text before it.

    In a node with ``@stream_event`` what it writes beside text and progress goes through the node's filter,
    transformer and buffer, whatever ``events`` names; what that filter excludes is not sent.

    An emitter of a decorated node never raises into the node; one from ``hub.emitter`` raises
    ``UpdateTooLargeError`` and ``HubClosedError`` to its caller.
    """

    __slots__ = ("_event_route", "_execution_id", "_heard", "_index", "_publisher", "_route", "_scope", "_strict")

    def __init__(
        self, publisher: Publisher | None, execution_id: str, scope: Scope = NO_SCOPE, *, strict: bool = True
    ) -> None:
        self._publisher = publisher
        self._execution_id = execution_id
        self._scope = scope
        self._strict = strict
        self._index = itertools.count()
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

    @property
    def token_streams(self) -> TokenStreams | None:
        """Where the token streams of its hub are known; None when it is not active."""
        return self._publisher.tokens if self._publisher is not None else None

    @property
    def raises(self) -> bool:
        """Whether what cannot be written is raised to the caller; in a decorated node, or not active, it never is."""
        return self._strict and self._publisher is not None

    @property
    def debug(self) -> bool:
        """Whether stack traces may leave (``settings.debug``)."""
        return self._publisher is not None and self._publisher.debug

    def scoped(self, **changes: Any) -> Self:
        """An emitter of the same execution about a part of this scope: ``scoped(task_id="t1")``.

        The names are those of `StreamMetadata`, and ``extra`` for your own keys.
        """
        scope = self._scope.derive(**changes)
        emitter = type(self)(self._publisher, self._execution_id, scope, strict=self._strict)
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

        Raises:
            BadRequestError: The priority, the delivery or the key cannot be used, or the type is the hub's own.
            UpdateTooLargeError: It is over ``limits.update_bytes``; never inside a decorated node.
        """
        self.flush()
        level = delivery or "at-least-once"
        if self._event_route is None:
            self.send(type, data, self._scope, priority=priority, delivery=level, key=key)
            return
        try:
            self._event_route.emit(Outgoing(type, data, self._scope, priority, level, key), delivery=delivery)
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
    ) -> bool:
        """The same about another scope, past what a node holds; whether it was taken. Raises like `event`."""
        if self._publisher is None:
            return False
        try:
            self._publisher.publish(
                self._execution_id, type, data, scope=scope, priority=priority, delivery=delivery, key=key
            )
        except Exception as error:
            if self._strict:
                raise
            self._note(error, type)
            return False
        return True

    def send_all(self, updates: Sequence[Outgoing]) -> bool:
        """Several updates, which follow each other in the log; whether all were taken. Raises like `event`."""
        if self._publisher is None:
            return False
        try:
            self._publisher.publish_all(self._execution_id, updates)
        except Exception as error:
            if self._strict:
                raise
            self._note(error, *(update.type for update in updates))
            return False
        return True

    def _note(self, error: Exception, *types: str) -> None:
        names = ", ".join(map(repr, types))
        if isinstance(error, StreamingError):
            logger.warning("an update of type %s of execution %r was refused: %s", names, self._execution_id, error)
        else:
            logger.error(
                "an update of type %s of execution %r could not be published",
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

    def token(self, content: str, *, role: str = "ai") -> None:
        """One piece of text. Readers join the pieces of a message; an empty piece is not sent."""
        if content:
            self._say("token", {"content": content, "index": next(self._index), "role": role}, self._scope)

    def thinking(self, content: str) -> None:
        """One piece of a model's reasoning."""
        if content:
            self._say("thinking", {"content": content, "index": next(self._index)}, self._scope)

    def say(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """A piece of a message (``token``, ``thinking``, ``tool_args``) about another scope, by the way text goes.

        ``data`` is the emitter's from now on. Raises like `event`.
        """
        self._say(type, data, scope)

    def _say(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        if self._route is not None:
            self._route.take(type, data, scope)
        else:
            self.send(type, data, scope)

    def flush(self) -> None:
        """Text of the node that is held leaves now. A no-op where none is."""
        if self._route is not None:
            self._route.flush()

    @overload
    def tokens(self, stream: AsyncIterable[T]) -> AsyncGenerator[T]: ...

    @overload
    def tokens(self, stream: Iterable[T]) -> Generator[T]: ...

    def tokens(self, stream: AsyncIterable[T] | Iterable[T]) -> AsyncGenerator[T] | Generator[T]:
        """Streams the text of a model's answer while you read it: ``async for chunk in emitter.tokens(answer): …``.

        It yields what ``stream`` yields, unchanged. Chunks may be strings, or what the clients of OpenAI, Anthropic,
        LangChain and Ollama give, as objects or mappings; text becomes ``token``, reasoning ``thinking``, pieces of
        tool calls ``tool_args``. A chunk that is none of these just passes. In a decorated node a LangChain model is
        heard anyway, and its chunks are not said twice.

        Args:
            stream: Any iterable or async iterable. An async one gives an async generator.
        """
        saying = _Saying(self, self._say, self._heard)
        if isinstance(stream, AsyncIterable):
            return saying.asynchronous(stream)
        return saying.synchronous(stream)

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


class _Saying:
    """One answer that is read through an emitter."""

    def __init__(
        self, emitter: Emitter, say: Callable[[str, dict[str, Any], Scope], None], heard: Collection[str]
    ) -> None:
        self._emitter = emitter
        self._say = say
        self._heard = heard
        self._scope = emitter.scope
        self._indexes = {"token": itertools.count(), "thinking": itertools.count()}

    async def asynchronous(self, stream: AsyncIterable[T]) -> AsyncGenerator[T]:
        try:
            async for chunk in stream:
                self._chunk(chunk)
                yield chunk
        finally:
            self._end()

    def synchronous(self, stream: Iterable[T]) -> Generator[T]:
        try:
            for chunk in stream:
                self._chunk(chunk)
                yield chunk
        finally:
            self._end()

    def _chunk(self, chunk: object) -> None:
        if not self._emitter.active:
            return
        try:
            message_id = message_id_of(chunk)
            if message_id is not None and message_id in self._heard:
                return
            if message_id is not None and message_id != self._scope.message_id:
                self._scope = self._scope.derive(message_id=message_id)
            for kind, data in parts_of_chunk(chunk):
                if kind != "tool_args":
                    data |= {"index": next(self._indexes[kind]), "role": "ai"}
                self._say(kind, data, self._scope)
        except StreamingError:
            raise
        except Exception:
            logger.exception("a chunk of type %s could not be read", type(chunk).__name__)

    def _end(self) -> None:
        self._emitter.flush()


NO_EMITTER: Final = Emitter(None, "")

emitter_var: ContextVar[Emitter] = ContextVar("lg_streaming_emitter", default=NO_EMITTER)
"""Set while a decorated node runs."""


def current_emitter() -> Emitter:
    """The emitter of the decorated node that is running; outside of one, an emitter that does nothing."""
    return emitter_var.get()
