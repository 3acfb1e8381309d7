"""Text and reasoning of models as AG-UI's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from lg_streaming.gateway.dialects.agui.events import Words, data_of, event, text_prefix
from lg_streaming.gateway.dialects.agui.messages import id_of, members

if TYPE_CHECKING:
    from lg_streaming.events import Scope
    from lg_streaming.gateway.dialects.agui.reading import Reading
    from lg_streaming.log.base import StoredUpdate

__all__ = ["TextEvents"]


class TextEvents:
    """Open messages of one stream, and the message that the last token belongs to.

    Args:
        reading: What the client reads.
    """

    def __init__(self, reading: Reading) -> None:
        self._log_run_id = reading.log_run_id
        self.known: set[str] = set(reading.known)
        """Messages that are not sent, because the client has them or their beginning is lost."""
        self.sent: set[str] = set()
        """Messages whose text was sent."""
        self.joins: bool = reading.replays
        """True while the text of a message is joined to one event."""
        self.has_gap: bool = False
        self.scope: Scope | None = None
        """Scope of the last token; None after another update."""
        self.prefix: bytes | None = None
        """Beginning of its event; None for a message that is not sent."""
        self._held: list[bytes] = []
        self._open: dict[str, bytes] = {}
        self._reasoning: dict[str, str] = {}  # ids of open reasoning, by message
        self._reasoned: dict[str, int] = {}
        self._unnamed: dict[tuple[str | None, str | None], str] = {}  # messages without an id, by their node
        self._written: dict[tuple[str | None, str | None], list[str]] = {}  # messages, by their node

    # ---------------------------------------------------------------- tokens
    def begin(self, record: StoredUpdate, words: Words) -> None:
        """Make the message of a token the present one; open it if it is not open."""
        self.release(words)
        scope = record.scope
        self.scope, self.prefix = scope, None
        if scope.run_id is not None and self._log_run_id not in {None, scope.run_id}:
            return
        message_id = self.message_id(record)
        self._close_reasoning(message_id, words)
        prefix = self._open.get(message_id)
        if prefix is None and not self._is_passed_over(message_id, record):
            words.append(event("TEXT_MESSAGE_START", {"messageId": message_id, "role": "assistant"}))
            prefix = self._open[message_id] = text_prefix(message_id)
            self._written.setdefault((scope.namespace, scope.node_id), []).append(message_id)
            self.sent.add(message_id)
        self.prefix = prefix

    def add(self, text: bytes, prefix: bytes, words: Words) -> None:
        """Send a piece of the present message, which is JSON without its quotes."""
        if self.joins:
            self._held.append(text)
        elif text:
            words.append(b'%b%b"}\n\n' % (prefix, text))

    def add_decoded(self, record: StoredUpdate, words: Words) -> None:
        """Send a piece that cannot be copied: its data may name its message."""
        data = data_of(record)
        fields = members(data)
        if record.scope is not self.scope or fields.get("message_id"):
            self.begin(record, words)
        text = _text_of(data)
        if text and self.prefix is not None:
            self.add(text, self.prefix, words)
        if fields.get("message_id"):
            self.release(words)
            self.scope = None  # the next text of this scope may be of another message

    def release(self, words: Words) -> None:
        """Send the text that was joined."""
        if self._held and self.prefix is not None:
            words.append(b'%b%b"}\n\n' % (self.prefix, b"".join(self._held)))
            self._held = []

    def leave(self, words: Words) -> None:
        """Take note of an update that is no token."""
        if self._held:
            self.release(words)
        self.scope = None

    def message_id(self, record: StoredUpdate) -> str:
        """Return the id of the message that an update belongs to; a new one for text of a node without an id."""
        scope = record.scope
        if message_id := id_of(members(data_of(record)).get("message_id")) or scope.message_id:
            return message_id
        return self._unnamed.setdefault((scope.namespace, scope.node_id), f"{scope.run_id or 'text'}-{record.seq}")

    def _is_passed_over(self, message_id: str, record: StoredUpdate) -> bool:
        if message_id in self.known:
            return True
        if not self.has_gap or message_id in self.sent:
            return False
        data = members(data_of(record))
        is_first = not data.get("index") and data.get("part", 1) == 1
        if not is_first:
            self.known.add(message_id)
        return not is_first

    # ---------------------------------------------------------------- reasoning
    def add_thinking(self, record: StoredUpdate, data: Any, words: Words) -> None:
        """Send a piece of reasoning, as a message apart from the text."""
        message_id = self.message_id(record)
        content = data if isinstance(data, str) else members(data).get("content")
        if not isinstance(content, str) or not content:
            return
        reasoning_id = self._reasoning.get(message_id)
        if reasoning_id is None:
            if self._is_passed_over(message_id, record):
                return
            number = self._reasoned[message_id] = self._reasoned.get(message_id, 0) + 1
            reasoning_id = f"{message_id}-reasoning{'' if number == 1 else f'-{number}'}"
            self._reasoning[message_id] = reasoning_id
            words.append(event("REASONING_START", {"messageId": reasoning_id}))
            words.append(event("REASONING_MESSAGE_START", {"messageId": reasoning_id, "role": "reasoning"}))
        words.append(event("REASONING_MESSAGE_CONTENT", {"messageId": reasoning_id, "delta": content}))

    def _close_reasoning(self, message_id: str, words: Words) -> None:
        if (reasoning_id := self._reasoning.pop(message_id, None)) is not None:
            words.append(event("REASONING_MESSAGE_END", {"messageId": reasoning_id}))
            words.append(event("REASONING_END", {"messageId": reasoning_id}))

    # ---------------------------------------------------------------- ends
    def add_whole(self, message_id: str, text: str, words: Words) -> None:
        """Send a message that was not streamed."""
        self.sent.add(message_id)
        words.append(event("TEXT_MESSAGE_START", {"messageId": message_id, "role": "assistant"}))
        words.append(event("TEXT_MESSAGE_CONTENT", {"messageId": message_id, "delta": text}))
        words.append(event("TEXT_MESSAGE_END", {"messageId": message_id}))

    def close(self, message_id: str, words: Words) -> None:
        """Close a message, and its reasoning."""
        self._close_reasoning(message_id, words)
        if self._open.pop(message_id, None) is not None:
            words.append(event("TEXT_MESSAGE_END", {"messageId": message_id}))

    def close_node(self, scope: Scope, words: Words) -> None:
        """Close the messages that a node has written: those without a model have no end in the log."""
        node = (scope.namespace, scope.node_id)
        self._unnamed.pop(node, None)
        for message_id in self._written.pop(node, ()):
            self.close(message_id, words)

    def close_all(self, words: Words) -> None:
        """Close all messages."""
        self.leave(words)
        for message_id in [*self._reasoning, *self._open]:
            self.close(message_id, words)

    def lose(self) -> None:
        """Open no message again that is open now: updates are missing."""
        self.has_gap = True
        self.known.update(self._open, self._reasoning)


def _text_of(data: object) -> bytes:
    content = data if isinstance(data, str) else members(data).get("content")
    return orjson.dumps(content)[1:-1] if isinstance(content, str) else b""
