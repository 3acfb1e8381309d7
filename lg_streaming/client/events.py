"""What a client tells beside the updates: how its connections fare."""

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
"""``disconnected``: not asked to be connected, or left. ``connecting``: for the first time. ``connected``: the server
has let us in. ``reconnecting``: lost, and waiting or trying. ``failed``: given up, or refused for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEvent:
    """Something a client tells."""

    name: ClassVar[str] = ""
    """What to give to `StreamClient.on` to hear it."""

    execution_id: str | None = None
    """The execution whose connection it is; None where one connection carries all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connecting(ClientEvent):
    """``connecting``: a connection is being made."""

    name: ClassVar[str] = "connecting"
    attempt: int
    """How many tries failed before this one since a connection last proved good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(ClientEvent):
    """``connected``: the server has let us in."""

    name: ClassVar[str] = "connected"
    connection_id: str | None = None
    """The server's name for the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(ClientEvent):
    """``disconnected``: a connection is over, or could not be made."""

    name: ClassVar[str] = "disconnected"
    will_reconnect: bool
    reconnect_delay: float | None = None
    """Seconds until the next try; None where there is none."""
    attempt: int = 0
    """How many tries have failed since a connection last proved good, with this one."""
    error: StreamingError | None = None
    """Why; None where we left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnecting(ClientEvent):
    """``reconnecting``: after a pause there will be another try."""

    name: ClassVar[str] = "reconnecting"
    attempt: int
    """1 for the first try again."""
    delay: float
    """Seconds until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(ClientEvent):
    """``state``: a connection's state has changed."""

    name: ClassVar[str] = "state"
    state: ClientState
    previous: ClientState


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientErrorEvent(ClientEvent):
    """``error``: the server told of an error, or a connection failed. What ends a subscription is raised there too."""

    name: ClassVar[str] = "error"
    error: StreamingError


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFailed(ClientEvent):
    """``parse_error``: something came that cannot be read; it was passed over."""

    name: ClassVar[str] = "parse_error"
    content: str
    """What came, up to 1,000 characters of it."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GapDetected(ClientEvent):
    """``gap``: updates cannot be had. The subscription gives an update of the type `gap` at the same place."""

    name: ClassVar[str] = "gap"
    first: int
    """The first missing sequence number."""
    last: int | None
    """The last missing one; None where nobody can know it."""
    reason: str
    """``evicted``, ``epoch_changed``, ``future_position``: told by the server. ``missing``: found by the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialData(ClientEvent):
    """``initial``: what the application's `initial_data` shows a reader first (Server-Sent Events only)."""

    name: ClassVar[str] = "initial"
    data: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(ClientEvent):
    """``message``: the server sent something to this connection alone (Socket.IO only)."""

    name: ClassVar[str] = "message"
    type: str
    data: Any


EVENTS: Final = frozenset(each.name for each in ClientEvent.__subclasses__())
"""The names of all events."""


class Listeners:
    """Who wants to hear what. A listener that raises is logged, and nobody else notices."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[Callable[[Any], object]]] = {}
        self._on_update: list[tuple[Callable[[str], bool], Callable[[StreamUpdate], object]]] = []

    def on(self, name: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """Calls `callback` with each event of that name; ``"*"`` stands for all. Returns what takes it away again."""
        if name != "*" and name not in EVENTS:
            known = ", ".join(sorted(EVENTS))
            raise ValueError(f"{name!r} is not an event of a client: use one of {known}; updates come to on_update")
        return _add(self._by_name.setdefault(name, []), _require_sync(callback))

    def on_update(
        self, accepts_type: Callable[[str], bool], callback: Callable[[StreamUpdate], object]
    ) -> Callable[[], None]:
        """Calls `callback` with each update whose type is accepted. Returns what takes it away again."""
        return _add(self._on_update, (accepts_type, _require_sync(callback)))

    def notify(self, event: ClientEvent) -> None:
        """Tells everybody who wants to hear it. Raises nothing."""
        for callback in [*self._by_name.get(event.name, ()), *self._by_name.get("*", ())]:
            _call_logged(callback, event)

    def notify_updates(self, updates: list[StreamUpdate]) -> None:
        """The same with updates."""
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
