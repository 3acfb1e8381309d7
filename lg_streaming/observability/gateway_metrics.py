"""Counters of a gateway, kept in memory and fed by its events.

A field of `GatewayStatistics` or `TransportStatistics` declares the events that change it and its Prometheus metric. A
new counter is one class in `lg_streaming.observability.events` and one field here. The values of a label are a closed
set: transports, codes, reasons, names of the protocol's messages. So no client can make the counters grow.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args

from lg_streaming.errors import CODES, UnauthorizedError
from lg_streaming.hub.histogram import Durations, Histogram
from lg_streaming.observability.events import (
    ClientConnected,
    ClientDisconnected,
    ClientRefused,
    ExecutionSubscribed,
    ExecutionUnsubscribed,
    GapReported,
    GatewayEvent,
    MessageReceived,
    RoomJoined,
    RoomLeft,
    SubscriptionResumed,
    UpdatesMerged,
)
from lg_streaming.types import GapReason, ProtocolName

__all__ = ["DELIVERY_BOUNDS", "GatewayMetrics", "GatewayStatistics", "Metric", "TransportStatistics", "samples"]

DELIVERY_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from within a frame interval up to a reader that lags."""
_HANDLING_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0)
_OTHER: Final = "other"
_CLIENT_LEFT: Final = "none"
_RESUMES: Final = "Subscriptions that resumed after a position"
_CODES: Final = (*map(str, CODES), _OTHER)
_LOGIN_CODES: Final = frozenset(error.code for error in (UnauthorizedError, *UnauthorizedError.__subclasses__()))
_RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_METRIC: Final = "metric"

E = TypeVar("E", bound=GatewayEvent)
Kind = Literal["counter", "gauge", "histogram"]
Source = tuple[type[GatewayEvent], Callable[[Any], Any]]
"""A type of event, and the function that returns what an event adds: an amount, a label's value, or seconds."""


class Metric(NamedTuple):
    """The declaration of a statistic."""

    kind: Kind
    name: str
    """The name in Prometheus, without prefix and suffix."""
    help: str
    sources: tuple[Source, ...]
    label: str = ""
    """The label by which it counts; empty where it is one number."""
    values: tuple[str, ...] = ()
    """All values of the label."""
    labels: Mapping[str, str] = MappingProxyType({})
    """Labels with one value."""
    bounds: tuple[float, ...] = ()
    """The buckets of a histogram, in seconds."""


def _declare(kind: Kind, name: str, help: str, *sources: Source, **options: Any) -> Any:
    return field(metadata={_METRIC: Metric(kind, name, help, sources, **options)})


_counter, _gauge, _histogram = (partial(_declare, kind) for kind in get_args(Kind))


def _up(_: GatewayEvent) -> int:
    return 1


def _down(_: GatewayEvent) -> int:
    return -1


def _on(event: type[E], measure: Callable[[E], Any] = _up) -> Source:
    return event, measure


