"""Our own event stream, and Durable Streams, whose items are our updates unchanged."""

from __future__ import annotations

import json
from typing import Any

from lg_streaming.codec import parse_update
from lg_streaming.events import StreamUpdate
from tests.wires.conversation import Conversation, conversation_of
from tests.wires.readers.base import RefusedError
from tests.wires.readers.sse import Frame, Frames

__all__ = ["DurableReader", "NativeReader"]


class _UpdateReader:
    """A reader that keeps all updates; each may come once."""

    def __init__(self) -> None:
        self.updates: list[StreamUpdate] = []
        self.position = ""
        """Position that the next request names."""
        self.connect()

    def connect(self) -> None:
        self._frames = Frames()

    def feed(self, part: bytes) -> None:
        for frame in self._frames.feed(part):
            self.frame(frame)

    def frame(self, frame: Frame) -> None:
        raise NotImplementedError

    def add(self, item: Any) -> None:
        if item["type"] == "gap":
            return
        update = parse_update(item)
        if self.updates and update.metadata.sequence_number <= self.updates[-1].metadata.sequence_number:
            raise RefusedError(f"update {update.metadata.sequence_number} came again")
        self.updates.append(update)

    @property
    def conversation(self) -> Conversation:
        return conversation_of(self.updates)


class NativeReader(_UpdateReader):
    """`GET /executions/{id}/stream`."""

    def frame(self, frame: Frame) -> None:
        if frame.event not in {"connection_status", "end", "gap"}:
            self.position = frame.id
            self.add(json.loads(frame.data))


class DurableReader(_UpdateReader):
    """A client of Durable Streams: data events, each with its control event."""

    def __init__(self) -> None:
        self.closed = False
        super().__init__()

    def connect(self) -> None:
        super().connect()
        self._items: list[Any] | None = None

    def frame(self, frame: Frame) -> None:
        items = json.loads(frame.data)
        if frame.event == "data":
            if self._items is not None:
                raise RefusedError("a data event without its control event")
            self._items = items
        elif frame.event == "control":
            offset = items["streamNextOffset"]
            if self.position and offset < self.position:
                raise RefusedError(f"offset {offset!r} sorts before {self.position!r}")
            for item in self._items or ():
                self.add(item)
            self._items, self.position, self.closed = None, offset, items.get("streamClosed", False)
