"""One node's way from what happens to what leaves: the three pipelines of its decorators, put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from lg_streaming.pipeline.event_options import EventOptions
from lg_streaming.pipeline.events import EventPipeline
from lg_streaming.pipeline.progress import NO_PROGRESS, ProgressOptions, ProgressTracker
from lg_streaming.pipeline.token_options import TokenOptions
from lg_streaming.pipeline.tokens import TEXT_TYPES, TokenPipeline
from lg_streaming.publisher import UpdateRequest

if TYPE_CHECKING:
    from lg_streaming.emitter import Emitter
    from lg_streaming.events import Scope

__all__ = ["NodeOptions", "NodePipeline"]

_ENDINGS = {"node_complete": "completed", "node_error": "failed", "node_interrupted": "interrupted"}
_MODEL_ENDINGS = frozenset({"llm_complete", "llm_error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What the decorators on a node ask for, together; None for a decorator that is not there."""

    token: TokenOptions | None = None
    event: EventOptions | None = None
    progress: ProgressOptions | None = None
    node_id: str | None = None

    def merged(self, other: NodeOptions) -> Self:
        """These options and those of another decorator on the same node; the other's win where both are set."""
        return replace(
            self,
            token=other.token or self.token,
            event=other.event or self.event,
            progress=other.progress or self.progress,
            node_id=other.node_id or self.node_id,
        )

    @property
    def enabled(self) -> bool:
        """Whether any of them is on."""
        return any(part is not None and part.enabled is not False for part in (self.token, self.event, self.progress))

    @property
    def listens(self) -> bool:
        """Whether what the models and tools inside the node do matters."""
        return any(part is not None and part.enabled is not False for part in (self.token, self.event))

    def open(self, emitter: Emitter) -> NodePipeline:
        """Starts the stream of one try of the node."""
        return NodePipeline(self, emitter)


def _tracker(progress: ProgressOptions | None, event: EventOptions | None, emitter: Emitter) -> ProgressTracker:
    """The node's progress, as ``@stream_progress`` says, or the settings where only ``@stream_event`` asks for it."""
    if progress is None and event is not None and event.enabled is not False and event.tracks:
        progress = ProgressOptions(types=event.progress_types)
    return ProgressTracker(emitter, progress) if progress is not None and progress.enabled is not False else NO_PROGRESS


class NodePipeline:
    """Takes what happens in one try of a node and lets out what the options ask for.

    The node's own start and end always leave: readers need them to tell tries and branches apart. A node's
    result leaves only from a node with ``@stream_event``. Text that is held leaves before the node's end does.
    The failure of a model call whose text has left always leaves too: it makes that text void.
    """

    def __init__(self, options: NodeOptions, emitter: Emitter) -> None:
        token, event, progress = options.token, options.event, options.progress
        self._emitter = emitter
        self._tokens = TokenPipeline(token, emitter) if token is not None and token.enabled is not False else None
        if self._tokens is not None:
            emitter.through(self)  # text lets go of the events before it
        self._events = EventPipeline(event, emitter) if event is not None and event.enabled is not False else None
        self._texts: set[tuple[str | None, str | None]] = set()
        """Calls, and their messages, of which text went to the token pipeline, until they end."""
        self._text_scope: Scope | None = None
        self._progress = _tracker(progress, event, emitter)

    @property
    def progress(self) -> ProgressTracker:
        """Reports how far the node is; does nothing without ``@stream_progress``."""
        return self._progress

    def release(self) -> None:
        """Publishes what is held, text and events: what follows comes from inside the node."""
        if self._events is not None:
            self._events.release()
        self.flush()

    def begin(self) -> None:
        """Begins the progress of a node whose start is published already."""
        self._progress.begin()

    def close(self) -> None:
        """Publishes what is held and ends, without an end of the node."""
        if self._tokens is not None:
            self._tokens.close()
        if self._events is not None:
            self._events.close()

    def take(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """One thing that happened."""
        if type not in TEXT_TYPES:
            self._other(type, data, scope)
            return
        events, tokens = self._events, self._tokens
        if events is not None and events.waiting:
            events.release()
        if tokens is not None:
            tokens.take(type, data, scope)
            if scope is not self._text_scope:
                self._text_scope = scope
                self._texts.add((scope.request_id, scope.message_id))

    def _other(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        if type == "returned":
            if self._tokens is not None:
                for part in data["read"](self._tokens.received):
                    self.take(*part)
        elif type in _ENDINGS:
            self._end(type, data, scope)
        else:
            self.flush()
            self._event(type, data, scope)
            if type == "node_start":
                self._progress.begin()

    def flush(self) -> None:
        """Text that is held leaves now."""
        if self._tokens is not None:
            self._tokens.flush()

    def _end(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        if self._tokens is not None:
            self._tokens.close()
        self._progress.finish(_ENDINGS[type], data.get("error"))
        self._event(type, data, scope)
        if self._events is not None:
            self._events.close()

    def _event(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        owed = type in _MODEL_ENDINGS and self._is_owed(type, data, scope)
        if self._events is None:
            if owed or type.startswith("node_"):
                data.pop("result", None)
                self._emitter.send(type, data, scope)
        elif type == "custom":  # the node's own words, whichever events are asked for
            self._events.emit(UpdateRequest(type, data, scope), delivery=None)
        else:
            self._events.take(type, data, scope, always=owed)

    def _is_owed(self, type: str, data: dict[str, Any], scope: Scope) -> bool:
        """Return whether readers of the node's text need the end of a model call, whatever events are asked for.

        They do when text they have is void, and when it left under ids that the message does not keep.
        """
        key = (scope.request_id, scope.message_id)
        has_text = key in self._texts
        self._texts.discard(key)
        self._text_scope = None
        return (has_text and type == "llm_error") or (self._tokens is not None and "replaces" in data)
