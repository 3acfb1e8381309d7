"""Report the events of one connection to counters, log and the application's observer."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from lg_streaming.errors import CODES, UnauthorizedError
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
    UpdatesSent,
)

if TYPE_CHECKING:
    from lg_streaming.errors import StreamingError
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.hub import Gap, SubscribeResult
    from lg_streaming.observability.events import GatewayEvents
    from lg_streaming.observability.gateway_metrics import GatewayMetrics, Transport

__all__ = ["ConnectionInstrumentation"]


class _ConnectionLabels(TypedDict):
    connection_id: str
    transport: Transport
    subject: str | None


class ConnectionInstrumentation:
    """Report the events of one connection.

    Args:
        metrics: Counters of the gateway.
        events: Receiver of gateway events.
        transport: The connection's transport.
    """

    __slots__ = ("_connection_id", "_events", "_metrics", "_open", "_transport", "subject")

    def __init__(self, metrics: GatewayMetrics, events: GatewayEvents, transport: Transport) -> None:
        self._metrics = metrics
        self._events = events
        self._transport: Transport = transport
        self._connection_id = ""
        self._open = False
        self.subject: str | None = None
        """The subject of the connection's token."""

    def _labels(self) -> _ConnectionLabels:
        return _ConnectionLabels(connection_id=self._connection_id, transport=self._transport, subject=self.subject)

    def opened(self, connection_id: str) -> None:
        """Report that the client was admitted."""
        self._connection_id, self._open = connection_id, True
        self._metrics.opened(self._transport)
        self._events.notify(ClientConnected(**self._labels()))

    def closed(self, code: int | None, seconds: float) -> None:
        """Report that an admitted client left after `seconds`; `code` if the gateway closed the connection.

        Harmless when repeated.
        """
        if not self._open:
            return
        self._open = False
        close = CODES.get(code or 0)
        self._metrics.closed(self._transport, code)
        self._events.notify(
            ClientDisconnected(
                **self._labels(),
                code=code,
                reason=close.name if close is not None else None,
                duration_s=round(seconds, 3),
            )
        )

    def refused(self, error: StreamingError) -> None:
        """Report that the client, or a message, was refused."""
        self._metrics.refused(error.code)
        if isinstance(error, UnauthorizedError):
            self._metrics.login_failed()
        self._events.notify(
            ClientRefused(
                **self._labels(),
                code=error.code,
                reason=error.name,
                execution_id=error.execution_id,
            )
        )

    def handled(self, name: str, seconds: float, error: StreamingError | None) -> None:
        """Report a message that was handled, or refused with `error`."""
        self._metrics.received(name)
        self._metrics.handled(seconds, failed=error is not None)
        if error is not None:
            self.refused(error)
        if self._events.wants_all:
            self._events.notify(
                MessageReceived(
                    **self._labels(),
                    message_name=name,
                    code=error.code if error is not None else None,
                    duration_s=seconds,
                )
            )

    def subscribed(self, watch: ActiveSubscription, attached: SubscribeResult, *, resumes: bool) -> None:
        """Report a subscription; `resumes` if the client asked for a position."""
        self._metrics.subscribed()
        if resumes:
            self._metrics.resumed(recovered=attached.recovered)
        if watch.room_id is not None:
            self._metrics.joined()
            self._events.notify(RoomJoined(**self._labels(), room_id=watch.room_id))
            return
        self._events.notify(
            ExecutionSubscribed(
                **self._labels(),
                execution_id=watch.execution_id,
                recovered=attached.recovered,
            )
        )

    def unsubscribed(self, watch: ActiveSubscription, reason: str | None) -> None:
        """Report the end of a subscription."""
        self._metrics.unsubscribed()
        if watch.room_id is not None:
            self._metrics.left()
            self._events.notify(RoomLeft(**self._labels(), room_id=watch.room_id))
            return
        self._events.notify(
            ExecutionUnsubscribed(
                **self._labels(),
                execution_id=watch.execution_id,
                reason=reason,
            )
        )

    def sent(self, execution_id: str, updates: int, size: int, newest: float | None) -> None:
        """Report updates handed to the transport; `newest` is the time of the last one, if it came live."""
        self._metrics.sent(self._transport, updates, size, newest)
        if self._events.wants_all:
            self._events.notify(
                UpdatesSent(
                    **self._labels(),
                    execution_id=execution_id,
                    updates=updates,
                    bytes=size,
                )
            )

    def gap(self, execution_id: str, gap: Gap) -> None:
        """Report a gap that the client was sent."""
        self._metrics.gap(gap.reason)
        self._events.notify(GapReported(**self._labels(), execution_id=execution_id, reason=gap.reason))

    def merged(self, count: int) -> None:
        """Report that merging saved `count` updates."""
        self._metrics.merged(count)

    def failed(self, error: StreamingError) -> None:
        """Report an error of the server."""
        self._events.notify(
            GatewayFailed(
                **self._labels(),
                code=error.code,
                reason=error.name,
                execution_id=error.execution_id,
            )
        )
