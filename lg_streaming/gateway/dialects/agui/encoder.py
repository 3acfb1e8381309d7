"""Updates of a run as AG-UI's events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import orjson

from lg_streaming.codec import Codec, decode_data
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.agui.interrupts import custom_values, interrupts_of
from lg_streaming.gateway.dialects.agui.messages import (
    Json,
    arguments_of,
    id_of,
    members,
    message_id_of,
    messages_in,
    result_text,
    snapshot_messages,
    text_of,
    tool_calls,
)
from lg_streaming.gateway.dialects.agui.patch import json_patch
from lg_streaming.log.base import state_after

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position, Scope
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.hub import Subscription
    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["AgUiEncoder", "Reading"]

_JSON: Final = Codec()
_VERSION: Final = "1.0"
_TOKEN: Final = b'{"type":"token","data":{"content":"'
_BEGIN: Final = len(_TOKEN)
_BACKSLASH: Final = 0x5C
_SILENT: Final = frozenset({"llm_start", "tool_interrupted", "updates", "values", "messages"})
"""Types that no event is made of: the state and the messages have events of their own."""
_OWN_FIELDS: Final = frozenset({"messages", "tools", "context", "ag-ui", "copilotkit"})
"""Fields of a graph's state that pages have already."""
_PLAIN_STATUS: Final = frozenset({"running", "resumed"})
_ENDS: Final = frozenset({"workflow_complete", "workflow_error", "workflow_cancelled", "workflow_abandoned"})
_ENDED: Final[Mapping[str, str]] = {
    "completed": "workflow_complete",
    "failed": "workflow_error",
    "cancelled": "workflow_cancelled",
    "abandoned": "workflow_abandoned",
}
_GONE: Final = {
    "timeout": "the stream has lasted as long as it may",
    "server_restart": "the server restarts; the answer is not complete here",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Subject of one client's stream.

    A reader of a thread gets a snapshot of ``values`` first. Then it gets what the log has of the open run and the
    snapshot does not have.
    """

    thread_id: str
    run_id: str
    """The client's own id of the run."""
    log_run_id: str | None
    """The run in the log whose updates are read; None for all."""
    is_modern: bool = True
    parent_run_id: str | None = None
    known: frozenset[str] = frozenset()
    """Ids of messages that the client has."""
    known_calls: frozenset[str] = frozenset()
    """Ids of tool calls that were announced to the client."""
    known_results: frozenset[str] = frozenset()
    """Ids of tool calls whose results the client has."""
    replays: bool = False
    """True for a reader of a thread; it ends at an interrupt only if the run waits there now."""
    values: Json | None = None
    """State of the thread before this reading, if it is known."""
    checkpoint_id: str = ""
    """Checkpoint of `values`."""
    custom_interrupts: bool = False
    """True to send ``CUSTOM`` events ``on_interrupt``, too."""
    waiting: Sequence[Json] | None = None
    """Prompts that the run waits for: the reading ends with them, and needs no updates."""


@dataclass(slots=True)
class _Call:
    """A tool call that was announced."""

    message_id: str
    is_open: bool = True


def _event(type: str, fields: Mapping[str, Any], timestamp: float | None = None) -> bytes:
    timed = {} if timestamp is None else {"timestamp": int(timestamp * 1000)}
    return b"data: %b\n\n" % _JSON.to_json({"type": type, **fields, **timed})


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
        self._replaying = reading.replays
        self._known = set(reading.known)
        self._known_calls = set(reading.known_calls)
        self._results = set(reading.known_results)
        self._scope: Scope | None = None  # of the last token
        self._prefix: bytes | None = None  # of its event; None for a message that is not sent
        self._held: list[bytes] = []  # its text, while a replay joins it
        self._texts: dict[str, bytes] = {}  # prefixes of the open messages
        self._reasoning: dict[str, str] = {}  # ids of open reasoning, by message
        self._reasoned: dict[str, int] = {}
        self._streamed: set[str] = set()  # messages whose text was sent
        self._unnamed: dict[tuple[str | None, ...], str] = {}  # open messages without an id, by their node
        self._calls: dict[str, _Call] = {}
        self._indexed: dict[tuple[str, int], str] = {}  # calls by message and place in it
        self._steps: dict[str, str] = {}  # names of the open steps
        self._usage: dict[str, dict[str, Any]] = {}
        self._values = reading.values
        self._shown: Json | None = None  # the state that the client has
        self._has_states = False
        self._messages: list[Json] | None = None if reading.values is None else messages_in(reading.values)
        self._has_gap = False
        self._waiting: tuple[float, Json] | None = None
        self._end: tuple[str, float | None, Json] | None = None
        self.stale: str | None = None
        """Checkpoint of the newest state, if the update did not hold it."""

    @property
    def frame_encoder(self) -> FrameEncoder:
        """See `EventStreamEncoder.frame_encoder`."""
        return self

    # ---------------------------------------------------------------- around the updates
    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:  # noqa: ARG002 (AG-UI has neither)
        """See `EventStreamEncoder.before_stream`."""
        reading = self._reading
        fields: Json = {"threadId": reading.thread_id, "runId": reading.run_id}
        if reading.is_modern:
            fields["protocolVersion"] = _VERSION
        if reading.parent_run_id is not None:
            fields["parentRunId"] = reading.parent_run_id
        words = [_event("RUN_STARTED", fields)]
        if reading.replays and reading.values is not None:
            words.append(self._messages_snapshot(with_reasoning=True))
            words += self._state_events(reading.values, None)
        if reading.waiting is not None:
            self._finish("workflow_interrupted", None, {"prompts": list(reading.waiting)})
        return b"".join(words)

    def encode_event(self, event: str, payload: object) -> bytes:  # noqa: ARG002 (a gap's numbers mean nothing here)
        """See `EventStreamEncoder.encode_event`. A gap closes what is open; a later snapshot has what is missing."""
        if event != "gap":
            return b""
        words = self._release()
        self._known.update(self._texts, self._reasoning, (each.message_id for each in self._calls.values()))
        self._has_gap = True
        return words + self._close_all(None)

    def caught_up(self) -> bytes:
        """See `EventStreamEncoder.caught_up`."""
        words = self._release()
        self._replaying = False
        if self._waiting is not None and self._end is None:
            self._finish("workflow_interrupted", *self._waiting)
        return words

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
        return self._release() + b"".join(self._last_events(*self._end))

    def on_error(self, error: StreamingError) -> bytes:
        """See `EventStreamEncoder.on_error`."""
        return self._error(error.message, error.name)

    def on_restart(self, event: str, retry_ms: int) -> bytes:  # noqa: ARG002 (the clients do not come back)
        """See `EventStreamEncoder.on_restart`."""
        return self._error(_GONE.get(event, event), event)

    def use_state(self, values: Json) -> None:
        """Take the newest state from the checkpointer, because the updates did not hold it."""
        self._messages, self._values, self.stale = messages_in(values), values, None

    # ---------------------------------------------------------------- the end
    def _finish(self, type: str, timestamp: float | None, data: Json) -> None:
        self._end = (type, timestamp, data)
        self._source.close()

    def _error(self, message: str, code: str) -> bytes:
        return self._release() + _event("RUN_ERROR", {"message": message, "code": code})

    def _last_events(self, type: str, timestamp: float | None, data: Json) -> Iterable[bytes]:
        yield self._close_all(timestamp)
        match type:
            case "workflow_complete":
                yield from self._snapshots(timestamp)
                yield self._finished({"type": "success"}, timestamp, _result(data))
            case "workflow_interrupted":
                yield from self._snapshots(timestamp)
                if self._reading.custom_interrupts:
                    for value in custom_values(data):
                        yield _event("CUSTOM", {"name": "on_interrupt", "value": value}, timestamp)
                yield self._finished({"type": "interrupt", "interrupts": interrupts_of(data)}, timestamp, {})
            case "workflow_cancelled" if self._reading.is_modern:
                yield self._finished({"type": "cancelled"}, timestamp, {})
            case "workflow_cancelled":
                yield _event("RUN_ERROR", {"message": "cancelled", "code": "cancelled"}, timestamp)
            case "workflow_abandoned":
                fields = {"message": "the program that ran it is gone", "code": "abandoned"}
                yield _event("RUN_ERROR", fields, timestamp)
            case _:
                error = members(data.get("error"))
                message = id_of(error.get("message")) or "the run failed"
                code = {"code": id_of(error.get("type"))} if error.get("type") else {}
                yield _event("RUN_ERROR", {"message": message, **code}, timestamp)

    def _finished(self, outcome: Json, timestamp: float | None, more: Json) -> bytes:
        reading = self._reading
        usage = {"usage": list(self._usage.values())} if self._usage and reading.is_modern else {}
        fields = {"threadId": reading.thread_id, "runId": reading.run_id, **more, "outcome": outcome, **usage}
        return _event("RUN_FINISHED", fields, timestamp)

    def _snapshots(self, timestamp: float | None) -> Iterable[bytes]:
        if self._values is not None and self._values is not self._reading.values:
            yield from self._state_events(self._values, timestamp)
        is_shown = self._reading.replays and self._values is self._reading.values  # before the updates
        if self._messages is not None and not is_shown:
            yield self._messages_snapshot(timestamp)

    def _messages_snapshot(self, timestamp: float | None = None, *, with_reasoning: bool = False) -> bytes:
        messages = snapshot_messages(self._messages or (), with_reasoning=with_reasoning)
        return _event("MESSAGES_SNAPSHOT", {"messages": messages}, timestamp)

    def _close_all(self, timestamp: float | None) -> bytes:
        words: list[bytes] = []
        for message_id in [*self._reasoning]:
            self._close_reasoning(message_id, words)
        for message_id in [*self._texts]:
            self._close_text(message_id, words)
        for call_id, call in self._calls.items():
            if call.is_open:
                self._close_call(call_id, words)
        words += [_event("STEP_FINISHED", {"stepName": name}, timestamp) for name in self._steps.values()]
        self._steps.clear()
        return b"".join(words)

    # ---------------------------------------------------------------- updates
    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (others need it)
        """See `FrameEncoder.encode`."""
        words: list[bytes] = []
        for record in records:
            if record.type == "token":
                if record.scope is not self._scope:
                    self._begin_text(record, words)
                if self._prefix is not None:
                    self._add_text(record.json, words)
                continue
            if self._end is not None:
                break
            self._read(record, words)
        return Frames(b"".join(words), count=len(words))

    def _add_text(self, json: bytes, words: list[bytes]) -> None:
        """Send a piece of the open message. Its JSON is copied if no quote is escaped in it."""
        end = json.find(b'"', _BEGIN)
        if json.startswith(_TOKEN) and json[end - 1] != _BACKSLASH:
            text = json[_BEGIN:end]
        else:
            data = orjson.loads(json)["data"]
            content = data if isinstance(data, str) else members(data).get("content")
            text = orjson.dumps(content)[1:-1] if isinstance(content, str) else b""
        if not text:
            return
        if self._replaying:
            self._held.append(text)
        elif self._prefix is not None:
            words.append(b'%b%b"}\n\n' % (self._prefix, text))

    def _release(self) -> bytes:
        """Send the text that a replay has joined."""
        if not self._held or self._prefix is None:
            return b""
        text, self._held = b"".join(self._held), []
        return b'%b%b"}\n\n' % (self._prefix, text)

    def _read(self, record: StoredUpdate, words: list[bytes]) -> None:
        if self._held:
            words.append(self._release())
        self._scope = None
        name, run_id = record.type, record.scope.run_id
        if run_id is not None and self._reading.log_run_id not in {None, run_id}:
            return
        if self._waiting is not None and state_after("interrupted", name) != "interrupted":
            self._waiting = None
        read = self._READERS.get(name)
        if read is not None:
            read(self, record, _data_of(record), words)
        elif name in _ENDS:
            self._finish(name, record.timestamp, members(_data_of(record)))
        elif name not in _SILENT:
            self._custom(record, name, _data_of(record), words)

    def _custom(self, record: StoredUpdate, name: str, value: object, words: list[bytes]) -> None:
        words.append(_event("CUSTOM", {"name": name, "value": {} if value is None else value}, record.timestamp))

    # ---------------------------------------------------------------- text
    def _begin_text(self, record: StoredUpdate, words: list[bytes]) -> None:
        """Make the message of a token the one that is written to; begin it if it is not open."""
        if self._held:
            words.append(self._release())
        scope = record.scope
        self._scope, self._prefix = scope, None
        if self._end is not None or (scope.run_id is not None and self._reading.log_run_id not in {None, scope.run_id}):
            return
        message_id = self._message_id(record)
        self._close_reasoning(message_id, words)
        prefix = self._texts.get(message_id)
        if prefix is None and not self._is_passed_over(message_id, record):
            start = {"messageId": message_id, "role": "assistant"}
            words.append(_event("TEXT_MESSAGE_START", start))
            prefix = b'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":%b,"delta":"' % _JSON.to_json(message_id)
            self._texts[message_id] = prefix
            self._streamed.add(message_id)
        self._prefix = prefix

    def _message_id(self, record: StoredUpdate) -> str:
        scope = record.scope
        if scope.message_id is not None:
            return scope.message_id
        if message_id := id_of(members(_data_of(record)).get("message_id")):
            return message_id
        return self._unnamed.setdefault((scope.namespace, scope.node_id), f"{scope.run_id or 'text'}-{record.seq}")

    def _is_passed_over(self, message_id: str, record: StoredUpdate) -> bool:
        """Return whether the client has the message, or its beginning is lost."""
        if message_id in self._known:
            return True
        if self._has_gap and message_id not in self._streamed and members(_data_of(record)).get("index", 0):
            self._known.add(message_id)
            return True
        return False

    def _close_text(self, message_id: str, words: list[bytes]) -> None:
        if self._texts.pop(message_id, None) is not None:
            words.append(_event("TEXT_MESSAGE_END", {"messageId": message_id}))

    def _read_thinking(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        message_id = self._message_id(record)
        content = data if isinstance(data, str) else members(data).get("content")
        if not isinstance(content, str) or not content:
            return
        reasoning_id = self._reasoning.get(message_id)
        if reasoning_id is None:
            if self._is_passed_over(message_id, record):
                return
            number = self._reasoned[message_id] = self._reasoned.get(message_id, 0) + 1
            reasoning_id = f"{message_id}-reasoning{'' if number == 1 else f'-{number}'}"
            self._reasoning[message_id] = reasoning_id
            words.append(_event("REASONING_START", {"messageId": reasoning_id}))
            words.append(_event("REASONING_MESSAGE_START", {"messageId": reasoning_id, "role": "reasoning"}))
        words.append(_event("REASONING_MESSAGE_CONTENT", {"messageId": reasoning_id, "delta": content}))

    def _close_reasoning(self, message_id: str, words: list[bytes]) -> None:
        if (reasoning_id := self._reasoning.pop(message_id, None)) is not None:
            words.append(_event("REASONING_MESSAGE_END", {"messageId": reasoning_id}))
            words.append(_event("REASONING_END", {"messageId": reasoning_id}))

    def _read_model_end(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        if record.type == "llm_complete":
            self._add_usage(members(data))
        message_id = record.scope.message_id or id_of(members(data).get("message_id"))
        self._close_reasoning(message_id, words)
        self._close_text(message_id, words)
        for call_id, call in self._calls.items():
            if call.is_open and call.message_id == message_id:
                self._close_call(call_id, words)

    def _add_usage(self, data: Json) -> None:
        used, model = members(data.get("usage")), id_of(data.get("model"))
        counts = {name: used.get(ours) for name, ours in _USAGE.items() if isinstance(used.get(ours), int)}
        if counts:
            total = self._usage.setdefault(model, {"model": model} if model else {})
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count

    # ---------------------------------------------------------------- tools
    def _read_tool_args(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        fields, message_id = members(data), self._message_id(record)
        index = fields.get("index")
        place = (message_id, index if isinstance(index, int) else 0)
        call_id = id_of(fields.get("tool_call_id")) or self._indexed.get(place, "")
        if not call_id or message_id in self._known:
            return
        self._indexed[place] = call_id
        call = self._calls.get(call_id)
        if call is None or call.message_id != message_id:
            if not fields.get("tool"):
                return  # its beginning is lost
            self._results.discard(call_id)
            self._announce(call_id, id_of(fields.get("tool")), message_id, words)
            call = self._calls[call_id]
        if call.is_open and (args := fields.get("args")) and isinstance(args, str):
            words.append(_event("TOOL_CALL_ARGS", {"toolCallId": call_id, "delta": args}))

    def _announce(self, call_id: str, name: str, message_id: str, words: list[bytes]) -> None:
        before = self._calls.get(call_id)
        if before is not None and before.is_open:
            self._close_call(call_id, words)
        parent = {"parentMessageId": message_id} if message_id else {}
        words.append(_event("TOOL_CALL_START", {"toolCallId": call_id, "toolCallName": name, **parent}))
        self._calls[call_id] = _Call(message_id)

    def _close_call(self, call_id: str, words: list[bytes]) -> None:
        self._calls[call_id].is_open = False
        words.append(_event("TOOL_CALL_END", {"toolCallId": call_id}))

    def _whole_call(self, call_id: str, name: str, args: str, message_id: str, words: list[bytes]) -> None:
        self._announce(call_id, name, message_id, words)
        words.append(_event("TOOL_CALL_ARGS", {"toolCallId": call_id, "delta": args}))
        self._close_call(call_id, words)

    def _read_tool_start(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        fields = members(data)
        call_id = id_of(fields.get("tool_call_id")) or record.scope.tool_call_id
        if not call_id:
            self._custom(record, record.type, data, words)
        elif (call := self._calls.get(call_id)) is not None:
            if call.is_open:
                self._close_call(call_id, words)
        elif call_id not in self._known_calls:
            self._whole_call(call_id, id_of(fields.get("tool")) or "tool", _arguments(fields.get("input")), "", words)

    def _read_tool_end(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        fields = members(data)
        call_id = id_of(fields.get("tool_call_id")) or record.scope.tool_call_id
        if not call_id:
            self._custom(record, record.type, data, words)
            return
        output = fields.get("output")
        result = members(output)
        if record.type == "tool_error":
            text = id_of(members(fields.get("error")).get("message")) or "the tool failed"
        elif result.get("type") == "tool" and "content" in result:
            text = result_text(result["content"])
        else:
            text = result_text(output)
        self._result(call_id, id_of(result.get("id")) or f"result-{call_id}", text, words)

    def _result(self, call_id: str, message_id: str, text: str, words: list[bytes]) -> None:
        if call_id in self._results:
            return
        self._results.add(call_id)
        call = self._calls.get(call_id)
        if call is not None and call.is_open:
            self._close_call(call_id, words)
        fields = {"messageId": message_id, "toolCallId": call_id, "content": text, "role": "tool"}
        words.append(_event("TOOL_CALL_RESULT", fields))

    # ---------------------------------------------------------------- nodes and states
    def _read_node_start(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        place = _root_node(record, data)
        if place is None:
            return
        key, name = place
        if key in self._steps:  # started again, without an end
            words.append(_event("STEP_FINISHED", {"stepName": self._steps.pop(key)}, record.timestamp))
        names, number = set(self._steps.values()), 1
        step = name
        while step in names:
            number += 1
            step = f"{name} ({number})"
        self._steps[key] = step
        words.append(_event("STEP_STARTED", {"stepName": step}, record.timestamp))

    def _read_node_end(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        if (unnamed := self._unnamed.pop((record.scope.namespace, record.scope.node_id), None)) is not None:
            self._close_reasoning(unnamed, words)
            self._close_text(unnamed, words)
        place = _root_node(record, data)
        if place is None:
            return
        if not self._has_states:
            self._announce_messages(messages_in(members(data).get("result")), words, placed=False)
        if (step := self._steps.pop(place[0], None)) is not None:
            words.append(_event("STEP_FINISHED", {"stepName": step}, record.timestamp))

    def _read_node_cached(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        self._read_node_start(record, data, words)
        self._read_node_end(record, data, words)

    def _read_state(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        if record.scope.namespace:
            return
        self._has_states = True
        fields = members(data)
        checkpoint_id = id_of(fields.get("checkpoint_id"))
        if fields.get("source") == "input" or (checkpoint_id and checkpoint_id <= self._reading.checkpoint_id):
            return
        if "values" not in fields:
            self.stale = checkpoint_id
            return
        values = members(fields["values"])
        self._values, self.stale = values, None
        if "messages" in values:
            self._messages = messages_in(values)
            self._announce_messages(self._messages, words)
        words += self._state_events(values, record.timestamp)

    def _state_events(self, values: Json, timestamp: float | None) -> list[bytes]:
        shown = {name: value for name, value in values.items() if name not in _OWN_FIELDS}
        before, self._shown = self._shown, shown
        if before is None:
            return [_event("STATE_SNAPSHOT", {"snapshot": shown}, timestamp)]
        delta = json_patch(before, shown)
        return [_event("STATE_DELTA", {"delta": delta}, timestamp)] if delta else []

    def _announce_messages(self, messages: list[Json], words: list[bytes], *, placed: bool = True) -> None:
        """Send messages, calls and results that were not streamed.

        Args:
            messages: Messages of the graph's state.
            words: The events.
            placed: Whether the list is the whole one, in which a message without an id has its place.
        """
        for place, message in enumerate(messages):
            message_id = message_id_of(message, place) if placed else id_of(message.get("id"))
            if not message_id or message_id in self._known:
                continue
            self._known.add(message_id)
            if message.get("type") == "ai":
                self._announce_answer(message, message_id, words)
            elif message.get("type") == "tool" and (call_id := id_of(message.get("tool_call_id"))):
                self._result(call_id, message_id, result_text(message.get("content")), words)

    def _announce_answer(self, message: Json, message_id: str, words: list[bytes]) -> None:
        text = text_of(message.get("content"))
        if text and message_id not in self._streamed:
            self._streamed.add(message_id)
            words.append(_event("TEXT_MESSAGE_START", {"messageId": message_id, "role": "assistant"}))
            words.append(_event("TEXT_MESSAGE_CONTENT", {"messageId": message_id, "delta": text}))
            words.append(_event("TEXT_MESSAGE_END", {"messageId": message_id}))
        for call in tool_calls(message):
            announced = self._calls.get(call["id"])
            if announced is None or announced.message_id not in {message_id, ""}:
                self._results.discard(call["id"])
                self._whole_call(call["id"], id_of(call.get("name")), arguments_of(call), message_id, words)

    # ---------------------------------------------------------------- the run, and people
    def _read_status(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        if members(data).get("status") not in _PLAIN_STATUS:
            self._custom(record, record.type, data, words)

    def _read_custom(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        fields = members(data)
        name = id_of(fields.get("name"))
        self._custom(record, name or record.type, fields.get("data") if name else data, words)

    def _read_message(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        fields = members(data)
        text = text_of(fields.get("content"))
        if text and fields.get("role") in {"ai", "assistant"}:
            self._announce_answer({"content": text}, self._reading.run_id + f"-message-{record.seq}", words)
        else:
            self._custom(record, record.type, data, words)

    def _read_human_prompt(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        """Send a prompt for which the run does not stop; another comes with the end of the reading."""
        if not members(data).get("namespace") and not id_of(members(data).get("prompt_id")).startswith("breakpoint-"):
            self._custom(record, record.type, data, words)

    def _read_interrupted(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:  # noqa: ARG002 (a reader)
        if not interrupts_of(members(data)):
            return  # a pause without a question
        if self._replaying:
            self._waiting = (record.timestamp, members(data))
        else:
            self._finish(record.type, record.timestamp, members(data))

    def _skip(self, record: StoredUpdate, data: Any, words: list[bytes]) -> None:
        """Send nothing: `RUN_STARTED` came before the updates."""

    _READERS: ClassVar[Mapping[str, Callable[[Any, StoredUpdate, Any, list[bytes]], None]]] = {
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
        "workflow_start": _skip,
        "workflow_interrupted": _read_interrupted,
    }


_USAGE: Final = {"inputTokens": "input_tokens", "outputTokens": "output_tokens", "totalTokens": "total_tokens"}


def _data_of(record: StoredUpdate) -> Any:
    return decode_data(record.json) if record.scope.extra is None else orjson.loads(record.json)["data"]


def _root_node(record: StoredUpdate, data: object) -> tuple[str, str] | None:
    """Return key and name of a node of the graph itself; None for one of a subgraph."""
    namespace = record.scope.namespace or ""
    name = id_of(members(data).get("node_id")) or record.scope.node_id or ""
    return None if not name or "|" in namespace or "/" in namespace else (namespace or name, name)


def _arguments(value: object) -> str:
    return value if isinstance(value, str) else _JSON.to_json({} if value is None else value).decode()


def _result(data: Json) -> Json:
    """Return the graph's result without its messages, which have events of their own."""
    result = data.get("result")
    if isinstance(result, dict):
        return {"result": {name: value for name, value in members(data["result"]).items() if name != "messages"}}
    return {} if result is None else {"result": result}
