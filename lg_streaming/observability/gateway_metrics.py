"""What a gateway counts: plain numbers in memory, whether or not anybody asks for them.

Everything that tells counts apart comes from a closed set (transports, codes, reasons, the protocol's own message
names), so neither a client nor a run can make them grow.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from lg_streaming.errors import CODES
from lg_streaming.hub.histogram import Durations, Histogram
from lg_streaming.hub.page import GapReason

__all__ = ["DELIVERY_BOUNDS", "GatewayMetrics", "GatewayStatistics", "Transport", "TransportFigures"]

Transport = Literal["socketio", "websocket", "sse", "rest"]
"""How a client is connected; `rest` is a single request."""

DELIVERY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from within a frame interval up to a reader that lags."""
_HANDLING_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
_OTHER: Final = "other"
_CLIENT_LEFT: Final = "none"
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportFigures:
    """What one transport did since the gateway was made, and what is there now."""

    connections: int
    """Open now."""
    opened: int
    closed: Mapping[str, int]
    """Connections that are over, by the code they were closed with; `none` where there was no error."""
    updates: int
    """Updates that were handed to the transport."""
    bytes: int
    """Bytes of the frames these updates were in, before any compression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatistics:
    """Counts since the gateway was made, and what is there now. Codes are those of `lg_streaming.errors.CODES`."""

    uptime: float
    """Seconds since the gateway was made."""
    transports: Mapping[Transport, TransportFigures]
    subscriptions: int
    """Open now."""
    subscriptions_opened: int
    rooms_joined: int
    """Memberships of connections in rooms, now."""
    received: Mapping[str, int]
    """Messages from clients, by the protocol's name; `other` for all names it does not have."""
    failed: int
    """Messages that were answered with an error."""
    handling: Durations
    """Time it took to carry out a message."""
    refused: Mapping[str, int]
    """What callers were refused, by code: messages, logins, connections."""
    login_failures: int
    resumes: int
    """Subscriptions that went on after a position and lost nothing."""
    resumes_lost: int
    """Subscriptions that wanted to, and could not have everything."""
    gaps: Mapping[GapReason, int]
    """Gaps that readers were told."""
    merged: int
    """Updates that were not sent because a lagging reader got them merged into others."""
    delivery: Durations
    """From the publishing of the newest update of a frame to its handing over to the transport."""
    cpu_seconds: float
    """Processor time of this process since the gateway was made."""
    peak_memory_bytes: int
    """The most memory this process had resident."""

    @property
    def connections(self) -> int:
        """Open connections, of all transports."""
        return sum(each.connections for each in self.transports.values())

    @property
    def connections_opened(self) -> int:
        """Connections since the gateway was made, of all transports."""
        return sum(each.opened for each in self.transports.values())

    @property
    def messages_received(self) -> int:
        """Messages from clients, of all names."""
        return sum(self.received.values())

    @property
    def messages_per_second(self) -> float:
        """Messages from clients, on average since the gateway was made."""
        return self.messages_received / self.uptime if self.uptime else 0.0

    @property
    def updates_sent(self) -> int:
        """Updates that were handed to a transport, of all transports."""
        return sum(each.updates for each in self.transports.values())

    @property
    def cpu_share(self) -> float:
        """Processor time of this process per second since the gateway was made; 1 is one whole processor."""
        return self.cpu_seconds / self.uptime if self.uptime else 0.0


class _Wire:
    """The counts of one transport."""

    __slots__ = ("bytes", "closed", "connections", "opened", "updates")

    def __init__(self) -> None:
        self.connections = self.opened = self.updates = self.bytes = 0
        self.closed = {_CLIENT_LEFT: 0, **_codes()}

    def snapshot(self) -> TransportFigures:
        return TransportFigures(
            connections=self.connections,
            opened=self.opened,
            closed=dict(self.closed),
            updates=self.updates,
            bytes=self.bytes,
        )


def _codes() -> dict[str, int]:
    return dict.fromkeys((*map(str, CODES), _OTHER), 0)


