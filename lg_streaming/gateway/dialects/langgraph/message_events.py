"""Messages of a thread's tape: starts, blocks and ends, made of the pieces of models' answers.

The blocks of one message follow each other. If a model writes several tool calls at once, the first is streamed, and
the pieces of the others wait for its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import orjson

from lg_streaming.gateway.dialects.langgraph.event_shapes import (
    FIRST_SLOT,
    Place,
    as_list,
    as_text,
    error_text,
    members,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lg_streaming.gateway.dialects.langgraph.channels import Namespace
    from lg_streaming.log.base import StoredUpdate

__all__ = ["MessageEvents"]

_TEXT, _REASONING, _CALL = "text", "reasoning", "tool_call_chunk"
_FIELDS: Final = {_TEXT: "text", _REASONING: "reasoning", _CALL: "args"}
_ROLES: Final = {"assistant": "ai", "user": "human"}
_WHOLE_ROLES: Final = frozenset({"ai", "human", "system"})
_MOST_OPEN: Final = 250
"""Most messages that are open at a time. Further ones come whole, with the next state."""
_LAST_SLOT: Final = 899

_Key = tuple[str | None, str]


class EventWriter(Protocol):
    """Tape, as its messages use it."""

    def place(self, record: StoredUpdate) -> Place:
        """Return the place of an update."""
        ...

    def selects(self, channel: str, namespace: Namespace) -> bool:
        """Return whether a filter accepts events of a channel in a namespace."""
        ...

    def write(self, slot: int, method: bytes, parameters: bytes, data: bytes) -> None:
        """Write an event of the present update."""
        ...


class _Block:
    """Part of a message: text, reasoning, or a tool call."""

    __slots__ = ("call_id", "index", "kind", "name", "parts", "start")

    def __init__(self, kind: str, call_id: str, name: str) -> None:
        self.kind = kind
        self.call_id = call_id
        self.name = name
        self.index = 0
        self.parts: list[str] = []
        self.start = b""
        """JSON of a text's delta, before its content."""

    def open(self, index: int) -> None:
        self.index = index
        self.start = b'{"event":"content-block-delta","index":%d,"delta":{"type":"%b-delta","%b":' % (
            index,
            self.kind.encode(),
            _FIELDS[self.kind].encode(),
        )

    def content(self, text: str) -> dict[str, Any]:
        facts = {"id": self.call_id, "name": self.name} if self.kind == _CALL else {}
        return {"type": self.kind, **facts, _FIELDS[self.kind]: text}

    def whole(self) -> dict[str, Any]:
        text = "".join(self.parts)
        if self.kind != _CALL:
            return self.content(text)
        args, facts = _parse_args(text), {"id": self.call_id, "name": self.name}
        if args is None:
            return {"type": "invalid_tool_call", **facts, "args": text, "error": "the arguments are no JSON object"}
        return {"type": "tool_call", **facts, "args": args}

    @property
    def may_end(self) -> bool:
        return self.kind != _CALL or _parse_args("".join(self.parts)) is not None


def _parse_args(text: str) -> dict[str, Any] | None:
    try:
        args: object = orjson.loads(text or "{}")
    except ValueError:
        return None
    return cast("dict[str, Any]", args) if isinstance(args, dict) else None


class _Message:
    """Message that has begun and not ended."""

    __slots__ = ("calls", "count", "id", "ids", "is_selected", "key", "open", "parameters", "place", "waiting")

    def __init__(self, key: _Key, message_id: str, place: Place, node: str | None) -> None:
        self.key = key
        self.id = message_id
        self.place = place
        self.parameters = place.json if node is None else b'%b,"node":%b' % (place.json, to_json(node))
        self.is_selected: bool | None = None
        """True if a filter accepts its events; None if that is not known."""
        self.ids = b""
        """Members that name the message in each event, once another message of its graph is open too."""
        self.open: _Block | None = None
        self.waiting: list[_Block] = []
        self.count = 0
        self.calls: dict[object, str] = {}
        """Ids of tool calls, by their index."""

    def name_in_events(self) -> None:
        if not self.ids:
            name = to_json(self.id)
            self.ids = b',"message_id":%b,"run_id":%b' % (name, name)


