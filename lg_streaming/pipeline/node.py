"""The pipelines of one node: those of its three decorators, in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from lg_streaming.emitter import Emitter
from lg_streaming.pipeline.event_options import EventOptions
from lg_streaming.pipeline.events import EventPipeline
from lg_streaming.pipeline.progress import NO_PROGRESS, ProgressOptions, ProgressTracker
from lg_streaming.pipeline.token_options import TokenOptions
from lg_streaming.pipeline.tokens import TEXT_TYPES, TokenPipeline
from lg_streaming.publisher import UpdateRequest

if TYPE_CHECKING:
    from lg_streaming.emitter import ScopedPublisher
    from lg_streaming.events import Scope
    from lg_streaming.publisher import Delivery

__all__ = ["NodeOptions", "NodePipeline"]

_ENDINGS = {"node_complete": "completed", "node_error": "failed", "node_interrupted": "interrupted"}
_MODEL_ENDINGS = frozenset({"llm_complete", "llm_error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """The options of all decorators on a node; None for a decorator that it does not have."""

    token: TokenOptions | None = None
    event: EventOptions | None = None
    progress: ProgressOptions | None = None
    node_id: str | None = None

    def merged(self, other: NodeOptions) -> Self:
        """Return these options merged with another decorator's, which win where both are set."""
        return replace(
            self,
            token=other.token or self.token,
            event=other.event or self.event,
            progress=other.progress or self.progress,
            node_id=other.node_id or self.node_id,
        )

    @property
    def enabled(self) -> bool:
        """True if any of them is on."""
        return any(part is not None and part.enabled is not False for part in (self.token, self.event, self.progress))

    @property
    def listens(self) -> bool:
        """True if models and tools inside the node are captured."""
        return any(part is not None and part.enabled is not False for part in (self.token, self.event))

    def open(self, output: ScopedPublisher) -> NodePipeline:
        """Return the pipeline of one try of the node, which publishes to ``output``."""
        return NodePipeline(self, output)


class NodePipeline:
    """Pipelines of one try of a node, for the updates that the options select.

    The node's own start and end are always published: readers distinguish tries and branches by them. A node's result
    is published only with ``@stream_event``. Buffered text is published before the node's end. The failure of a model
    call with published text is always published too: it makes that text void.
    """

    def __init__(self, options: NodeOptions, output: ScopedPublisher) -> None:
        token, event, progress = options.token, options.event, options.progress
        self._output = output
        self._tokens = TokenPipeline(token, output) if token is not None and token.enabled is not False else None
        self._events = EventPipeline(event, output) if event is not None and event.enabled is not False else None
        self._texts: set[tuple[str | None, str | None]] = set()
        """Calls, and their messages, of which text went to the token pipeline, until they end."""
        self._text_scope: Scope | None = None
        self._progress = self._tracker(progress, event)

    def _tracker(self, progress: ProgressOptions | None, event: EventOptions | None) -> ProgressTracker:
        """Return the node's progress: of ``@stream_progress``, or with the settings' options for ``@stream_event``."""
        if progress is None and event is not None and event.enabled is not False and event.tracks:
            progress = ProgressOptions(types=event.progress_types)
        if progress is None or progress.enabled is False:
            return NO_PROGRESS
        output = self._output
        emitter = Emitter(output.publisher, output.execution_id, output.scope, strict=False, pipeline=self)
        return ProgressTracker(emitter, progress)

    @property
    def progress(self) -> ProgressTracker:
        """The node's progress; one that does nothing without ``@stream_progress``."""
        return self._progress

    def release(self) -> None:
        """Publish all buffered text and events, before updates of code inside the node."""
        if self._events is not None:
            self._events.release()
        self.flush()

    def begin(self) -> None:
        """Begin the progress of a node whose start is published already."""
        self._progress.begin()

    def close(self) -> None:
        """Publish all buffered text and events, and end without an end of the node."""
        if self._tokens is not None:
            self._tokens.close()
        if self._events is not None:
            self._events.close()

    def put(self, type: str, data: dict[str, Any], scope: Scope) -> bool:
        """Accept a piece of text or an event of the node. Return False for text in a node without token options."""
        if type not in TEXT_TYPES:
            self._put_other(type, data, scope)
            return True
        events = self._events
        if events is not None and events.waiting:
            events.release()
        tokens = self._tokens
        if tokens is None:
            return False
        tokens.put(type, data, scope)
        if scope is not self._text_scope:
            self._text_scope = scope
            self._texts.add((scope.request_id, scope.message_id))
        return True

    def emit(self, update: UpdateRequest, *, delivery: Delivery | None) -> bool:
        """Accept an event of an emitter, after the text before it. Return False in a node without ``@stream_event``.

        ``delivery`` is None where the emitter's caller named none.
        """
        if self._tokens is not None:
            self._tokens.flush()
        if self._events is None:
            return False
        self._events.emit(update, delivery=delivery)
        return True

    def _put_other(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        if type == "returned":
            if self._tokens is not None:
                for part in data["read"](self._tokens.received):
                    self.put(*part)
        elif type in _ENDINGS:
            self._end(type, data, scope)
        else:
            self.flush()
            self._put_event(type, data, scope)
            if type == "node_start":
                self._progress.begin()

    def flush(self) -> None:
        """Publish the text that is buffered."""
        if self._tokens is not None:
            self._tokens.flush()

    def _end(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        if self._tokens is not None:
            self._tokens.close()
        self._progress.finish(_ENDINGS[type], data.get("error"))
        self._put_event(type, data, scope)
        if self._events is not None:
            self._events.close()

    def _put_event(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        owed = type in _MODEL_ENDINGS and self._is_owed(type, data, scope)
        if self._events is None:
            if owed or type.startswith("node_"):
                data.pop("result", None)
                self._output.publish(type, data, scope)
        elif type == "custom":  # an event of the node's own code, which `events` does not choose
            self._events.emit(UpdateRequest(type, data, scope), delivery=None)
        else:
            self._events.put(type, data, scope, always=owed)

    def _is_owed(self, type: str, data: dict[str, Any], scope: Scope) -> bool:
        """Return whether readers of the node's text need the end of a model call that the options do not select.

        They need it if published text is void, and if text was published under ids that the message does not keep.
        """
        key = (scope.request_id, scope.message_id)
        has_text = key in self._texts
        self._texts.discard(key)
        self._text_scope = None
        return (has_text and type == "llm_error") or (self._tokens is not None and "replaces" in data)
