"""Nodes of a run in a client: text, calls of tools, progress."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from lg_streaming.folding.prompt_view import PromptView

__all__ = ["NodeView", "Progress", "State", "TextPart", "ToolPart", "is_same_node"]

State = Literal["running", "complete", "cached", "failed", "interrupted", "cancelled", "abandoned"]


@dataclass(slots=True, kw_only=True, eq=False)
class TextPart:
    """One message of a model, or its thinking, so far."""

    kind: Literal["token", "thinking"]
    message: str
    text: str = ""


@dataclass(slots=True, kw_only=True, eq=False)
class ToolPart:
    """One call of a tool; its state is ``asked`` while the model writes the arguments."""

    id: str | None
    name: str
    message: str | None
    index: int | None
    state: Literal["asked"] | State = "asked"
    args: str = ""
    input: Any = None
    output: Any = None
    started_at: float = 0.0
    duration: float = 0.0
    error: str | None = None
    question: Any = None
    """Question to a human, if the tool waits for an answer."""
    rows: list[list[NodeView]] = field(default_factory=list["list[NodeView]"])
    """Nodes that run inside this call, in rows, such as those of an agent that is used as a tool."""

    @property
    def arguments(self) -> Any:
        """Arguments of the call, as far as they are known."""
        return self.args if self.input is None else self.input

    @property
    def was_called(self) -> bool:
        """True once the tool was called; before, the model has only requested it."""
        return self.state != "asked"

    @property
    def is_done(self) -> bool:
        """True if the tool has returned or failed, or waits for a human."""
        return self.state not in ("asked", "running")


@dataclass(slots=True, kw_only=True)
class Progress:
    """Progress of a node: `percent` from 0 to 100, `eta` in seconds as of the time `at`."""

    percent: float
    eta: float | None
    at: float


@dataclass(slots=True, kw_only=True, eq=False)
class NodeView:
    """One run of one node, and the nodes inside it. Times are seconds since the epoch, by the server's clock."""

    id: str
    key: str
    """Namespace of the node, or its id without a namespace."""
    path: tuple[str, ...]
    """Names that the label shows before the node's name: hidden enclosing nodes, and the agent."""
    agent: str | None
    name: str
    outer: NodeView | None = field(repr=False)
    """Enclosing node, if it is known."""
    call: str | None
    """Tool of the enclosing node inside which this node runs."""
    siblings: list[list[NodeView]] = field(repr=False)
    """Rows that show the node and its siblings."""
    number: int
    attempt: int
    started_at: float
    resumes: int = 0
    """Attempts that went on after an answer."""
    state: State = "running"
    duration: float = 0.0
    error: str | None = None
    progress: Progress | None = None
    prompts: list[PromptView] = field(default_factory=list[PromptView])
    parts: list[TextPart | ToolPart] = field(default_factory=list[TextPart | ToolPart])
    rows: list[list[NodeView]] = field(default_factory=list["list[NodeView]"])
    """Inner nodes, in rows, without those inside a call of a tool."""

    @property
    def is_single(self) -> bool:
        """True if no other run of the same node is known."""
        return sum(is_same_node(one, self.id, self.path) for row in self.siblings for one in row) == 1

    @property
    def tries(self) -> int:
        """Number of the attempt, without those that went on after an answer."""
        return self.attempt - self.resumes

    @property
    def subtree(self) -> Iterator[NodeView]:
        """The node and all its inner nodes."""
        yield self
        calls = [row for part in self.parts if isinstance(part, ToolPart) for row in part.rows]
        for row in (*calls, *self.rows):
            for node in row:
                yield from node.subtree

    def restart(self, attempt: int, at: float) -> None:
        """Begin a new attempt: retract its text. Inner nodes stay, with their calls."""
        self.resumes += self.state == "interrupted"
        self.attempt, self.started_at, self.state = attempt, at, "running"
        self.error, self.progress = None, None
        self.parts = [part for part in self.parts if isinstance(part, ToolPart) and any(part.rows)]

    def retract(self, message: str) -> bool:
        """Drop the parts of a failed model call; return whether there were any."""
        kept = [
            part for part in self.parts if part.message != message or (isinstance(part, ToolPart) and part.was_called)
        ]
        dropped, self.parts = len(kept) < len(self.parts), kept
        return dropped

    def end(self, state: State, at: float, duration: float | None = None) -> None:
        """Set the final state of the node, and its duration."""
        self.state = state
        self.duration = at - self.started_at if duration is None else duration


def is_same_node(node: NodeView, node_id: str, path: tuple[str, ...]) -> bool:
    """Return whether a node is a run of the node with this id and path."""
    return (node.id, node.path) == (node_id, path)
