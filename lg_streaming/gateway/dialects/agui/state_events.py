"""The graph's state as AG-UI's events, and the messages in it that were not streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.dialects.agui.events import Words, event
from lg_streaming.gateway.dialects.agui.messages import (
    Json,
    arguments_of,
    id_of,
    members,
    message_id_of,
    messages_in,
    result_text,
    snapshot_messages,
    text_of,
    tool_calls,
)
from lg_streaming.gateway.dialects.agui.patch import json_patch

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from lg_streaming.gateway.dialects.agui.reading import Reading
    from lg_streaming.gateway.dialects.agui.text_events import TextEvents
    from lg_streaming.gateway.dialects.agui.tool_events import ToolEvents
    from lg_streaming.log.base import StoredUpdate

__all__ = ["StateEvents", "shown_state"]

_OWN_FIELDS: Final = frozenset({"messages", "tools", "context", "ag-ui", "copilotkit"})
"""Fields of a graph's state that pages have already."""


class StateEvents:
    """State of the graph as one client has it.

    Args:
        reading: What the client reads.
        texts: The text that is sent.
        tools: The calls that are sent.
    """

    def __init__(self, reading: Reading, texts: TextEvents, tools: ToolEvents) -> None:
        self._texts = texts
        self._tools = tools
        self._reading = reading
        self._before = reading.checkpoint_id
        self._values = reading.values
        self._messages: list[Json] | None = None if reading.values is None else messages_in(reading.values)
        self._shown: Json | None = None
        self._changed = not reading.replays  # since the last snapshot of the messages
        self.stale: bool = False
        """True if the newest state was too large for its update."""
        self.is_published: bool = False
        """True once there was an update with a state."""

    def read(self, record: StoredUpdate, data: Any, words: Words) -> None:
        """Send the messages that are new in the graph's state, and the change of its other fields."""
        if record.scope.namespace:
            return  # of a subgraph
        self.is_published = True
        fields = members(data)
        checkpoint_id = id_of(fields.get("checkpoint_id"))
        if fields.get("source") == "input" or (checkpoint_id and checkpoint_id <= self._before):
            return
        if "values" not in fields:
            self.stale = True
            return
        self._take(members(fields["values"]))
        if self._messages is not None:
            self.announce(self._messages, words)
        self._send_change(record.timestamp, words)

    def use(self, values: Json) -> None:
        """Take the newest state from the checkpointer, because its update did not hold it."""
        self._take(values)

    def _take(self, values: Json) -> None:
        self._values, self.stale, self._changed = values, False, True
        if "messages" in values:
            self._messages = messages_in(values)

    def _send_change(self, timestamp: float | None, words: Words) -> None:
        shown = shown_state(self._values or {})
        before, self._shown = self._shown, shown
        if before is None:
            words.append(event("STATE_SNAPSHOT", {"snapshot": shown}, timestamp))
        elif delta := json_patch(before, shown):
            words.append(event("STATE_DELTA", {"delta": delta}, timestamp))

    # ---------------------------------------------------------------- snapshots
    def begin(self, words: Words) -> None:
        """Send the state before the updates, with the reasoning that it holds."""
        if not self._reading.replays:
            words += [_messages_snapshot(each, self._reading.own, None) for each in self._reading.first_messages]
        elif self._values is not None:
            messages = self._messages or ()
            words.append(_messages_snapshot(messages, self._reading.own, None, with_reasoning=True))
            self._send_change(None, words)

    def finish(self, timestamp: float | None, words: Words) -> None:
        """Send the last state, and all messages, if they have changed."""
        if not self._changed:
            return
        if self._values is not None:
            self._send_change(timestamp, words)
        if self._messages is not None:
            words.append(_messages_snapshot(self._messages, self._reading.own, timestamp))

    # ---------------------------------------------------------------- messages
    def announce(self, messages: list[Json], words: Words, *, placed: bool = True) -> None:
        """Send messages, calls and results that were not streamed.

        Args:
            messages: Messages of the graph's state.
            words: The events.
            placed: Whether the list is the whole one, in which a message without an id has its place.
        """
        known, own = self._texts.known, self._reading.own
        for place, message in enumerate(messages):
            message_id = message_id_of(message, place) if placed else id_of(message.get("id"))
            if not message_id or message_id in known or message_id in own:
                continue
            known.add(message_id)
            if message.get("type") == "ai":
                self._announce_answer(message, message_id, words)
            elif message.get("type") == "tool" and (call_id := id_of(message.get("tool_call_id"))):
                self._tools.add_result(call_id, result_text(message.get("content")), words)

    def _announce_answer(self, message: Json, message_id: str, words: Words) -> None:
        text = text_of(message.get("content"))
        if text and message_id not in self._texts.sent:
            self._texts.add_whole(message_id, text, words)
        for call in tool_calls(message):
            self._tools.add_whole(call["id"], id_of(call.get("name")), arguments_of(call), message_id, words)


def shown_state(values: Json) -> Json:
    """Return the fields of a state that have no events of their own, and do not come from the page."""
    return {name: value for name, value in values.items() if name not in _OWN_FIELDS}


def _messages_snapshot(
    messages: Iterable[Json], own: Container[str], timestamp: float | None, *, with_reasoning: bool = False
) -> bytes:
    shown = snapshot_messages(messages, own=own, with_reasoning=with_reasoning)
    return event("MESSAGES_SNAPSHOT", {"messages": shown}, timestamp)
