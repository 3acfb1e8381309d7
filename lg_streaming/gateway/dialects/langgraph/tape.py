"""The event tape of a thread: the events of LangChain's event streaming, made of the updates of an execution.

The events are a function of the updates alone: a filter leaves events out, and changes neither their ids nor their
numbers. So each delivery of an event is the same, to every reader and after every reconnection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import orjson

from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.langgraph.event_shapes import (
    FIRST_SLOT,
    Place,
    as_list,
    as_text,
    data_of,
    epoch_number,
    error_text,
    graph_name,
    interrupt_of,
    members,
    node_name,
    place_of,
    returned,
    to_json,
)
from lg_streaming.gateway.dialects.langgraph.message_events import MessageEvents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.gateway.dialects.langgraph.channels import Namespace, Selection
    from lg_streaming.log.base import StoredUpdate

__all__ = ["SLOTS", "Framing", "SegmentId", "Tape"]

SLOTS: Final = 1_000
"""Numbers of events that each update has: event ``n`` of update ``u`` has the number ``u * SLOTS + n``."""
_LAST: Final = SLOTS - 1
_REQUESTS: Final = 900
"""First slot of the questions of an interrupted run."""
_UPDATES, _TASKS, _LIFECYCLE = 990, 991, 992
_ENDS: Final = {
    "workflow_complete": "completed",
    "workflow_error": "failed",
    "workflow_cancelled": "interrupted",
    "workflow_abandoned": "failed",
}
_MOST_PLACES: Final = 4_096
_ENVELOPE: Final = (
    b'{"type":"event","event_id":"%b","seq":%d,"method":"%b","params":{"namespace":%b,"timestamp":%b,"data":%b}}'
)

Framing = Callable[[bytes, bytes, bytes], bytes]
"""Function from an event's method, id and JSON to the bytes of a transport."""

_QUIET: Final = frozenset({"human_prompt", "human_response", "workflow_progress", "workflow_interrupted", "state"})
"""Types of updates that come while a run waits for people, and do not continue it."""

SegmentId = Callable[[str, str, int], str]
"""Function from a run's id, the epoch and the number of its last interruption to the id of what follows."""


