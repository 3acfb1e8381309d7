"""Results of reading an execution: pages, gaps, and the answer to a subscribe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from lg_streaming.events import Position, StreamMetadata, StreamUpdate
from lg_streaming.types import GapReason, OnGap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["Gap", "GapReason", "OnGap", "Page", "SubscribeResult"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Gap: updates that a reader asked for, and that the log does not have."""

    first: int
    """The first missing sequence number (of the reader's old epoch, when the epoch changed)."""
    last: int | None
    """The last missing one; None when it is unknown."""
    reason: GapReason
    """``evicted``: no longer kept. ``epoch_changed``: the log lost its data and began anew.
    ``future_position``: the position is past the end."""

    def merged_with(self, later: Gap) -> Gap:
        """Return one gap for this one and the one that follows it."""
        if "epoch_changed" in (self.reason, later.reason):
            return Gap(self.first, None, "epoch_changed")
        return Gap(self.first, later.last, self.reason)

    def to_dict(self) -> dict[str, Any]:
        """Return ``{from, to, reason}``, the form on the wire."""
        return {"from": self.first, "to": self.last, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class SubscribeResult:
    """The answer to a subscribe."""

    execution_id: str
    state: ExecutionState | Literal["unknown"]
    """``unknown``: not started yet; its updates come when it starts."""
    position: Position | None
    """The head: the position of the last update in the log."""
    oldest: int | None
    """The first sequence number that is still kept."""
    recovered: bool
    """True when the log has everything after the asked position."""
    reason: GapReason | None
    """The cause of the gap, when there is one."""


@dataclass(frozen=True, slots=True)
class Page:
    """Consecutive updates of one execution, read at once."""

    records: Sequence[StoredUpdate]
    """The records that passed the filter, in order."""
    position: Position | None
    """The reader's position after this page, past records that were filtered out. None before the first update."""
    gap: Gap | None = None
    """The updates that are missing right before the first record."""
    ended: bool = False
    """True at the end: no page follows."""

    @property
    def size(self) -> int:
        """The number of updates, the gap included."""
        return len(self.records) + (self.gap is not None)

    @property
    def start(self) -> Position | None:
        """The position just before the first record."""
        if not self.records:
            return self.position
        first = self.records[0].position
        return replace(first, seq=first.seq - 1)

    def without(self, count: int) -> Page:
        """Return the page without its first ``count`` updates; a gap is the first of them."""
        if self.gap is None:
            return Page(self.records[count:], self.position, None, self.ended)
        rest = self.records[max(0, count - 1) :]
        return Page(rest, self.position, self.gap if count == 0 else None, self.ended)

    def updates(self, execution_id: str) -> list[StreamUpdate]:
        """Return the records decoded; a gap comes first, as an update of type ``gap``."""
        updates = [record.to_update(execution_id) for record in self.records]
        if self.gap is not None:
            updates.insert(0, _gap_update(execution_id, self.gap, self.position))
        return updates


def _gap_update(execution_id: str, gap: Gap, position: Position | None) -> StreamUpdate:
    return StreamUpdate(
        type="gap",
        data=gap.to_dict(),
        metadata=StreamMetadata(
            timestamp=datetime.now(UTC),
            sequence_number=gap.last or 0,
            execution_id=execution_id,
            epoch=position.epoch if position is not None else "",
        ),
    )
