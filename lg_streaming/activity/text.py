"""Text that is put together up to a size."""

from __future__ import annotations

__all__ = ["BoundedText"]


class BoundedText:
    """The beginning of a text that comes in pieces: all of it, up to so many bytes of UTF-8."""

    __slots__ = ("_left", "_parts", "truncated")

    def __init__(self, most_bytes: int) -> None:
        self._left = most_bytes
        self._parts: list[str] = []
        self.truncated = False
        """Whether there was more."""

    def add(self, piece: str) -> None:
        """The next piece."""
        if self.truncated:
            return
        encoded = piece.encode(errors="surrogatepass")
        if len(encoded) > self._left:
            self.truncated = True
            piece = encoded[: self._left].decode(errors="ignore")
        self._left -= len(encoded)
        self._parts.append(piece)

    def __str__(self) -> str:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""