class Tape:
    """Encoder of a thread's events, see `FrameEncoder`.

    Args:
        frame: Framing of the transport.
        selections: Filters; an event passes if one of them accepts it.
        segment_id: Function that names the parts of a run between its interruptions.
        since: Number of the last event that the reader has.
    """

    def __init__(
        self, frame: Framing, selections: Sequence[Selection], segment_id: SegmentId, *, since: int = -1
    ) -> None:
        self.states: dict[str, bytes] = {}
        """JSON of states that an update was too small for, by checkpoint; each is used once."""
        self.last: int = -1
        """Number of the last event of the newest update."""
        self.written: int = 0
        """Number of events that passed the filters."""
        self._frame = frame
        self._selections = tuple(selections)
        self._segment_id = segment_id
        self._since = since
        self._out: list[bytes] = []
        self._epoch, self._prefix = "", b""
        self._base, self._millis = 0, b""
        self._places: dict[str | None, Place] = {}
        self._selected: dict[tuple[str, Namespace], bool] = {}
        self._messages = MessageEvents(self)
        self._clear()

    def _clear(self) -> None:
        self._segment, self._graph_name, self._interrupted_at = "", "", 0
        self._graphs: dict[str, Namespace] = {}
        self._tools: dict[str, dict[str, None]] = {}
        self._asked: set[str] = set()
        self._returned: set[str | None] = set()

    def select(self, selections: Sequence[Selection]) -> None:
        """Replace the filters, from the next event on."""
        self._selections = tuple(selections)
        self._selected.clear()
        self._messages.forget_filters()

    def note_gap(self) -> None:
        """Record that updates are missing: the messages that they began come whole, with the next state."""
        self._messages.lose()

    @property
    def graph_name(self) -> str:
        """Name of the graph of the last run; empty if it is not known."""
        return self._graph_name

    def snapshot(self, record: StoredUpdate, state: Mapping[str, Any]) -> bytes:
        """Encode the newest state for a reader that misses updates, before the first record that is kept."""
        checkpoint_id, metadata = members(state.get("checkpoint")).get("checkpoint_id"), members(state.get("metadata"))
        parent_id = members(state.get("parent_checkpoint")).get("checkpoint_id")
        checkpoint = {
            "id": checkpoint_id,
            "parent_id": parent_id,
            **{key: metadata.get(key) for key in ("step", "source")},
        }
        number, namespace = record.seq * SLOTS, ()
        frames: list[bytes] = []
        for offset, (method, data) in enumerate((("checkpoints", checkpoint), ("values", state.get("values"))), 1):
            if self.selects(method, namespace) and number - 3 + offset > self._since:
                event_id = b"newest:%b:%d" % (as_text(checkpoint_id).encode(), offset)
                facts = (event_id, number - 3 + offset, method.encode(), b"[]", b"%d" % (record.timestamp * 1000))
                frames.append(self._frame(method.encode(), event_id, _ENVELOPE % (*facts, to_json(data))))
        return b"".join(frames)

    # ------------------------------------------------------------ updates
    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (others need it)
        """See `FrameEncoder.encode`."""
        out = self._out = []
        readers = self._READERS
        for record in records:
            self._base, self._millis = record.seq * SLOTS, b"%d" % (record.timestamp * 1000)
            if record.epoch != self._epoch:
                self._begin_epoch(record.epoch)
            if self._interrupted_at and record.type not in _QUIET and record.type not in _ENDS:
                self._go_on(record)
            if record.type == "token":
                self._messages.token(record, data_of(record))
            else:
                read = readers.get(record.type, Tape._read_other)
                if read is not None:
                    read(self, record, data_of(record))
        if records:
            self.last = records[-1].seq * SLOTS + _LAST
        return Frames(b"".join(out), count=len(out))

    def _begin_epoch(self, epoch: str) -> None:
        if self._epoch:
            self._clear()
            self._messages.clear()
            self._since = -1  # it counts events of the former life
        self._epoch = epoch
        self._prefix = b"%d-" % epoch_number(epoch)

    def place(self, record: StoredUpdate) -> Place:
        """Return the place of an update's node, and begin the graph around it if it is new."""
        raw = record.scope.namespace
        found = self._places.get(raw)
        if found is None:
            found = self._places[raw] = place_of(raw)
            if len(self._places) > _MOST_PLACES:
                self._places = {raw: found}
        if found.key and found.key not in self._graphs:
            self._begin_graphs(found)
        return found

    def selects(self, channel: str, namespace: Namespace) -> bool:
        """Return whether a filter accepts events of a channel in a namespace."""
        key = (channel, namespace)
        selected = self._selected.get(key)
        if selected is None:
            if len(self._selected) >= _MOST_PLACES:
                self._selected.clear()
            selected = any(each.has(channel) and each.covers(namespace) for each in self._selections)
            self._selected[key] = selected
        return selected

    def write(self, slot: int, method: bytes, parameters: bytes, data: bytes, segment: bytes | None = None) -> None:
        """Write an event of the present update, if the reader does not have it.

        Args:
            slot: Number of the event in its update, below `SLOTS`.
            method: The event's method.
            parameters: The namespace as JSON, and further members of the parameters.
            data: The event's data as JSON.
            segment: Id of the run that the event is about, if clients read it from the event's id.
        """
        number = self._base + slot
        if number <= self._since or slot > _LAST:
            return
        event_id = b"%b%d" % (self._prefix, number)
        if segment is not None:
            event_id = b"synth:%b:%b" % (segment, event_id)
        self.written += 1
        json = _ENVELOPE % (event_id, number, method, parameters, self._millis, data)
        self._out.append(self._frame(method, event_id, json))

    def _put(self, slot: int, channel: str, namespace: Namespace, data: object, **options: Any) -> None:
        """Write an event if a filter accepts it."""
        if self.selects(channel, namespace):
            method = options.get("method", channel)
            parameters = to_json(namespace)
            if node := options.get("node"):
                parameters += b',"node":%b' % to_json(node)
            self.write(slot, method.encode(), parameters, to_json(data), options.get("segment"))

    # ------------------------------------------------------------ runs
    def _root(self, record: StoredUpdate, event: str, slot: int, error: str | None = None) -> None:
        self._segment = self._segment or record.scope.run_id or ""
        data = {"event": event, "graph_name": self._graph_name, **({} if error is None else {"error": error})}
        self._put(slot, "lifecycle", (), data, segment=self._segment.encode())

    def _read_start(self, record: StoredUpdate, data: Any) -> None:
        self._clear()
        self._messages.clear()
        self._graph_name = as_text(members(data).get("name"))
        self._root(record, "running", 0)

    def _go_on(self, record: StoredUpdate) -> None:
        """Begin the next part of a run that people have answered."""
        run_id = record.scope.run_id or self._segment
        self._segment = self._segment_id(run_id, record.epoch, self._interrupted_at)
        self._interrupted_at = 0
        self._root(record, "running", 0)

    def _read_end(self, record: StoredUpdate, data: Any) -> None:
        event = _ENDS[record.type]
        error = error_text(data, record.type) if event == "failed" else None
        slot = self._messages.end_all(error)
        self._end_graphs("", event, slot, error)
        self._root(record, event, _LAST, error)
        name = self._graph_name
        self._clear()
        self._graph_name = name
        self._messages.clear()

    def _read_interrupted(self, record: StoredUpdate, data: Any) -> None:
        fields = members(data)
        if fields.get("paused"):  # no person is asked: for these clients the run goes on
            return
        slot = self._messages.end_all(None)
        self._end_graphs("", "interrupted", slot, None)
        for number, prompt in enumerate(as_list(fields.get("prompts"))):
            self._ask(min(_REQUESTS + number, _UPDATES - 1), members(prompt))
        self._interrupted_at = self._interrupted_at or record.seq
        self._root(record, "interrupted", _LAST)

    # ------------------------------------------------------------ people
    def _read_prompt(self, _: StoredUpdate, data: Any) -> None:
        self._ask(FIRST_SLOT, members(data))

    def _ask(self, slot: int, prompt: Mapping[str, Any]) -> None:
        prompt_id = as_text(prompt.get("prompt_id"))
        if prompt_id in self._asked:
            return
        self._asked.add(prompt_id)
        question = prompt["value"] if "value" in prompt else dict(prompt)
        graph = place_of(as_text(prompt.get("namespace")) or None).graph
        data = {"interrupt_id": prompt_id, "payload": question, "value": question}
        self._put(slot, "input", graph, data, method="input.requested")

    def _read_response(self, record: StoredUpdate, data: Any) -> None:
        prompt_id = as_text(members(data).get("prompt_id"))
        self._asked.discard(prompt_id)
        graph = place_of(record.scope.namespace).graph
        self._put(FIRST_SLOT, "input", graph, {"interrupt_ids": [prompt_id]}, method="input.answered")

    # ------------------------------------------------------------ states
    def _read_state(self, record: StoredUpdate, data: Any) -> None:
        """Write a state and its checkpoint. A state before its input was applied would take the input from the page."""
        fields = members(data)
        raw = record.scope.namespace
        place = place_of(None if raw is None else f"{raw}|")
        if raw is not None and raw not in self._graphs:
            self._begin_graphs(place)
        if fields.get("source") == "input":
            return
        checkpoint_id = fields.get("checkpoint_id")
        values = fields.get("values")
        if "values" not in fields:
            known = self.states.pop(checkpoint_id, None) if isinstance(checkpoint_id, str) else None
            if known is None:
                return
            values = orjson.Fragment(known)
        if checkpoint_id is not None:
            checkpoint = {
                "id": checkpoint_id,
                "parent_id": fields.get("parent_checkpoint_id"),
                "step": fields.get("step"),
                "source": fields.get("source"),
            }
            known_facts = {name: value for name, value in checkpoint.items() if value is not None}
            self._put(FIRST_SLOT, "checkpoints", place.graph, known_facts)
        self._put(FIRST_SLOT + 1, "values", place.graph, values)

    # ------------------------------------------------------------ nodes and subgraphs
    def _begin_graphs(self, place: Place) -> None:
        """Begin the graph of a place, and those around it."""
        for depth in range(1, len(place.graph) + 1):
            graph = place.graph[:depth]
            key = "|".join(graph)
            if key in self._graphs:
                continue
            self._graphs[key] = graph
            data: dict[str, Any] = {"event": "started", "graph_name": graph_name(graph)}
            calls = self._tools.get(key.rpartition("|")[0] if graph[-1].isdigit() else key, {})
            if len(calls) == 1:
                data["cause"] = {"type": "toolCall", "tool_call_id": next(iter(calls))}
            if depth < FIRST_SLOT:
                self._put(depth, "lifecycle", graph, data)

    def _end_graphs(self, node: str, event: str, slot: int, error: str | None) -> None:
        """End the graphs that a node has called, the innermost first; all graphs for an empty `node`."""
        ending = [key for key in self._graphs if not node or key == node or key.startswith(f"{node}|")]
        for key in reversed(ending):
            graph = self._graphs.pop(key)
            data = {
                "event": event,
                "graph_name": graph_name(graph),
                **({} if error is None else {"error": error}),
            }
            if slot < _REQUESTS:
                self._put(slot, "lifecycle", graph, data)
            slot += 1

    def _read_node_start(self, record: StoredUpdate, data: Any) -> None:
        place = self.place(record)
        raw = record.scope.namespace or ""
        self._messages.void(raw)
        self._returned.discard(raw)
        task: dict[str, Any] = {
            "id": place.task_id,
            "name": node_name(record, data),
            "input": None,
            "triggers": [],
            "metadata": {},
        }
        self._put(_TASKS, "tasks", place.graph, task)

    def _read_node_end(self, record: StoredUpdate, data: Any) -> None:
        place, fields, raw = self.place(record), members(data), record.scope.namespace or ""
        error = error_text(data, "the node failed") if record.type == "node_error" else None
        slot = self._messages.end_below(raw, error)
        if raw:
            event = {"node_error": "failed", "node_interrupted": "interrupted"}.get(record.type, "completed")
            self._end_graphs(raw, event, slot, error)
            self._tools.pop(raw, None)
        name, result = node_name(record, data), fields.get("result")
        if raw in self._returned:
            self._returned.discard(raw)
        elif record.type != "node_error" and "result" in fields:
            self._put(_UPDATES, "updates", place.graph, {"node": name, "values": returned(result)}, node=name)
        task: dict[str, Any] = {
            "id": place.task_id,
            "name": name,
            "error": error,
            "result": returned(result),
            "interrupts": [interrupt_of(each) for each in as_list(fields.get("interrupts"))],
        }
        self._put(_TASKS, "tasks", place.graph, task)

    def _read_updates(self, record: StoredUpdate, data: Any) -> None:
        place = self.place(record)
        self._returned.add(record.scope.namespace or "")
        for number, (name, values) in enumerate(members(data).items()):
            self._put(FIRST_SLOT + number, "updates", place.graph, {"node": name, "values": values}, node=name)

    # ------------------------------------------------------------ tools
    def _read_tool(self, record: StoredUpdate, data: Any) -> None:
        fields, place = members(data), self.place(record)
        call_id = as_text(fields.get("tool_call_id")) or record.scope.tool_call_id or f"call-{record.seq}"
        calls = self._tools.setdefault("|".join(place.own), {})
        match record.type:
            case "tool_start":
                calls[call_id] = None
                event = {
                    "event": "tool-started",
                    "tool_name": as_text(fields.get("tool")),
                    "input": fields.get("input"),
                }
            case "tool_complete":
                calls.pop(call_id, None)
                event = {"event": "tool-finished", "output": fields.get("output")}
            case _:
                calls.pop(call_id, None)
                event = {"event": "tool-error", "message": error_text(data, "the tool failed")}
        self._put(FIRST_SLOT, "tools", place.own, {**event, "tool_call_id": call_id}, node=record.scope.node_id)

    # ------------------------------------------------------------ the rest
    def _read_custom(self, record: StoredUpdate, data: Any) -> None:
        fields = members(data)
        self._send_custom(record, as_text(fields.get("name")) or "custom", fields.get("data"))

    def _read_other(self, record: StoredUpdate, data: Any) -> None:
        self._send_custom(record, record.type, data)

    def _send_custom(self, record: StoredUpdate, name: str, payload: object) -> None:
        place, node = self.place(record), record.scope.node_id
        data = {"name": name, "payload": payload}
        if self.selects(f"custom:{name}", place.graph):
            member = b"" if node is None else b',"node":%b' % to_json(node)
            self.write(FIRST_SLOT, b"custom", place.json + member, to_json(data))

    def _read_llm_start(self, record: StoredUpdate, data: Any) -> None:
        self._messages.model_start(record, data)

    def _read_thinking(self, record: StoredUpdate, data: Any) -> None:
        self._messages.thinking(record, data)

    def _read_tool_args(self, record: StoredUpdate, data: Any) -> None:
        self._messages.tool_args(record, data)

    def _read_llm_end(self, record: StoredUpdate, data: Any) -> None:
        self._messages.model_end(record, data)

    def _read_messages(self, record: StoredUpdate, data: Any) -> None:
        self._messages.whole(record, as_list(members(data).get("messages")))

    _READERS: ClassVar[Mapping[str, Callable[[Any, StoredUpdate, Any], None] | None]] = {
        "workflow_start": _read_start,
        "status": None,
        **dict.fromkeys(_ENDS, _read_end),
        "workflow_interrupted": _read_interrupted,
        "human_prompt": _read_prompt,
        "human_response": _read_response,
        "state": _read_state,
        "values": None,
        "node_start": _read_node_start,
        **dict.fromkeys(("node_complete", "node_error", "node_interrupted", "node_cached"), _read_node_end),
        "updates": _read_updates,
        **dict.fromkeys(("tool_start", "tool_complete", "tool_error"), _read_tool),
        "tool_interrupted": None,
        "custom": _read_custom,
        "llm_start": _read_llm_start,
        "thinking": _read_thinking,
        "tool_args": _read_tool_args,
        **dict.fromkeys(("llm_complete", "llm_error"), _read_llm_end),
        "messages": _read_messages,
    }
