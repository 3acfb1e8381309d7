"""Texts, tool calls and the end, as a reader of any wire has them, and as the updates have them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lg_streaming.events import StreamUpdate
from lg_streaming.log.base import StoredUpdate
from lg_streaming.texts import TextAssembly

__all__ = ["ENDS", "Call", "Conversation", "End", "conversation_of", "parsed", "shown"]

End = Literal["complete", "failed", "cancelled", "waiting", "running"]
ENDS: dict[str, End] = {
    "workflow_complete": "complete",
    "workflow_error": "failed",
    "workflow_abandoned": "failed",
    "workflow_cancelled": "cancelled",
    "workflow_interrupted": "waiting",
}


@dataclass(slots=True)
class Call:
    """A call of a tool."""

    name: str = ""
    input: Any = None
    output: str | None = None
    error: str | None = None


@dataclass(slots=True)
class Conversation:
    """The state of a chat, without what differs by wire."""

    texts: dict[str, str] = field(default_factory=dict[str, str])
    """Texts by message id, without empty ones."""
    calls: dict[str, Call] = field(default_factory=dict[str, Call])
    end: End = "running"

    @classmethod
    def of(cls, records: Sequence[StoredUpdate], *, takes_back: bool = True) -> Conversation:
        """Read updates as `TextAssembly` does, or, for wires that cannot take text back, with all that was sent."""
        return conversation_of([record.update for record in records], takes_back=takes_back)


def conversation_of(updates: Sequence[StreamUpdate], *, takes_back: bool = True) -> Conversation:
    """Read updates, see `Conversation.of`."""
    return Conversation(_assembled(updates) if takes_back else _joined(updates), _calls(updates), _end(updates))


def shown(value: object) -> str:
    """Return a tool's output as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def parsed(arguments: str) -> Any:
    """Return the arguments of a call that were streamed as text; unfinished ones stay text."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _assembled(updates: Iterable[StreamUpdate]) -> dict[str, str]:
    assembly = TextAssembly()
    for update in updates:
        assembly.add(update)
    return {str(each.message_id): each.text for each in assembly.messages if each.text}


def _joined(updates: Iterable[StreamUpdate]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for update in updates:
        if update.type == "token" and update.data["content"]:
            key = str(update.data.get("message_id") or update.metadata.message_id)
            texts[key] = texts.get(key, "") + update.data["content"]
    return texts


def _calls(updates: Iterable[StreamUpdate]) -> dict[str, Call]:
    calls: dict[str, Call] = {}
    written: dict[tuple[str | None, int], list[str]] = {}
    """Id and parts of the arguments of each call, by message and index."""
    for update in updates:
        data: Any = update.data
        if update.type == "tool_args":
            parts = written.setdefault((update.metadata.message_id, data["index"]), [data.get("tool_call_id", "")])
            parts.append(data["args"])
            if "tool" in data:
                calls.setdefault(parts[0], Call(data["tool"]))
            calls.setdefault(parts[0], Call()).input = parsed("".join(parts[1:]))
        elif update.type in {"tool_start", "tool_complete", "tool_error"}:
            call = calls.setdefault(data["tool_call_id"], Call(data["tool"]))
            if "input" in data:
                call.input = data["input"]
            if update.type == "tool_complete":
                call.output = shown(data.get("output"))
            elif update.type == "tool_error":
                call.error = data["error"]["message"]
    return calls


def _end(updates: Iterable[StreamUpdate]) -> End:
    end: End = "running"
    for update in updates:
        if update.type == "workflow_start" or (update.type, update.data) == ("status", {"status": "resumed"}):
            end = "running"
        end = ENDS.get(update.type, end)
    return end
