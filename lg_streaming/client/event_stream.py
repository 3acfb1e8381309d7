"""Parser of Server-Sent Events, by the rules of the HTML standard; without I/O.

`httpx2` parses event streams too, but drops the comments, which are the heartbeats of a gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["EventStreamParser", "EventTooLargeError", "StreamEvent"]

_BOM: Final = b"\xef\xbb\xbf"
_MAX_DIGITS: Final = 9


class EventTooLargeError(Exception):
    """An event is larger than the limit."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event."""

    name: str
    """Value of the `event:` line; empty without one."""
    data: bytes
    """Values of the `data:` lines, joined by line breaks."""
    id: str | None
    """Value of the event's own `id:` line; None without one."""


class EventStreamParser:
    """A parser that is fed with chunks of any size.

    Unlike a browser, the parser does not pass the `id` of an event on to later events: a subscription tracks its
    position itself.

    Args:
        max_bytes: Size of the largest event, in bytes.
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
        """Seconds before a reconnect, as the server last announced them."""
        self.comments: int = 0
        """Number of comments so far."""

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Parse a chunk, and return the events that it completes.

        Raises:
            EventTooLargeError: If an event is larger than `max_bytes`. The stream cannot be read any further.
        """
        if not self._begun:
            chunk = self._start + chunk
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._start = chunk
                return []
            self._begun = True
            chunk = chunk.removeprefix(_BOM)
        if self._skip_newline and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_newline = False
        return self._parse_lines(chunk)

    def _parse_lines(self, chunk: bytes) -> list[StreamEvent]:
        if not chunk:
            return []
        lines = chunk.splitlines()
        self._skip_newline = chunk.endswith(b"\r")
        rest = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
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
