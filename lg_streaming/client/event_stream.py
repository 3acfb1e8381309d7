"""Server-Sent Events, from bytes to events, by the rules of the HTML standard; without I/O.

`httpx2` reads event streams too, but says nothing of comments, which here are the heartbeats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["EventStreamParser", "EventTooLargeError", "StreamEvent"]

_BOM: Final = b"\xef\xbb\xbf"
_MAX_DIGITS: Final = 9


class EventTooLargeError(Exception):
    """An event is larger than may be."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event."""

    name: str
    """What stands in its `event:` line; empty without one."""
    data: bytes
    """Its `data:` lines, joined by line breaks."""
    id: str | None
    """What stands in its own `id:` line; None without one."""


class EventStreamParser:
    """Takes a stream's bytes in pieces of any size.

    It differs from a browser in one way: an event's `id` is only its own, as the reader keeps its place itself.

    Args:
        max_bytes: Bytes of the largest event.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._begun = False
        self._start = b""
        self._line: list[bytes] = []
        self._line_size = 0
        self._skip_newline = False
        self._size = 0
        self._name = b""
        self._data: list[bytes] = []
        self._id: str | None = None
        self.retry: float | None = None
        """Seconds the server last gave as the time to wait before coming back."""
        self.comments: int = 0
        """How many comments there were."""

    def feed(self, piece: bytes) -> list[StreamEvent]:
        """The events that are complete with this piece.

        Raises:
            EventTooLargeError: An event is larger than `max_bytes`; the stream cannot be read any further.
        """
        if not self._begun:
            piece = self._start + piece
            if len(piece) < len(_BOM) and _BOM.startswith(piece):
                self._start = piece
                return []
            self._begun = True
            piece = piece.removeprefix(_BOM)
        if self._skip_newline and piece:
            piece = piece.removeprefix(b"\n")
            self._skip_newline = False
        return self._parse_lines(piece)

    def _parse_lines(self, piece: bytes) -> list[StreamEvent]:
        if not piece:
            return []
        lines = piece.splitlines()
        self._skip_newline = piece.endswith(b"\r")
        rest = b"" if piece.endswith((b"\n", b"\r")) else lines.pop()
        if lines and self._line:
            lines[0] = b"".join([*self._line, lines[0]])
            self._line.clear()
            self._line_size = 0
        events: list[StreamEvent] = []
        for line in lines:
            if line:
                self._parse_field(line)
            elif (event := self._dispatch()) is not None:
                events.append(event)
        if rest:
            self._line.append(rest)
            self._line_size += len(rest)
            self._check_size(self._line_size)
        return events

    def _check_size(self, more: int = 0) -> None:
        if self._size + more > self._max_bytes:
            raise EventTooLargeError(f"an event has more than {self._max_bytes} bytes")

    def _parse_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if not name:
            self.comments += 1
            return
        self._size += len(line)
        self._check_size()
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) <= _MAX_DIGITS:
            self.retry = int(value) / 1000

    def _dispatch(self) -> StreamEvent | None:
        name, data, identity = self._name, self._data, self._id
        self._name, self._data, self._id, self._size = b"", [], None, 0
        if not data:
            return None
        return StreamEvent(name.decode("utf-8", "replace"), b"\n".join(data), identity)
