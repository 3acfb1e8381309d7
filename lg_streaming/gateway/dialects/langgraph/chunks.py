"""Messages of models as the wire sends them: parts of a message, or the message so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MessageParts", "messages_in"]

_ROLES: Final = {"ai": "ai", "assistant": "ai", "human": "human", "user": "human", "tool": "tool", "system": "system"}
_TYPES: Final = frozenset({"ai", "human", "tool", "system", "function", "remove", "developer", "chat"})
_NO_CALLS: Final = b',"tool_call_chunks":[]}'


class MessageParts:
    """Parts of one message, which clients join by its id.

    Content stays a text until the first reasoning. From then on it is a list of blocks, which clients join by index.

    Args:
        message_id: Id of the message.
        role: Role of its author; a model if not given.
        streamed: Whether a model streams it. Text of a program has the type of a whole message.
        whole: Whether the message so far is needed.
    """

    __slots__ = (
        "_blocks",
        "_call_ids",
        "_calls",
        "_head",
        "_kind",
        "_text",
        "_whole",
        "id",
        "metadata",
        "named",
        "type",
    )

    def __init__(self, message_id: str, role: object = "ai", *, streamed: bool = True, whole: bool = False) -> None:
        self.id = message_id
        self.type: str = _ROLES.get(str(role), "ai")
        name = "AIMessageChunk" if self.type == "ai" and streamed else self.type
        self._head = b'{"type":%b,"id":%b,"content":' % (orjson.dumps(name), orjson.dumps(message_id))
        self._calls: dict[str, int] = {}
        self._call_ids: dict[object, str] = {}  # of the newest call of each index
        self._blocks: list[dict[str, Any]] = []
        self._kind = ""
        self._text: list[str] = []
        self._whole: list[dict[str, Any]] | None = [] if whole else None
        self.metadata: bytes = b"{}"
        """Metadata of the frames, as JSON."""
        self.named: bool = False
        """True after the metadata of the message was sent."""

    # --- parts ----------------------------------------------------------------------------------------------

    @property
    def prefix(self) -> bytes | None:
        """JSON before the next text; None while content is a list of blocks."""
        return self._head if not self._kind else None

    def text(self, content: str) -> bytes:
        """Return the part of a text, as JSON."""
        if self._whole is not None:
            self._text.append(content)
        if not self._kind:
            return b"%b%b%b" % (self._head, orjson.dumps(content), _NO_CALLS)
        return self._block("text", content)

    def copied(self, text: bytes) -> bytes:
        """Return the part of a text that is JSON without its quotes; the message was made without ``whole``."""
        if not self._kind:
            return b'%b"%b"%b' % (self._head, text, _NO_CALLS)
        return self._block("text", orjson.loads(b'"%b"' % text))

    def reasoning(self, content: str) -> bytes:
        """Return the part of a reasoning, as JSON."""
        if not self._kind and self._whole is not None and self._text:
            self._blocks.append({"type": "text", "text": "".join(self._text)})
        return self._block("reasoning", content)

    def _block(self, kind: str, content: str) -> bytes:
        if self._kind != kind:
            self._kind = kind
            self._blocks.append({"type": kind, kind: "", "index": len(self._blocks)})
        block = self._blocks[-1]
        if self._whole is not None:
            block[kind] += content
        part = [{"type": kind, kind: content, "index": block["index"]}]
        return b"%b%b%b" % (self._head, orjson.dumps(part), _NO_CALLS)

    def tool_args(self, data: Mapping[str, Any]) -> bytes:
        """Return the part of a tool call, as JSON: its name and its id only in the first one."""
        place, args = data.get("index"), str(data.get("args") or "")
        # Only the first piece of a call has its id; further ones have its index.
        call_id = str(data.get("tool_call_id") or "") or self._call_ids.get(place, "")
        self._call_ids[place] = call_id
        first = call_id not in self._calls
        index = self._calls.setdefault(call_id, len(self._calls))
        chunk = {
            "name": data.get("tool") if first else None,
            "args": args,
            "id": call_id if first else None,
            "index": index,
            "type": "tool_call_chunk",
        }
        if self._whole is not None:
            if first:
                self._whole.append({"name": data.get("tool") or "", "args": "", "id": call_id})
            self._whole[index]["args"] += args
        return b'%b"","tool_call_chunks":[%b]}' % (self._head, orjson.dumps(chunk))

    def last(self, usage: object) -> bytes:
        """Return the last part, which has the usage, as JSON."""
        return b'%b"","tool_call_chunks":[],"usage_metadata":%b,"chunk_position":"last"}' % (
            self._head,
            orjson.dumps(_usage(usage)),
        )

    # --- the message so far ---------------------------------------------------------------------------------

    def so_far(self) -> bytes:
        """Return the message so far, as JSON; it has to be made with ``whole``."""
        calls = [
            {"name": each["name"], "args": _parsed(each["args"]), "id": each["id"], "type": "tool_call"}
            for each in self._whole or ()
        ]
        return orjson.dumps(
            {
                "type": self.type,
                "id": self.id,
                "content": self._blocks if self._kind else "".join(self._text),
                "name": None,
                "additional_kwargs": {},
                "response_metadata": {},
                **({"tool_calls": calls, "invalid_tool_calls": []} if self.type == "ai" else {}),
            }
        )


def _usage(usage: object) -> dict[str, Any] | None:
    if not isinstance(usage, dict):
        return None
    found = cast("dict[str, Any]", usage)
    names = ("input_tokens", "output_tokens", "total_tokens")
    return {**found, **{name: found.get(name) or 0 for name in names}}


def _parsed(args: str) -> dict[str, Any]:
    try:
        found = orjson.loads(args)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def messages_in(value: object) -> list[dict[str, Any]]:
    """Return the messages in a state, or in what a node returned, in order. Their id may be None."""
    found: list[dict[str, Any]] = []
    parts: list[Any] = list(cast("list[Any]", value)) if isinstance(value, list) else [value]
    for part in parts:
        if not isinstance(part, dict):
            continue
        fields = cast("dict[str, Any]", part)
        if _is_message(fields):
            found.append(fields)
            continue
        for each in fields.values():
            members: list[Any] = list(cast("list[Any]", each)) if isinstance(each, list) else [each]
            found += [member for member in members if _is_message(member)]
    return found


def _is_message(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    fields = cast("dict[str, Any]", value)
    return fields.get("type") in _TYPES and "content" in fields and isinstance(fields.get("id", 0), str | None)
