"""A strict reader of UI message streams: it raises where any release of the stock client would break."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

PORTABLE: dict[str, tuple[set[str], set[str]]] = {
    "start": (set(), {"messageId", "messageMetadata"}),
    "start-step": (set(), set()),
    "finish-step": (set(), set()),
    "text-start": ({"id"}, {"providerMetadata"}),
    "text-delta": ({"id", "delta"}, set()),
    "text-end": ({"id"}, set()),
    "reasoning-start": ({"id"}, {"providerMetadata"}),
    "reasoning-delta": ({"id", "delta"}, set()),
    "reasoning-end": ({"id"}, set()),
    "tool-input-start": ({"toolCallId", "toolName"}, set()),
    "tool-input-delta": ({"toolCallId", "inputTextDelta"}, set()),
    "tool-input-available": ({"toolCallId", "toolName", "input"}, {"dynamic"}),
    "tool-output-available": ({"toolCallId", "output"}, {"dynamic"}),
    "tool-output-error": ({"toolCallId", "errorText"}, set()),
    "tool-approval-request": ({"approvalId", "toolCallId"}, set()),
    "tool-output-denied": ({"toolCallId"}, set()),
    "source-url": ({"sourceId", "url"}, {"title"}),
    "source-document": ({"sourceId", "mediaType", "title"}, set()),
    "file": ({"url", "mediaType"}, set()),
    "message-metadata": ({"messageMetadata"}, set()),
    "error": ({"errorText"}, set()),
    "abort": (set(), set()),
    "finish": (set(), {"finishReason", "messageMetadata"}),
}
"""Required and optional fields of the chunks that all releases of versions 6 and 7 know, and 5 but for approvals."""
APPROVALS = {"tool-approval-request", "tool-output-denied"}
FREE = {"data", "input", "output", "messageMetadata"}
"""Fields that may be null."""
NAMES = {"mediaType", "toolName"}


class Broken(AssertionError):
    """A chunk that a client refuses, or misunderstands."""


def chunks_of(body: bytes | str) -> list[dict[str, Any]]:
    """Parse a stream that has ended tidily: one event of one line for each chunk, at last `[DONE]`."""
    text = body if isinstance(body, str) else body.decode()
    if not text.endswith("data: [DONE]\n\n"):
        raise Broken(f"no [DONE] at the end: {text[-200:]!r}")
    return parse(text.removesuffix("data: [DONE]\n\n"))


def parse(text: str) -> list[dict[str, Any]]:
    """Parse the events of a stream."""
    found: list[dict[str, Any]] = []
    for event in text.split("\n\n")[:-1]:
        if event.startswith(":"):
            continue
        if not event.startswith("data: {") or "\n" in event:
            raise Broken(f"no event of one line: {event[:200]!r}")
        found.append(json.loads(event[6:], parse_constant=_refuse))
        _check_keys(found[-1])
        if not re.match(r'data: \{"type":"[a-z]', event):
            raise Broken(f"JSON with spaces: {event[:50]!r}")
    return found


def _refuse(name: str) -> Any:
    raise Broken(f"no JSON: {name}")


def _check_keys(value: Any) -> None:
    if isinstance(value, dict):
        if "__proto__" in value or "prototype" in (value.get("constructor") or ()):
            raise Broken(f"a key that parsers refuse: {value!r:.200}")
        for each in value.values():
            _check_keys(each)
    elif isinstance(value, list):
        for each in value:
            _check_keys(each)


@dataclass
class Reader:
    """The message that a client would have, as its parts."""

    approvals: bool = True
    """False: approvals are refused, as by version 5."""
    parts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    message_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    transient: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    error: str | None = None
    aborted: bool = False
    finish_reason: str | None = None
    _open: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict[tuple[str, str], dict[str, Any]])
    _in_step: bool = False
    _started: bool = False
    _ended: bool = False

    def read(self, chunks: Iterable[dict[str, Any]]) -> "Reader":
        """Read the chunks of one stream."""
        self._started = self._ended = self._in_step = False
        self.error, self.aborted, self.finish_reason = None, False, None
        self._open.clear()
        for chunk in chunks:
            self._check(chunk)
            self._apply(chunk)
        if self._open:
            raise Broken(f"open at the end: {list(self._open)}")
        if not self._ended:
            raise Broken("neither finish, error nor abort")
        return self

    def _check(self, chunk: dict[str, Any]) -> None:
        name = chunk["type"]
        if self._ended:
            raise Broken(f"{name} after the end")
        if name.startswith("data-"):
            required, optional = {"data"}, {"id", "transient"}
        elif name in PORTABLE and (self.approvals or name not in APPROVALS):
            required, optional = PORTABLE[name]
        else:
            raise Broken(f"{name} is not in the portable subset")
        fields = chunk.keys() - {"type"}
        if not required <= fields or not fields <= required | optional:
            raise Broken(f"{name} has the fields {sorted(fields)}")
        if nulls := [each for each in fields - FREE if chunk[each] is None]:
            raise Broken(f"{name} has null in {nulls}")
        if not self._started and name != "start":
            raise Broken(f"{name} before start")
        if chunk.get("finishReason") not in {None, "stop", "length", "content-filter", "tool-calls", "error", "other"}:
            raise Broken(f"finishReason {chunk['finishReason']}")

    def _apply(self, chunk: dict[str, Any]) -> None:
        name = chunk["type"]
        kind, _, what = name.rpartition("-")
        match name:
            case "start":
                if self._started:
                    raise Broken("a second start")
                if self.message_id not in {None, chunk["messageId"]}:
                    raise Broken("another messageId in a continuation")
                self._started, self.message_id = True, chunk["messageId"]
                self.metadata |= chunk.get("messageMetadata", {})
            case "start-step":
                if self._in_step:
                    raise Broken("a step in a step")
                self._in_step = True
                self.parts.append({"type": "step-start"})
            case "finish-step":
                if not self._in_step or self._open:
                    raise Broken(f"finish-step, open: {list(self._open)}")
                self._in_step = False
            case "text-start" | "reasoning-start":
                if (kind, chunk["id"]) in self._open or not self._in_step:
                    raise Broken(f"{name} while it is open, or outside of a step")
                part = {"type": kind, "text": "", "state": "streaming", **chunk.get("providerMetadata", {})}
                self._open[kind, chunk["id"]] = part
                self.parts.append(part)
            case "text-delta" | "reasoning-delta" | "text-end" | "reasoning-end":
                part = self._open.get((kind, chunk["id"]))
                if part is None:
                    raise Broken(f"{name} without its start")
                if what == "end":
                    part["state"] = "done"
                    del self._open[kind, chunk["id"]]
                else:
                    part["text"] += chunk["delta"]
            case "error":
                self.error, self._ended = chunk["errorText"], True
            case "abort":
                self.aborted, self._ended = True, True
            case "finish":
                if self._in_step:
                    raise Broken("finish in a step")
                self.finish_reason, self._ended = chunk.get("finishReason"), True
                self.metadata |= chunk.get("messageMetadata", {})
            case "message-metadata":
                self.metadata |= chunk["messageMetadata"]
            case _ if name.startswith("data-"):
                self._data(chunk)
            case _ if name.startswith("tool-"):
                self._tool(chunk)
            case _:
                self.parts.append(chunk)

    def _data(self, chunk: dict[str, Any]) -> None:
        if chunk.get("transient"):
            self.transient.append(chunk)
            return
        same = [each for each in self.parts if each["type"] == chunk["type"] and each.get("id") == chunk.get("id")]
        if "id" in chunk and same:
            same[0]["data"] = chunk["data"]
        else:
            self.parts.append(chunk)

    def _tool(self, chunk: dict[str, Any]) -> None:
        name, call_id = chunk["type"], chunk["toolCallId"]
        part = next((each for each in self.parts if each.get("toolCallId") == call_id), None)
        if name in {"tool-input-start", "tool-input-available"}:
            if part is None:
                part = {"type": f"tool-{chunk['toolName']}", "toolCallId": call_id, "args": ""}
                if chunk.get("dynamic"):
                    part |= {"type": "dynamic-tool", "toolName": chunk["toolName"]}
                if not self._in_step:
                    raise Broken("a call outside of a step")
                self.parts.append(part)
            if (part["type"] == "dynamic-tool") != bool(chunk.get("dynamic")):
                raise Broken(f"{name} is dynamic in one chunk, and not in the other")
            part |= {"state": "input-streaming" if name == "tool-input-start" else "input-available"}
            part |= {"input": chunk["input"]} if "input" in chunk else {}
            return
        if part is None:
            raise Broken(f"{name} without its call")
        match name:
            case "tool-input-delta":
                if part["state"] != "input-streaming":
                    raise Broken("arguments of a call that has its input")
                part["args"] += chunk["inputTextDelta"]
            case "tool-output-available":
                if (part["type"] == "dynamic-tool") != bool(chunk.get("dynamic")):
                    raise Broken(f"{name} is dynamic in one chunk, and not in the other")
                part |= {"state": "output-available", "output": chunk["output"]}
            case "tool-output-error":
                part |= {"state": "output-error", "errorText": chunk["errorText"]}
            case "tool-output-denied":
                part["state"] = "output-denied"
            case _:
                part |= {"state": "approval-requested", "approval": {"id": chunk["approvalId"]}}

    # ------------------------------------------------------------ what it has
    @property
    def text(self) -> str:
        """All texts, joined."""
        return "".join(each["text"] for each in self.parts if each["type"] == "text")

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The parts of tool calls."""
        return [each for each in self.parts if "toolCallId" in each]

    def would_send(self) -> bool:
        """Return whether a helper of the client would send the message back by itself."""
        if self.error is not None:
            return False
        starts = [index for index, each in enumerate(self.parts) if each["type"] == "step-start"]
        last = self.parts[starts[-1] if starts else 0 :]
        states = [each["state"] for each in last if "toolCallId" in each]
        closed = {"output-available", "output-error"}
        with_calls = bool(states) and all(each in closed for each in states)
        answered = [*closed, "output-denied", "approval-responded"]
        with_approvals = "approval-responded" in states and all(each in answered for each in states)
        return with_calls or with_approvals

    def approve(self, *verdicts: bool, reason: str | None = None) -> list[dict[str, Any]]:
        """Answer the open approvals, and return the message for a request."""
        waiting = [each for each in self.parts if each.get("state") == "approval-requested"]
        for part, verdict in zip(waiting, verdicts, strict=True):
            part["state"] = "approval-responded"
            part["approval"] |= {"approved": verdict, **({"reason": reason} if reason else {})}
        return [self.message]

    def output(self, call_id: str, value: Any) -> list[dict[str, Any]]:
        """Give a call its output, and return the message for a request."""
        part = next(each for each in self.parts if each.get("toolCallId") == call_id)
        part |= {"state": "output-available", "output": value}
        return [self.message]

    @property
    def message(self) -> dict[str, Any]:
        """The message as a client sends it."""
        return {"id": self.message_id, "role": "assistant", "parts": self.parts}
