"""Frames of captured code: a node, or a call of a tool inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lg_streaming.capture.run_registry import RUNS
from lg_streaming.publisher import FrameMark

if TYPE_CHECKING:
    from uuid import UUID

    from lg_streaming.capture.graph_call import GraphCall
    from lg_streaming.emitter import Emitter
    from lg_streaming.publisher import Block, ExecutionContext, Scope

__all__ = ["NodeFrame", "ToolRun"]


class NodeFrame(Protocol):
    """Captured node or tool call, to which the events inside it belong."""

    @property
    def binding(self) -> ExecutionContext:
        """Execution and run."""
        ...

    @property
    def scope(self) -> Scope:
        """Scope of its updates."""
        ...

    @property
    def outer(self) -> NodeFrame | None:
        """Frame around it in the same execution."""
        ...

    @property
    def block(self) -> Block | None:
        """Execution block in which it was entered."""
        ...

    @property
    def call(self) -> GraphCall | None:
        """Graph call that it is part of."""
        ...

    @property
    def ended(self) -> bool:
        """True once it has returned or raised."""
        ...

    @property
    def mark(self) -> FrameMark:
        """Mark that refers to it in contexts."""
        ...

    @property
    def emitter(self) -> Emitter:
        """Emitter of updates about it."""
        ...

    @property
    def progress(self) -> Any:
        """Reporter of its progress."""
        ...

    @property
    def listens(self) -> bool:
        """True if models inside it are made to stream."""
        ...

    @property
    def graph_namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of the node."""
        ...

    @property
    def run_ids(self) -> set[UUID]:
        """LangChain runs inside it; unregistered when it ends."""
        ...

    @property
    def listener(self) -> object:
        """Handler that takes its custom events; None for the handler that follows its run."""
        ...

    @property
    def message_ids(self) -> set[str]:
        """Ids of the messages that models inside it wrote."""
        ...

    @property
    def texts(self) -> set[str]:
        """Texts of these messages."""
        ...

    def note_message(self, message_id: str, namespace: str | None) -> None:
        """Record that a message's text is streamed in this namespace."""
        ...

    def record(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Record an event inside the frame. Never raises."""
        ...

    def release(self) -> None:
        """Flush the buffered updates, because a node or a tool inside begins."""
        ...


class ToolRun:
    """Call of a tool in a captured node. Updates inside it carry the call's id."""

    __slots__ = ("_emitter", "ended", "mark", "outer", "run_ids", "scope")

    def __init__(self, outer: NodeFrame, scope: Scope) -> None:
        self.outer: NodeFrame = outer
        self.mark: FrameMark = FrameMark(self, outer.mark)
        self.scope: Scope = scope
        self.run_ids: set[UUID] = set()
        self.ended = False
        self._emitter: Emitter | None = None

    @property
    def binding(self) -> ExecutionContext:
        """Execution and run."""
        return self.outer.binding

    @property
    def block(self) -> Block | None:
        """Execution block in which the node was entered."""
        return self.outer.block

    @property
    def call(self) -> GraphCall | None:
        """Graph call that it is part of."""
        return self.outer.call

    @property
    def listens(self) -> bool:
        """True if models inside it are made to stream."""
        return self.outer.listens

    @property
    def graph_namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of the node."""
        return self.outer.graph_namespace

    @property
    def listener(self) -> object:
        """None: the handler that follows its run takes its custom events."""
        return None

    @property
    def message_ids(self) -> set[str]:
        """Ids of the messages that models inside the node wrote."""
        return self.outer.message_ids

    @property
    def texts(self) -> set[str]:
        """Texts of these messages."""
        return self.outer.texts

    def note_message(self, message_id: str, namespace: str | None) -> None:
        """Record that a message's text is streamed in this namespace."""
        self.outer.note_message(message_id, namespace)

    @property
    def progress(self) -> Any:
        """Reporter of the node's progress."""
        return self.outer.progress

    @property
    def emitter(self) -> Emitter:
        """Emitter of updates about the tool call."""
        if self._emitter is None:
            self._emitter = self.outer.emitter.scoped(tool_call_id=self.scope.tool_call_id)
        return self._emitter

    def record(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Record an event inside the frame. Never raises."""
        self.outer.record(type, data, scope)

    def release(self) -> None:
        """Flush the node's buffered updates, because a node or a tool inside begins."""
        self.outer.release()

    def end(self) -> None:
        """End the call."""
        self.ended: bool = True
        self.mark.frame = None
        RUNS.unregister(self.run_ids)
