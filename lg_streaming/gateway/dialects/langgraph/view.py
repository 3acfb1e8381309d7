"""View of a run that one reader has: its segment, the modes, and the place to go on from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["Place", "RunView"]

_PLACE: Final = re.compile(r"([0-9A-Za-z_-]{1,32}):([0-9]{1,15})(?:\.([0-9]{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """Id of a frame: a reader has everything up to it."""

    epoch: str
    seq: int
    """Number of the update."""
    part: int | None = None
    """Number of the frame within the update; None for its last one."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the place of a ``Last-Event-ID``; None for another text."""
        match = _PLACE.fullmatch(text)
        if match is None:
            return None
        return cls(match[1], int(match[2]), None if match[3] is None else int(match[3]))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A segment of a run, as one reader sees it."""

    thread_id: str
    run_id: str
    """Id of the segment."""
    own_run: str
    """Id of the run in the log."""
    begin: int = 0
    """Number of the update before the segment's first; frames begin with a start of `own_run` after it, or, for a later
    segment, with its resumption."""
    epoch: str = ""
    """Life of the log in which `begin` counts; empty for any. In another one, all updates are later."""
    resumed: bool = False
    """True for a segment that begins when the run resumes."""
    modes: frozenset[str] = frozenset({"values"})
    subgraphs: bool = False
    after: Place | None = None
    """Place up to which the reader has all frames."""
