"""Subscriptions of a connection, and the result of a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.pump import DeliveryOptions, SubscriptionPump
    from lg_streaming.gateway.protocol.inbound import SubscribeEvents
    from lg_streaming.hub import Subscription
    from lg_streaming.hub.wildcard import WildcardSubscription
    from lg_streaming.types import ProtocolName

__all__ = ["ActiveSubscription", "ClientStats", "PatternSubscription", "Reply"]


@dataclass(slots=True, kw_only=True, eq=False)
class ActiveSubscription:
    """A connection's subscription to one execution."""

    execution_id: str
    source: Subscription
    """The hub's subscription, from which the updates are read."""
    options: DeliveryOptions
    by_type: bool = False
    """True if messages are named by their update's type, not its kind."""
    follow: bool = False
    room_id: str | None = None
    """Set if the execution is a room."""
    pump: SubscriptionPump | None = None
    """Set while updates are delivered."""

    @property
    def position(self) -> Position | None:
        """The client's position; a page that was read and not sent does not count."""
        return self.source.position if self.pump is None else self.pump.position


@dataclass(slots=True, kw_only=True, eq=False)
class PatternSubscription:
    """A subscription to all executions that match a pattern."""

    request: SubscribeEvents
    follower: WildcardSubscription


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Actions of a transport after a message, in this order."""

    answer: dict[str, Any]
    """The acknowledgement. If the client asked for none, an error in it is sent as `error`."""
    stop: Sequence[ActiveSubscription | PatternSubscription] = ()
    """Subscriptions that are no longer delivered."""
    forbidden: Sequence[ActiveSubscription] = ()
    """Subscriptions that the fresh token forbids: not delivered any more, and the client is notified."""
    start: ActiveSubscription | PatternSubscription | None = None
    """Subscriptions that are delivered from now on."""
    close: StreamingError | None = None
    """The reason to close the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """One connection, as operators see it."""

    connection_id: str
    transport: ProtocolName
    subject: str | None
    """The subject of its token; None without a token."""
    address: str | None
    uptime_s: float
    executions: tuple[str, ...]
    """Executions it subscribed to."""
    rooms: tuple[str, ...]
    """Rooms it joined."""
