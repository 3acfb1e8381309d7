"""A bounded buffer of the last output of an agent."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lg_streaming.activity.text import encoded_size, last_bytes
from lg_streaming.fork import new_lock

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Output", "OutputBuffer", "OutputStream"]

OutputStream = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One piece of output."""

    stream: OutputStream
    content: str
    """The text as it was written; a line has its line end."""
    at: datetime


class OutputBuffer:
    """The newest pieces of output, bounded by their number and by their bytes together.

    Of a piece that is larger than the bound, the end is kept.
    """

    __slots__ = ("_lock", "_max_bytes", "_max_pieces", "_pieces", "_size")

    def __init__(self, max_pieces: int, max_bytes: int) -> None:
        self._max_pieces = max_pieces
        self._max_bytes = max_bytes
        self._pieces: deque[tuple[Output, int]] = deque()
        self._size = 0
        self._lock = new_lock()

    def add(self, stream: OutputStream, content: str, at: datetime) -> None:
        """Append a piece, and drop the oldest beyond the bounds."""
        size = encoded_size(content)
        if size > self._max_bytes:
            content = last_bytes(content, self._max_bytes)
        with self._lock:
            self._pieces.append((Output(stream=stream, content=content, at=at), size))
            self._size += size
            while self._size > self._max_bytes and len(self._pieces) > 1:
                self._size -= self._pieces.popleft()[1]
            while len(self._pieces) > self._max_pieces:
                self._size -= self._pieces.popleft()[1]

    def pieces(self, stream: OutputStream | None = None) -> list[Output]:
        """Return the pieces of ``stream``, or of both streams, oldest first."""
        with self._lock:
            return [piece for piece, _ in self._pieces if stream is None or piece.stream == stream]
