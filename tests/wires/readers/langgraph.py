"""The two wires of LangChain's agent server: frames by mode, and the tape of events of a thread."""

from __future__ import annotations

import json
from typing import Any

from tests.wires.conversation import Call, Conversation, End, parsed, shown
from tests.wires.readers.base import RefusedError, content_text
from tests.wires.readers.sse import Frames

__all__ = ["EventReader", "ModeReader"]


class ModeReader:
    """`useStream` of the LangGraph SDK, with `stream_mode` `messages-tuple`, `values` and `custom`."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.position = ""
        """The `Last-Event-ID` of the next request."""
        self.values: dict[str, Any] = {}
        self.runs: list[str] = []
        self._written: dict[tuple[str, int], list[str]] = {}
        self.connect()

    def connect(self) -> None:
        self._frames = Frames()
        self._ended = False

    def feed(self, part: bytes) -> None:
        for frame in self._frames.feed(part):
            self.position = frame.id
            if self._ended:
                raise RefusedError(f"{frame.event} after the end")
            self._frame(frame.event, json.loads(frame.data))

    def _frame(self, event: str, data: Any) -> None:  # noqa: C901 (a table of modes)
        mode, _, namespace = event.partition("|")
        if not self.runs and mode != "metadata":
            raise RefusedError(f"{event} before metadata")
        if mode == "metadata":
            self.runs.append(data["run_id"])
            self.conversation.end = "running"
        elif mode == "messages":
            chunk, metadata = data
            if not chunk.get("id") or "langgraph_node" not in metadata:
                raise RefusedError(f"a message without id or node: {data!r}")
            if chunk["type"] == "ai" and (text := content_text(chunk["content"])):
                # The SDK makes a chunk of it, too, and joins it to what it has of this message.
                self.conversation.texts[chunk["id"]] = self.conversation.texts.get(chunk["id"], "") + text
            else:
                self._message(chunk)
        elif mode == "values" and not namespace:
            self.values = data
            if data.get("__interrupt__"):
                self.conversation.end = "waiting"
            for message in data.get("messages", []):
                self._message(message)
        elif mode == "error":
            self.conversation.end = "failed"
            self._ended = True
        elif mode == "end":
            self._ended = True

    def _message(self, message: dict[str, Any]) -> None:
        conversation, id_ = self.conversation, message["id"]
        if message["type"] == "tool":
            call = conversation.calls.setdefault(message["tool_call_id"], Call(message.get("name") or ""))
            if message.get("status") == "error":
                call.error = shown(message["content"])
            else:
                call.output = shown(message["content"])
        if message["type"] == "ai" and content_text(message["content"]):
            streamed = conversation.texts.setdefault(id_, content_text(message["content"]))
            if streamed != content_text(message["content"]):
                raise RefusedError(f"message {id_} is {message['content']!r}, and was streamed as {streamed!r}")
        if message["type"] == "ai":
            for made in message.get("tool_calls", []):
                call = conversation.calls.setdefault(made["id"], Call())
                call.name, call.input = made["name"], made["args"]
        if message["type"] == "AIMessageChunk":
            if text := content_text(message["content"]):
                conversation.texts[id_] = conversation.texts.get(id_, "") + text
            for piece in message.get("tool_call_chunks", []):
                parts = self._written.setdefault((id_, piece["index"]), [piece.get("id") or ""])
                parts.append(piece["args"] or "")
                call = conversation.calls.setdefault(parts[0], Call(piece.get("name") or ""))
                call.input = parsed("".join(parts[1:]))


class EventReader:
    """`client.threads.stream`: events of a thread, each once however often it is delivered."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.values: dict[str, Any] = {}
        self.segments: list[str] = []
        self.ends = 0
        self._seen: set[str] = set()
        self._last = -1
        self._message: dict[tuple[str, ...], str] = {}
        self._blocks: dict[str, dict[int, dict[str, Any]]] = {}
        self._asked: set[str] = set()
        self.connect()

    @property
    def position(self) -> int:
        """The `since` of the next request of a client in Python."""
        return self._last

    def connect(self) -> None:
        self._frames = Frames()

    def feed(self, part: bytes) -> None:
        for frame in self._frames.feed(part):
            event = json.loads(frame.data)
            if event["event_id"] in self._seen:
                continue
            if event["seq"] <= self._last:
                raise RefusedError(f"seq {event['seq']} after {self._last}")
            self._seen.add(event["event_id"])
            self._last = event["seq"]
            self._event(
                event["method"], tuple(event["params"]["namespace"]), event["params"]["data"], event["event_id"]
            )

    def _event(self, method: str, namespace: tuple[str, ...], data: Any, event_id: str) -> None:
        if method == "messages":
            self._on_message(namespace, data)
        elif method == "values" and not namespace:
            self.values = data
            for message in data.get("messages", []):
                streamed = self.conversation.texts.get(message["id"])
                if message["type"] == "ai" and streamed not in {None, content_text(message["content"])}:
                    raise RefusedError(
                        f"message {message['id']} is {message['content']!r}, and was streamed as {streamed!r}"
                    )
        elif method == "lifecycle" and not namespace:
            self._on_lifecycle(event_id.split(":")[1], data["event"])  # `synth:<run id>:…`
        elif method == "input.requested":
            self._asked.add(data["interrupt_id"])
        elif method == "input.answered":
            self._asked.difference_update(data["interrupt_ids"])
        elif method == "tools":
            self._on_tool(data)

    def _on_lifecycle(self, segment: str, event: str) -> None:
        if event == "running":
            self.segments.append(segment)
        elif self.segments and self.segments[-1] != segment:
            raise RefusedError(f"{event} of {segment!r}, which is not running")
        else:
            self.ends += 1
        # A cancelled run and one that waits both end as interrupted; the questions distinguish them.
        paused: End = "waiting" if self._asked else "cancelled"
        ends: dict[str, End] = {"running": "running", "completed": "complete", "failed": "failed"}
        self.conversation.end = ends.get(event, paused)

    def _on_message(self, namespace: tuple[str, ...], data: Any) -> None:  # noqa: C901 (a table of events)
        """Take an event of a message: the one it names, else the last that began in its namespace.

        Blocks of one message do not mix.
        """
        event = data["event"]
        if event == "message-start":
            self._message[namespace] = data["id"]
            self._blocks[data["id"]] = {}
            return
        id_ = data.get("message_id") or self._message.get(namespace)
        blocks = self._blocks.get(id_ or "")
        if id_ is None or blocks is None:
            raise RefusedError(f"{event} without a message")
        if event == "content-block-start":
            if any(block["open"] for block in blocks.values()) or data["index"] in blocks:
                raise RefusedError(f"block {data['index']} of {id_} begins inside another one")
            blocks[data["index"]] = {"open": True, **data["content"]}
        elif event == "content-block-delta":
            self._on_delta(id_, blocks[data["index"]], data["delta"])
        elif event == "content-block-finish":
            block, content = blocks[data["index"]], data["content"]
            block["open"] = False
            if block["type"] == "text" and block["text"] != content["text"]:
                raise RefusedError(f"a text ends as {content['text']!r}, and was streamed as {block['text']!r}")
            if content["type"] == "tool_call":
                call = self.conversation.calls.setdefault(content["id"], Call())
                call.name, call.input = content["name"], content["args"]
        elif event in {"message-finish", "error"}:
            if event == "message-finish" and any(block["open"] for block in blocks.values()):
                raise RefusedError(f"message {id_} ends inside a block")
            del self._blocks[id_]

    def _on_delta(self, id_: str, block: dict[str, Any], delta: dict[str, Any]) -> None:
        if not block["open"]:
            raise RefusedError(f"a delta after the end of a block of {id_}")
        if delta["type"] == "text-delta":
            block["text"] += delta["text"]
            self.conversation.texts[id_] = self.conversation.texts.get(id_, "") + delta["text"]
        elif delta["type"] == "reasoning-delta":
            block["reasoning"] += delta["reasoning"]
        elif delta["type"] == "block-delta":
            block["args"] = delta["fields"]["args"]
        else:
            raise RefusedError(f"a delta of type {delta['type']!r}")

    def _on_tool(self, data: Any) -> None:
        call = self.conversation.calls.setdefault(data["tool_call_id"], Call())
        if data["event"] == "tool-started":
            call.name, call.input = data["tool_name"], data["input"]
        elif data["event"] == "tool-finished":
            call.output = shown(data["output"])
        elif data["event"] == "tool-error":
            call.error = data["message"]
