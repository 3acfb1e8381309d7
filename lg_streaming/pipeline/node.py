"""One node's way from what happens to what leaves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from lg_streaming.pipeline.progress import NO_PROGRESS, ProgressTracker, progress_var

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.emitter import Emitter
    from lg_streaming.pipeline.options import EventOptions, ProgressOptions, TokenOptions
    from lg_streaming.scope import Scope

__all__ = ["NodeOptions"]

_TEXT = frozenset({"token", "thinking", "tool_args"})
_LIFECYCLE = frozenset({"node_start", "node_complete", "node_error", "node_interrupted"})
_ENDINGS = {"node_complete": "completed", "node_error": "failed", "node_interrupted": "interrupted"}


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
        return any(part is not None and part.enabled for part in (self.token, self.event, self.progress))

    @property
    def listens(self) -> bool:
        """Whether what the models and tools inside the node do matters."""
        return any(part is not None and part.enabled for part in (self.token, self.event))

    def open(self, emitter: Emitter) -> NodeStream:
        """Starts the stream of one try of the node."""
        return NodeStream(self, emitter)


class NodeStream:
    """Takes what happens in one try of a node and lets out what the options ask for.

    The node's own start and end always leave: readers need them to tell tries and branches apart. A node's
    result leaves only from a node with ``@stream_event``.
    """

    def __init__(self, options: NodeOptions, emitter: Emitter) -> None:
        self._emitter = emitter
        self._text = options.token is not None and options.token.enabled
        self._events = options.event if options.event is not None and options.event.enabled else None
        progress = options.progress if options.progress is not None and options.progress.enabled else None
        self._progress = ProgressTracker(emitter, progress) if progress is not None else NO_PROGRESS

    def activate(self) -> Callable[[], None]:
        """Puts the node's progress tracker in force."""
        token = progress_var.set(self._progress)
        return lambda: progress_var.reset(token)

    def take(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """One thing that happened."""
        if type in _TEXT:
            if self._text:
                self._emitter.send(type, data, scope)
        elif type in _LIFECYCLE:
            self._node(type, data, scope)
        elif self._events is not None and self._events.wants(type):
            self._emitter.send(type, data, scope)

    def _node(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        if self._events is None:
            data.pop("result", None)
        if type in _ENDINGS:
            self._progress.finish(_ENDINGS[type])
        self._emitter.send(type, data, scope)
        if type == "node_start":
            self._progress.begin()
