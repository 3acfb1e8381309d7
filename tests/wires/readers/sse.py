"""Frames of Server-Sent Events, from bytes that are cut anywhere."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field

__all__ = ["Frame", "Frames"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One event: its name, its data, and the last id."""

    event: str
    data: str
    id: str


@dataclass
class Frames:
    """A parser of one stream, as the standard for browsers describes it."""

    id: str = ""
    comments: int = 0
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("strict"))
    _rest: str = ""
    _event: str = ""
    _data: list[str] = field(default_factory=list[str])

    def feed(self, part: bytes) -> list[Frame]:
        """The frames that end in this part."""
        text = self._rest + self._decoder.decode(part)
        # A CR at the end may be the first half of a CRLF.
        kept, text = ("\r", text[:-1]) if text.endswith("\r") else ("", text)
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._rest = rest + kept
        return [frame for line in lines if (frame := self._line(line)) is not None]

    @property
    def rest(self) -> str:
        """The text after the last frame."""
        return self._rest + "".join(self._data)

    def _line(self, line: str) -> Frame | None:
        if not line:
            frame = Frame(self._event or "message", "\n".join(self._data), self.id) if self._data else None
            self._event, self._data = "", []
            return frame
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self.id = value
        elif not name:
            self.comments += 1
        return None
