"""What a watching client knows about a run: folds the updates it receives, one after another, into nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

State = Literal["running", "complete", "failed", "interrupted", "cancelled", "abandoned"]

_FINAL: Mapping[str, State] = {
    "workflow_complete": "complete",
    "workflow_error": "failed",
    "workflow_cancelled": "cancelled",
    "workflow_abandoned": "abandoned",
}
_NODE_END: Mapping[str, State] = {
    "node_complete": "complete",
    "node_error": "failed",
    "node_interrupted": "interrupted",
}


@dataclass(slots=True, kw_only=True)
class TextPart:
    """One message of a model, or its thinking, as far as it has come."""

    kind: Literal["token", "thinking"]
    message: str
    text: str = ""


@dataclass(slots=True, kw_only=True)
class ToolPart:
    """One call of a tool; ``asked`` while the model is still writing its arguments."""

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

    @property
    def asked(self) -> Any:
        """What the tool was called with, as far as it is known."""
        return self.args if self.input is None else self.input

    @property
    def over(self) -> bool:
        """Whether the tool has answered or failed."""
        return self.state not in ("asked", "running")


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a node is: `percent` from 0 to 100, `eta` in seconds as of the time `at`."""

    percent: float
    eta: float | None
    at: float


@dataclass(slots=True, kw_only=True)
class NodeView:
    """One run of one node. Times are seconds since the epoch, by the server's clock."""

    id: str
    name: str
    number: int
    attempt: int
    started_at: float
    state: State = "running"
    duration: float = 0.0
    error: str | None = None
    progress: Progress | None = None
    parts: list[TextPart | ToolPart] = field(default_factory=list[TextPart | ToolPart])

    def end(self, state: State, at: float, duration: float | None = None) -> None:
        """Note how and when the node ended."""
        self.state = state
        self.duration = at - self.started_at if duration is None else duration


