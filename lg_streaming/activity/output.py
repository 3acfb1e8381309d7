"""The last output of an agent, bounded."""

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
    """As it came; a line has its line end."""
    at: datetime


class OutputBuffer:
    """The newest pieces of output: at most so many, and together at most so many bytes.

    Of a piece that is larger than all may be together, the end is kept.
    """

    __slots__ = ("_lock", "_most", "_most_bytes", "_pieces", "_size")

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._pieces: deque[tuple[Output, int]] = deque()
        self._size = 0
        self._lock = new_lock()

    def add(self, stream: OutputStream, content: str, at: datetime) -> None:
        """The newest piece; older ones make room for it."""
        size = encoded_size(content)
        if size > self._most_bytes:
            content = last_bytes(content, self._most_bytes)
        with self._lock:
            self._pieces.append((Output(stream=stream, content=content, at=at), size))
            self._size += size
            while self._size > self._most_bytes and len(self._pieces) > 1:
                self._size -= self._pieces.popleft()[1]
            while len(self._pieces) > self._most:
                self._size -= self._pieces.popleft()[1]

    def pieces(self, stream: OutputStream | None = None) -> list[Output]:
        """What is in it, oldest first; of both streams when none is named."""
        with self._lock:
            return [piece for piece, _ in self._pieces if stream is None or piece.stream == stream]
