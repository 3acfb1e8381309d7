"""AI SDK: chunks of one message, in the subset that all releases of the client read."""

from __future__ import annotations

import json
from typing import Any

from tests.wires.conversation import Call, Conversation, End, shown
from tests.wires.readers.base import RefusedError, check_keys
from tests.wires.readers.sse import Frames

__all__ = ["AiSdkReader"]

_FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "start": (set(), {"messageId", "messageMetadata"}),
    "start-step": (set(), set()),
    "finish-step": (set(), set()),
    "text-start": ({"id"}, set()),
    "text-delta": ({"id", "delta"}, set()),
    "text-end": ({"id"}, set()),
    "reasoning-start": ({"id"}, set()),
    "reasoning-delta": ({"id", "delta"}, set()),
    "reasoning-end": ({"id"}, set()),
    "tool-input-start": ({"toolCallId", "toolName"}, {"dynamic", "providerExecuted"}),
    "tool-input-delta": ({"toolCallId", "inputTextDelta"}, set()),
    "tool-input-available": ({"toolCallId", "toolName", "input"}, {"dynamic", "providerExecuted"}),
    "tool-output-available": ({"toolCallId", "output"}, {"dynamic", "providerExecuted"}),
    "tool-output-error": ({"toolCallId", "errorText"}, {"dynamic", "providerExecuted"}),
    "tool-approval-request": ({"approvalId", "toolCallId"}, set()),
    "tool-output-denied": ({"toolCallId"}, set()),
    "source-url": ({"sourceId", "url"}, {"title"}),
    "source-document": ({"sourceId", "mediaType", "title"}, {"filename"}),
    "file": ({"url", "mediaType"}, set()),
    "message-metadata": ({"messageMetadata"}, set()),
    "error": ({"errorText"}, set()),
    "abort": (set(), set()),
    "finish": (set(), {"finishReason", "messageMetadata"}),
}
"""Fields that a chunk must have, and may have; old releases refuse any other."""
_UNKNOWN: tuple[set[str] | None, set[str]] = (None, set())
_MAY_BE_NULL = {"data", "input", "output", "messageMetadata"}


class AiSdkReader:
    """`useChat`: a resumed stream begins the message again, a continued one adds to it."""

    def __init__(self) -> None:
        self.message_id = ""
        self.finish_reason = ""
        self.texts: list[tuple[str, str]] = []
        """Id and text of each part."""
        self.calls: dict[str, Call] = {}
        self.data: list[dict[str, Any]] = []
        self.approvals: dict[str, str] = {}
        self.end: End = "running"
        self.connect()

    def connect(self) -> None:
        self._frames = Frames()
        self._fresh, self._done = True, False
        self._open: dict[str, int] = {}
        self._thoughts: set[str] = set()
        self._arguments: dict[str, str] = {}

    def feed(self, part: bytes) -> None:
        for frame in self._frames.feed(part):
            if frame.event != "message":
                raise RefusedError(f"an event with the name {frame.event!r}")
            if self._done:
                raise RefusedError("a chunk after [DONE]")
            if frame.data == "[DONE]":
                self._done = True
                continue
            chunk = json.loads(frame.data)
            if not frame.data.startswith('{"type":"'):
                raise RefusedError("JSON with spaces: assistant-ui looks for its text")
            self._check(chunk)
            self._chunk(chunk["type"], chunk)

    def _check(self, chunk: dict[str, Any]) -> None:
        check_keys(chunk)
        type_ = chunk["type"]
        needed, allowed = ({"data"}, {"id", "transient"}) if type_.startswith("data-") else _FIELDS.get(type_, _UNKNOWN)
        if needed is None:
            raise RefusedError(f"unknown {type_!r}")
        fields = set(chunk) - {"type"}
        if not needed <= fields <= needed | allowed | {"providerMetadata"}:
            raise RefusedError(f"the fields of {chunk!r}")
        if any(value is None and name not in _MAY_BE_NULL for name, value in chunk.items()):
            raise RefusedError(f"null in {chunk!r}")

    def _chunk(self, type: str, chunk: dict[str, Any]) -> None:
        kind, _, what = type.rpartition("-")
        if type == "start":
            self._start(chunk.get("messageId", ""))
        elif kind == "text":
            self._text(what, chunk)
        elif kind == "reasoning":
            self._reasoning(what, chunk)
        elif type.startswith("tool-"):
            self._tool(type, chunk)
        elif type == "finish-step" and (self._open or self._thoughts):
            raise RefusedError("a part is open over finish-step")
        elif type == "finish":
            self.finish_reason = chunk.get("finishReason", "")
            self.end = "waiting" if self.finish_reason == "tool-calls" else "complete"
        elif type == "error":
            self.end = "failed"
        elif type == "abort":
            self.end = "cancelled"
        elif type.startswith("data-") and not chunk.get("transient"):
            self.data.append(chunk)

    def _start(self, message_id: str) -> None:
        if not self._fresh or (self.message_id and message_id != self.message_id):
            raise RefusedError(f"message {message_id!r} begins in {self.message_id!r}")
        self._fresh, self.message_id, self.end = False, message_id, "running"

    def _text(self, what: str, chunk: dict[str, Any]) -> None:
        id_ = chunk["id"]
        if (id_ in self._open) is (what == "start"):
            raise RefusedError(f"text-{what} of {id_!r}")
        if what == "start":
            self._open[id_] = len(self.texts)
            self.texts.append((id_, ""))
        elif what == "delta":
            index = self._open[id_]
            self.texts[index] = (id_, self.texts[index][1] + chunk["delta"])
        else:
            del self._open[id_]

    def _reasoning(self, what: str, chunk: dict[str, Any]) -> None:
        if (chunk["id"] in self._thoughts) is (what == "start"):
            raise RefusedError(f"reasoning-{what} of {chunk['id']!r}")
        if what == "start":
            self._thoughts.add(chunk["id"])
        elif what == "end":
            self._thoughts.remove(chunk["id"])

    def _tool(self, type: str, chunk: dict[str, Any]) -> None:
        id_ = chunk["toolCallId"]
        if type == "tool-input-start":
            self._arguments[id_] = ""
            self.calls[id_] = Call(chunk["toolName"])
            return
        if type == "tool-input-available":
            self.calls.setdefault(id_, Call(chunk["toolName"])).input = chunk["input"]
            return
        if type == "tool-input-delta":
            if id_ not in self._arguments:
                raise RefusedError(f"{type} of {id_!r} without its start")
            self._arguments[id_] += chunk["inputTextDelta"]
            return
        if id_ not in self.calls:
            raise RefusedError(f"{type} of {id_!r} without its call")
        if type == "tool-output-available":
            self.calls[id_].output = shown(chunk["output"])
        elif type == "tool-output-error":
            self.calls[id_].error = chunk["errorText"]
        elif type == "tool-approval-request":
            self.approvals[chunk["approvalId"]] = id_

    def begin_again(self) -> None:
        """Empty the message, as a client that resumes does at the first `start`."""
        self.message_id, self.texts, self.calls, self.data, self.approvals = "", [], {}, [], {}

    @property
    def conversation(self) -> Conversation:
        """The message, with its texts by the ids of their parts."""
        texts: dict[str, str] = {}
        for id_, text in self.texts:
            texts[id_] = texts.get(id_, "") + text
        return Conversation({id_: text for id_, text in texts.items() if text}, self.calls, self.end)
