"""Protocols of captured code: a node, or a call of a tool inside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from uuid import UUID

    from lg_streaming.capture.graph_call import GraphCall
    from lg_streaming.context import Block, ExecutionContext, FrameMark
    from lg_streaming.emitter import Emitter
    from lg_streaming.publisher import Scope

__all__ = ["CapturedNode", "NodeFrame"]


class NodeFrame(Protocol):
    """Captured node or tool call, to which the events inside it belong."""

    @property
    def context(self) -> ExecutionContext:
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
    def progress(self) -> object:
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

    def cancel(self) -> None:
        """End a node that runs, as cancelled. A call of a tool ends with its run."""
        ...


class CapturedNode(NodeFrame, Protocol):
    """One try of a captured node, as the registry of runs uses it."""

    @property
    def name(self) -> str:
        """Name of the node, or of its function."""
        ...

    @property
    def is_graph_node(self) -> bool:
        """True if LangGraph runs it as a node, and not another node calls it as a function."""
        ...

    def succeed(self, result: object) -> None:
        """Publish that the node returned. A no-op when it has ended already."""
        ...

    def fail(self, error: BaseException) -> None:
        """Publish the end of the node that raised. A no-op when it has ended already."""
        ...
