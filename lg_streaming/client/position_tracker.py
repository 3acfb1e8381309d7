"""Track the position of a remote subscription: drop duplicates, and detect gaps."""

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

    Guarantees: each update of an epoch is accepted once, in rising order. With `complete`, accepted sequence numbers
    are consecutive, or a gap names the missing ones.

    Args:
        execution_id: The execution.
        after: Position to begin after; None: before the first update that arrives.
        complete: Whether the subscription has no filter, so that a missing number is a loss.
        tail: Whether reading continues after a gap at the newest update, instead of the oldest that is kept.
        now: Returns the time, in UTC.
        notify: Called with each gap.
    """

    def __init__(
        self,
        execution_id: str,
        after: Position | None,
        *,
        complete: bool,
        tail: bool = False,
        now: Callable[[], datetime],
        notify: Callable[[GapDetected], None],
    ) -> None:
        self._execution_id = execution_id
        self._complete = complete
        self._tail = tail
        self._now = now
        self._notify = notify
        self._position = after
        self._accepts_any_next = False  # after a reported gap, numbers may continue anywhere
        self.head: Position | None = None
        """Newest position of the server when it accepted the subscription."""
        self.duplicates: int = 0
        """Updates that arrived again and were dropped."""
        self.gaps: int = 0
        """Gaps, reported by the server or detected here."""

    @property
    def position(self) -> Position | None:
        """Position of the last accepted update; None before the first."""
        return self._position

    def start_at(self, position: Position) -> None:
        """Set the position if it is unknown."""
        if self._position is None:
            self._position = position

    def advance_to(self, position: Position) -> None:
        """Move to a position up to which all matching updates have arrived."""
        self._position, self._accepts_any_next = position, False

    def accept(self, updates: Iterable[StreamUpdate]) -> list[StreamUpdate]:
        """Return the new updates, in order, with an update of the type `gap` where some are missing."""
        accepted: list[StreamUpdate] = []
        for update in updates:
            accepted += self._accept_one(update)
        return accepted

    def _accept_one(self, update: StreamUpdate) -> list[StreamUpdate]:
        metadata, previous = update.metadata, self._position
        accepted = [update]
        if previous is not None and not self._accepts_any_next:
            if metadata.epoch != previous.epoch:
                accepted = [self._make_gap(previous.seq + 1, None, "epoch_changed"), update]
            elif metadata.sequence_number <= previous.seq:
                self.duplicates += 1
                return []
            elif self._complete and metadata.sequence_number > previous.seq + 1:
                accepted = [self._make_gap(previous.seq + 1, metadata.sequence_number - 1, "missing"), update]
        self._accepts_any_next = False
        self._position = update.position
        return accepted

    def gap_from_payload(self, payload: Mapping[str, Any]) -> StreamUpdate:
        """Return the update for a gap that the server reports, and move behind the gap.

        Raises:
            KeyError: If a field is missing.
            TypeError: If a field has the wrong type.
        """
        first, last, reason = payload["from"], payload["to"], payload["reason"]
        if not isinstance(first, int) or not (last is None or isinstance(last, int)):
            raise TypeError("a gap has numbers")
        previous = self._position
        if reason == "future_position" and previous is not None:
            self._position = Position(previous.epoch, first - 1)
        elif reason == "evicted" and previous is not None and last is not None:
            self._position = Position(previous.epoch, max(previous.seq, last))
        else:
            self._reset_epoch()
        return self._make_gap(first, last, str(reason))

    def _reset_epoch(self) -> None:
        """Move to the server's new log, so that a reconnect before its first update reports no second gap."""
        self._accepts_any_next = True
        head, previous = self.head, self._position
        if head is not None and previous is not None and head.epoch != previous.epoch:
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
