"""What lies between a connection's rules and the transport that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.errors import BadRequestError, StreamingError
    from lg_streaming.gateway.deflate import Framings
    from lg_streaming.gateway.frames import Frames, Framing
    from lg_streaming.gateway.outlet import Bounds

__all__ = ["Connection", "Guard", "Transport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The limits of one transport. Seconds and bytes."""

    bounds: Bounds
    inbound_bytes: int
    login_timeout: float
    ping_interval: float
    ping_timeout: float
    max_transports: int | None
    framings: Framings


class Transport(Protocol):
    """What a connection can do with its transport."""

    @property
    def frame(self) -> Framing:
        """How its messages become frames."""
        ...

    def put(self, frames: Frames) -> None:
        """Sends ready frames without waiting."""
        ...

    def emit(self, event: str, payload: object) -> None:
        """Sends one event without waiting."""
        ...

    async def drain(self) -> None:
        """Returns when there is room for more."""
        ...

    def close_with(self, error: StreamingError | None = None, *, told: bool = False) -> None:
        """Says why, unless it was ``told``, and closes with the error's code. Never waits.

        A peer that does not answer the close is cut off.
        """
        ...


class Connection(Protocol):
    """What the transport tells its owner, one call at a time."""

    async def login(self, auth: object) -> None:
        """The client asked to be let in; raises StreamingError to refuse."""
        ...

    def opened(self, connection_id: str) -> None:
        """The client was let in and knows it."""
        ...

    async def received(self, event: str, arguments: list[object], answer: Callable[[object], None] | None) -> None:
        """An event came; ``answer`` sends the acknowledgement where one was asked for."""
        ...

    def malformed(self, error: BadRequestError) -> None:
        """Something came that is no event."""
        ...

    def reserved(self, event: str) -> None:
        """An event came under a name that is the protocol's own."""
        ...

    async def gone(self) -> None:
        """The transport is closed; nothing more will be called."""
        ...
