"""One call of a tool inside a captured node: its frame, its updates, its outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lg_streaming.capture.outcome import CANCELLED, classify_ending, get_interrupts
from lg_streaming.context import FrameMark
from lg_streaming.errors import describe_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from lg_streaming.capture.graph_call import GraphCall
    from lg_streaming.capture.node_frame import NodeFrame
    from lg_streaming.context import Block, ExecutionContext
    from lg_streaming.emitter import Emitter
    from lg_streaming.publisher import Scope

__all__ = ["ToolCall", "ToolRun"]


class ToolRun:
    """Call of a tool in a captured node. Updates inside it carry the call's id.

    Args:
        outer: The node or tool that calls it.
        scope: The scope of its updates.
        unregister: Unregisters the runs inside it, when it ends.
    """

    __slots__ = ("_emitter", "_unregister", "ended", "mark", "outer", "run_ids", "scope")

    def __init__(self, outer: NodeFrame, scope: Scope, unregister: Callable[[set[UUID]], None]) -> None:
        self.outer: NodeFrame = outer
        self.mark: FrameMark = FrameMark(self, outer.mark)
        self.scope: Scope = scope
        self.run_ids: set[UUID] = set()
        self.ended = False
        self._emitter: Emitter | None = None
        self._unregister = unregister

    @property
    def context(self) -> ExecutionContext:
        """Execution and run."""
        return self.outer.context

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
    def progress(self) -> object:
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

    def cancel(self) -> None:
        """Do nothing: the call ends with its run."""

    def end(self) -> None:
        """End the call."""
        self.ended: bool = True
        self.mark.frame = None
        self._unregister(self.run_ids)


class ToolCall:
    """Call of a tool, between its start and its end.

    Args:
        frame: The node or tool that calls it.
        scope: The scope of its updates, without the call's id.
        info: Data of all its updates.
        call_id: The call's id; None if it is unknown.
        unregister: Unregisters the runs inside it, when it ends.
    """

    __slots__ = ("_info", "frame", "run", "scope")

    def __init__(
        self,
        frame: NodeFrame,
        scope: Scope,
        info: dict[str, Any],
        call_id: str | None,
        *,
        unregister: Callable[[set[UUID]], None],
    ) -> None:
        self.frame: NodeFrame = frame
        self.run: ToolRun | None = None
        self.scope: Scope = scope
        if call_id is not None:
            self.scope = scope.derive(tool_call_id=call_id)
            self.run = ToolRun(frame, self.scope, unregister)
        self._info = info

    def publish(self, type: str, **data: Any) -> None:
        """Publish an update about the call."""
        self.frame.record(type, {**self._info, **data}, self.scope)

    def fail(self, error: BaseException) -> None:
        """End the call that raised: a pause for a human is no failure."""
        match classify_ending(error):
            case "complete":
                self.end("tool_complete")
            case "interrupted":
                interrupts, context = get_interrupts(error, self.scope.namespace), self.frame.context
                if self.scope.tool_call_id is not None:
                    ids = [each["id"] for each in interrupts]
                    context.publisher.runs.note_interrupted_tool(context.execution_id, self.scope.tool_call_id, ids)
                self.end("tool_interrupted", interrupts=interrupts)
            case "cancelled":
                self.end("tool_error", error=CANCELLED)
            case "failed":
                self.end("tool_error", error=describe_error(error, debug=self.frame.context.publisher.debug))

    def end(self, type: str, **data: Any) -> None:
        """End the call: later updates do not carry its id."""
        if self.run is not None:
            self.run.end()
        self.publish(type, **data)
