"""Updates of a run as AG-UI's events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lg_streaming.codec import token_text
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.agui.events import Words, custom, data_of, event
from lg_streaming.gateway.dialects.agui.interrupts import custom_values, interrupts_of
from lg_streaming.gateway.dialects.agui.messages import Json, id_of, members, messages_in, text_of
from lg_streaming.gateway.dialects.agui.state_events import StateEvents, shown_state
from lg_streaming.gateway.dialects.agui.text_events import TextEvents
from lg_streaming.gateway.dialects.agui.tool_events import ToolEvents
from lg_streaming.log.base import state_after

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.gateway.dialects.agui.reading import Reading
    from lg_streaming.hub import Subscription
    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["AgUiEncoder"]

_VERSION: Final = "1.0"
_SILENT: Final = frozenset({"workflow_start", "llm_start", "tool_interrupted", "updates", "values", "messages"})
"""Types without an event: the state, and the messages in it, have events of their own."""
_PLAIN_STATUS: Final = ("running", "resumed")
_ENDED: Final[Mapping[str, str]] = {
    "completed": "workflow_complete",
    "failed": "workflow_error",
    "cancelled": "workflow_cancelled",
    "abandoned": "workflow_abandoned",
}
_ENDS: Final = frozenset(_ENDED.values())
_GONE: Final = {
    "timeout": "the stream has lasted as long as it may",
    "server_restart": "the server restarts: the answer is not complete here",
}
_USAGE: Final = {"inputTokens": "input_tokens", "outputTokens": "output_tokens", "totalTokens": "total_tokens"}


class AgUiEncoder:
    """Encoder of one stream of AG-UI's events, see `EventStreamEncoder`.

    The events of a stream keep the order that `@ag-ui/client` checks. Messages, calls and steps are closed before the
    last event, which is `RUN_FINISHED` or `RUN_ERROR`.

    Args:
        reading: What the client reads.
        source: The subscription, which is closed at the end of the reading.
    """

    keep_alive: bytes = b":\n\n"
    shared: bool = False
    cuts: bool = False
    is_complete: bool = False

    def __init__(self, reading: Reading, source: Subscription) -> None:
        self._reading = reading
        self._source = source
        self._texts = TextEvents(reading)
        self._tools = ToolEvents(reading)
        self._states = StateEvents(reading, self._texts, self._tools)
        self._steps: dict[str, str] = {}  # names of the open steps, by node
        self._usage: dict[str, dict[str, Any]] = {}
        self._waiting: tuple[float, Json] | None = None
        self._end: tuple[str, float | None, Json] | None = None

    @property
    def frame_encoder(self) -> FrameEncoder:
        """See `EventStreamEncoder.frame_encoder`."""
        return self

    @property
    def needs_state(self) -> bool:
        """Return whether the newest state was too large for its update: `use_state` takes it."""
        return self._states.stale

    def use_state(self, values: Json) -> None:
        """Take the newest state from the checkpointer."""
        self._states.use(values)

    # ---------------------------------------------------------------- around the updates
    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:  # noqa: ARG002 (AG-UI has neither)
        """See `EventStreamEncoder.before_stream`."""
        reading = self._reading
        fields: Json = {"threadId": reading.thread_id, "runId": reading.run_id}
        if reading.is_modern:
            fields["protocolVersion"] = _VERSION
        if reading.parent_run_id is not None:
            fields["parentRunId"] = reading.parent_run_id
        words = [event("RUN_STARTED", fields)]
        self._states.begin(words)
        if reading.waiting is not None:
            self._finish("workflow_interrupted", None, {"prompts": list(reading.waiting)})
        return b"".join(words)

    def encode_event(self, event: str, payload: object) -> bytes:  # noqa: ARG002 (a gap's numbers mean nothing here)
        """See `EventStreamEncoder.encode_event`. A gap closes what is open; a later snapshot has what is missing."""
        words: Words = []
        if event == "gap":
            self._texts.lose()
            self._close_all(None, words)
        return b"".join(words)

    def caught_up(self) -> bytes:
        """See `EventStreamEncoder.caught_up`."""
        words: Words = []
        self._texts.release(words)
        self._texts.joins = False
        if self._waiting is not None and self._end is None:
            self._finish("workflow_interrupted", *self._waiting)
        return b"".join(words)

    def on_end(
        self,
        position: Position | None,  # noqa: ARG002 (there are no ids)
        *,
        run_is_over: bool,
        state: ExecutionState | None = None,
    ) -> bytes:
        """See `EventStreamEncoder.on_end`."""
        if self._end is None:
            end = _ENDED.get(state or "") if run_is_over else None
            if end is None:
                return self._error("the stream was closed before the run's end", "closed")
            self._end = (end, None, {})
        words: Words = []
        self._send_end(*self._end, words)
        return b"".join(words)

    def on_error(self, error: StreamingError) -> bytes:
        """See `EventStreamEncoder.on_error`."""
        return self._error(error.message, error.name)

    def on_restart(self, event: str, retry_ms: int) -> bytes:  # noqa: ARG002 (the clients do not come back)
        """See `EventStreamEncoder.on_restart`."""
        return self._error(_GONE.get(event, event), event)

    # ---------------------------------------------------------------- the end
    def _finish(self, name: str, timestamp: float | None, data: Json) -> None:
        self._end = (name, timestamp, data)
        self._source.close()

    def _error(self, message: str, code: str) -> bytes:
        words: Words = []
        self._texts.release(words)
        return b"".join([*words, event("RUN_ERROR", {"message": message, "code": code})])

    def _send_end(self, name: str, timestamp: float | None, data: Json, words: Words) -> None:
        self._close_all(timestamp, words)
        match name:
            case "workflow_complete":
                self._states.finish(timestamp, words)
                words.append(self._finished({"type": "success"}, timestamp, _result(data)))
            case "workflow_interrupted":
                self._states.finish(timestamp, words)
                if self._reading.custom_interrupts:
                    words += [custom("on_interrupt", value, timestamp) for value in custom_values(data)]
                interrupts = interrupts_of(data)
                words.append(self._finished({"type": "interrupt", "interrupts": interrupts}, timestamp, {}))
            case "workflow_cancelled" if self._reading.is_modern:
                words.append(self._finished({"type": "cancelled"}, timestamp, {}))
            case _:
                words.append(event("RUN_ERROR", _failure(name, data), timestamp))

    def _finished(self, outcome: Json, timestamp: float | None, more: Json) -> bytes:
        reading = self._reading
        usage = {"usage": list(self._usage.values())} if self._usage and reading.is_modern else {}
        fields = {"threadId": reading.thread_id, "runId": reading.run_id, **more, "outcome": outcome, **usage}
        return event("RUN_FINISHED", fields, timestamp)

    def _close_all(self, timestamp: float | None, words: Words) -> None:
        self._texts.close_all(words)
        self._tools.close_all(words)
        words += [event("STEP_FINISHED", {"stepName": name}, timestamp) for name in self._steps.values()]
        self._steps.clear()

    # ---------------------------------------------------------------- updates
    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (others need it)
        """See `FrameEncoder.encode`."""
        words: Words = []
        texts = self._texts
        for record in records:
            if self._end is not None:
                break
            if record.type == "token":
                text = token_text(record.json)
                if text is None:
                    texts.add_decoded(record, words)
                    continue
                if record.scope is not texts.scope:
                    texts.begin(record, words)
                if (prefix := texts.prefix) is not None:
                    texts.add(text, prefix, words)
            else:
                self._read(record, words)
        return Frames(b"".join(words), count=len(words))

    def _read(self, record: StoredUpdate, words: Words) -> None:
        self._texts.leave(words)
        name, run_id = record.type, record.scope.run_id
        if run_id is not None and self._reading.log_run_id not in {None, run_id}:
            return
        if self._waiting is not None and state_after("interrupted", name) != "interrupted":
            self._waiting = None
        read = self._READERS.get(name)
        if read is not None:
            read(self, record, data_of(record), words)
        elif name in _ENDS:
            self._finish(name, record.timestamp, members(data_of(record)))
        elif name not in _SILENT and not (record.scope.node_id or "").startswith("__"):
            words.append(custom(name, data_of(record), record.timestamp))

    def _read_thinking(self, record: StoredUpdate, data: Any, words: Words) -> None:
        self._texts.add_thinking(record, data, words)

    def _read_model_end(self, record: StoredUpdate, data: Any, words: Words) -> None:
        fields = members(data)
        if record.type == "llm_complete":
            self._add_usage(fields)
        message_id = record.scope.message_id or id_of(fields.get("message_id"))
        self._texts.close(message_id, words)
        self._tools.close_of(message_id, words)

    def _add_usage(self, data: Json) -> None:
        used, model = members(data.get("usage")), id_of(data.get("model"))
        counts = {name: used.get(ours) for name, ours in _USAGE.items() if isinstance(used.get(ours), int)}
        if counts:
            total = self._usage.setdefault(model, {"model": model} if model else {})
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count

    def _read_tool_args(self, record: StoredUpdate, data: Any, words: Words) -> None:
        message_id = self._texts.message_id(record)
        if message_id not in self._texts.known:
            self._tools.add_args(data, message_id, words)

    def _read_tool_start(self, record: StoredUpdate, data: Any, words: Words) -> None:
        self._tools.start(record, data, words)

    def _read_tool_end(self, record: StoredUpdate, data: Any, words: Words) -> None:
        self._tools.end(record, data, words)

    def _read_state(self, record: StoredUpdate, data: Any, words: Words) -> None:
        self._states.read(record, data, words)

    # ---------------------------------------------------------------- nodes
    def _read_node_start(self, record: StoredUpdate, data: Any, words: Words) -> None:
        place = _root_node(record, data)
        if place is None:
            return
        key, name = place
        if key in self._steps:  # started again, without an end
            words.append(event("STEP_FINISHED", {"stepName": self._steps.pop(key)}, record.timestamp))
        names, number = set(self._steps.values()), 1
        step = name
        while step in names:
            number += 1
            step = f"{name} ({number})"
        self._steps[key] = step
        words.append(event("STEP_STARTED", {"stepName": step}, record.timestamp))

    def _read_node_end(self, record: StoredUpdate, data: Any, words: Words) -> None:
        self._texts.close_node(record.scope, words)
        place = _root_node(record, data)
        if place is None:
            return
        if not self._states.is_published:
            self._states.announce(messages_in(members(data).get("result")), words, placed=False)
        if (step := self._steps.pop(place[0], None)) is not None:
            words.append(event("STEP_FINISHED", {"stepName": step}, record.timestamp))

    def _read_node_cached(self, record: StoredUpdate, data: Any, words: Words) -> None:
        self._read_node_start(record, data, words)
        self._read_node_end(record, data, words)

    # ---------------------------------------------------------------- the run, and people
    def _read_status(self, record: StoredUpdate, data: Any, words: Words) -> None:
        if members(data).get("status") not in _PLAIN_STATUS:
            words.append(custom(record.type, data, record.timestamp))

    def _read_custom(self, record: StoredUpdate, data: Any, words: Words) -> None:
        fields = members(data)
        if name := id_of(fields.get("name")):
            words.append(custom(name, fields.get("data"), record.timestamp))
        else:
            words.append(custom(record.type, data, record.timestamp))

    def _read_message(self, record: StoredUpdate, data: Any, words: Words) -> None:
        fields = members(data)
        text = text_of(fields.get("content"))
        if text and fields.get("role") in ("ai", "assistant"):
            message_id = record.scope.message_id or f"{record.scope.run_id or 'message'}-{record.seq}"
            if message_id not in self._texts.known:
                self._texts.add_whole(message_id, text, words)
        else:
            words.append(custom(record.type, data, record.timestamp))

    def _read_human_prompt(self, record: StoredUpdate, data: Any, words: Words) -> None:
        """Send a prompt for which the run does not stop; another comes with the end of the reading."""
        fields = members(data)
        if not fields.get("namespace") and not id_of(fields.get("prompt_id")).startswith("breakpoint-"):
            words.append(custom(record.type, data, record.timestamp))

    def _read_interrupted(self, record: StoredUpdate, data: Any, words: Words) -> None:  # noqa: ARG002 (as the others)
        if not interrupts_of(members(data)):
            return  # a pause without a question
        if self._texts.joins:
            self._waiting = (record.timestamp, members(data))
        else:
            self._finish(record.type, record.timestamp, members(data))

    _READERS: ClassVar[Mapping[str, Callable[[Any, StoredUpdate, Any, Words], None]]] = {
        "thinking": _read_thinking,
        "llm_complete": _read_model_end,
        "llm_error": _read_model_end,
        "tool_args": _read_tool_args,
        "tool_start": _read_tool_start,
        "tool_complete": _read_tool_end,
        "tool_error": _read_tool_end,
        "node_start": _read_node_start,
        "node_complete": _read_node_end,
        "node_error": _read_node_end,
        "node_interrupted": _read_node_end,
        "node_cached": _read_node_cached,
        "state": _read_state,
        "status": _read_status,
        "custom": _read_custom,
        "message": _read_message,
        "human_prompt": _read_human_prompt,
        "workflow_interrupted": _read_interrupted,
    }


def _root_node(record: StoredUpdate, data: object) -> tuple[str, str] | None:
    """Return key and name of a node of the graph itself; None for one of a subgraph."""
    namespace = record.scope.namespace or ""
    name = id_of(members(data).get("node_id")) or record.scope.node_id or ""
    return (
        None if not name or name.startswith("__") or "|" in namespace or "/" in namespace else (namespace or name, name)
    )


def _failure(name: str, data: Json) -> Json:
    if name == "workflow_cancelled":  # a client before 1.0 has no such outcome
        return {"message": "cancelled", "code": "cancelled"}
    if name == "workflow_abandoned":
        return {"message": "the program that ran it is gone", "code": "abandoned"}
    error = members(data.get("error"))
    failure: Json = {"message": id_of(error.get("message")) or "the run failed"}
    return {**failure, "code": error["type"]} if id_of(error.get("type")) else failure


def _result(data: Json) -> Json:
    """Return the graph's result, with the fields of `shown_state`."""
    result = data.get("result")
    if isinstance(result, dict):
        return {"result": shown_state(members(data["result"]))}
    return {} if result is None else {"result": result}