@dataclass(slots=True, kw_only=True)
class RunView:
    """A run as its updates tell it. Nodes that ran side by side share a row."""

    state: Literal["waiting"] | State = "waiting"
    error: str | None = None
    updates: int = 0
    tokens: int = 0
    started_at: float | None = None
    first_token_at: float | None = None
    newest_at: float = 0.0
    ended_at: float | None = None
    rows: list[list[NodeView]] = field(default_factory=list[list[NodeView]])
    missed: list[str] = field(default_factory=list[str])
    _current: dict[str, NodeView] = field(default_factory=dict[str, NodeView])

    @property
    def nodes(self) -> Iterator[NodeView]:
        """All nodes in the order they started, row by row."""
        return (node for row in self.rows for node in row)

    def alone(self, node: NodeView) -> bool:
        """Whether no other run of the same node is known."""
        return sum(one.id == node.id for one in self.nodes) == 1

    def apply(self, update: Mapping[str, Any]) -> NodeView | None:
        """Fold in one update; returns the node it was about, if any."""
        at = datetime.fromisoformat(update["metadata"]["timestamp"]).timestamp()
        self.updates += 1
        self.newest_at = at
        if self.started_at is None:
            self.started_at = at
        if self.state in ("waiting", "interrupted"):
            self.state = "running"
        kind, data = update["type"], _mapping(update["data"])
        if kind in _FINAL:
            return self._finish(kind, data, at)
        if kind == "workflow_interrupted":
            self.state = "interrupted"
        return self._about_node(kind, data, update["metadata"], at)

    def miss(self, gap: Mapping[str, Any]) -> None:
        """Note updates that the server could not give."""
        self.missed.append(f"updates {gap.get('from')} to {gap.get('to')} are missing ({gap.get('reason')})")

    def _finish(self, kind: str, data: Mapping[str, Any], at: float) -> None:
        self.state = state = _FINAL[kind]
        self.ended_at = at
        self.error = _message(data) if state == "failed" else None
        for node in self.nodes:
            if node.state == "running":
                node.end(state, at)

    def _about_node(
        self, kind: str, data: Mapping[str, Any], metadata: Mapping[str, Any], at: float
    ) -> NodeView | None:
        if kind == "node_start":
            return self._start(data, metadata, at)
        if "node_id" not in metadata and kind not in ("token", "thinking"):
            return None
        node = self._current.get(_key(metadata)) or self._add(data, metadata, at)
        if kind in ("token", "thinking"):
            self._token(node, kind, data, metadata, at)
        elif kind in _NODE_END:
            node.end(_NODE_END[kind], at, data.get("duration_s"))
            node.error = _message(data) if kind == "node_error" else None
        elif kind == "progress":
            if "progress" in data:
                node.progress = Progress(percent=data["progress"], eta=data.get("eta_s"), at=at)
        elif kind in ("tool_args", "tool_start", "tool_complete", "tool_error"):
            _tool(_tool_part(node, kind, data, metadata), kind, data, at)
        return node

    def _start(self, data: Mapping[str, Any], metadata: Mapping[str, Any], at: float) -> NodeView:
        known = self._current.get(_key(metadata))
        attempt = metadata.get("attempt", 1)
        if known is None or attempt <= known.attempt:
            return self._add(data, metadata, at)
        known.attempt, known.started_at, known.state = attempt, at, "running"
        known.error, known.progress, known.parts = None, None, []
        return known

    def _add(self, data: Mapping[str, Any], metadata: Mapping[str, Any], at: float) -> NodeView:
        node_id = metadata.get("node_id", "")
        node = NodeView(
            id=node_id,
            name=data.get("node_name") or node_id or "run",
            number=sum(one.id == node_id for one in self.nodes) + 1,
            attempt=metadata.get("attempt", 1),
            started_at=at,
        )
        self._current[_key(metadata)] = node
        beside = next((row for row in self.rows if any(n.id == node_id and n.state == "running" for n in row)), None)
        if beside is None:
            self.rows.append([node])
        else:
            beside.append(node)
        return node

    def _token(
        self,
        node: NodeView,
        kind: Literal["token", "thinking"],
        data: Mapping[str, Any],
        metadata: Mapping[str, Any],
        at: float,
    ) -> None:
        message = data.get("message_id") or metadata.get("message_id") or ""
        part = next(
            (p for p in node.parts if isinstance(p, TextPart) and (p.kind, p.message) == (kind, message)),
            None,
        )
        if part is None:
            part = TextPart(kind=kind, message=message)
            node.parts.append(part)
        part.text += data["content"]
        self.tokens += data.get("batch_size", 1)
        if self.first_token_at is None:
            self.first_token_at = at


def _tool_part(node: NodeView, kind: str, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> ToolPart:
    """The call an update is about.

    It is known by its id. The pieces of its arguments after the first have none: they are known by the message they
    came in and their place in it.
    """
    call, name = data.get("tool_call_id") or metadata.get("tool_call_id"), data.get("tool", "")
    message, index = metadata.get("message_id"), data.get("index")

    def fits(part: ToolPart) -> bool:
        if call:
            return part.id == call
        if kind == "tool_args":
            return (part.message, part.index) == (message, index)
        return part.name == name and not part.over

    part = next((part for part in node.parts if isinstance(part, ToolPart) and fits(part)), None)
    if part is None:
        part = ToolPart(id=call, name=name, message=message, index=index)
        node.parts.append(part)
    return part


def _tool(part: ToolPart, kind: str, data: Mapping[str, Any], at: float) -> None:
    part.name = data.get("tool") or part.name
    if kind == "tool_args":
        args = data.get("args", "")
        part.args, part.input = (part.args + args, None) if isinstance(args, str) else ("", args)
        return
    part.input = data.get("input", part.input)
    part.output = data.get("output", part.output)
    if kind == "tool_start":
        part.state, part.started_at = "running", at
        return
    part.state = "failed" if kind == "tool_error" else "complete"
    part.duration = data.get("duration_s", at - (part.started_at or at))
    part.error = _message(data) if kind == "tool_error" else None


def _key(metadata: Mapping[str, Any]) -> str:
    return metadata.get("namespace") or metadata.get("node_id") or ""


def _mapping(data: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else {}


def _message(data: Mapping[str, Any]) -> str:
    error = data.get("error") or data.get("message") or "failed"
    return str(_mapping(error).get("message", error))
