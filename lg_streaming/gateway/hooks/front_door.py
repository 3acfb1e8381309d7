"""Limits that a server enforces before a request reaches the application, and the limits that it lacks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.hooks.server import uvicorn_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.settings import LimitSettings

__all__ = ["FrontDoor", "describe_weaknesses", "find_front_door"]

_ATTRIBUTE: Final = "lg_streaming_front_door"
_MARK: Final = "lg_streaming_bounds_requests"
_OTHER_SERVERS: Final = ("granian", "hypercorn", "daphne")
_SLOW: Final = "connections that send nothing, or a header or body byte by byte, stay open and are counted nowhere"
_ADVICE: Final = (
    "Start it with `python -m lg_streaming serve`, with `uvicorn --http lg_streaming.serving:HTTPProtocol --ws "
    "lg_streaming.serving:WebSocketProtocol`, or put a proxy in front that buffers requests"
)
_DEFAULT_CONNECTIONS: Final = 10_000
_DEFAULT_PER_ADDRESS: Final = 100


class FrontDoor:
    """Limits by which a server counts connections from the moment it accepts them.

    The gateways of its application add their limits. The server uses the largest of them, since each gateway counts
    its own connections too.
    """

    def __init__(self) -> None:
        self._brought: list[LimitSettings] = []
        self.connections: int | None = _DEFAULT_CONNECTIONS
        self.per_address: int | None = _DEFAULT_PER_ADDRESS

    @classmethod
    def from_server_state(cls, server_state: Any) -> FrontDoor:
        """Return the front door of a uvicorn server, which its protocols' shared state identifies."""
        door = getattr(server_state, _ATTRIBUTE, None)
        if not isinstance(door, cls):
            door = cls()
            setattr(server_state, _ATTRIBUTE, door)
        return door

    def add(self, limits: LimitSettings) -> Callable[[], None]:
        """Add a gateway's limits. Return a function that removes them."""
        self._brought.append(limits)
        self._choose()

        def remove() -> None:
            if limits in self._brought:
                self._brought.remove(limits)
            if self._brought:  # else the last ones count on: a gateway may start again
                self._choose()

        return remove

    def _choose(self) -> None:
        self.connections = _most([limits.connections for limits in self._brought])
        self.per_address = _most([limits.connections_per_address for limits in self._brought])


def _most(numbers: list[int | None]) -> int | None:
    return None if None in numbers else max(number for number in numbers if number is not None)


def find_front_door() -> FrontDoor | None:
    """Return the front door of the server that runs on this event loop, or None."""
    server = uvicorn_server()
    protocol = getattr(getattr(server, "config", None), "http_protocol_class", None)
    return FrontDoor.from_server_state(server.server_state) if getattr(protocol, _MARK, False) else None


def describe_weaknesses() -> str | None:
    """Describe the limits on incomplete requests that this server lacks; None if no weakness is detected."""
    server = uvicorn_server()
    if server is None:
        name = next((name for name in _OTHER_SERVERS if name in sys.modules), None)
        return f"under {name}, {_SLOW}. {_ADVICE}" if name is not None else None
    protocol: type[object] = server.config.http_protocol_class
    if getattr(protocol, _MARK, False):
        return None
    faults = [_SLOW]
    if "httptools" in protocol.__module__:
        faults.insert(0, "the size of headers, addresses and trailers has no limit")
    return f"under this uvicorn, {', and '.join(faults)}. {_ADVICE}"
