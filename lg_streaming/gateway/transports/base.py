"""Interface between a connection and its transport."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from lg_streaming.gateway.transports.send_buffer import BufferLimits, SendBuffer

if TYPE_CHECKING:
    from lg_streaming.errors import StreamingError
    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.settings import LimitSettings, StreamingSettings
    from lg_streaming.types import TransportName

__all__ = ["Transport", "TransportLimits"]


_GRACE_TRANSPORTS: Final = 100
_GRACE_PER_ADDRESS: Final = 20
"""Transports beyond `limits.connections` and `connections_per_address` that are opened to send a refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportLimits:
    """Limits of one transport. Seconds and bytes."""

    bounds: BufferLimits
    inbound: LimitSettings
    inbound_bytes: int
    login_timeout: float
    ping_interval: float
    ping_timeout: float
    max_transports: int | None
    max_per_address: int | None
    """Open transports of one address, before and after the login."""

    @classmethod
    def from_settings(cls, settings: StreamingSettings) -> TransportLimits:
        """Return the limits of the settings."""
        gateway, limits = settings.gateway, settings.limits
        return cls(
            bounds=BufferLimits(
                backlog_bytes=limits.backlog_bytes,
                backlog_frames=limits.backlog_frames,
                send_timeout=limits.send_timeout,
            ),
            inbound=limits,
            inbound_bytes=limits.inbound_bytes,
            login_timeout=limits.login_timeout,
            ping_interval=gateway.ping_interval,
            ping_timeout=gateway.ping_timeout,
            max_transports=_with_grace(limits.connections, _GRACE_TRANSPORTS),
            max_per_address=_with_grace(limits.connections_per_address, _GRACE_PER_ADDRESS),
        )


def _with_grace(limit: int | None, grace: int) -> int | None:
    return None if limit is None else limit + grace


class Transport(Protocol):
    """A transport, as its connection uses it."""

    name: TransportName
    peer: Peer
    buffer: SendBuffer
    """The buffer that frames are sent through."""

    def encoder(self, *, batch: bool, by_type: bool) -> FrameEncoder:
        """Return an encoder of updates: in lists, or one by one and named by their kind or type."""
        ...

    def emit(self, event: str, payload: object) -> None:
        """Send one message without waiting."""
        ...

    def limit_buffer(self) -> None:
        """Keep send buffers short, if the server allows that."""
        ...

    def close_with(self, error: StreamingError | None = None, *, announced: bool = False) -> None:
        """Send the error, unless it was `announced`, and close with its code. Never waits.

        A peer that does not answer the close is disconnected.
        """
        ...
