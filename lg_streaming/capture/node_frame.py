"""What the code in a captured node belongs to: the node itself, or a call of a tool inside it."""

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
    """A captured node or a tool call in it: where what happens inside goes."""

    @property
    def binding(self) -> ExecutionContext:
        """The execution."""
        ...

    @property
    def scope(self) -> Scope:
        """What its updates are about."""
        ...

    @property
    def outer(self) -> NodeFrame | None:
        """The frame around it in the same execution."""
        ...

    @property
    def block(self) -> Block | None:
        """The execution block in which it was entered."""
        ...

    @property
    def call(self) -> GraphCall | None:
        """The graph call that it is part of."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it has returned or raised."""
        ...

    @property
    def mark(self) -> FrameMark:
        """The mark that refers to it in contexts."""
        ...

    @property
    def emitter(self) -> Emitter:
        """Writes updates about it."""
        ...

    @property
    def progress(self) -> Any:
        """Reports its progress."""
        ...

    @property
    def listens(self) -> bool:
        """Whether models inside it are made to stream."""
        ...

    @property
    def graph_namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of the node."""
        ...

    @property
    def run_ids(self) -> set[UUID]:
        """The LangChain runs inside it; forgotten when it ends."""
        ...

    @property
    def listener(self) -> object:
        """The handler that receives its custom events; None for the one that follows its run."""
        ...

    @property
    def message_ids(self) -> set[str]:
        """The messages that models inside it wrote."""
        ...

    @property
    def texts(self) -> set[str]:
        """The texts of these messages."""
        ...

    def note_message(self, message_id: str, namespace: str | None) -> None:
        """Remembers a message whose text is streamed in this namespace."""
        ...

    def hear(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Takes one thing that happened. Never raises."""
        ...

    def release(self) -> None:
        """Publishes what is held: something inside begins."""
        ...


class ToolRun:
    """One call of a tool in a captured node: what happens in it carries the call's id."""

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
        """The execution."""
        return self.outer.binding

    @property
    def block(self) -> Block | None:
        """The execution block in which the node was entered."""
        return self.outer.block

    @property
    def call(self) -> GraphCall | None:
        """The graph call that it is part of."""
        return self.outer.call

    @property
    def listens(self) -> bool:
        """Whether models inside it are made to stream."""
        return self.outer.listens

    @property
    def graph_namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of the node."""
        return self.outer.graph_namespace

    @property
    def listener(self) -> object:
        """None: its run has a follower."""
        return None

    @property
    def message_ids(self) -> set[str]:
        """The messages that models inside the node wrote."""
        return self.outer.message_ids

    @property
    def texts(self) -> set[str]:
        """The texts of these messages."""
        return self.outer.texts

    def note_message(self, message_id: str, namespace: str | None) -> None:
        """Remembers a message whose text is streamed in this namespace."""
        self.outer.note_message(message_id, namespace)

    @property
    def progress(self) -> Any:
        """Reports the node's progress."""
        return self.outer.progress

    @property
    def emitter(self) -> Emitter:
        """Writes updates about the tool call."""
        if self._emitter is None:
            self._emitter = self.outer.emitter.scoped(tool_call_id=self.scope.tool_call_id)
        return self._emitter

    def hear(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Takes one thing that happened. Never raises."""
        self.outer.hear(type, data, scope)

    def release(self) -> None:
        """Publishes what the node holds: something inside begins."""
        self.outer.release()

    def end(self) -> None:
        """Ends the call."""
        self.ended: bool = True
        self.mark.frame = None
        RUNS.unregister(self.run_ids)
