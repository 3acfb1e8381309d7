"""Updates as ready bytes: each encoded once, joined once for all readers at the same place, sent in step.

An update is JSON already when a reader gets it; here it is only wrapped for a wire. Readers of one execution
that stand at the same place and want the same share what was wrapped, and the :class:`BatchTicker` makes them come
at the same moment, so that they do stand at the same place.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lg_streaming.filters import UpdateFilter
    from lg_streaming.log.base import StoredUpdate

__all__ = ["CHUNK_BYTES", "BatchTicker", "Encode", "FrameCache", "Frames", "Framing", "web_socket_frame"]

CHUNK_BYTES: Final = 65_536
"""About how much leaves in one write; a single larger update still leaves whole."""
_CACHED_BYTES: Final = 1024 * 1024
_CACHED_PAGES: Final = 256
_CACHED_PIECES: Final = 1_024
_SHARED_NAMES: Final = 16
"""A filter of more names is hardly shared; kept with what it was used for, it could be most of what is kept."""


Framing = Callable[[bytes], bytes]
"""Makes one complete WebSocket text frame of a message. Those that make the same compare equal."""


def web_socket_frame(text: bytes) -> bytes:
    """One complete, unmasked text frame (RFC 6455, section 5.2), as a server sends it."""
    size = len(text)
    if size < 126:  # noqa: PLR2004 (the values from 126 on announce a longer length field)
        return bytes((0x81, size)) + text
    if size < 65_536:  # noqa: PLR2004
        return b"\x81\x7e" + size.to_bytes(2, "big") + text
    return b"\x81\x7f" + size.to_bytes(8, "big") + text


@dataclass(frozen=True, slots=True)
class Frames:
    """Messages that leave together."""

    wire: bytes
    """All of them, as the connection carries them."""
    count: int = 1

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.wire)

    def texts(self) -> Iterator[str]:
        """The messages as text, for a connection that makes its own WebSocket frames; those here are plain ones."""
        wire, at = self.wire, 0
        while at < len(wire):
            size, at = wire[at + 1], at + 2
            if size > 125:  # noqa: PLR2004
                width = 2 if size == 126 else 8  # noqa: PLR2004
                size, at = int.from_bytes(wire[at : at + width], "big"), at + width
            yield wire[at : at + size].decode()
            at += size


class Encode(Protocol):
    """Wraps records for a wire. Instances compare equal when they wrap alike."""

    def wrap(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        """The records, of which there is at least one, in order."""
        ...


_Page = tuple[str, "UpdateFilter", str, int, int, int]
_Key = tuple[str, "Encode", "UpdateFilter", str, int, int, int]


class FrameCache:
    """Cuts pages into pieces of about 64 KiB and wraps each piece once for all readers that need the same.

    Args:
        max_bytes: How much is kept for other readers; 0 keeps nothing, for frames that are one reader's own.
    """

    def __init__(self, max_bytes: int = _CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._cached: OrderedDict[_Key, Frames] = OrderedDict()
        self._ends: OrderedDict[_Page, tuple[int, ...]] = OrderedDict()

    def of(
        self,
        execution_id: str,
        records: Sequence[StoredUpdate],
        filter: UpdateFilter,
        encode: Encode,
    ) -> Iterator[Frames]:
        """The records, in order, wrapped by ``encode``."""
        start = 0
        for end in self._ends_of(execution_id, records, filter):
            part = records if end - start == len(records) else records[start:end]
            yield self._wrapped(execution_id, part, filter, encode)
            start = end

    def _ends_of(self, execution_id: str, records: Sequence[StoredUpdate], filter: UpdateFilter) -> tuple[int, ...]:
        if len(records) < 2:  # noqa: PLR2004 (one is a piece by itself)
            return (1,) if records else ()
        first, last = records[0], records[-1]
        key = (execution_id, filter, first.epoch, first.seq, last.seq, len(records))
        ends = self._ends.get(key)
        if ends is None:
            ends = _cut(records)
            if not self._keeps(filter):
                return ends
            self._ends[key] = ends
            if len(self._ends) > _CACHED_PAGES:
                self._ends.popitem(last=False)
        return ends

    def _wrapped(self, execution_id: str, part: Sequence[StoredUpdate], filter: UpdateFilter, encode: Encode) -> Frames:
        first, last = part[0], part[-1]
        # A log never changes, so these say all: which execution, which of its records.
        key = (execution_id, encode, filter, first.epoch, first.seq, last.seq, len(part))
        cached = self._cached.get(key)
        if cached is None:
            cached = encode.wrap(execution_id, part)
            if not self._keeps(filter):
                return cached
            self._cached[key] = cached
            self._bytes += cached.size
            while self._bytes > self._max_bytes or len(self._cached) > _CACHED_PIECES:
                self._bytes -= self._cached.popitem(last=False)[1].size
        return cached

    def _keeps(self, filter: UpdateFilter) -> bool:
        return self._max_bytes > 0 and filter.name_count <= _SHARED_NAMES


def _cut(records: Sequence[StoredUpdate]) -> tuple[int, ...]:
    """Where each of the pieces ends."""
    ends: list[int] = []
    size = start = 0
    for index, record in enumerate(records):
        size += len(record.json) + 16
        if size > CHUNK_BYTES and index > start:
            ends.append(index)
            start, size = index, len(record.json) + 16
    return (*ends, len(records))


class BatchTicker:
    """Lets readers go on in step, once per interval, and never for more than half of the time.

    What the readers of one beat do keeps the event loop from everything else. The next beat waits for at least as long
    again: with many readers frames become fewer and larger, and whoever publishes on this loop still gets on.

    Args:
        interval: Seconds; 0 only lets the event loop turn.
        clock: Seconds, monotonic; the event loop's own when not given.
    """

    def __init__(self, interval: float, clock: Callable[[], float] | None = None) -> None:
        self._interval = interval
        self._clock = clock
        self._beats: dict[int, asyncio.Event] = {}
        self._rests_until = 0.0
        self._measures = False  # whether the work of readers that did not wait for a beat is being measured

    async def next(self) -> None:
        """Returns at the next common beat that is at least half an interval away, or later while readers are many."""
        if not self._interval:
            await asyncio.sleep(0)
            return
        now = self._now()
        number = int(now / self._interval + 1.5)
        beat = self._beats.get(number)
        if beat is None:
            beat = self._beats[number] = asyncio.Event()
            self._strike_at(number * self._interval, number)
        await beat.wait()

    async def after(self, moment: float) -> None:
        """Returns at once when `moment` is at least an interval ago and readers do not rest, else at the next beat.

        Args:
            moment: By the event loop's clock.
        """
        now = self._now()
        if now - moment < self._interval or now < self._rests_until:
            await self.next()
        elif not self._measures:
            self._measures = True
            asyncio.get_running_loop().call_soon(self._rest, now)

    def _now(self) -> float:
        return (self._clock or asyncio.get_running_loop().time)()

    def _strike_at(self, moment: float, number: int) -> None:
        asyncio.get_running_loop().call_later(moment - self._now(), self._strike, number)

    def _strike(self, number: int) -> None:
        now = self._now()
        if now < self._rests_until:
            self._strike_at(self._rests_until, number)
            return
        self._beats.pop(number).set()
        # The event loop calls in order: this comes when every reader that was just let go has done its work.
        asyncio.get_running_loop().call_soon(self._rest, now)

    def _rest(self, began: float) -> None:
        self._measures = False
        now = self._now()
        self._rests_until = now + (now - began)
