"""Report the events of one connection to counters, log and the application's observer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from lg_streaming.errors import CODES
from lg_streaming.observability.events import (
    ClientConnected,
    ClientDisconnected,
    ClientRefused,
    ExecutionSubscribed,
    ExecutionUnsubscribed,
    GapReported,
    GatewayFailed,
    MessageReceived,
    RoomJoined,
    RoomLeft,
    SubscriptionResumed,
    UpdatesMerged,
    UpdatesSent,
)

if TYPE_CHECKING:
    from lg_streaming.errors import StreamingError
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.hub import Gap, SubscribeResult
    from lg_streaming.observability.events import GatewayEvents
    from lg_streaming.observability.gateway_metrics import GatewayMetrics
    from lg_streaming.types import ProtocolName

__all__ = ["ConnectionInstrumentation"]


class _ConnectionLabels(TypedDict):
    connection_id: str
    transport: ProtocolName
    subject: str | None


class ConnectionInstrumentation:
    """Reporter of one connection's events.

    Args:
        metrics: Counters of the gateway.
        events: Receiver of gateway events.
        transport: The connection's transport.
    """

    __slots__ = ("_connection_id", "_events", "_metrics", "_open", "_transport", "subject")

    def __init__(self, metrics: GatewayMetrics, events: GatewayEvents, transport: ProtocolName) -> None:
        self._metrics = metrics
        self._events = events
        self._transport: ProtocolName = transport
        self._connection_id = ""
        self._open = False
        self.subject: str | None = None
        """The subject of the connection's token."""

    def _labels(self) -> _ConnectionLabels:
        return _ConnectionLabels(connection_id=self._connection_id, transport=self._transport, subject=self.subject)

    def opened(self, connection_id: str) -> None:
        """Report that the client was admitted."""
        self._connection_id, self._open = connection_id, True
        self._events.notify(ClientConnected(**self._labels()))

    def closed(self, code: int | None, seconds: float) -> None:
        """Report that the connection closed after `seconds`, with `code` if the gateway closed it.

        Harmless when repeated.
        """
        if not self._open:
            return
        self._open = False
        described = CODES.get(code or 0)
        self._events.notify(
            ClientDisconnected(
                **self._labels(),
                code=code,
                reason=described.name if described is not None else None,
                duration_s=round(seconds, 3),
            )
        )

    def refused(self, error: StreamingError) -> None:
        """Report that the caller, or a message, was refused."""
        self._events.notify(
            ClientRefused(
                **self._labels(),
                code=error.code,
                reason=error.name,
                execution_id=error.execution_id,
            )
        )

    def handled(self, name: str, seconds: float, error: StreamingError | None) -> None:
        """Report that a message was handled, or refused with `error`."""
        if error is not None:
            self.refused(error)
        self._events.notify(
            MessageReceived(
                **self._labels(),
                message_name=name,
                code=error.code if error is not None else None,
                duration_s=seconds,
            )
        )

    def subscribed(self, subscription: ActiveSubscription, attached: SubscribeResult, *, resumes: bool) -> None:
        """Report a new subscription; `resumes` if the client resumes from a position."""
        labels, execution_id, recovered = self._labels(), subscription.execution_id, attached.recovered
        if resumes:
            self._events.notify(SubscriptionResumed(**labels, execution_id=execution_id, recovered=recovered))
        if subscription.room_id is not None:
            self._events.notify(RoomJoined(**labels, room_id=subscription.room_id))
        else:
            self._events.notify(ExecutionSubscribed(**labels, execution_id=execution_id, recovered=recovered))

    def unsubscribed(self, subscription: ActiveSubscription, reason: str | None) -> None:
        """Report the end of a subscription."""
        if subscription.room_id is not None:
            self._events.notify(RoomLeft(**self._labels(), room_id=subscription.room_id))
        else:
            self._events.notify(
                ExecutionUnsubscribed(**self._labels(), execution_id=subscription.execution_id, reason=reason)
            )

    def sent(self, execution_id: str, updates: int, size: int, newest: float | None) -> None:
        """Report that a page was passed to the transport.

        Args:
            execution_id: The execution of its updates.
            updates: Updates in it.
            size: Bytes of its frames.
            newest: The time at which its last update was published; None for replayed updates.
        """
        self._metrics.record_page(self._transport, updates, size, newest)
        if self._events.is_verbose:
            self._events.notify(UpdatesSent(**self._labels(), execution_id=execution_id, updates=updates, bytes=size))

    def gap(self, execution_id: str, gap: Gap) -> None:
        """Report that the reader was notified of a gap."""
        self._events.notify(GapReported(**self._labels(), execution_id=execution_id, reason=gap.reason))

    def merged(self, count: int) -> None:
        """Report that merging saved `count` updates."""
        self._events.notify(UpdatesMerged(**self._labels(), updates=count))

    def failed(self, error: StreamingError) -> None:
        """Report a failure of the gateway itself."""
        self._events.notify(
            GatewayFailed(
                **self._labels(),
                code=error.code,
                reason=error.name,
                execution_id=error.execution_id,
            )
        )
