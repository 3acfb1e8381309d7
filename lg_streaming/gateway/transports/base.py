"""What lies between a connection's rules and the transport that carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lg_streaming.errors import StreamingError
    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.delivery.frames import Encode, Frames
    from lg_streaming.gateway.transports.deflate import Framer
    from lg_streaming.gateway.transports.inbound import InboundLimits
    from lg_streaming.gateway.transports.send_buffer import BufferLimits
    from lg_streaming.settings import TransportName

__all__ = ["Transport", "TransportLimits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """The limits of one transport. Seconds and bytes."""

    bounds: BufferLimits
    inbound: InboundLimits
    inbound_bytes: int
    login_timeout: float
    ping_interval: float
    ping_timeout: float
    max_transports: int | None
    max_per_address: int | None
    """Of the transports that are open, logged in or not."""
    framings: Framer


class Transport(Protocol):
    """What a connection can do with its transport."""

    name: TransportName
    peer: Peer

    def encoder(self, *, batch: bool, by_type: bool) -> Encode:
        """How updates are wrapped for it: as lists, or one by one and named by their kind or type."""
        ...

    def put(self, frames: Frames) -> None:
        """Sends ready frames without waiting."""
        ...

    def emit(self, event: str, payload: object) -> None:
        """Sends one message without waiting."""
        ...

    def prefer_fresh(self) -> None:
        """Lets little wait on the way, where the server allows that."""
        ...

    async def drain(self) -> bool:
        """Returns when there is room for more, and whether it had to wait."""
        ...

    def close_with(self, error: StreamingError | None = None, *, told: bool = False) -> None:
        """Says why, unless it was `told`, and closes with the error's code. Never waits.

        A peer that does not answer the close is cut off.
        """
        ...