class MessageEvents:
    """Messages of the open run.

    Args:
        tape: The tape.
    """

    def __init__(self, tape: EventWriter) -> None:
        self._tape = tape
        self._lossy = False
        self.clear()

    def clear(self) -> None:
        """Forget all messages, at the end of their run."""
        self._open: dict[_Key, _Message] = {}
        self._by_graph: dict[Namespace, int] = {}
        self._models: dict[_Key, str] = {}
        self._partial: set[_Key] = set()
        self._streamed: set[str] = set()

    def lose(self) -> None:
        """Record that updates are missing: messages that have begun are not continued."""
        self._lossy = True
        for message in list(self._open.values()):
            self._partial.add(message.key)
            self._remove(message)

    def forget_filters(self) -> None:
        """Ask the filters again, as they have changed."""
        for message in self._open.values():
            message.is_selected = None

    # ------------------------------------------------------------ pieces
    def token(self, record: StoredUpdate, data: Any) -> None:
        """Write a piece of text."""
        scope = record.scope
        message = self._open.get((scope.namespace, data.get("message_id") or scope.message_id or ""))
        if message is None or message.open is None or message.open.kind != _TEXT:
            self._add(record, data, _TEXT, as_text(data.get("content")))
            return
        block, text = message.open, data["content"]
        block.parts.append(text)
        if message.is_selected or (message.is_selected is None and self._selects(message)):
            json = b"%b%b}%b}" % (block.start, to_json(text), message.ids)
            self._tape.write(FIRST_SLOT, b"messages", message.parameters, json)

    def thinking(self, record: StoredUpdate, data: Any) -> None:
        """Write a piece of reasoning."""
        self._add(record, data, _REASONING, as_text(data.get("content")))

    def tool_args(self, record: StoredUpdate, data: Any) -> None:
        """Write a piece of a tool call's arguments."""
        scope, index = record.scope, data.get("index")
        call_id = as_text(data.get("tool_call_id")) or scope.tool_call_id or ""
        message = self._open.get((scope.namespace, as_text(data.get("message_id")) or scope.message_id or ""))
        if message is not None and not call_id:  # only the first piece has the id
            call_id = message.calls.get(index, "")
        self._add(record, data, _CALL, as_text(data.get("args")), (call_id, as_text(data.get("tool"))))

    def _add(self, record: StoredUpdate, data: Any, kind: str, text: str, call: tuple[str, str] = ("", "")) -> None:
        scope, call_id = record.scope, call[0]
        key = (scope.namespace, as_text(data.get("message_id")) or scope.message_id or "")
        message, slot = self._open.get(key), FIRST_SLOT
        if message is None:
            message = self._begin(record, data, key, is_first=kind == _TEXT and data.get("index") == 0)
            if message is None:
                return
            slot += 1
        block = message.open
        if block is not None and block.kind == kind and block.call_id == call_id:
            block.parts.append(text)
            slot = self._delta(message, slot, block, text)
        else:
            block = next((each for each in message.waiting if each.kind == kind and each.call_id == call_id), None)
            if block is None:
                block = _Block(kind, *call)
                message.waiting.append(block)
            block.parts.append(text)
        if kind == _CALL:
            message.calls[data.get("index")] = call_id
        self._advance(message, slot)

    def _advance(self, message: _Message, slot: int, *, ends: bool = False) -> int:
        """End the open block and open the waiting ones, as far as they may end."""
        while message.open is not None or message.waiting:
            block = message.open
            if block is not None:
                if not (ends or (message.waiting and block.may_end)):
                    break
                event = {"event": "content-block-finish", "index": block.index, "content": block.whole()}
                slot = self._put(message, slot, event)
                message.open = None
            if message.waiting:
                block = message.open = message.waiting.pop(0)
                block.open(message.count)
                message.count += 1
                event = {"event": "content-block-start", "index": block.index, "content": block.content("")}
                slot = self._put(message, slot, event)
                slot = self._delta(message, slot, block, "".join(block.parts))
        return slot

    def _delta(self, message: _Message, slot: int, block: _Block, text: str) -> int:
        if block.kind == _CALL:
            fields = {"type": _CALL, "args": "".join(block.parts)}
            delta = {
                "event": "content-block-delta",
                "index": block.index,
                "delta": {"type": "block-delta", "fields": fields},
            }
            return self._put(message, slot, delta)
        if self._selects(message) and slot <= _LAST_SLOT:
            self._tape.write(
                slot, b"messages", message.parameters, b"%b%b}%b}" % (block.start, to_json(text), message.ids)
            )
        return slot + 1

    # ------------------------------------------------------------ starts and ends
    def model_start(self, record: StoredUpdate, data: Any) -> None:
        """Note a model call; its message begins with its first piece, as a call may have none."""
        scope = record.scope
        if scope.message_id is not None:
            self._models[scope.namespace, scope.message_id] = as_text(members(data).get("model"))

    def model_end(self, record: StoredUpdate, data: Any) -> None:
        """End the message of a model call."""
        scope, fields = record.scope, members(data)
        key = (scope.namespace, as_text(fields.get("message_id")) or scope.message_id or "")
        self._models.pop(key, None)
        self._partial.discard(key)
        message = self._open.get(key)
        if message is None:
            return
        if record.type == "llm_error":
            self._fail(message, FIRST_SLOT, error_text(data, "the model failed"))
        else:
            self._finish(message, FIRST_SLOT, fields.get("usage"), fields.get("finish_reason"))

    def whole(self, record: StoredUpdate, messages: Iterable[object]) -> None:
        """Write messages that a node returned and no model streamed."""
        slot = FIRST_SLOT
        for each in messages:
            fields = members(each)
            message_id, role = as_text(fields.get("id")), fields.get("type")
            if not message_id or role not in _WHOLE_ROLES or message_id in self._streamed:
                continue
            self._streamed.add(message_id)
            message = _Message((None, message_id), message_id, self._tape.place(record), record.scope.node_id)
            slot = self._put(message, slot, {"event": "message-start", "role": role, "id": message_id})
            for block in _blocks(fields):
                message.waiting.append(block)
            slot = self._advance(message, slot, ends=True)
            slot = self._put(message, slot, _finish_event(fields.get("usage_metadata"), None))

    def void(self, namespace: str) -> None:
        """Fail the messages of a node, and of what it called, as the node starts again."""
        slot = FIRST_SLOT
        for message in self._below(namespace):
            slot = self._fail(message, slot, "the node starts again")

    def end_below(self, namespace: str, error: str | None) -> int:
        """End the messages of a node, and of what it called; return the next slot."""
        slot = FIRST_SLOT
        for message in self._below(namespace):
            slot = self._finish(message, slot) if error is None else self._fail(message, slot, error)
        return slot

    def end_all(self, error: str | None) -> int:
        """End all messages; return the next slot."""
        slot = FIRST_SLOT
        for message in list(self._open.values()):
            slot = self._finish(message, slot) if error is None else self._fail(message, slot, error)
        return slot

    def _below(self, namespace: str) -> list[_Message]:
        inner = f"{namespace}|"
        return [
            each
            for each in self._open.values()
            if (each.key[0] or "") == namespace or (namespace and (each.key[0] or "").startswith(inner))
        ]

    def _begin(self, record: StoredUpdate, data: Any, key: _Key, *, is_first: bool) -> _Message | None:
        """Begin a message; None if its beginning is not kept, or too many are open."""
        model = self._models.get(key)
        if key in self._partial or len(self._open) >= _MOST_OPEN:
            return None
        if self._lossy and model is None and not (is_first and record.scope.request_id is None):
            self._partial.add(key)
            return None
        scope = record.scope
        message_id = key[1] or f"{scope.run_id}-{scope.node_id or 'message'}-{record.seq}"
        message = self._open[key] = _Message(key, message_id, self._tape.place(record), scope.node_id)
        self._streamed.add(message_id)
        graph = message.place.graph
        count = self._by_graph[graph] = self._by_graph.get(graph, 0) + 1
        if count > 1:
            for each in self._open.values():
                if each.place.graph == graph:
                    each.name_in_events()
        role = as_text(data.get("role")) or "ai"
        metadata = {"langgraph_node": scope.node_id, "model": model or None}
        event: dict[str, Any] = {"event": "message-start", "role": _ROLES.get(role, role), "id": message_id}
        known = {name: value for name, value in metadata.items() if value is not None}
        self._put(message, FIRST_SLOT, {**event, "metadata": known} if known else event, named=False)
        return message

    def _finish(self, message: _Message, slot: int, usage: object = None, reason: object = None) -> int:
        slot = self._advance(message, slot, ends=True)
        self._remove(message)
        return self._put(message, slot, _finish_event(usage, reason))

    def _fail(self, message: _Message, slot: int, error: str) -> int:
        self._remove(message)
        return self._put(message, slot, {"event": "error", "message": error})

    def _remove(self, message: _Message) -> None:
        del self._open[message.key]
        self._by_graph[message.place.graph] -= 1

    def _selects(self, message: _Message) -> bool:
        if message.is_selected is None:
            message.is_selected = self._tape.selects("messages", message.place.graph)
        return message.is_selected

    def _put(self, message: _Message, slot: int, event: dict[str, Any], *, named: bool = True) -> int:
        """Write an event of a message; return the next slot."""
        if self._selects(message) and slot <= _LAST_SLOT:
            json = to_json(event)
            if named and message.ids:
                json = json[:-1] + message.ids + b"}"
            self._tape.write(slot, b"messages", message.parameters, json)
        return slot + 1


def _finish_event(usage: object, reason: object) -> dict[str, Any]:
    event: dict[str, Any] = {"event": "message-finish"}
    if isinstance(usage, dict):
        event["usage"] = usage
    if isinstance(reason, str):
        event["reason"] = reason
    return event


def _blocks(message: dict[str, Any]) -> Iterable[_Block]:
    """Return the blocks of a whole message: text and reasoning, then tool calls."""
    content = message.get("content")
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else as_list(content):
        fields = members({"type": "text", "text": part} if isinstance(part, str) else part)
        kind = _REASONING if fields.get("type") == _REASONING else _TEXT
        if text := as_text(fields.get(_FIELDS[kind])):
            block = _Block(kind, "", "")
            block.parts.append(text)
            yield block
    for each in as_list(message.get("tool_calls")):
        call = members(each)
        block = _Block(_CALL, as_text(call.get("id")), as_text(call.get("name")))
        block.parts.append(to_json(call.get("args") or {}).decode())
        yield block
