"""AG-UI: events whose order the stock clients check."""

from __future__ import annotations

import json
from typing import Any, cast

from tests.wires.conversation import Call, Conversation, End, parsed
from tests.wires.readers.base import RefusedError
from tests.wires.readers.sse import Frames

__all__ = ["AgUiReader"]

_PARTS = {"TEXT_MESSAGE": "text", "REASONING_MESSAGE": "reasoning", "REASONING": "thought", "TOOL_CALL": "call"}


class AgUiReader:
    """`HttpAgent` of both generations: what either refuses is refused."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.messages: list[dict[str, Any]] = []
        self.state: Any = None
        self.ended = False
        self.connect()

    def connect(self) -> None:
        self._frames = Frames()
        self._running = False
        self._begun = False
        self._open: dict[str, set[str]] = {kind: set() for kind in (*_PARTS.values(), "step")}
        self._arguments: dict[str, str] = {}

    def feed(self, part: bytes) -> None:
        if b"\r" in part:
            raise RefusedError("CRLF")
        for frame in self._frames.feed(part):
            event = json.loads(frame.data)
            if (name := next((name for name, value in event.items() if value is None), None)) and name not in {
                "value",
                "snapshot",
                "result",
            }:
                raise RefusedError(f"null in {name}")
            self._event(event["type"], event)

    def _event(self, type: str, event: dict[str, Any]) -> None:  # noqa: C901 (a table of events)
        if not self._begun and type not in {"RUN_STARTED", "RUN_ERROR"}:
            raise RefusedError(f"the first event is {type}")
        if self._begun and not self._running and type not in {"RUN_STARTED", "RUN_ERROR"}:
            raise RefusedError(f"{type} after the end")
        self._begun = True
        if type == "RUN_STARTED":
            if self._running:
                raise RefusedError("RUN_STARTED inside a run")
            self._running, self.ended, self.conversation.end = True, False, "running"
        elif type in {"RUN_FINISHED", "RUN_ERROR"}:
            self._finish(type, event)
        elif type in {"STEP_STARTED", "STEP_FINISHED"}:
            self._toggle("step", event["stepName"], begins=type == "STEP_STARTED")
        elif type == "MESSAGES_SNAPSHOT":
            self._snapshot(event["messages"])
        elif type == "TOOL_CALL_RESULT":
            self._result(event)
        elif type.startswith(tuple(_PARTS)):
            self._part(type, event)
        elif type == "STATE_SNAPSHOT":
            self.state = event["snapshot"]
        elif type == "CUSTOM":
            assert "value" in event
        elif type not in {"STATE_DELTA", "RAW", "ACTIVITY_SNAPSHOT", "ACTIVITY_DELTA"}:
            raise RefusedError(f"unknown {type}")

    def _toggle(self, kind: str, key: str, *, begins: bool) -> None:
        if (key in self._open[kind]) is begins:
            raise RefusedError(f"{kind} {key!r} {'begins twice' if begins else 'ends without a start'}")
        (self._open[kind].add if begins else self._open[kind].remove)(key)

    def _finish(self, type: str, event: dict[str, Any]) -> None:
        left = {kind: ids for kind, ids in self._open.items() if ids}
        if type == "RUN_FINISHED" and left:
            raise RefusedError(f"RUN_FINISHED with {left} open")
        self._running, self.ended = False, True
        self._open = {kind: set() for kind in self._open}
        if type == "RUN_ERROR":
            self.conversation.end = "cancelled" if event.get("code") == "cancelled" else "failed"
            return
        outcome = event.get("outcome", {}).get("type", "success")
        ends = {"success": "complete", "interrupt": "waiting", "cancelled": "cancelled"}
        self.conversation.end = cast("End", ends[outcome])

    def _part(self, type: str, event: dict[str, Any]) -> None:
        name, _, what = type.rpartition("_")
        kind = _PARTS[name]
        key = event["toolCallId"] if kind == "call" else event["messageId"]
        if what in {"START", "END"}:
            self._toggle(kind, key, begins=what == "START")
            if kind == "call" and what == "START":
                self._arguments[key] = ""
                self.conversation.calls.setdefault(key, Call()).name = event["toolCallName"]
            return
        if key not in self._open[kind]:
            raise RefusedError(f"{type} of {key!r} without its start")
        if kind == "text":
            texts = self.conversation.texts
            texts[key] = texts.get(key, "") + event["delta"]
        elif kind == "call":
            self._arguments[key] += event["delta"]
            self.conversation.calls[key].input = parsed(self._arguments[key])

    def _result(self, event: dict[str, Any]) -> None:
        if not event.get("messageId") or not isinstance(event["content"], str):
            raise RefusedError(f"a result {event!r}")
        self.conversation.calls.setdefault(event["toolCallId"], Call()).output = event["content"]

    def _snapshot(self, messages: list[dict[str, Any]]) -> None:
        if self._open["text"] - {message["id"] for message in messages}:
            raise RefusedError("a snapshot without a message that is open")
        self.messages = messages
        conversation = self.conversation
        kept = {message["id"] for message in messages}
        conversation.texts = {id_: text for id_, text in conversation.texts.items() if id_ in kept}
        for message in messages:
            if message["role"] == "assistant":
                if message.get("content"):
                    conversation.texts[message["id"]] = message["content"]
                for made in message.get("toolCalls", []):
                    call = conversation.calls.setdefault(made["id"], Call())
                    call.name = made["function"]["name"]
                    call.input = parsed(made["function"]["arguments"])
            elif message["role"] == "tool":
                conversation.calls.setdefault(message["toolCallId"], Call()).output = message["content"]
