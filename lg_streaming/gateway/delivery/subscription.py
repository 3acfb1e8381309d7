"""One execution that a connection reads, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lg_streaming.events import Position
    from lg_streaming.hub import Subscription

__all__ = ["ActiveSubscription"]


@dataclass(slots=True, kw_only=True, eq=False)
class ActiveSubscription:
    """A subscription of one connection: its options, and the progress of its delivery."""

    execution_id: str
    subscription: Subscription
    batch: bool = False
    by_type: bool = False
    """Messages are named by their update's type, not its kind."""
    follow: bool = False
    merge: bool = False
    room_id: str | None = None
    """Set if the execution is a room."""
    live_after: int = 0
    """The head at the time of the subscribe: later updates are live."""
    sent: Position | None = None
    """Position up to which everything was sent, stored before each read."""
    holding: bool = False
    """Whether a page was read that is not sent yet."""

    @property
    def position(self) -> Position | None:
        """The client's position: a page that was read and not sent does not count."""
        return self.sent if self.holding else self.subscription.position