class GatewayMetrics:
    """The counts of one gateway. Each method says what happened and takes less than a microsecond.

    They are called on the gateway's event loop; `snapshot` from anywhere.

    Args:
        messages: The names of the protocol's inbound messages; all others count as `other`.
        wall: Seconds since 1970, the clock updates are dated with.
        monotonic: Seconds.
        cpu: Seconds of processor time this process has used.
    """

    def __init__(
        self,
        messages: Iterable[str] = (),
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._cpu = cpu
        self._began = monotonic()
        self._cpu_began = cpu()
        self._wires: dict[Transport, _Wire] = {name: _Wire() for name in get_args(Transport)}
        self._received = dict.fromkeys((*messages, _OTHER), 0)
        self._refused = _codes()
        self._gaps: dict[GapReason, int] = dict.fromkeys(get_args(GapReason), 0)
        self._delivery = Histogram(DELIVERY_BOUNDS)
        self._handling = Histogram(_HANDLING_BOUNDS)
        self._subscriptions = self._subscriptions_opened = self._rooms_joined = 0
        self._failed = self._login_failures = 0
        self._resumes = self._resumes_lost = 0
        self._merged = 0

    # --- connections --------------------------------------------------------------------------------------

    def opened(self, transport: Transport) -> None:
        """A client was let in. Goes with one `closed` of the same transport."""
        wire = self._wires[transport]
        wire.opened += 1
        wire.connections += 1

    def closed(self, transport: Transport, code: int | None = None) -> None:
        """A connection that was opened is over.

        Args:
            transport: Its transport.
            code: The code it was closed with; None where the client left, or its stream was at its end.
        """
        wire = self._wires[transport]
        wire.connections -= 1
        _count(wire.closed, _CLIENT_LEFT if code is None else str(code))

    def login_failed(self) -> None:
        """Credentials did not hold. Say `refused` too."""
        self._login_failures += 1

    def refused(self, code: int) -> None:
        """A message, a login or a connection was answered with an error."""
        _count(self._refused, str(code))

    # --- messages from clients ----------------------------------------------------------------------------

    def received(self, name: str) -> None:
        """A message came, whether or not it can be carried out."""
        _count(self._received, name)

    def handled(self, seconds: float, *, failed: bool = False) -> None:
        """A message was carried out in `seconds`; `failed`: it was answered with an error."""
        self._handling.observe(seconds)
        self._failed += failed

    def subscribed(self) -> None:
        """A subscription began. Goes with one `unsubscribed`."""
        self._subscriptions += 1
        self._subscriptions_opened += 1

    def unsubscribed(self) -> None:
        """A subscription is over, for whatever reason."""
        self._subscriptions -= 1

    def joined(self) -> None:
        """A connection joined a room. Goes with one `left`."""
        self._rooms_joined += 1

    def left(self) -> None:
        """A connection left a room, or was closed in it."""
        self._rooms_joined -= 1

    def resumed(self, *, recovered: bool) -> None:
        """A subscription asked to go on after a position; `recovered`: it gets everything that followed."""
        if recovered:
            self._resumes += 1
        else:
            self._resumes_lost += 1

    # --- delivery -----------------------------------------------------------------------------------------

    def sent(self, transport: Transport, updates: int, size: int, newest: float | None = None) -> None:
        """A frame was handed to a transport.

        Args:
            transport: The transport.
            updates: How many updates are in it.
            size: Its bytes.
            newest: When its newest update was published, in seconds since 1970; None for history, which says nothing
                about delivery.
        """
        wire = self._wires[transport]
        wire.updates += updates
        wire.bytes += size
        if newest is not None:
            self._delivery.observe(self._wall() - newest)

    def gap(self, reason: GapReason) -> None:
        """A reader was told of a gap."""
        self._gaps[reason] += 1

    def merged(self, count: int) -> None:
        """`count` updates were saved by merging them into others."""
        self._merged += count

    # --- reading ------------------------------------------------------------------------------------------

    def snapshot(self) -> GatewayStatistics:
        """All counts as they are now."""
        return GatewayStatistics(
            uptime=self._monotonic() - self._began,
            transports={name: wire.snapshot() for name, wire in self._wires.items()},
            subscriptions=self._subscriptions,
            subscriptions_opened=self._subscriptions_opened,
            rooms_joined=self._rooms_joined,
            received=dict(self._received),
            failed=self._failed,
            handling=self._handling.snapshot(),
            refused=dict(self._refused),
            login_failures=self._login_failures,
            resumes=self._resumes,
            resumes_lost=self._resumes_lost,
            gaps=dict(self._gaps),
            merged=self._merged,
            delivery=self._delivery.snapshot(),
            cpu_seconds=self._cpu() - self._cpu_began,
            peak_memory_bytes=_peak_memory(),
        )


def _peak_memory() -> int:
    """Return the most bytes of memory this process had; 0 where the platform does not tell."""
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


def _count(counts: dict[str, int], name: str) -> None:
    counts[name if name in counts else _OTHER] += 1
