"""Split a stream of bytes into lines of text."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LineSplitter"]


class LineSplitter:
    """Split a stream of bytes into lines, each with its line end. Joined, the pieces are the whole stream.

    A line of more than ``max_length`` characters is yielded in pieces of that length, each as soon as it is complete.
    Bytes that are not UTF-8 become U+FFFD. Only a line feed ends a line.
    """

    __slots__ = ("_decode", "_length", "_max_length", "_parts")

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._parts: list[str] = []
        self._length = 0

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the pieces that ``data`` completes."""
        yield from self._cut(self._decode(data))

    def end(self) -> Iterator[str]:
        """Yield the rest at the end of the stream: a last line without a line end."""
        yield from self._cut(self._decode(b"", final=True))
        if self._parts:
            yield self._pop_line()

    def _cut(self, text: str) -> Iterator[str]:
        *lines, last = text.split("\n")
        for line in [*(line + "\n" for line in lines), last]:
            rest = line
            while self._length + len(rest) > self._max_length:
                room = self._max_length - self._length
                self._append(rest[:room])
                rest = rest[room:]
                yield self._pop_line()
            self._append(rest)
            if rest.endswith("\n"):
                yield self._pop_line()

    def _append(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._length += len(text)

    def _pop_line(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        self._length = 0
        return text
