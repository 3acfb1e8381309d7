"""Text with a bound on its bytes."""

from __future__ import annotations

__all__ = ["BoundedText", "encoded_size", "first_bytes", "last_bytes"]


def encoded_size(text: str) -> int:
    """Return the size of ``text`` in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def first_bytes(text: str, max_bytes: int) -> str:
    """Return the beginning of ``text``: whole characters of at most ``max_bytes``."""
    encoded = text.encode(errors="surrogatepass")
    end = min(max_bytes, len(encoded))
    while 0 < end < len(encoded) and _is_inside(encoded[end]):
        end -= 1
    return encoded[:end].decode(errors="surrogatepass")


def last_bytes(text: str, max_bytes: int) -> str:
    """Return the end of ``text``: whole characters of at most ``max_bytes``."""
    encoded = text.encode(errors="surrogatepass")
    begin = max(0, len(encoded) - max_bytes)
    while begin < len(encoded) and _is_inside(encoded[begin]):
        begin += 1
    return encoded[begin:].decode(errors="surrogatepass")


def _is_inside(byte: int) -> bool:
    """Return whether a byte of UTF-8 continues a character."""
    return byte & 0xC0 == 0x80  # noqa: PLR2004 (the bits 10…)


class BoundedText:
    """The beginning of a text that comes in pieces, up to ``max_bytes`` of UTF-8."""

    __slots__ = ("_left", "_parts", "truncated")

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._parts: list[str] = []
        self.truncated: bool = False
        """True where text was cut off."""

    def add(self, piece: str) -> None:
        """Append a piece."""
        if self.truncated:
            return
        size = encoded_size(piece)
        if size > self._left:
            self.truncated = True
            piece = first_bytes(piece, self._left)
        self._left -= size
        self._parts.append(piece)

    def __str__(self) -> str:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""
