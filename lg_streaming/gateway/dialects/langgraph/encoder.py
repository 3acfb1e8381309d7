"""Frames of a run for LangGraph's clients.

An encoder reads its run from the start, also for a reader that returns: it makes all frames, and sends those after the
reader's place. So what it sends after any place is exactly what it would have sent there without a break.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.codec import token_text
from lg_streaming.events import FINAL_TYPES
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.langgraph import shapes
from lg_streaming.gateway.dialects.langgraph.chunks import MessageParts, messages_in
from lg_streaming.gateway.dialects.langgraph.event_shapes import members
from lg_streaming.gateway.dialects.langgraph.reader import RunReader, data_of, with_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position, Scope
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.gateway.dialects.langgraph.reader import LoadValues
    from lg_streaming.gateway.dialects.langgraph.view import RunView
    from lg_streaming.hub import Page
    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["RunEncoder"]

_MOST_MESSAGES: Final = 1_024
"""Messages, and places of updates, of which the parts are remembered."""
_TEXT: Final = frozenset({"token", "thinking", "tool_args", "llm_complete"})


class RunEncoder:
    """Encoder of one run's frames, see `EventStreamEncoder`.

    Args:
        view: The segment, and the reader's modes and place.
        load: Loads states that are too large for the log.
    """

    shared: bool = False
    cuts: bool = True
    keep_alive: bytes = b": heartbeat\n\n"

    def __init__(self, view: RunView, load: LoadValues | None = None) -> None:
        self._view = view
        self._modes = view.modes
        needs_states = bool(view.modes & {"values", "checkpoints", "debug", "messages", "messages-tuple"})
        self._reader = RunReader(view, load if needs_states else None)
        self._tuples, self._partial = "messages-tuple" in view.modes, "messages" in view.modes
        self._events = "events" in view.modes
        self._has_text = self._tuples or self._partial or self._events
        self._only_tuples = self._tuples and not self._partial and not self._events
        self._seen: set[str] = set()  # ids of messages that the reader has
        self._unnamed: list[tuple[Scope, dict[str, Any]]] = []  # messages that nodes have returned without an id
        self._messages: OrderedDict[tuple[str, str], MessageParts] = OrderedDict()
        self._by_scope: dict[int, tuple[Scope, MessageParts | None, bytes]] = {}
        self._steps: dict[str, int] = {}
        self._returned: set[tuple[str | None, int | None]] = set()
        self._count = 0
        after = view.after
        self._after_seq = -1 if after is None else after.seq
        self._after_part = None if after is None else after.part
        self._after_epoch = "" if after is None else after.epoch

    @property
    def frame_encoder(self) -> FrameEncoder:
        """See `EventStreamEncoder.frame_encoder`."""
        return self

    @property
    def is_complete(self) -> bool:
        """See `EventStreamEncoder.is_complete`."""
        return self._reader.is_complete

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._view.run_id

    async def prepare(self, page: Page) -> None:
        """See `PreparingEncoder.prepare`."""
        await self._reader.prepare(page)

    # --- around the updates ---------------------------------------------------------------------------------

    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:  # noqa: ARG002 (clients ignore it)
        """See `EventStreamEncoder.before_stream`."""
        return b""

    def encode_event(self, event: str, payload: object) -> bytes:  # noqa: ARG002 (a gap has only its state)
        """See `EventStreamEncoder.encode_event`. After a gap the newest state comes."""
        if event != "gap":
            return b""
        values = self._reader.take_gap()
        begins = not self._reader.begun
        self._reader.begun, self._count = True, 1
        frames = [self._start()] if begins and self._after_seq < 0 else []
        if values is not None:
            self._take_values(values)
            if "values" in self._modes:
                frames.append(b"event: values\ndata: %b\n" % orjson.dumps(values))
        return b"".join(b"%b\n" % each for each in frames)

    def caught_up(self) -> bytes:
        """See `EventStreamEncoder.caught_up`."""
        return b""

    def on_end(
        self,
        position: Position | None,  # noqa: ARG002 (frames have ids)
        *,
        run_is_over: bool,  # noqa: ARG002 (its last frame was sent)
        state: ExecutionState | None = None,  # noqa: ARG002 (see above)
    ) -> bytes:
        """See `EventStreamEncoder.on_end`."""
        return b""

    def on_error(self, error: StreamingError) -> bytes:  # noqa: ARG002 (the connection breaks: the reader returns)
        """See `EventStreamEncoder.on_error`."""
        return b""

    def on_restart(self, event: str, retry_ms: int) -> bytes:  # noqa: ARG002 (the connection breaks)
        """See `EventStreamEncoder.on_restart`."""
        return b""

    # --- updates --------------------------------------------------------------------------------------------

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (others need it)
        """See `FrameEncoder.encode`."""
        out: list[bytes] = []
        reader, only_tuples = self._reader, self._only_tuples
        if self._after_seq >= 0 and records and records[-1].epoch != self._after_epoch:
            self._after_seq, self._after_part = -1, None  # the log has lost what the reader has
        for record in records:
            if only_tuples and record.type == "token" and reader.begun and not reader.is_complete:
                frame = self._fast_token(record)
                if frame is not None:
                    out.append(frame)
                continue
            if reader.accepts(record) and (self._has_text or record.type not in _TEXT):
                self._add(out, record)
        return Frames(b"".join(out), count=len(out))

    def _fast_token(self, record: StoredUpdate) -> bytes | None:
        """Encode a token for a reader of no other form of it."""
        scope, text = record.scope, token_text(record.json)
        known = self._by_scope.get(id(scope))
        data: Any = None
        if text is None or known is None or known[0] is not scope:
            data = data_of(record)
            known = self._learn(scope, data)
        message = known[1]
        if message is None:
            return None
        part = message.copied(text) if text is not None else message.text(_content(data))
        if record.seq <= self._after_seq:
            return None
        return b"%b%b,%b]\nid: %b:%d\n\n" % (known[2], part, message.metadata, record.epoch.encode(), record.seq)

    def _learn(self, scope: Scope, data: Any) -> tuple[Scope, MessageParts | None, bytes]:
        message = self._message(scope, data) if self._is_visible(scope) else None
        known = scope, message, b"event: %b\ndata: [" % self._name("messages", scope)
        if len(self._by_scope) >= _MOST_MESSAGES:
            self._by_scope.clear()
        if not members(data).get("message_id"):  # else the next text of this scope may be of another message
            self._by_scope[id(scope)] = known
        return known

    def _add(self, out: list[bytes], record: StoredUpdate) -> None:
        """Add the frames of an update that the reader does not have."""
        frames = [
            (part, frame)
            for part, (mode, frame) in enumerate(self._frames(record), 1)
            if mode is None or mode in self._modes
        ]
        seq, after = record.seq, self._after_seq
        if seq < after or (seq == after and self._after_part is None) or not frames:
            return
        place = b"%b:%d" % (record.epoch.encode(), seq)
        last = frames[-1][0]
        for part, frame in frames:
            if seq == after and self._after_part is not None and part <= self._after_part:
                continue
            end = b"" if part == last else b".%d" % part
            out.append(b"%bid: %b%b\n\n" % (frame, place, end))

    def _frames(self, record: StoredUpdate) -> Iterator[tuple[str | None, bytes]]:
        """Yield the frames of an update, each with the mode that asks for it; None for every reader."""
        name = record.type
        if name == "workflow_start" or (self._view.resumed and not self._count):
            self._count = 1
            yield None, self._start()
            return
        data = data_of(record)
        if name in _TEXT:
            yield from self._text(record, data)
        elif name == "state":
            yield from self._state(record, data)
        elif name in FINAL_TYPES or name == "workflow_interrupted":
            if self._reader.ends(record, data):
                yield from self._end(record, data)
        else:
            yield from self._other(record, data)

    def _start(self) -> bytes:
        return b"event: metadata\ndata: %b\n" % orjson.dumps({"run_id": self._view.run_id, "attempt": 1})

    # --- text -----------------------------------------------------------------------------------------------

    def _text(self, record: StoredUpdate, data: Any) -> Iterator[tuple[str | None, bytes]]:
        scope = record.scope
        if not self._is_visible(scope):
            return
        message = self._message(scope, data)
        match record.type:
            case "token":
                part = message.text(_content(data))
            case "thinking":
                part = message.reasoning(_content(data))
            case "tool_args":
                part = message.tool_args(data)
            case _:
                part = message.last(data.get("usage"))
        named = [part, b",", message.metadata]
        yield "messages-tuple", b"event: %b\ndata: [%b]\n" % (self._name("messages", scope), b"".join(named))
        if self._partial and record.type != "llm_complete":
            if not message.named:
                message.named = True
                yield "messages", self._message_metadata(message.id, message.metadata)
            kind = b"complete" if scope.request_id is None else b"partial"
            yield "messages", b"event: messages/%b\ndata: [%b]\n" % (kind, message.so_far())
        if self._events:
            ends = record.type == "llm_complete"
            name = "on_chat_model_end" if ends else "on_chat_model_stream"
            shown = {"output" if ends else "chunk": orjson.Fragment(part)}
            event = shapes.model_event(record, name, data.get("model") or "model", shown)
            yield "events", self._frame("events", scope, event)

    def _message(self, scope: Scope, data: Any) -> MessageParts:
        fields = members(data)
        named = fields.get("message_id") or scope.message_id
        message_id = str(named or f"{self._view.own_run}-{scope.namespace or scope.node_id or ''}-{scope.attempt or 1}")
        key = scope.namespace or "", message_id
        found = self._messages.get(key)
        if found is None:
            streamed = scope.request_id is not None
            found = MessageParts(message_id, fields.get("role") or "ai", streamed=streamed, whole=self._partial)
            self._messages[key] = found
            found.metadata = self._metadata(scope)
            self._seen.add(message_id)
            if len(self._messages) > _MOST_MESSAGES:
                self._messages.popitem(last=False)
        return found

    def _metadata(self, scope: Scope) -> bytes:
        step = self._steps.get(_graph_of(scope.namespace))
        return orjson.dumps(
            {
                "langgraph_node": scope.node_id or "",
                "langgraph_checkpoint_ns": scope.namespace or "",
                **({} if step is None else {"langgraph_step": step}),
                "run_id": self._view.run_id,
                "thread_id": self._view.thread_id,
            }
        )

    def _message_metadata(self, message_id: str, metadata: bytes) -> bytes:
        shown = orjson.dumps({message_id: {"metadata": orjson.Fragment(metadata)}})
        return b"event: messages/metadata\ndata: %b\n" % shown

    def _whole_messages(self, scope: Scope, result: object) -> Iterator[tuple[str | None, bytes]]:
        """Yield the messages that a node returned and no model streamed."""
        for message in messages_in(result):
            if message["id"] is None:  # the graph's state gives it an id
                if len(self._unnamed) < _MOST_MESSAGES:
                    self._unnamed.append((scope, message))
            elif message["id"] not in self._seen and message["type"] != "remove":
                yield from self._whole(scope, message)

    def _whole(self, scope: Scope, message: dict[str, Any]) -> Iterator[tuple[str | None, bytes]]:
        self._seen.add(message["id"])
        metadata, shown = self._metadata(scope), orjson.dumps(message)
        yield "messages-tuple", b"event: %b\ndata: [%b,%b]\n" % (self._name("messages", scope), shown, metadata)
        yield "messages", self._message_metadata(message["id"], metadata)
        yield "messages", b"event: messages/complete\ndata: [%b]\n" % shown

    def _named_messages(self, namespace: str, values: object) -> Iterator[tuple[str | None, bytes]]:
        """Yield the messages that nodes have returned without an id, as they are in the state."""
        here = [each for each in self._unnamed if _graph_of(each[0].namespace) == namespace]
        if not here:
            return
        self._unnamed = [each for each in self._unnamed if each not in here]
        for message in messages_in(values):
            for at, (scope, unnamed) in enumerate(here):
                if message["id"] not in self._seen and {**message, "id": None} == unnamed:
                    del here[at]
                    yield from self._whole(scope, message)
                    break

    # --- states ---------------------------------------------------------------------------------------------

    def _take_values(self, values: object) -> None:
        """Keep the newest state of the root graph."""
        self._reader.values = orjson.dumps(values)
        if self._tuples or self._partial:
            self._seen.update(each["id"] for each in messages_in(values))

    def _state(self, record: StoredUpdate, data: Mapping[str, Any]) -> Iterator[tuple[str | None, bytes]]:
        namespace, step = record.scope.namespace or "", data.get("step")
        if isinstance(step, int):
            self._steps[namespace] = step + 1
        if namespace and not self._view.subgraphs:
            return
        values = self._reader.values_of(record, data)
        if self._unnamed:
            yield from self._named_messages(namespace, values)
        if values is not None and not namespace:
            self._take_values(values)
        suffix = f"|{namespace}" if namespace else ""
        if "checkpoint_id" in data and self._modes & {"checkpoints", "debug"}:
            shown = shapes.checkpoint_of(self._view.thread_id, namespace, data, values)
            yield "checkpoints", _frame(f"checkpoints{suffix}", shown)
            debug = shapes.debug_of("checkpoint", step, record.timestamp, shown)
            yield "debug", _frame(f"debug{suffix}", debug)
        if values is not None and data.get("source") != "input" and "values" in self._modes:
            yield "values", _frame(f"values{suffix}", values)

    # --- the end --------------------------------------------------------------------------------------------

    def _end(self, record: StoredUpdate, data: Mapping[str, Any]) -> Iterator[tuple[str | None, bytes]]:
        match record.type:
            case "workflow_interrupted":
                yield from self._interrupt(shapes.interrupts_of(data))
            case _:
                if (error := shapes.end_error(record.type, data)) is not None:
                    yield None, _frame("error", error)

    def _interrupt(self, interrupts: list[dict[str, Any]]) -> Iterator[tuple[str | None, bytes]]:
        modes = self._modes
        yield "updates", _frame("updates", {"__interrupt__": interrupts})
        if not interrupts:
            return
        asked = None if not modes & {"values", "updates"} else "values"
        yield (
            asked,
            b"event: values\ndata: %b\n"
            % with_interrupts(self._reader.values if "values" in modes else None, interrupts),
        )

    # --- all others -----------------------------------------------------------------------------------------

    def _other(self, record: StoredUpdate, data: Any) -> Iterator[tuple[str | None, bytes]]:
        scope, name, modes = record.scope, record.type, self._modes
        if not self._is_visible(scope):
            return
        fields: Mapping[str, Any] = cast("Mapping[str, Any]", data) if isinstance(data, dict) else {}
        if name == "updates":
            self._returned.add((scope.namespace, scope.attempt))
            yield "updates", self._frame("updates", scope, fields)
        elif name in {"node_start", "node_complete", "node_error", "node_interrupted"}:
            yield from self._node(record, fields)
        elif name in {"tool_start", "tool_complete", "tool_error"}:
            yield "tools", self._frame("tools", scope, shapes.tool_of(record, fields))
        elif name == "llm_start" and self._events:
            event = shapes.model_event(record, "on_chat_model_start", fields.get("model") or "model", {"input": None})
            yield "events", self._frame("events", scope, event)
        elif "custom" in modes:
            shown, value = shapes.custom_of(record, cast("object", data))
            if shown:
                yield "custom", self._frame("custom", scope, value)
        if self._events and (event := shapes.chain_event(record, fields)) is not None:
            yield "events", self._frame("events", scope, event)

    def _node(self, record: StoredUpdate, data: Mapping[str, Any]) -> Iterator[tuple[str | None, bytes]]:
        scope, modes, starts = record.scope, self._modes, record.type == "node_start"
        if modes & {"tasks", "debug"}:
            task = (shapes.task_start if starts else shapes.task_end)(record, data)
            yield "tasks", self._frame("tasks", scope, task)
            step = self._steps.get(_graph_of(scope.namespace))
            debug = shapes.debug_of("task" if starts else "task_result", step, record.timestamp, task)
            yield "debug", self._frame("debug", scope, debug)
        if record.type != "node_complete":
            return
        if (self._tuples or self._partial) and "truncated" not in data:
            yield from self._whole_messages(scope, data.get("result"))
        if "updates" in modes and (scope.namespace, scope.attempt) not in self._returned:
            yield "updates", self._frame("updates", scope, {data.get("node_id") or scope.node_id: data.get("result")})

    # --- names ----------------------------------------------------------------------------------------------

    def _is_visible(self, scope: Scope) -> bool:
        return self._view.subgraphs or "|" not in (scope.namespace or "")

    def _name(self, mode: str, scope: Scope) -> bytes:
        graph = _graph_of(scope.namespace)
        return f"{mode}|{graph}".encode() if graph else mode.encode()

    def _frame(self, mode: str, scope: Scope, data: object) -> bytes:
        return b"event: %b\ndata: %b\n" % (self._name(mode, scope), orjson.dumps(data))


def _graph_of(namespace: str | None) -> str:
    """Return the namespace of a node's graph; empty for the root graph."""
    return (namespace or "").rpartition("|")[0]


def _frame(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n" % (name.encode(), orjson.dumps(data))


def _content(data: Any) -> str:
    content: object = cast("dict[str, Any]", data).get("content") if isinstance(data, dict) else data
    return content if isinstance(content, str) else ""
