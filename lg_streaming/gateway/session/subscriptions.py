"""What a connection watches, and what becomes of a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.wildcard import WildcardSubscription
    from lg_streaming.gateway.protocol.messages import SubscribeEvents
    from lg_streaming.hub import Subscription
    from lg_streaming.settings import TransportName

__all__ = ["ActiveSubscription", "ClientStats", "PatternSubscription", "Reply"]


@dataclass(slots=True, kw_only=True, eq=False)
class ActiveSubscription:
    """One execution a connection watches."""

    execution_id: str
    subscription: Subscription
    batch: bool = False
    by_type: bool = False
    """Whether messages are named by their update's type, not its kind."""
    follow: bool = False
    merge: bool = False
    room_id: str | None = None
    """Set where the execution is a room."""
    live_after: int = 0
    """The head when the reader came: what follows it comes live."""
    sent: Position | None = None
    """Everything up to here was sent, kept before each read."""
    holding: bool = False
    """Whether something was read that is not sent yet."""

    @property
    def position(self) -> Position | None:
        """Where the client stands: what was read for it and not sent does not count."""
        return self.sent if self.holding else self.subscription.position


@dataclass(slots=True, kw_only=True, eq=False)
class PatternSubscription:
    """All executions of a pattern, which a connection watches."""

    wanted: SubscribeEvents
    follower: WildcardSubscription


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a transport does after a message, in this order."""

    answer: dict[str, Any]
    """The acknowledgement; where none was asked for, an error in it is sent as `error`."""
    stop: Sequence[ActiveSubscription | PatternSubscription] = ()
    """No longer delivered."""
    forbidden: Sequence[ActiveSubscription] = ()
    """No longer delivered, because the fresh token does not allow it; the client is told."""
    start: ActiveSubscription | PatternSubscription | None = None
    """Delivered from now on."""
    close: StreamingError | None = None
    """Then the connection ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """One connection, for those who run the server."""

    connection_id: str
    transport: TransportName
    subject: str | None
    """Who its token says it is; None without one."""
    address: str | None
    uptime_s: float
    executions: tuple[str, ...]
    """What it watches."""
    rooms: tuple[str, ...]
    """Where it is a member."""
