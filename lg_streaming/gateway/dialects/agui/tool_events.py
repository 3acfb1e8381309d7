"""Calls of tools, and their results, as AG-UI's events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lg_streaming.gateway.dialects.agui.events import Words, custom, event, to_json
from lg_streaming.gateway.dialects.agui.messages import id_of, members, result_id, result_text
from lg_streaming.gateway.dialects.wire import output_of

if TYPE_CHECKING:
    from lg_streaming.gateway.dialects.agui.reading import Reading
    from lg_streaming.log.base import StoredUpdate

__all__ = ["ToolEvents"]


@dataclass(slots=True)
class _Call:
    message_id: str
    is_open: bool = True


class ToolEvents:
    """Calls of tools that one stream has announced.

    Args:
        reading: What the client reads.
    """

    def __init__(self, reading: Reading) -> None:
        self._known = reading.known_calls
        self._results = set(reading.known_results)
        self._calls: dict[str, _Call] = {}
        self._places: dict[tuple[str, int], str] = {}  # calls by message and place in it

    def add_args(self, data: Any, message_id: str, words: Words) -> None:
        """Send a piece of a call's arguments; announce the call with the first."""
        fields = members(data)
        index = fields.get("index")
        place = (message_id, index if isinstance(index, int) else 0)
        call_id = id_of(fields.get("tool_call_id")) or self._places.get(place, "")
        if not call_id:
            return
        self._places[place] = call_id
        call = self._calls.get(call_id)
        if call is None or call.message_id != message_id:
            name = id_of(fields.get("tool"))
            if not name:
                return  # its beginning is lost
            call = self._announce(call_id, name, message_id, words)
        if call.is_open and (args := id_of(fields.get("args"))):
            words.append(event("TOOL_CALL_ARGS", {"toolCallId": call_id, "delta": args}))

    def _announce(self, call_id: str, name: str, message_id: str, words: Words) -> _Call:
        self._close(call_id, words)
        self._results.discard(call_id)
        parent = {"parentMessageId": message_id} if message_id else {}
        words.append(event("TOOL_CALL_START", {"toolCallId": call_id, "toolCallName": name, **parent}))
        call = self._calls[call_id] = _Call(message_id)
        return call

    def add_whole(self, call_id: str, name: str, args: str, message_id: str, words: Words) -> None:
        """Send a call that was not streamed, unless it was announced."""
        call = self._calls.get(call_id)
        if call is None or call.message_id not in {message_id, ""}:
            self._announce(call_id, name, message_id, words)
            words.append(event("TOOL_CALL_ARGS", {"toolCallId": call_id, "delta": args}))
            self._close(call_id, words)

    def _close(self, call_id: str, words: Words) -> None:
        call = self._calls.get(call_id)
        if call is not None and call.is_open:
            call.is_open = False
            words.append(event("TOOL_CALL_END", {"toolCallId": call_id}))

    def start(self, record: StoredUpdate, data: Any, words: Words) -> None:
        """Close the call that a tool begins to serve; announce it if it is new."""
        fields = members(data)
        call_id = id_of(fields.get("tool_call_id")) or record.scope.tool_call_id
        if not call_id:
            words.append(custom(record.type, data, record.timestamp))
        elif call_id in self._calls:
            self._close(call_id, words)
        elif call_id not in self._known:
            self.add_whole(call_id, id_of(fields.get("tool")) or "tool", _arguments(fields.get("input")), "", words)

    def end(self, record: StoredUpdate, data: Any, words: Words) -> None:
        """Send what a tool returned, or why it failed."""
        fields = members(data)
        call_id = id_of(fields.get("tool_call_id")) or record.scope.tool_call_id
        if not call_id:
            words.append(custom(record.type, data, record.timestamp))
            return
        output = output_of(fields.get("output"), call_id)
        result = members(output)
        if record.type == "tool_error":
            text = id_of(members(fields.get("error")).get("message")) or "the tool failed"
        elif result.get("type") == "tool" and "content" in result:
            text = result_text(result["content"])
        else:
            text = result_text(output)
        self.add_result(call_id, text, words)

    def add_result(self, call_id: str, text: str, words: Words) -> None:
        """Send the result of a call, unless the client has it."""
        if call_id in self._results:
            return
        self._results.add(call_id)
        self._close(call_id, words)
        call = self._calls.get(call_id)
        message_id = result_id(call_id, self._known.get(call_id, "") if call is None else call.message_id)
        fields = {"messageId": message_id, "toolCallId": call_id, "content": text, "role": "tool"}
        words.append(event("TOOL_CALL_RESULT", fields))

    def close_of(self, message_id: str, words: Words) -> None:
        """Close the calls of a message."""
        for call_id, call in self._calls.items():
            if call.message_id == message_id:
                self._close(call_id, words)

    def close_all(self, words: Words) -> None:
        """Close all calls."""
        for call_id in self._calls:
            self._close(call_id, words)


def _arguments(value: object) -> str:
    return value if isinstance(value, str) else to_json({} if value is None else value).decode()
