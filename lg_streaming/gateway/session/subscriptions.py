"""Subscriptions of a connection, and the result of a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lg_streaming.gateway.delivery.subscription import ActiveSubscription

if TYPE_CHECKING:
    from lg_streaming.errors import StreamingError
    from lg_streaming.gateway.delivery.wildcard import WildcardSubscription
    from lg_streaming.gateway.protocol.messages import SubscribeEvents
    from lg_streaming.observability.gateway_metrics import Transport

__all__ = ["ClientStats", "PatternSubscription", "Reply"]


@dataclass(slots=True, kw_only=True, eq=False)
class PatternSubscription:
    """A subscription to all executions that match a pattern."""

    wanted: SubscribeEvents
    follower: WildcardSubscription


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Actions of a transport after a message, in this order."""

    answer: dict[str, Any]
    """The acknowledgement. If the client asked for none, an error in it is sent as `error`."""
    stop: Sequence[ActiveSubscription | PatternSubscription] = ()
    """No longer delivered."""
    forbidden: Sequence[ActiveSubscription] = ()
    """No longer delivered, because the fresh token forbids it; the client is notified."""
    start: ActiveSubscription | PatternSubscription | None = None
    """Delivered from now on."""
    close: StreamingError | None = None
    """The reason to close the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStats:
    """One connection, as operators see it."""

    connection_id: str
    transport: Transport
    subject: str | None
    """The subject of its token; None without a token."""
    address: str | None
    uptime_s: float
    executions: tuple[str, ...]
    """Executions it subscribed to."""
    rooms: tuple[str, ...]
    """Rooms it joined."""
