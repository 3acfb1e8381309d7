"""Events of a gateway: for its counters, for the log, and for a function of the application."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from lg_streaming.errors import StreamingConfigError
from lg_streaming.observability.logs import log_event
from lg_streaming.types import ProtocolName

__all__ = [
    "ClientConnected",
    "ClientDisconnected",
    "ClientRefused",
    "ExecutionSubscribed",
    "ExecutionUnsubscribed",
    "GapReported",
    "GatewayEvent",
    "GatewayEvents",
    "GatewayFailed",
    "MessageReceived",
    "Observer",
    "RoomJoined",
    "RoomLeft",
    "SubscriptionResumed",
    "UpdatesMerged",
    "UpdatesSent",
]

logger: logging.Logger = logging.getLogger("lg_streaming.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayEvent:
    """Base of all events of a connection."""

    name: ClassVar[str] = "gateway"
    """The `event` of its log record."""
    level: ClassVar[int] = logging.DEBUG
    """The level of its log record."""

    connection_id: str
    """Empty for a caller that was refused before it had a connection."""
    transport: ProtocolName
    subject: str | None = None
    """The subject of the caller's token; None without a token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConnected(GatewayEvent):
    """A client was admitted."""

    name: ClassVar[str] = "gateway.client.connected"
    level: ClassVar[int] = logging.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDisconnected(GatewayEvent):
    """A connection closed: the client left, was disconnected (4400 for one that was too slow), or vanished."""

    name: ClassVar[str] = "gateway.client.disconnected"
    level: ClassVar[int] = logging.INFO

    code: int | None = None
    """The code the gateway closed it with; None where the client left, or its stream had ended."""
    reason: str | None = None
    duration_s: float | None = None
    """Seconds for which it was open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRefused(GatewayEvent):
    """A connection, a login or a message was refused."""

    name: ClassVar[str] = "gateway.client.refused"
    level: ClassVar[int] = logging.INFO

    code: int
    reason: str
    execution_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSubscribed(GatewayEvent):
    """A connection subscribed to an execution."""

    name: ClassVar[str] = "gateway.subscription.execution"

    execution_id: str
    recovered: bool = True
    """False where updates after the requested position are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionUnsubscribed(GatewayEvent):
    """A subscription to an execution ended."""

    name: ClassVar[str] = "gateway.unsubscription.execution"

    execution_id: str
    reason: str | None = None
    """The reason of `subscription_closed`; None where the client unsubscribed or left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionResumed(GatewayEvent):
    """A subscription, to an execution or a room, continued after a position."""

    name: ClassVar[str] = "gateway.subscription.resumed"

    execution_id: str
    """The execution; a room's updates are those of an execution."""
    recovered: bool
    """False where updates after the position are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomJoined(GatewayEvent):
    """A connection joined a room."""

    name: ClassVar[str] = "gateway.room.joined"

    room_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomLeft(GatewayEvent):
    """A connection left a room, or was closed in it."""

    name: ClassVar[str] = "gateway.room.left"

    room_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReceived(GatewayEvent):
    """A message of a client was handled, or refused."""

    name: ClassVar[str] = "gateway.message.received"

    message_name: str
    """The name that the client sent; the protocol may not have it."""
    code: int | None = None
    """The code of the error it was refused with; None where it was handled."""
    duration_s: float | None = None
    """Seconds from its arrival to its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatesSent(GatewayEvent):
    """A page of updates was handed to the transport. Published only where a listener takes it."""

    name: ClassVar[str] = "gateway.message.sent"

    execution_id: str
    updates: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatesMerged(GatewayEvent):
    """Updates were merged into others for a reader that lags."""

    name: ClassVar[str] = "gateway.message.merged"

    updates: int
    """Updates that were saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReported(GatewayEvent):
    """A reader was notified of a gap: updates it asked for are no longer in the log."""

    name: ClassVar[str] = "gateway.gap"
    level: ClassVar[int] = logging.INFO

    execution_id: str
    reason: str
    """`evicted`, `epoch_changed` or `future_position`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFailed(GatewayEvent):
    """The gateway failed: the log is unavailable, or the gateway itself has an error."""

    name: ClassVar[str] = "gateway.error"
    level: ClassVar[int] = logging.WARNING

    code: int
    reason: str
    execution_id: str | None = None


Observer = Callable[[GatewayEvent], object]
"""A function of the application that is called with each event.

It runs on the event loop of the gateway, so it has to be quick and must not block.
"""

Listener = Callable[[GatewayEvent], None]


class GatewayEvents:
    """Notify the listeners, the log and an observer of events, in this order.

    An exception of the observer never reaches the gateway.

    Args:
        observer: A plain function that is called with each event.

    Raises:
        StreamingConfigError: If the observer is a coroutine function, which nothing would await.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(getattr(observer, "__call__", None)):  # noqa: B004
            raise StreamingConfigError(
                f"the observer {observer!r} is async: give a plain function, which may start a task"
            )
        self._observer = observer
        self._listeners: list[Listener] = []
        self.observer_errors: int = 0
        """Exceptions that the observer raised; the first is logged with its traceback."""

    def add_listener(self, listener: Listener) -> None:
        """Call `listener` with each event, before the log and the observer. It must not raise."""
        self._listeners.append(listener)

    @property
    def is_verbose(self) -> bool:
        """Return whether the observer or the log takes an event for each page of updates."""
        return self._observer is not None or logger.isEnabledFor(logging.DEBUG)

    def notify(self, event: GatewayEvent) -> None:
        """Pass an event on. Never raises but on Ctrl-C."""
        for listener in self._listeners:
            listener(event)
        if logger.isEnabledFor(event.level):
            values: dict[str, Any] = {field.name: getattr(event, field.name) for field in fields(event)}
            log_event(logger, event.level, event.name, **values)
        if self._observer is None:
            return
        try:
            self._observer(event)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a SystemExit would end the event loop with all that runs on it
            self.observer_errors += 1
            if self.observer_errors == 1:
                logger.exception("the observer raised on %s; further exceptions are only counted", event.name)
