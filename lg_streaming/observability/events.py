"""What happens at a gateway, as values: for the log, and for a function of the application's own."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from lg_streaming.errors import StreamingConfigError
from lg_streaming.observability.gateway_metrics import Transport
from lg_streaming.observability.logs import log_event

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
    "UpdatesSent",
]

logger: logging.Logger = logging.getLogger("lg_streaming.gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayEvent:
    """Something happened on a connection."""

    name: ClassVar[str] = "gateway"
    """Says what it is; the `event` of its log record."""
    level: ClassVar[int] = logging.DEBUG
    """The level of its log record."""

    connection_id: str
    """The connection; empty for a caller who did not get one."""
    transport: Transport
    subject: str | None = None
    """Who the token says the caller is; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConnected(GatewayEvent):
    """A client was let in."""

    name: ClassVar[str] = "gateway.client.connected"
    level: ClassVar[int] = logging.INFO


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDisconnected(GatewayEvent):
    """A connection is over: the client left, was sent away (4400 for one that was too slow), or is gone."""

    name: ClassVar[str] = "gateway.client.disconnected"
    level: ClassVar[int] = logging.INFO

    code: int | None = None
    """The code it was closed with; None where the client left, or its stream was at its end."""
    reason: str | None = None
    duration_s: float | None = None
    """Seconds it was open."""


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
    """A connection began to watch an execution."""

    name: ClassVar[str] = "gateway.subscription.execution"

    execution_id: str
    recovered: bool = True
    """Whether everything after the position it asked for is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionUnsubscribed(GatewayEvent):
    """A connection no longer watches an execution."""

    name: ClassVar[str] = "gateway.unsubscription.execution"

    execution_id: str
    reason: str | None = None
    """As in `subscription_closed`; None where the client asked for it or left."""


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
    """A message of a client was carried out, or refused."""

    name: ClassVar[str] = "gateway.message.received"

    message_name: str
    """As the client gave it; the protocol need not have it."""
    code: int | None = None
    """Why it was refused; None where it was not."""
    duration_s: float | None = None
    """Seconds it took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatesSent(GatewayEvent):
    """A frame of updates was handed to the transport."""

    name: ClassVar[str] = "gateway.message.sent"

    execution_id: str
    updates: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReported(GatewayEvent):
    """A reader was told that updates it wanted are gone."""

    name: ClassVar[str] = "gateway.gap"
    level: ClassVar[int] = logging.INFO

    execution_id: str
    reason: str
    """`evicted`, `epoch_changed` or `future_position`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFailed(GatewayEvent):
    """The gateway could not do what it should: the log is away, or something is wrong with the gateway itself."""

    name: ClassVar[str] = "gateway.error"
    level: ClassVar[int] = logging.WARNING

    code: int
    reason: str
    execution_id: str | None = None


Observer = Callable[[GatewayEvent], object]
"""A function of the application's own that is told what happens. It is called on the event loop of the gateway, so it
has to be quick and must not block."""


class GatewayEvents:
    """Tells the log and an observer what happens. Nothing an observer raises reaches the gateway.

    Args:
        observer: Told of every event; None where nobody is.

    Raises:
        StreamingConfigError: The observer is a coroutine function: nobody would wait for it.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(getattr(observer, "__call__", None)):  # noqa: B004
            raise StreamingConfigError(
                f"the observer {observer!r} is async: give a plain function, which may start a task"
            )
        self._observer = observer
        self.observer_errors: int = 0
        """What the observer raised; the first is logged with its traceback."""

    @property
    def wants_all(self) -> bool:
        """Whether anybody cares about what happens with every message; where not, it need not be told."""
        return self._observer is not None or logger.isEnabledFor(logging.DEBUG)

    def notify(self, event: GatewayEvent) -> None:
        """Something happened. Never raises but on Ctrl-C."""
        if logger.isEnabledFor(event.level):
            about: dict[str, Any] = {field.name: getattr(event, field.name) for field in fields(event)}
            log_event(logger, event.level, event.name, **about)
        if self._observer is None:
            return
        try:
            self._observer(event)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a SystemExit would end the event loop with all that runs on it
            self.observer_errors += 1
            if self.observer_errors == 1:
                logger.exception("the observer raised on %s; from now on that is only counted", event.name)
