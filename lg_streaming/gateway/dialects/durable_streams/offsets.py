"""Offsets and cursors of Durable Streams."""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING, Final, Literal

from lg_streaming.errors import BadPositionError
from lg_streaming.events import Position

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BEGINNING", "cursor", "offset_of", "parse_offset"]

BEGINNING: Final = "00000000_0000000000000000"
"""Offset of a stream without a message; it sorts before all others."""
_OFFSET: Final = re.compile(r"([0-9A-Za-z_-]{1,32})_([0-9]{16})", re.ASCII)
_EPOCH: Final = 1_728_432_000
"""2024-10-09T00:00Z, from which cursors count."""
_INTERVAL: Final = 20
_JITTER: Final = 180
_DIGITS: Final = 15


def offset_of(position: Position | None) -> str:
    """Return the offset of a position. Offsets of one epoch sort as text in the order of the stream."""
    return BEGINNING if position is None else f"{position.epoch}_{position.seq:016}"


def parse_offset(text: str | None) -> Position | Literal["latest"] | None:
    """Return the position of an offset; None for the beginning.

    Raises:
        BadPositionError: If the offset is malformed.
    """
    if text in {None, "-1", BEGINNING}:
        return None
    if text == "now":
        return "latest"
    match = _OFFSET.fullmatch(text or "")
    if match is None:
        raise BadPositionError(f"{text!r:.80} is not an offset: use -1, now, or a Stream-Next-Offset of this server")
    seq = int(match[2])
    if seq >= 10**_DIGITS:
        raise BadPositionError("the offset is past the end of the stream")
    return Position(match[1], seq)


def cursor(given: str | None = None, *, now: Callable[[], float] = time.time) -> int:
    """Return the number of the present interval; with a cursor that is not smaller, a larger number.

    A reader behind a cache sends the cursor back, so that it never gets its own former answer.
    """
    interval = (int(now()) - _EPOCH) // _INTERVAL
    before = int(given) if given is not None and given.isascii() and given.isdigit() and len(given) <= _DIGITS else -1
    return interval if before < interval else before + random.randint(1, _JITTER)  # noqa: S311 (no secret)