_SUBSCRIBED: Final = (_on(ExecutionSubscribed), _on(RoomJoined))
_UNSUBSCRIBED: Final = (_on(ExecutionUnsubscribed, _down), _on(RoomLeft, _down))


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportStatistics:
    """Counters of one transport since the gateway was made, and its open connections."""

    connections: int = _gauge("connections", "Open connections", _on(ClientConnected), _on(ClientDisconnected, _down))
    """Open now."""
    opened: int = _counter("connections_opened", "Connections that were admitted", _on(ClientConnected))
    closed: Mapping[str, int] = _counter(
        "connections_closed",
        "Connections that have closed",
        _on(ClientDisconnected, lambda event: str(event.code or _CLIENT_LEFT)),
        label="code",
        values=(_CLIENT_LEFT, *_CODES),
    )
    """Closed connections by the code they were closed with; `none` where there was no error."""
    updates: int = _counter("updates_sent", "Updates handed to a transport")
    bytes: int = _counter("sent_bytes", "Bytes of the frames of updates")
    """Bytes of the frames that held these updates, before compression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatistics:
    """Counters since the gateway was made, and its present state. Codes are those of `lg_streaming.errors.CODES`."""

    uptime: float = _gauge("uptime_seconds", "Since the gateway was made")
    """Seconds since the gateway was made."""
    transports: Mapping[ProtocolName, TransportStatistics]
    subscriptions: int = _gauge("subscriptions", "Subscriptions of connections", *_SUBSCRIBED, *_UNSUBSCRIBED)
    """Open now, those of rooms included."""
    subscriptions_opened: int = _counter("subscriptions_opened", "Subscriptions that began", *_SUBSCRIBED)
    rooms_joined: int = _gauge("rooms_joined", "Memberships in rooms", _on(RoomJoined), _on(RoomLeft, _down))
    """Memberships of connections in rooms, now."""
    received: Mapping[str, int] = _counter(
        "messages_received",
        "Messages of clients",
        _on(MessageReceived, lambda event: event.message_name),
        label="message",
    )
    """Messages from clients, by the protocol's name; `other` for all names that the protocol lacks."""
    failed: int = _counter(
        "messages_failed",
        "Messages that were answered with an error",
        _on(MessageReceived, lambda event: event.code is not None),
    )
    """Messages that were answered with an error."""
    handling: Durations = _histogram(  # noqa: RUF009 (it declares the field)
        "message_seconds",
        "Time it took to handle a message",
        _on(MessageReceived, lambda event: event.duration_s),
        bounds=_HANDLING_BOUNDS,
    )
    """Time it took to handle a message."""
    refused: Mapping[str, int] = _counter(
        "refused",
        "Messages, logins and connections that were refused",
        _on(ClientRefused, lambda event: str(event.code)),
        label="code",
        values=_CODES,
    )
    """Refused messages, logins and connections, by code."""
    login_failures: int = _counter(
        "login_failures", "Invalid credentials", _on(ClientRefused, lambda event: event.code in _LOGIN_CODES)
    )
    resumes: int = _counter(
        "resumes", _RESUMES, _on(SubscriptionResumed, lambda event: event.recovered), labels={"recovered": "true"}
    )
    """Subscriptions that resumed after a position and lost nothing."""
    resumes_lost: int = _counter(
        "resumes", _RESUMES, _on(SubscriptionResumed, lambda event: not event.recovered), labels={"recovered": "false"}
    )
    """Subscriptions that resumed after a position and lost updates."""
    gaps: Mapping[GapReason, int] = _counter(
        "gaps",
        "Gaps that readers were notified of",
        _on(GapReported, lambda event: event.reason),
        label="reason",
        values=get_args(GapReason),
    )
    """Gaps that readers were notified of, by reason."""
    merged: int = _counter(
        "updates_merged", "Updates saved by merging them into others", _on(UpdatesMerged, lambda event: event.updates)
    )
    """Updates that were not sent because a lagging reader got them merged into others."""
    delivery: Durations = _histogram(  # noqa: RUF009 (as above)
        "delivery_seconds", "From publishing an update to handing it to a transport", bounds=DELIVERY_BOUNDS
    )
    """From the publishing of a frame's newest update to the hand-over of the frame to the transport."""
    cpu_seconds: float
    """Processor time of this process since the gateway was made."""
    peak_memory_bytes: int
    """The most memory this process had resident."""

    @property
    def connections(self) -> int:
        """Return the open connections of all transports."""
        return sum(each.connections for each in self.transports.values())

    @property
    def connections_opened(self) -> int:
        """Return the connections of all transports since the gateway was made."""
        return sum(each.opened for each in self.transports.values())

    @property
    def messages_received(self) -> int:
        """Return the messages from clients, of all names."""
        return sum(self.received.values())

    @property
    def messages_per_second(self) -> float:
        """Return the average number of messages from clients per second since the gateway was made."""
        return self.messages_received / self.uptime if self.uptime else 0.0

    @property
    def updates_sent(self) -> int:
        """Return the updates that were handed to all transports."""
        return sum(each.updates for each in self.transports.values())

    @property
    def cpu_share(self) -> float:
        """Return the processor time of this process per second since the gateway was made; 1 is one processor."""
        return self.cpu_seconds / self.uptime if self.uptime else 0.0


