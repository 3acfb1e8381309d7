"""What one connection tells of itself: to the counters, the log, and the application's observer."""

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
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.hub import Gap, SubscribeResult
    from lg_streaming.observability.gateway_metrics import Transport

__all__ = ["ConnectionInstrumentation"]


class _ConnectionLabels(TypedDict):
    connection_id: str
    transport: Transport
    subject: str | None


class ConnectionInstrumentation:
    """Tells what happens on the connection of `session`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._figures = session.edge.figures
        self._events = session.edge.events
        self._open = False

    def _who(self) -> _ConnectionLabels:
        session = self._session
        return _ConnectionLabels(
            connection_id=session.connection_id, transport=session.transport, subject=session.principal.subject
        )

    def opened(self) -> None:
        """The client was let in."""
        self._open = True
        self._figures.opened(self._session.transport)
        self._events.tell(ClientConnected(**self._who()))

    def closed(self, code: int | None) -> None:
        """The connection is over; `code` where it was closed from this side. Harmless when repeated."""
        if not self._open:
            return
        self._open = False
        known = CODES.get(code or 0)
        self._figures.closed(self._session.transport, code)
        self._events.tell(
            ClientDisconnected(
                **self._who(),
                code=code,
                reason=known.name if known is not None else None,
                duration_s=round(self._session.uptime, 3),
            )
        )

    def refused(self, error: StreamingError) -> None:
        """The caller was not let in, or a message was refused."""
        self._figures.refused(error.code)
        if isinstance(error, UnauthorizedError):
            self._figures.login_failed()
        self._events.tell(
            ClientRefused(
                **self._who(),
                code=error.code,
                reason=error.name,
                execution_id=error.execution_id,
            )
        )

    def handled(self, name: str, seconds: float, error: StreamingError | None) -> None:
        """A message was carried out, or refused with `error`."""
        self._figures.received(name)
        self._figures.handled(seconds, failed=error is not None)
        if error is not None:
            self.refused(error)
        if self._events.wants_all:
            self._events.tell(
                MessageReceived(
                    **self._who(),
                    message_name=name,
                    code=error.code if error is not None else None,
                    duration_s=seconds,
                )
            )

    def subscribed(self, watch: ActiveSubscription, attached: SubscribeResult, *, resumes: bool) -> None:
        """The connection watches an execution; `resumes` where it asked to go on from a position."""
        self._figures.subscribed()
        if resumes:
            self._figures.resumed(recovered=attached.recovered)
        if watch.room_id is not None:
            self._figures.joined()
            self._events.tell(RoomJoined(**self._who(), room_id=watch.room_id))
            return
        self._events.tell(
            ExecutionSubscribed(
                **self._who(),
                execution_id=watch.execution_id,
                recovered=attached.recovered,
            )
        )

    def unsubscribed(self, watch: ActiveSubscription, reason: str | None) -> None:
        """It no longer does."""
        self._figures.unsubscribed()
        if watch.room_id is not None:
            self._figures.left()
            self._events.tell(RoomLeft(**self._who(), room_id=watch.room_id))
            return
        self._events.tell(
            ExecutionUnsubscribed(
                **self._who(),
                execution_id=watch.execution_id,
                reason=reason,
            )
        )

    def sent(self, execution_id: str, updates: int, size: int, newest: float | None) -> None:
        """A frame of updates was handed to the transport; `newest` is the time of the last, where it came live."""
        self._figures.sent(self._session.transport, updates, size, newest)
        if self._events.wants_all:
            self._events.tell(
                UpdatesSent(
                    **self._who(),
                    execution_id=execution_id,
                    updates=updates,
                    bytes=size,
                )
            )

    def gap(self, execution_id: str, gap: Gap) -> None:
        """The reader was told of a gap."""
        self._figures.gap(gap.reason)
        self._events.tell(GapReported(**self._who(), execution_id=execution_id, reason=gap.reason))

    def merged(self, count: int) -> None:
        """So many updates were saved by merging."""
        self._figures.merged(count)

    def failed(self, error: StreamingError) -> None:
        """Something is wrong on this side."""
        self._events.tell(
            GatewayFailed(
                **self._who(),
                code=error.code,
                reason=error.name,
                execution_id=error.execution_id,
            )
        )
