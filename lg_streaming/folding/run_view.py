"""State of a run in a client, folded from its updates into nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from lg_streaming.events import node_path
from lg_streaming.folding.fitted import fitted
from lg_streaming.folding.node_view import NodeView, Progress, State, TextPart, ToolPart, is_same_node
from lg_streaming.folding.prompt_view import PromptView, as_list, as_mapping, prompts_in_interruption, question_of
from lg_streaming.texts import is_below, namespaces_above

RunState = Literal["waiting", "queued", "paused"] | State

__all__ = ["NodeView", "Progress", "RunState", "RunView", "TextPart", "ToolPart"]

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
_STATUSES: Mapping[str, RunState] = {
    "queued": "queued",
    "paused": "paused",
    "running": "running",
    "resumed": "running",
}
_HALTED = frozenset({"queued", "paused", "interrupted"})


@dataclass(slots=True, kw_only=True)
class RunView:
    """State of a run. Nodes that ran in parallel share a row; inner nodes are rows of the enclosing node."""

    state: RunState = "waiting"
    place: int | None = None
    """Place in the queue, while the run is queued."""
    error: str | None = None
    result: Any = None
    updates: int = 0
    tokens: int = 0
    started_at: float | None = None
    first_token_at: float | None = None
    newest_at: float = 0.0
    ended_at: float | None = None
    rows: list[list[NodeView]] = field(default_factory=list[list[NodeView]])
    gaps: list[str] = field(default_factory=list[str])
    prompts: list[PromptView] = field(default_factory=list[PromptView])
    """Questions to a human, oldest first."""
    progress: Progress | None = None
    """Progress of the whole run."""
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
        kind, metadata = update["type"], update["metadata"]
        data = fitted(kind, update["data"])
        if self.state == "waiting" or (kind == "node_start" and self.state in _HALTED):
            self._set_state("running")
        if kind in _RUN_END:
            return self._finish(kind, data, at)
        if "node_id" not in metadata:
            self._apply_to_run(kind, data, at)
        if kind in ("human_prompt", "human_response"):
            return self._apply_prompt(kind, data, metadata)
        return self._apply_to_node(kind, data, metadata, at)

    @property
    def next_prompt(self) -> PromptView | None:
        """The oldest open prompt; None without one."""
        return next((each for each in self.prompts if each.state == "open"), None)

    def mark_gap(self, gap: Mapping[str, Any]) -> None:
        """Note updates that the server could not deliver."""
        self.gaps.append(f"updates {gap.get('from')} to {gap.get('to')} are missing ({gap.get('reason')})")

    def _set_state(self, state: RunState, place: int | None = None) -> None:
        """Set the state of the run; one that goes on has no open prompts for which it waits."""
        if state == "running":
            for prompt in self.prompts:
                if prompt.pauses and prompt.state == "open":
                    prompt.state = "closed"
        self.state, self.place = state, place

    def _apply_to_run(self, kind: str, data: Mapping[str, Any], at: float) -> None:
        if kind == "status" and data.get("status") in _STATUSES:
            self._set_state(_STATUSES[data["status"]], data.get("place"))
        elif kind == "workflow_interrupted":
            for prompt in prompts_in_interruption(data):
                known = self._open_prompt(prompt.prompt_id)
                (known or prompt).pauses = True
                if known is None:
                    self.prompts.append(prompt)
            self._set_state("paused" if data.get("paused") else "interrupted")
        elif kind == "workflow_progress" and "progress" in data:
            self.progress = Progress(percent=data["progress"], eta=data.get("eta_s"), at=at)

    def _open_prompt(self, prompt_id: Any) -> PromptView | None:
        return next((each for each in self.prompts if each.prompt_id == prompt_id and each.state == "open"), None)

    def _apply_prompt(self, kind: str, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> NodeView | None:
        node = self._find_node(metadata)
        prompt = self._open_prompt(data.get("prompt_id"))
        if prompt is not None and kind == "human_response":
            prompt.close(data)
        elif prompt is None and kind == "human_prompt":
            self.prompts.append(prompt := PromptView.from_data(data))
            if node is not None:
                node.prompts.append(prompt)
        return node

    def _finish(self, kind: str, data: Mapping[str, Any], at: float) -> None:
        self.state = state = _RUN_END[kind]
        self.ended_at = at
        self.error = _error_message(data) if state == "failed" else None
        self.result = data.get("result")
        for prompt in self.prompts:
            if prompt.state == "open":
                prompt.state = "closed"
        # If no node reported the failure, those at work may have it.
        stopped = "cancelled" if state == "failed" and any(node.state == "failed" for node in self.nodes) else state
        for node in self.nodes:
            if node.state == "running":
                node.end(stopped, at)

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
            node.end("cancelled" if _is_cancel(data) else _NODE_END[kind], at, data.get("duration_s"))
            node.error = _error_message(data) if node.state == "failed" else None
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
            number=sum(is_same_node(one, node_id, path) for row in rows for one in row) + 1,
            attempt=metadata.get("attempt", 1),
            started_at=at,
        )
        self._current[key] = node
        row_of_parallel = next(
            (row for row in rows if any(is_same_node(n, node_id, path) and n.state == "running" for n in row)), None
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
        part.text += data.get("content", "")
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
    part.state = "cancelled" if _is_cancel(data) else _TOOL_END[kind]
    part.duration = data.get("duration_s", at - (part.started_at or at))
    part.error = _error_message(data) if part.state == "failed" else None
    questions = _get_questions(data)
    part.question = questions[0] if len(questions) == 1 else questions or None


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
    """Return the questions to a human of a tool that was interrupted."""
    return [question_of(each) for each in as_list(data.get("interrupts"))]


def _node_key(metadata: Mapping[str, Any]) -> str:
    return metadata.get("namespace") or metadata.get("node_id") or ""


def _is_cancel(data: Mapping[str, Any]) -> bool:
    """Return whether a node or a tool ended with a cancel. An error of the program has a type."""
    error = as_mapping(data.get("error"))
    return error.get("code") == "cancelled" and "type" not in error


def _error_message(data: Mapping[str, Any]) -> str:
    error = data.get("error") or data.get("message") or "failed"
    fields = as_mapping(error)
    message = str(fields.get("message", error))
    return f"KeyError: {message}" if fields.get("type") == "KeyError" else message  # its message is the key alone
