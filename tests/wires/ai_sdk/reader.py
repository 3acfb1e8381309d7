"""A strict reader of UI message streams: it raises where any release of the stock client would break."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

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
STATES = {
    "tool-input-start": "input-streaming",
    "tool-input-available": "input-available",
    "tool-output-available": "output-available",
    "tool-output-error": "output-error",
    "tool-output-denied": "output-denied",
    "tool-approval-request": "approval-requested",
}
"""States of tool parts after chunks."""


class BrokenError(AssertionError):
    """A chunk that a client refuses, or misunderstands."""


def chunks_of(body: bytes | str) -> list[dict[str, Any]]:
    """Parse a stream that has ended tidily: one event of one line for each chunk, at last `[DONE]`."""
    text = body if isinstance(body, str) else body.decode()
    if not text.endswith("data: [DONE]\n\n"):
        raise BrokenError(f"no [DONE] at the end: {text[-200:]!r}")
    return parse(text.removesuffix("data: [DONE]\n\n"))


def parse(text: str) -> list[dict[str, Any]]:
    """Parse the events of a stream."""
    found: list[dict[str, Any]] = []
    for event in text.split("\n\n")[:-1]:
        if event.startswith(":"):
            continue
        if not event.startswith("data: {") or "\n" in event:
            raise BrokenError(f"no event of one line: {event[:200]!r}")
        found.append(json.loads(event[6:], parse_constant=_refuse))
        _check_keys(found[-1])
        if not re.match(r'data: \{"type":"[a-z]', event):
            raise BrokenError(f"JSON with spaces: {event[:50]!r}")
    return found


def _refuse(name: str) -> Any:
    raise BrokenError(f"no JSON: {name}")


def _check_keys(value: Any) -> None:
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if "__proto__" in fields or "prototype" in (fields.get("constructor") or ()):
            raise BrokenError(f"a key that parsers refuse: {fields!r:.200}")
        for each in fields.values():
            _check_keys(each)
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            _check_keys(each)


@dataclass
class Reader:
    """The message that a client would have, as its parts."""

    approvals: bool = True
    """False: approvals are refused, as by version 5."""
    latest: bool = False
    """True: `reset-step` is understood, as by version 7."""
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
            raise BrokenError(f"open at the end: {list(self._open)}")
        if not self._ended:
            raise BrokenError("neither finish, error nor abort")
        return self

    def _check(self, chunk: dict[str, Any]) -> None:
        name = chunk["type"]
        if self._ended:
            raise BrokenError(f"{name} after the end")
        if name.startswith("data-"):
            required, optional = {"data"}, {"id", "transient"}
        elif name in PORTABLE and (self.approvals or name not in APPROVALS):
            required, optional = PORTABLE[name]
        elif name == "reset-step" and self.latest:
            required, optional = set[str](), set[str]()
        else:
            raise BrokenError(f"{name} is not in the portable subset")
        fields = chunk.keys() - {"type"}
        if not required <= fields or not fields <= required | optional:
            raise BrokenError(f"{name} has the fields {sorted(fields)}")
        if nulls := [each for each in fields - FREE if chunk[each] is None]:
            raise BrokenError(f"{name} has null in {nulls}")
        if not self._started and name != "start":
            raise BrokenError(f"{name} before start")
        if chunk.get("finishReason") not in {None, "stop", "length", "content-filter", "tool-calls", "error", "other"}:
            raise BrokenError(f"finishReason {chunk['finishReason']}")

    def _apply(self, chunk: dict[str, Any]) -> None:
        name = chunk["type"]
        if name in {"start", "start-step", "finish-step", "finish", "error", "abort"}:
            self._frame(chunk)
        elif name.startswith(("text-", "reasoning-")):
            self._text(chunk)
        elif name.startswith("data-"):
            self._data(chunk)
        elif name.startswith("tool-"):
            self._tool(chunk)
        elif name == "reset-step":
            while self.parts[-1]["type"] != "step-start":
                self.parts.pop()
        elif name == "message-metadata":
            self.metadata |= chunk["messageMetadata"]
        else:
            self.parts.append(chunk)

    def _frame(self, chunk: dict[str, Any]) -> None:
        name = chunk["type"]
        if name == "start" and (self._started or self.message_id not in {None, chunk["messageId"]}):
            raise BrokenError("a second start, or another messageId in a continuation")
        if name == ("start-step" if self._in_step else "finish-step") or (name == "finish" and self._in_step):
            raise BrokenError(f"{name} {'in' if self._in_step else 'outside of'} a step")
        if name == "finish-step" and self._open:
            raise BrokenError(f"finish-step, open: {list(self._open)}")
        self._in_step = name == "start-step" or (self._in_step and name != "finish-step")
        self.metadata |= chunk.get("messageMetadata", {})
        self.message_id = chunk.get("messageId", self.message_id)
        self._started = True
        self._ended = name in {"finish", "error", "abort"}
        self.error, self.finish_reason = chunk.get("errorText"), chunk.get("finishReason")
        self.aborted = name == "abort"
        if name == "start-step":
            self.parts.append({"type": "step-start"})

    def _text(self, chunk: dict[str, Any]) -> None:
        kind, _, what = chunk["type"].rpartition("-")
        key = (kind, chunk["id"])
        if what == "start":
            if key in self._open or not self._in_step:
                raise BrokenError(f"{kind} starts while it is open, or outside of a step")
            self._open[key] = {"type": kind, "text": "", "state": "streaming", **chunk.get("providerMetadata", {})}
            self.parts.append(self._open[key])
        elif key not in self._open:
            raise BrokenError(f"{chunk['type']} without its start")
        elif what == "end":
            self._open.pop(key)["state"] = "done"
        else:
            self._open[key]["text"] += chunk["delta"]

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
        if part is None and name in {"tool-input-start", "tool-input-available"}:
            if not self._in_step:
                raise BrokenError("a call outside of a step")
            kind = "dynamic-tool" if chunk.get("dynamic") else f"tool-{chunk['toolName']}"
            part = {"type": kind, "toolName": chunk["toolName"], "toolCallId": call_id, "args": ""}
            self.parts.append(part)
        if part is None:
            raise BrokenError(f"{name} without its call")
        is_dynamic = bool(chunk.get("dynamic"))
        if ("input" in chunk or "output" in chunk) and is_dynamic != (part["type"] == "dynamic-tool"):
            raise BrokenError(f"{name} is dynamic in one chunk, and not in the other")
        if name == "tool-input-delta" and part["state"] != "input-streaming":
            raise BrokenError("arguments of a call that has its input")
        part["args"] += chunk.get("inputTextDelta", "")
        part |= {key: chunk[key] for key in ("input", "output", "errorText") if key in chunk}
        part["state"] = STATES.get(name, part.get("state"))
        if "approvalId" in chunk:
            part["approval"] = {"id": chunk["approvalId"]}

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
