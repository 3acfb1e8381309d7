"""Position of a reader in an execution."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from lg_streaming.errors import BadPositionError

__all__ = ["Position"]

_POSITION = re.compile(r"([0-9A-Za-z_-]{1,32}):([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Position of a reader in an execution: it has every update up to and including ``seq``.

    When a log has lost its data, its numbers start again. The epoch changes then, so that a reader that resumes with
    an old number does not silently get the wrong updates.
    """

    epoch: str
    """Name of one life of the execution's log."""
    seq: int
    """Sequence number of the last update that the reader has; 0 is the very start."""

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse ``"<epoch>:<seq>"``.

        Raises:
            BadPositionError: If ``text`` is not of that form.
        """
        match = _POSITION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise BadPositionError(f"{text!r:.80} is not a position: a position looks like '<epoch>:<seq>'")
        return cls(match[1], int(match[2]))