class _Counts:
    """The counters that the fields of one class of statistics declare."""

    __slots__ = ("_sources", "values")

    def __init__(self, statistics: type[GatewayStatistics | TransportStatistics]) -> None:
        self.values: dict[str, Any] = {}
        self._sources: dict[type[GatewayEvent], list[tuple[str, Callable[[Any], Any]]]] = {}
        for name, metric in _declared(statistics):
            labelled = dict.fromkeys(metric.values, 0) if metric.label else 0
            self.values[name] = Histogram(metric.bounds) if metric.kind == "histogram" else labelled
            for event, measure in metric.sources:
                self._sources.setdefault(event, []).append((name, measure))

    def record(self, event: GatewayEvent) -> None:
        """Change the counters that have `event` as a source."""
        for name, measure in self._sources.get(type(event), ()):
            measured, counted = measure(event), self.values[name]
            if isinstance(counted, dict):
                counted[measured if measured in counted else _OTHER] += 1
            elif not isinstance(counted, Histogram):
                self.values[name] = counted + measured
            elif measured is not None:
                counted.observe(measured)

    def snapshot(self) -> dict[str, Any]:
        """Return copies of all values, by the name of their field."""
        return {
            name: value.snapshot() if isinstance(value, Histogram) else copy(value)
            for name, value in self.values.items()
        }


def _declared(statistics: Any) -> Iterator[tuple[str, Metric]]:
    return ((each.name, each.metadata[_METRIC]) for each in fields(statistics) if _METRIC in each.metadata)


class GatewayMetrics:
    """The counters of one gateway, a listener of its `GatewayEvents`.

    They are changed on the gateway's event loop; `snapshot` may be called from any thread.

    Args:
        messages: The names of the protocol's inbound messages; all others count as `other`.
        wall: Seconds since 1970, the clock of the updates' timestamps.
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
        self._counts = _Counts(GatewayStatistics)
        self._counts.values["received"] = dict.fromkeys((*messages, _OTHER), 0)
        self._transports: dict[ProtocolName, _Counts] = {
            name: _Counts(TransportStatistics) for name in get_args(ProtocolName)
        }
        self._delivery: Histogram = self._counts.values["delivery"]

    def record(self, event: GatewayEvent) -> None:
        """Count an event."""
        self._counts.record(event)
        self._transports[event.transport].record(event)

    def record_page(self, transport: ProtocolName, updates: int, size: int, newest: float | None = None) -> None:
        """Count a page of updates that was handed to a transport.

        A page is on the hot path, where an event would cost more than the count.

        Args:
            transport: The transport.
            updates: Updates in the page.
            size: Bytes of its frames.
            newest: The time at which its newest update was published, in seconds since 1970. None for history, whose
                age is no measure of delivery.
        """
        values = self._transports[transport].values
        values["updates"] += updates
        values["bytes"] += size
        if newest is not None:
            self._delivery.observe(self._wall() - newest)

    def snapshot(self) -> GatewayStatistics:
        """Return all counters as they are now."""
        counts = self._counts.snapshot()
        counts["uptime"] = self._monotonic() - self._began
        return GatewayStatistics(
            **counts,
            transports={name: TransportStatistics(**each.snapshot()) for name, each in self._transports.items()},
            cpu_seconds=self._cpu() - self._cpu_began,
            peak_memory_bytes=_peak_memory(),
        )


def samples(statistics: GatewayStatistics) -> Iterator[tuple[Metric, dict[str, str], float | Durations]]:
    """Yield each value that has a metric, with the metric and the labels of the value."""
    yield from _samples(statistics, {})
    for name, transport in statistics.transports.items():
        yield from _samples(transport, {"transport": name})


def _samples(
    statistics: GatewayStatistics | TransportStatistics, labels: dict[str, str]
) -> Iterator[tuple[Metric, dict[str, str], float | Durations]]:
    for name, metric in _declared(statistics):
        value = getattr(statistics, name)
        if metric.label:
            for label, count in value.items():
                yield metric, {**labels, metric.label: label}, count
        else:
            yield metric, {**labels, **metric.labels}, value


def _peak_memory() -> int:
    """Return the most bytes of memory this process had; 0 where the platform has no such number."""
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
