"""State of a run in a client, folded from its updates into nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, cast

from lg_streaming.events import node_path
from lg_streaming.texts import is_below, namespaces_above

State = Literal["running", "complete", "cached", "failed", "interrupted", "cancelled", "abandoned"]

_RUN_END: Mapping[str, State] = {
    "workflow_complete": "complete",
    "workflow_error": "failed",
    "workflow_cancelled": "cancelled",
    "workflow_abandoned": "abandoned",
}
_NODE_END: Mapping[str, State] = {
    "node_complete": "complete",
    "node_error": "failed",
    "node_interrupted": "interrupted",
    "node_cached": "cached",
}
_TOOL_END: Mapping[str, State] = {
    "tool_complete": "complete",
    "tool_error": "failed",
    "tool_interrupted": "interrupted",
}
_TOOL_TYPES = frozenset({"tool_args", "tool_start", *_TOOL_END})


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
    state: State = "running"
    duration: float = 0.0
    error: str | None = None
    progress: Progress | None = None
    parts: list[TextPart | ToolPart] = field(default_factory=list[TextPart | ToolPart])
    rows: list[list[NodeView]] = field(default_factory=list["list[NodeView]"])
    """Inner nodes, in rows, without those inside a call of a tool."""

    @property
    def is_single(self) -> bool:
        """True if no other run of the same node is known."""
        return sum(_is_same_node(one, self.id, self.path) for row in self.siblings for one in row) == 1

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


@dataclass(slots=True, kw_only=True)
class RunView:
    """State of a run. Nodes that ran in parallel share a row; inner nodes are rows of the enclosing node."""

    state: Literal["waiting"] | State = "waiting"
    error: str | None = None
    updates: int = 0
    tokens: int = 0
    started_at: float | None = None
    first_token_at: float | None = None
    newest_at: float = 0.0
    ended_at: float | None = None
    rows: list[list[NodeView]] = field(default_factory=list[list[NodeView]])
    gaps: list[str] = field(default_factory=list[str])
    questions: list[Any] = field(default_factory=list[Any])
    """Questions to a human, while the run waits."""
    _current: dict[str, NodeView] = field(default_factory=dict[str, NodeView])

    @property
    def nodes(self) -> Iterator[NodeView]:
        """All nodes, row by row, each before its inner nodes."""
        return (node for row in self.rows for outer in row for node in outer.subtree)

    def apply(self, update: Mapping[str, Any]) -> NodeView | None:
        """Apply one update; return the node that it concerns, if any."""
        at = datetime.fromisoformat(update["metadata"]["timestamp"]).timestamp()
        self.updates += 1
        self.newest_at = at
        if self.started_at is None:
            self.started_at = at
        if self.state in ("waiting", "interrupted"):
            self.state, self.questions = "running", []
        kind, data = update["type"], _as_mapping(update["data"])
        if kind in _RUN_END:
            return self._finish(kind, data, at)
        if kind == "workflow_interrupted":
            self.state, self.questions = "interrupted", _get_questions(data)
        return self._apply_to_node(kind, data, update["metadata"], at)

    def mark_gap(self, gap: Mapping[str, Any]) -> None:
        """Note updates that the server could not deliver."""
        self.gaps.append(f"updates {gap.get('from')} to {gap.get('to')} are missing ({gap.get('reason')})")

    def _finish(self, kind: str, data: Mapping[str, Any], at: float) -> None:
        self.state = state = _RUN_END[kind]
        self.ended_at = at
        self.error = _error_message(data) if state == "failed" else None
        for node in self.nodes:
            if node.state == "running":
                node.end(state, at)

    def _apply_to_node(
        self, kind: str, data: Mapping[str, Any], metadata: Mapping[str, Any], at: float
    ) -> NodeView | None:
        if kind == "node_start":
            return self._start_node(data, metadata, at)
        if "node_id" not in metadata and kind not in ("token", "thinking", "llm_error"):
            return None
        existing = self._find_node(metadata)
        attempt = metadata.get("attempt")
        if existing is not None and attempt is not None and attempt != existing.attempt:
            if attempt < existing.attempt:
                return existing  # of an earlier attempt
            existing.restart(attempt, at)
        if kind == "llm_error":
            return self._retract(existing, data.get("message_id") or metadata.get("message_id"))
        node = existing if existing is not None and kind != "node_cached" else self._add_node(data, metadata, at)
        self._update_node(node, kind, data, metadata, at)
        return node

    def _find_node(self, metadata: Mapping[str, Any]) -> NodeView | None:
        """Return the node of an update. Nodes of a nested graph that is not captured count as part of their caller."""
        key, node_id = _node_key(metadata), metadata.get("node_id")
        if key in self._current:
            return self._current[key]
        around = (self._current.get(one) for one in reversed(namespaces_above(key)))
        return next((node for node in around if node is not None and node.id == node_id), None)

    def _update_node(
        self, node: NodeView, kind: str, data: Mapping[str, Any], metadata: Mapping[str, Any], at: float
    ) -> None:
        if kind in ("token", "thinking"):
            self._add_token(node, kind, data, metadata, at)
        elif kind in _NODE_END:
            node.end(_NODE_END[kind], at, data.get("duration_s"))
            node.error = _error_message(data) if kind == "node_error" else None
        elif kind == "progress":
            if "progress" in data:
                node.progress = Progress(percent=data["progress"], eta=data.get("eta_s"), at=at)
        elif kind in _TOOL_TYPES:
            _update_tool(_find_or_add_tool(node, kind, data, metadata), kind, data, at)

    def _start_node(self, data: Mapping[str, Any], metadata: Mapping[str, Any], at: float) -> NodeView:
        existing = self._current.get(_node_key(metadata))
        attempt = metadata.get("attempt", 1)
        if existing is None or existing.state != "interrupted":
            self._drop_inside(metadata.get("namespace"))
        if existing is None or attempt <= existing.attempt:
            return self._add_node(data, metadata, at)
        existing.restart(attempt, at)
        return existing

    def _drop_inside(self, namespace: str | None) -> None:
        """Drop the inner nodes of a node that begins anew. Rows stay, because a renderer counts them."""
        if not namespace:
            return
        for node in [node for node in self.nodes if is_below(node.key, namespace)]:
            for row in node.siblings:
                row[:] = [one for one in row if one is not node]
            if self._current.get(node.key) is node:
                del self._current[node.key]

    def _retract(self, existing: NodeView | None, message: str | None) -> NodeView | None:
        """Drop the text of a failed model call, in its node, or else in any node."""
        if message is None:
            return existing
        if existing is not None and existing.retract(message):
            return existing
        dropped = [node for node in self._current.values() if node.retract(message)]
        return dropped[0] if dropped else existing

    def _add_node(self, data: Mapping[str, Any], metadata: Mapping[str, Any], at: float) -> NodeView:
        node_id, key = metadata.get("node_id", ""), _node_key(metadata)
        outer = next((self._current[one] for one in reversed(namespaces_above(key)) if one in self._current), None)
        call = None if outer is None else _find_call(outer, metadata.get("tool_call_id"))
        rows = call.rows if call is not None else outer.rows if outer is not None else self.rows
        path, agent = _shown_path(metadata, outer, call), metadata.get("agent_type")
        node = NodeView(
            id=node_id,
            key=key,
            path=path,
            agent=agent,
            name=data.get("node_name") or node_id or "run",
            outer=outer,
            call=call.name if call is not None else None,
            siblings=rows,
            number=sum(_is_same_node(one, node_id, path) for row in rows for one in row) + 1,
            attempt=metadata.get("attempt", 1),
            started_at=at,
        )
        self._current[key] = node
        row_of_parallel = next(
            (row for row in rows if any(_is_same_node(n, node_id, path) and n.state == "running" for n in row)), None
        )
        if row_of_parallel is None:
            rows.append([node])
        else:
            row_of_parallel.append(node)
        return node

    def _add_token(
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


def _find_or_add_tool(node: NodeView, kind: str, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> ToolPart:
    """Return the call that an update concerns, and add it if it is new.

    Its id identifies a call. Later pieces of its arguments have no id: message and index identify them.
    """
    call, name = data.get("tool_call_id") or metadata.get("tool_call_id"), data.get("tool", "")
    message, index = metadata.get("message_id"), data.get("index")

    def fits(part: ToolPart) -> bool:
        if call:
            return part.id == call
        if kind == "tool_args":
            return (part.message, part.index) == (message, index)
        return part.name == name and not part.is_done

    part = next((part for part in node.parts if isinstance(part, ToolPart) and fits(part)), None)
    if part is None:
        part = ToolPart(id=call, name=name, message=message, index=index)
        node.parts.append(part)
    return part


def _update_tool(part: ToolPart, kind: str, data: Mapping[str, Any], at: float) -> None:
    part.name = data.get("tool") or part.name
    if kind == "tool_args":
        args = data.get("args", "")
        part.args, part.input = (part.args + args, None) if isinstance(args, str) else ("", args)
        return
    part.input = data.get("input", part.input)
    part.output = data.get("output", part.output)
    if kind == "tool_start":
        part.state, part.started_at, part.question = "running", at, None
        return
    part.state = _TOOL_END[kind]
    part.duration = data.get("duration_s", at - (part.started_at or at))
    part.error = _error_message(data) if kind == "tool_error" else None
    questions = _get_questions(data)
    part.question = questions[0] if len(questions) == 1 else questions or None


def _is_same_node(node: NodeView, node_id: str, path: tuple[str, ...]) -> bool:
    return (node.id, node.path) == (node_id, path)


def _find_call(node: NodeView, call: str | None) -> ToolPart | None:
    parts = (part for part in node.parts if isinstance(part, ToolPart))
    return next((part for part in parts if part.id == call), None) if call else None


def _shown_path(metadata: Mapping[str, Any], outer: NodeView | None, call: ToolPart | None) -> tuple[str, ...]:
    """Return the hidden enclosing nodes of a node, and its agent unless an enclosing label shows it."""
    names = node_path(metadata.get("namespace") or "").split("/")[:-1]
    hidden = names[len(node_path(outer.key).split("/")) :] if outer is not None else names
    agent = metadata.get("agent_type")
    shown = {call.name} if call is not None else set[str | None]()
    shown |= {outer.agent, outer.name, outer.id} if outer is not None else set()
    return (*hidden, agent) if agent and agent not in shown | {*hidden, metadata.get("node_id")} else (*hidden,)


def _get_questions(data: Mapping[str, Any]) -> list[Any]:
    """Return the questions to a human in an interruption."""
    interrupts = data.get("interrupts")
    items = cast("list[Any]", interrupts) if isinstance(interrupts, list) else []
    return [_text_of(_as_mapping(each).get("value", each)) for each in items]


def _text_of(question: Any) -> Any:
    """Return the text of a `human_prompt` in a node; any other question unchanged."""
    fields = _as_mapping(question)
    return fields.get("prompt", question) if "human_prompt" in fields else question


def _node_key(metadata: Mapping[str, Any]) -> str:
    return metadata.get("namespace") or metadata.get("node_id") or ""


def _as_mapping(data: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else {}


def _error_message(data: Mapping[str, Any]) -> str:
    error = data.get("error") or data.get("message") or "failed"
    return str(_as_mapping(error).get("message", error))
