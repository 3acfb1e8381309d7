"""Events of a client's connections and subscriptions, and their listeners."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeVar

from lg_streaming.errors import StreamingError
from lg_streaming.events import StreamUpdate

__all__ = [
    "EVENTS",
    "ClientErrorEvent",
    "ClientEvent",
    "ClientState",
    "Connected",
    "Connecting",
    "Disconnected",
    "GapDetected",
    "InitialData",
    "Listeners",
    "Message",
    "ParseFailed",
    "Reconnecting",
    "StateChanged",
]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

ClientState = Literal["disconnected", "connecting", "connected", "reconnecting", "failed"]
"""State of a connection.

``disconnected``: not connected yet, or closed. ``connecting``: the first attempt. ``connected``: accepted by the
server. ``reconnecting``: lost; the client waits or connects. ``failed``: refused for good, or out of attempts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEvent:
    """Base of the events."""

    name: ClassVar[str] = ""
    """The event's name for `StreamClient.on`."""

    execution_id: str | None = None
    """Execution of the connection; None where one connection carries all executions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connecting(ClientEvent):
    """``connecting``: an attempt begins."""

    name: ClassVar[str] = "connecting"
    attempt: int
    """Failed attempts since the last healthy connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(ClientEvent):
    """``connected``: the server has accepted the connection."""

    name: ClassVar[str] = "connected"
    connection_id: str | None = None
    """Id of the connection on the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(ClientEvent):
    """``disconnected``: a connection has ended, or an attempt has failed."""

    name: ClassVar[str] = "disconnected"
    will_reconnect: bool
    reconnect_delay: float | None = None
    """Seconds until the next attempt; None without one."""
    attempt: int = 0
    """Failed attempts since the last healthy connection, this one included."""
    error: StreamingError | None = None
    """The reason; None if the client closed the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnecting(ClientEvent):
    """``reconnecting``: the client connects again after a pause."""

    name: ClassVar[str] = "reconnecting"
    attempt: int
    """Number of the reconnect; 1 is the first."""
    delay: float
    """Seconds until the attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(ClientEvent):
    """``state``: the state of a connection has changed."""

    name: ClassVar[str] = "state"
    state: ClientState
    previous: ClientState


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientErrorEvent(ClientEvent):
    """``error``: the server sent an error, or a connection failed.

    A subscription that ends with the error raises it too.
    """

    name: ClassVar[str] = "error"
    error: StreamingError


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFailed(ClientEvent):
    """``parse_error``: a message could not be parsed, and was skipped."""

    name: ClassVar[str] = "parse_error"
    content: str
    """The message, cut to 1,000 characters."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GapDetected(ClientEvent):
    """``gap``: updates are missing. The subscription yields an update of the type `gap` at the same position."""

    name: ClassVar[str] = "gap"
    first: int
    """The first missing sequence number."""
    last: int | None
    """The last missing sequence number; None if it is unknown."""
    reason: str
    """``evicted``, ``epoch_changed``, ``future_position``: reported by the server. ``missing``: found by the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialData(ClientEvent):
    """``initial``: result of the application's `initial_data` (Server-Sent Events only)."""

    name: ClassVar[str] = "initial"
    data: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(ClientEvent):
    """``message``: a message of the server to this connection alone (Socket.IO only)."""

    name: ClassVar[str] = "message"
    type: str
    data: Any


EVENTS: Final = frozenset(each.name for each in ClientEvent.__subclasses__())
"""The names of all events."""


class Listeners:
    """Callbacks for events and updates. Errors of a callback are logged, and do not affect the others."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[Callable[[Any], object]]] = {}
        self._on_update: list[tuple[Callable[[str], bool], Callable[[StreamUpdate], object]]] = []

    def on(self, name: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """Call `callback` with each event of that name, or of all with ``"*"``; return a function that removes it.

        Raises:
            ValueError: If no event has that name.
        """
        if name != "*" and name not in EVENTS:
            names = ", ".join(sorted(EVENTS))
            raise ValueError(f"{name!r} is not an event of a client: use one of {names}; updates come to on_update")
        return _add(self._by_name.setdefault(name, []), _require_sync(callback))

    def on_update(
        self, accepts_type: Callable[[str], bool], callback: Callable[[StreamUpdate], object]
    ) -> Callable[[], None]:
        """Call `callback` with each update whose type is accepted; return a function that removes it."""
        return _add(self._on_update, (accepts_type, _require_sync(callback)))

    def notify(self, event: ClientEvent) -> None:
        """Pass an event to its callbacks. Raises nothing."""
        for callback in [*self._by_name.get(event.name, ()), *self._by_name.get("*", ())]:
            _call_logged(callback, event)

    def notify_updates(self, updates: list[StreamUpdate]) -> None:
        """Pass updates to their callbacks. Raises nothing."""
        if not self._on_update:
            return
        for update in updates:
            for accepts_type, callback in list(self._on_update):
                if accepts_type(update.type):
                    _call_logged(callback, update)


def _require_sync(callback: Callable[[Any], object]) -> Callable[[Any], object]:
    if inspect.iscoroutinefunction(callback):
        raise TypeError("a listener is called and not awaited: give a plain function, which may start a task")
    return callback


def _add(listeners: list[T], listener: T) -> Callable[[], None]:
    listeners.append(listener)

    def remove() -> None:
        if listener in listeners:
            listeners.remove(listener)

    return remove


def _call_logged(callback: Callable[[Any], object], content: object) -> None:
    try:
        callback(content)
    except Exception:
        logger.exception("a listener failed")
