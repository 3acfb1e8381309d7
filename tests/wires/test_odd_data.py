"""Bodies and updates whose fields have any kind of JSON value: a clear error, or a stream that clients can read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

from lg_streaming.codec import Codec, add_position
from lg_streaming.errors import BadRequestError, StreamingError
from lg_streaming.events import Scope, StreamEventType
from lg_streaming.gateway.dialects.agui.conversation import Conversation
from lg_streaming.gateway.dialects.agui.reading import Reading
from lg_streaming.gateway.dialects.agui.request import read_input
from lg_streaming.gateway.dialects.ai_sdk.encoder import Form, UiMessageStream
from lg_streaming.gateway.dialects.ai_sdk.request import read_request, to_input
from lg_streaming.log.base import StoredUpdate
from tests.wires.agui.translating import FINAL, stream
from tests.wires.ai_sdk.reader import Reader, chunks_of

_CODEC = Codec()
ODD: list[Any] = [
    None,
    True,
    -1,
    1e300,
    "",
    "x",
    "\ud800",
    [],
    [[]],
    {},
    [{}],
    {"type": []},
    {"content": [{"type": []}]},
    {"messages": [{"type": [], "id": {}, "content": {}}]},
    {"__proto__": {}, "constructor": {"prototype": 1}},
]
FIELDS = re.findall(
    r"\w+",
    "prompt_id prompts content blocks index tool tool_call_id args input output error message_id result usage model "
    "node_id run_id metadata status name data id type value choices schema expires_at role values checkpoint_id source "
    "documents response part",
)
PART = {
    "type": "tool-x",
    "toolCallId": "c",
    "state": "output-available",
    "output": 1,
    "errorText": "e",
    "approval": {"id": "a", "approved": True, "reason": "r"},
}
FILE = {"type": "file", "mediaType": "image/png", "url": "data:image/png;base64,QUJD", "filename": "f"}
CHAT: dict[str, Any] = {
    "id": "c-1",
    "graph": "g",
    "trigger": "submit-message",
    "messageId": "u-1",
    "messages": [
        {"id": "a-1", "role": "assistant", "parts": [PART]},
        {"id": "u-1", "role": "user", "parts": [{"type": "text", "text": "hello"}, FILE]},
    ],
}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
IMAGE = {"type": "image", "source": {"type": "data", "value": "QUJD", "mimeType": "image/png"}}
RUN: dict[str, Any] = {
    "threadId": "t-1",
    "runId": "r-1",
    "parentRunId": "r-0",
    "protocolVersion": "1.0",
    "state": {"topic": 1},
    "messages": [
        {"id": "u-1", "role": "user", "name": "n", "content": [{"type": "text", "text": "hello"}, IMAGE]},
        {"id": "a-1", "role": "assistant", "content": "", "toolCalls": [CALL]},
        {"id": "t-1", "role": "tool", "toolCallId": "c", "content": "found", "error": "e"},
    ],
    "tools": [{"name": "f"}],
    "context": [{"description": "d", "value": "v"}],
    "forwardedProps": {"command": {"resume": 1}},
    "resume": [{"interruptId": "i", "status": "resolved", "payload": 1}],
}


def changed(value: object, odd: Any) -> Iterator[Any]:
    """Copies of a value, in each of which one thing inside it is odd."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        for name, inner in fields.items():
            yield from ({**fields, name: other} for other in (odd, *changed(inner, odd)))
    elif isinstance(value, list):
        items = cast("list[Any]", value)
        for place, inner in enumerate(items):
            yield from ([*items[:place], other, *items[place + 1 :]] for other in (odd, *changed(inner, odd)))


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_odd_bodies_are_read_or_refused(odd: Any) -> None:
    known = {"messages": [{"type": "human", "id": "u-0", "content": "earlier"}, {"type": "ai", "id": "a-1"}]}
    for body in changed(CHAT, odd):
        with contextlib.suppress(BadRequestError):
            for message in read_request(body).messages:
                to_input(message)
    for body in changed(RUN, odd):
        with contextlib.suppress(StreamingError):
            request = read_input(body)
            for values in ({}, known):
                conversation = Conversation(values=values, shown=values)
                turn = conversation.turn(request)
                conversation.input(request, turn, ("messages", "topic", "tools"), from_start=False)


def updates(name: str, odd: Any) -> list[StoredUpdate]:
    """Updates of one type, in each of which one thing is odd."""
    usual = {"prompt_id": "p", "tool_call_id": "c", "tool": "t", "content": "x", "prompts": [{"prompt_id": "p"}]}
    scope, records = Scope(run_id="r", node_id="n", namespace="n:1", message_id="m"), list[StoredUpdate]()
    prompts = [{**usual, "prompts": [{"prompt_id": "p", field: odd}]} for field in FIELDS]
    for seq, data in enumerate([odd, *({**usual, field: odd} for field in FIELDS), *prompts], 1):
        body = _CODEC.encode("e", name, data, scope=scope, priority="medium", timestamp=1.0)
        records.append(StoredUpdate(name, scope, "medium", 1.0, add_position(body, seq, "1"), None, seq, "1"))
    return records


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_streams_survive_odd_updates(odd: Any) -> None:
    for name in (*map(str, StreamEventType), "state", "own", "task:x"):
        if name in FINAL:
            continue
        records = updates(name, odd)
        encoder = UiMessageStream(Form(), run_id="r")
        body = encoder.encode("e", records).wire + encoder.caught_up()
        Reader().read(chunks_of(body + encoder.on_end(None, run_is_over=True, state="completed")))
        assert stream(records, Reading(thread_id="t", run_id="r", log_run_id=None, replays=True)).events
