"""Frames: the bytes of updates, encoded once and joined once for all readers at the same position.

An update is read as JSON; an encoder only adds the form of a transport. Readers of one execution at the same position,
with the same filter and encoder, share frames. `BatchTicker` makes them read at the same moment, so that their
positions are the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lg_streaming.filters import UpdateFilter
    from lg_streaming.log.base import StoredUpdate

__all__ = ["CHUNK_BYTES", "FrameCache", "FrameEncoder", "Frames", "Framing", "web_socket_frame"]

CHUNK_BYTES: Final = 65_536
"""The approximate size of one write. A single larger update is not split."""
_CACHED_BYTES: Final = 1024 * 1024
_CACHED_PAGES: Final = 256
_CACHED_PIECES: Final = 1_024
_SHARED_NAMES: Final = 16
"""Maximum of names in a cached filter. A larger filter is rarely shared, and could be larger than its frames."""


Framing = Callable[[bytes], bytes]
"""A function from a message to one complete WebSocket text frame. Functions with the same result compare equal."""


def web_socket_frame(text: bytes) -> bytes:
    """Return one complete, unmasked text frame (RFC 6455, section 5.2), as a server sends it."""
    size = len(text)
    if size < 126:  # noqa: PLR2004 (the values from 126 on announce a longer length field)
        return bytes((0x81, size)) + text
    if size < 65_536:  # noqa: PLR2004
        return b"\x81\x7e" + size.to_bytes(2, "big") + text
    return b"\x81\x7f" + size.to_bytes(8, "big") + text


@dataclass(frozen=True, slots=True)
class Frames:
    """Messages that are written together."""

    wire: bytes
    """All messages, in the form of the wire."""
    count: int = 1

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.wire)

    def texts(self) -> Iterator[str]:
        """Yield the messages as text, for a connection that makes its own WebSocket frames. The wire has plain ones."""
        wire, at = self.wire, 0
        while at < len(wire):
            size, at = wire[at + 1], at + 2
            if size > 125:  # noqa: PLR2004
                width = 2 if size == 126 else 8  # noqa: PLR2004
                size, at = int.from_bytes(wire[at : at + width], "big"), at + width
            yield wire[at : at + size].decode()
            at += size


class FrameEncoder(Protocol):
    """An encoder of records for a wire. Encoders with the same result compare equal."""

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        """Return frames of one or more records, in order."""
        ...


_Page = tuple[str, "UpdateFilter", str, int, int, int]
_Key = tuple[str, "FrameEncoder", "UpdateFilter", str, int, int, int]


class FrameCache:
    """Frames of pages: pieces of about 64 KiB, each encoded once for all readers of the same records.

    Args:
        max_bytes: The size of the cache; 0 for frames that readers do not share.
    """

    def __init__(self, max_bytes: int = _CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._cached: OrderedDict[_Key, Frames] = OrderedDict()
        self._cached_ends: OrderedDict[_Page, tuple[int, ...]] = OrderedDict()

    def frames(
        self,
        execution_id: str,
        records: Sequence[StoredUpdate],
        filter: UpdateFilter,
        encoder: FrameEncoder,
    ) -> Iterator[Frames]:
        """Yield the records, in order, as frames of ``encoder``."""
        start, count = 0, len(records)
        for end in self._ends(execution_id, records, filter) if count > 1 else range(1, count + 1):
            first, last = records[start], records[end - 1]
            # A log never changes its records, so their numbers identify them.
            key = (execution_id, encoder, filter, first.epoch, first.seq, last.seq, end - start)
            frames = self._cached.get(key)
            if frames is None:
                frames = encoder.encode(execution_id, records if end - start == count else records[start:end])
                if self._max_bytes > 0 and filter.name_count <= _SHARED_NAMES:
                    self._cached[key] = frames
                    self._bytes += len(frames.wire)
                    while self._bytes > self._max_bytes or len(self._cached) > _CACHED_PIECES:
                        self._bytes -= self._cached.popitem(last=False)[1].size
            yield frames
            start = end

    def _ends(self, execution_id: str, records: Sequence[StoredUpdate], filter: UpdateFilter) -> tuple[int, ...]:
        first, last = records[0], records[-1]
        key = (execution_id, filter, first.epoch, first.seq, last.seq, len(records))
        ends = self._cached_ends.get(key)
        if ends is None:
            ends = _split(records)
            if self._max_bytes > 0 and filter.name_count <= _SHARED_NAMES:
                self._cached_ends[key] = ends
                if len(self._cached_ends) > _CACHED_PAGES:
                    self._cached_ends.popitem(last=False)
        return ends


def _split(records: Sequence[StoredUpdate]) -> tuple[int, ...]:
    """Return the end of each piece."""
    ends: list[int] = []
    size = start = 0
    for index, record in enumerate(records):
        size += len(record.json) + 16
        if size > CHUNK_BYTES and index > start:
            ends.append(index)
            start, size = index, len(record.json) + 16
    return (*ends, len(records))
