"""Flowise's dialect of Server-Sent Events, for its chat window and its clients.

Every frame has a field without a meaning, `message:`, and one line of data: `{"event": …, "data": …}`. The stream has
no ids and no names of events, so its reader cannot resume.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

from lg_streaming.codec import Codec
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.flowise.shapes import (
    Json,
    Recent,
    action_of_interrupt,
    action_of_prompt,
    bare_list,
    called_tool,
    data_of,
    document,
    error_text,
    executed_node,
    known_metadata,
    members,
    next_agent_flow,
    text_of,
    used_tool,
    used_tool_of,
)
from lg_streaming.log.base import state_after

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["Flowise"]

_JSON: Final = Codec()
_DONE: Final = "[DONE]"
_MAX_OPEN: Final = 128
"""Maximum of open tool calls and prompts that one stream keeps."""
_FLOW_ENDS: Final = {
    "workflow_complete": "FINISHED",
    "workflow_error": "ERROR",
    "workflow_cancelled": "TERMINATED",
    "workflow_abandoned": "TERMINATED",
}
_NODE_ENDS: Final = {
    "node_complete": "FINISHED",
    "node_error": "ERROR",
    "node_interrupted": "STOPPED",
    "node_cached": "FINISHED",
}
_OURS: Final = frozenset({"start", "end", "abort", "action", "listenerReady", "executionEnd"})
"""Names of events about the state of a stream."""
_END_FRAMES: Final = {
    "failed": ("error", "the run failed"),
    "abandoned": ("error", "the program that ran it is gone"),
    "cancelled": ("abort", _DONE),
}
_GONE: Final = {
    "timeout": "the stream has lasted as long as it may: ask again",
    "server_restart": "the server restarts: ask again",
}

T = TypeVar("T")

Frame = bytes
_Reader = Callable[[Any, "StoredUpdate", Any], Iterator[Frame]]


def _frame(event: str, data: object, *, duration: float | None = None) -> Frame:
    return _framed(event, _JSON.to_json(data), duration)


def _framed(event: str, json: bytes, duration: float | None = None) -> Frame:
    rest = b"" if duration is None else b',"duration":%b' % _JSON.to_json(duration)
    return b'message:\ndata:{"event":%b,"data":%b%b}\n\n' % (_JSON.to_json(event), json, rest)


@dataclass(frozen=True, slots=True)
class _Stop:
    """Prompts that a run waits for."""

    action: Json
    node: Json
    """The node, as stopped."""


class Flowise:
    """Encoder of Flowise's event stream, see `EventStreamEncoder`. Its state is bounded.

    Args:
        execution_id: The execution.
        follow: Whether the reader watches run after run; then neither a prompt nor the end of a run ends its stream.
        listener_id: Name of the reader, if it follows.
        replica_id: Name of this process, if the reader follows.
    """

    keep_alive: bytes = b":heartbeat\n"  # no empty line: fetch-event-source takes one for an event without data
    shared: bool = False
    cuts: bool = False

    def __init__(self, execution_id: str, *, follow: bool, listener_id: str, replica_id: str) -> None:
        self._execution_id = execution_id
        self._follow = follow
        self._listener = {"listenerId": listener_id, "replicaId": replica_id}
        self._thinking_since: float | None = None
        self._flow: Literal["", "INPROGRESS", "STOPPED"] = ""
        self._started = False
        self._said = False  # whether any text was sent
        self.is_complete: bool = False
        self._begin_run()

    def _begin_run(self) -> None:
        self._metadata: Json = {}
        self._calls: OrderedDict[str, Json] = OrderedDict()
        self._used, self._executed = Recent(), Recent()
        self._step: list[str] = []  # the nodes that began together
        self._stepping = False  # whether none of them has ended
        self._before: tuple[str, ...] = ()  # the nodes that began together before them
        self._previous: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._prompts: OrderedDict[str, _Stop] = OrderedDict()
        self._pausing: set[str] = set()  # the prompts that the run waits for
        self._interrupt: _Stop | None = None
        self._interrupted = False
        self._asked: str | None = None  # the id of the action the reader was shown
        self._last_error = ""
        self._finished = False
        self._end_frame: tuple[str, str] | None = None

    @property
    def frame_encoder(self) -> FrameEncoder:
        """See `EventStreamEncoder.frame_encoder`."""
        return self

    # ------------------------------------------------------------ beside the updates
    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:  # noqa: ARG002 (Flowise sends neither)
        """See `EventStreamEncoder.before_stream`."""
        return _frame("listenerReady", self._listener) if self._follow else b""

    def encode_event(self, event: str, payload: object) -> bytes:
        """See `EventStreamEncoder.encode_event`."""
        # In Flowise an error ends the stream; this stream continues, so no error is sent.
        return b"" if event == "error" else _frame(event, payload)

    def caught_up(self) -> bytes:
        """See `EventStreamEncoder.caught_up`. An open prompt is shown to this reader."""
        stop = next(iter(self._prompts.values()), self._interrupt if self._interrupted else None)
        if stop is None and not self._interrupted:
            return b""
        frames: list[Frame] = []
        if stop is not None and stop.action["id"] != self._asked:
            frames += self._ask(stop)
        elif stop is None and self._flow != "STOPPED":
            frames.append(_frame("agentFlowEvent", "STOPPED"))
        self._flow = "STOPPED"
        self.is_complete = not self._follow
        return b"".join(frames)

    def _ask(self, stop: _Stop) -> Iterator[Frame]:
        self._asked = stop.action["id"]
        self._metadata["action"] = stop.action
        if question := stop.action["data"]["input"]["humanInputDescription"]:
            yield from self._say(f"\n\n{question}" if self._said else question)
        known = self._interrupt is not None and self._interrupt.action["id"] == stop.action["id"]
        if not known and stop.node["nodeId"]:
            stopped = executed_node(stop.node, {}, self._previous.get(stop.node["nodeId"], ()))
            yield _frame("nextAgentFlow", stop.node)
            yield _framed("agentFlowExecutedData", self._executed.json(stopped))
        yield _frame("agentFlowEvent", "STOPPED")
        yield _frame("action", stop.action)

    def on_end(
        self,
        position: Position | None,  # noqa: ARG002 (there are no ids)
        *,
        run_is_over: bool,
        state: ExecutionState | None = None,
    ) -> bytes:
        """See `EventStreamEncoder.on_end`."""
        if run_is_over and not self._finished and state is not None:
            self._end_frame = _END_FRAMES.get(state)  # the reader's filter left out how the run ended
        return b"".join([*self._last_of_run(), _frame("end", _DONE)])

    def _last_of_run(self) -> Iterator[Frame]:
        if self._metadata:
            yield _frame("metadata", self._metadata)
        if self._end_frame is not None and self._end_frame[1] != self._last_error:
            yield _frame(*self._end_frame)

    def on_error(self, error: StreamingError) -> bytes:
        """See `EventStreamEncoder.on_error`."""
        return _frame("error", error.message) + _frame("end", _DONE)

    def on_restart(self, event: str, retry_ms: int) -> bytes:  # noqa: ARG002 (Flowise's clients do not come back)
        """See `EventStreamEncoder.on_restart`."""
        return _frame("error", _GONE.get(event, event)) + _frame("end", _DONE)

    # ------------------------------------------------------------ updates
    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (others need it)
        """See `FrameEncoder.encode`."""
        frames: list[Frame] = []
        for record in records:
            read = self._READERS.get(record.type, Flowise._read_other)
            frames += read(self, record, data_of(record))
        return Frames(b"".join(frames), count=len(frames))

    def _read_token(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        yield from self._stop_thinking(record.timestamp)
        if text := text_of(data):
            yield from self._say(text)

    def _say(self, text: str) -> Iterator[Frame]:
        yield from self._start(text)
        yield _frame("token", text)
        self._said = True

    def _start(self, text: str) -> Iterator[Frame]:
        if not self._started:
            self._started = True
            yield _frame("start", text)

    def _read_thinking(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        if text := text_of(data):
            yield from self._start("")
            if self._thinking_since is None:
                self._thinking_since = record.timestamp
            yield _frame("thinking", text)

    def _stop_thinking(self, now: float) -> Iterator[Frame]:
        if self._thinking_since is not None:
            duration = round(max(0.0, now - self._thinking_since), 3)
            self._thinking_since = None
            yield _frame("thinking", "", duration=duration)

    def _read_model_end(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        yield from self._stop_thinking(record.timestamp)
        yield from self._read_other(record, data)

    def _read_error(self, _: StoredUpdate, data: Any) -> Iterator[Frame]:
        self._last_error = error_text(data, "an error")
        yield _frame("error", self._last_error)

    def _read_usage(self, _: StoredUpdate, data: Any) -> Iterator[Frame]:
        yield _frame("usageMetadata", data)

    def _read_metadata(self, _: StoredUpdate, data: Any) -> Iterator[Frame]:
        """Encode a text once it is complete."""
        self._metadata |= known_metadata(data)
        yield from ()

    def _read_source_documents(self, _: StoredUpdate, data: Any) -> Iterator[Frame]:
        yield _frame("sourceDocuments", [document(each) for each in bare_list(data)])

    def _read_artifacts(self, _: StoredUpdate, data: Any) -> Iterator[Frame]:
        yield _frame("artifacts", bare_list(data))

    def _read_custom(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        name = members(data).get("name")
        if isinstance(name, str) and name:
            yield _frame(_own(name), members(data).get("data"))
        else:
            yield from self._read_other(record, data)

    def _read_other(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        yield _frame(_own(record.type), data)

    # ------------------------------------------------------------ tools
    def _read_used_tools(self, _: StoredUpdate, data: Any) -> Iterator[Frame]:
        """Encode the list of all tools, which replaces the events of each."""
        self._used = Recent()
        for each in bare_list(data):
            self._used.add(used_tool(each))
        yield _framed("usedTools", self._used.json())

    def _read_tool_start(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        _remember(self._calls, _call_key(record, data), called_tool(data))
        yield _frame("calledTools", list(self._calls.values()))

    def _read_tool_interrupted(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        """Remove the call: Flowise has no state for a waiting call, and the run's action asks the question."""
        self._calls.pop(_call_key(record, data), None)
        yield from self._read_other(record, data)

    def _read_tool_end(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        call = self._calls.pop(_call_key(record, data), None) or called_tool(data)
        self._used.add(used_tool_of(call, data, failed=record.type == "tool_error"))
        yield _framed("usedTools", self._used.json())

    # ------------------------------------------------------------ nodes
    def _read_node_start(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        node = next_agent_flow(record, data, "INPROGRESS")
        if not self._stepping:
            self._before, self._step, self._stepping = tuple(self._step), [], True
        if node["nodeId"] not in self._step and len(self._step) < _MAX_OPEN:
            self._step.append(node["nodeId"])
        _remember(self._previous, node["nodeId"], self._before)
        yield from self._go_on()
        yield _frame("nextAgentFlow", node)

    def _read_node_end(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        yield from self._stop_thinking(record.timestamp)
        self._stepping = False
        cancelled = members(members(data).get("error")).get("code") == "cancelled"
        node = next_agent_flow(record, data, "TERMINATED" if cancelled else _NODE_ENDS[record.type])
        if record.type == "node_interrupted":
            self._interrupt = _Stop(action_of_interrupt(record, data), node)
        else:
            for prompt_id in [each for each, stop in self._prompts.items() if stop.node["nodeId"] == node["nodeId"]]:
                del self._prompts[prompt_id]  # the node did without an answer
        self._executed.add(executed_node(node, data, self._previous.pop(node["nodeId"], ())))
        yield _frame("nextAgentFlow", node)
        yield _framed("agentFlowExecutedData", self._executed.json())

    def _read_node_cached(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        """Begin and end a node that LangGraph answered from its cache."""
        yield from self._read_node_start(record, data)
        yield from self._read_node_end(record, data)

    # ------------------------------------------------------------ people
    def _read_human_prompt(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        """Encode a prompt after all other updates, unless it was answered by then."""
        stop = _Stop(action_of_prompt(record, data), next_agent_flow(record, data, "STOPPED"))
        _remember(self._prompts, stop.action["id"], stop)
        yield from self._stop_thinking(record.timestamp)

    def _read_human_response(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        prompt_id = members(data).get("prompt_id")
        if isinstance(prompt_id, str):
            self._prompts.pop(prompt_id, None)
        yield from self._go_on(answered=True)
        yield from self._read_other(record, data)

    def _read_status(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        if members(data).get("status") == "resumed":
            for prompt_id in self._pausing & self._prompts.keys():
                del self._prompts[prompt_id]  # the program resumed the graph without its answer
            yield from self._go_on(answered=True)
        yield from self._read_other(record, data)

    def _go_on(self, *, answered: bool = False) -> Iterator[Frame]:
        """Encode that a run continues, for a reader that received the prompt or its answer."""
        self._interrupted, self._interrupt = False, None
        if not self._prompts and (self._flow == "STOPPED" or (answered and not self._flow)):
            self._metadata.pop("action", None)
            yield from self._flow_is("INPROGRESS")

    def _flow_is(self, state: Literal["INPROGRESS"]) -> Iterator[Frame]:
        self._flow = state
        yield _frame("agentFlowEvent", state)

    # ------------------------------------------------------------ runs
    def _read_workflow_start(self, _: StoredUpdate, _data: Any) -> Iterator[Frame]:
        self._begin_run()
        yield from self._flow_is("INPROGRESS")

    def _read_workflow_interrupted(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        self._interrupted = True
        self._pausing = {text_of(members(each).get("prompt_id")) for each in bare_list(members(data).get("prompts"))}
        yield from self._stop_thinking(record.timestamp)

    def _read_workflow_end(self, record: StoredUpdate, data: Any) -> Iterator[Frame]:
        yield from self._stop_thinking(record.timestamp)
        error = members(data).get("error")
        timed_out = record.type == "workflow_error" and members(error).get("type") == "TimeoutError"
        yield _frame("agentFlowEvent", "TIMEOUT" if timed_out else _FLOW_ENDS[record.type])
        self._flow, self._interrupted, self._finished = "", False, True
        self._prompts.clear()
        self._end_frame = _END_FRAMES.get(state_after("running", record.type))
        if self._end_frame is not None and self._end_frame[0] == "error":
            self._end_frame = ("error", error_text(error, self._end_frame[1]))
        if self._follow:
            yield from self._last_of_run()
            yield _frame("executionEnd", {"chatId": self._metadata.get("chatId", self._execution_id)})
            self._started = self._said = False
            self._begin_run()

    _READERS: ClassVar[Mapping[str, _Reader]] = {
        "token": _read_token,
        "thinking": _read_thinking,
        "llm_complete": _read_model_end,
        "llm_error": _read_model_end,
        "error": _read_error,
        "usage": _read_usage,
        "metadata": _read_metadata,
        "source_documents": _read_source_documents,
        "artifacts": _read_artifacts,
        "custom": _read_custom,
        "used_tools": _read_used_tools,
        "tool_start": _read_tool_start,
        "tool_complete": _read_tool_end,
        "tool_error": _read_tool_end,
        "tool_interrupted": _read_tool_interrupted,
        "node_start": _read_node_start,
        **dict.fromkeys(_NODE_ENDS, _read_node_end),
        "node_cached": _read_node_cached,
        "human_prompt": _read_human_prompt,
        "human_response": _read_human_response,
        "status": _read_status,
        "workflow_start": _read_workflow_start,
        "workflow_interrupted": _read_workflow_interrupted,
        **dict.fromkeys(_FLOW_ENDS, _read_workflow_end),
    }


def _own(name: str) -> str:
    """Rename a program's event whose name Flowise uses for the state of a stream."""
    return f"custom:{name}" if name in _OURS else name


def _call_key(record: StoredUpdate, data: object) -> str:
    fields = members(data)
    return str(fields.get("tool_call_id") or record.scope.tool_call_id or fields.get("tool") or "")


def _remember(entries: OrderedDict[str, T], key: str, value: T) -> None:
    """Store `value` under `key` as the newest entry; drop the oldest above the maximum."""
    entries[key] = value
    entries.move_to_end(key)
    if len(entries) > _MAX_OPEN:
        entries.popitem(last=False)
