"""Where a reader in another process stands: it drops what it has already, and sees what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from lg_streaming.client.events import GapDetected
from lg_streaming.events import Position, StreamMetadata, StreamUpdate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

__all__ = ["PositionTracker"]


class PositionTracker:
    """The position of one subscription, over all its connections.

    Guarantees: of one epoch each update is taken once, in rising order. With `complete` the numbers taken are
    consecutive, or a gap says which are not.

    Args:
        execution_id: What is read.
        after: Where to begin; None: wherever the first update stands.
        complete: Whether every update is wanted, so that a missing number is a loss and not the filter's doing.
        tail: Whether reading goes on at the newest update after a gap, and not at the oldest that is kept.
        now: Gives the time, in UTC.
        tell: Hears of each gap.
    """

    def __init__(
        self,
        execution_id: str,
        after: Position | None,
        *,
        complete: bool,
        tail: bool = False,
        now: Callable[[], datetime],
        tell: Callable[[GapDetected], None],
    ) -> None:
        self._execution_id = execution_id
        self._complete = complete
        self._tail = tail
        self._now = now
        self._notify = tell
        self._position = after
        self._accepts_any_next = False  # a gap was told of after which numbers may go on anywhere
        self.head: Position | None = None
        """Where the server stood when it let us in."""
        self.duplicates: int = 0
        """Updates that came again and were dropped."""
        self.gaps: int = 0
        """Gaps, told of or found."""

    @property
    def position(self) -> Position | None:
        """The last update that was taken; None before the first."""
        return self._position

    def start_at(self, position: Position) -> None:
        """The server says where reading begins; nothing happens where that is known already."""
        if self._position is None:
            self._position = position

    def advance_to(self, position: Position) -> None:
        """Everything up to there has come, or was not wanted."""
        self._position, self._accepts_any_next = position, False

    def accept(self, updates: Iterable[StreamUpdate]) -> list[StreamUpdate]:
        """Those that are new, in order; what is missing between them is told as an update of the type `gap`."""
        taken: list[StreamUpdate] = []
        for update in updates:
            taken += self._accept_one(update)
        return taken

    def _accept_one(self, update: StreamUpdate) -> list[StreamUpdate]:
        metadata, before = update.metadata, self._position
        found = [update]
        if before is not None and not self._accepts_any_next:
            if metadata.epoch != before.epoch:
                found = [self._make_gap(before.seq + 1, None, "epoch_changed"), update]
            elif metadata.sequence_number <= before.seq:
                self.duplicates += 1
                return []
            elif self._complete and metadata.sequence_number > before.seq + 1:
                found = [self._make_gap(before.seq + 1, metadata.sequence_number - 1, "missing"), update]
        self._accepts_any_next = False
        self._position = update.position
        return found

    def gap_from_payload(self, told: Mapping[str, Any]) -> StreamUpdate:
        """The server says what cannot be had; reading goes on after it. Raises KeyError or TypeError for nonsense."""
        first, last, reason = told["from"], told["to"], told["reason"]
        if not isinstance(first, int) or not (last is None or isinstance(last, int)):
            raise TypeError("a gap has numbers")
        before = self._position
        if reason == "future_position" and before is not None:
            self._position = Position(before.epoch, first - 1)
        elif reason == "evicted" and before is not None and last is not None:
            self._position = Position(before.epoch, max(before.seq, last))
        else:
            self._reset_epoch()
        return self._make_gap(first, last, str(reason))

    def _reset_epoch(self) -> None:
        """The log is another one. Whoever comes back before an update of it was wanted is not told of that again."""
        self._accepts_any_next = True
        head, before = self.head, self._position
        if head is not None and before is not None and head.epoch != before.epoch:
            self._position = head if self._tail else Position(head.epoch, 0)

    def _make_gap(self, first: int, last: int | None, reason: str) -> StreamUpdate:
        self.gaps += 1
        self._notify(GapDetected(execution_id=self._execution_id, first=first, last=last, reason=reason))
        position = self._position
        return StreamUpdate(
            type="gap",
            data=cast("dict[str, Any]", {"from": first, "to": last, "reason": reason}),
            metadata=StreamMetadata(
                timestamp=self._now(),
                sequence_number=last or 0,
                execution_id=self._execution_id,
                epoch=position.epoch if position is not None else "",
            ),
        )
