"""The counts of a hub and a gateway as Prometheus metrics.

Names begin with `lg_streaming_` and end with their base unit; labels come from closed sets, never from an execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lg_streaming.errors import LogUnavailableError, MissingExtraError

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.registry import Collector
except ImportError as missing:
    raise MissingExtraError("metrics need prometheus-client: pip install 'lg-streaming[metrics]'") from missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric

    from lg_streaming.hub import Durations, HubStatistics, ReaderLag, StreamHub
    from lg_streaming.observability.gateway_metrics import GatewayMetrics, GatewayStatistics

__all__ = ["MetricsCollector", "metrics_text"]

_PREFIX: Final = "lg_streaming_"


async def metrics_text(hub: StreamHub, figures: GatewayMetrics | None = None, accept: str = "") -> tuple[str, bytes]:
    """All metrics as a Prometheus server reads them; the answer to `GET /metrics`.

    Beside what `MetricsCollector` has it says how far readers are behind, unless the log cannot be reached.

    Args:
        hub: The hub to tell about.
        figures: The gateway's counts; None where there is no gateway.
        accept: The request's `Accept` header; it may ask for OpenMetrics.

    Returns:
        The content type and the body.
    """
    try:
        lag = await hub.readers.lag()
    except LogUnavailableError:
        lag = None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(hub, figures, lag))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class MetricsCollector(Collector):
    """Reads the counts whenever metrics are asked for; for a registry of your own: `REGISTRY.register(…)`.

    Args:
        hub: The hub to tell about.
        figures: The gateway's counts; None where there is no gateway.
        lag: How far readers are behind, where that is known.
    """

    def __init__(self, hub: StreamHub, figures: GatewayMetrics | None = None, lag: ReaderLag | None = None) -> None:
        self._hub = hub
        self._figures = figures
        self._lag = lag

    def describe(self) -> Iterable[Metric]:
        """Nothing: the names are known once they are collected."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        yield from _hub_metrics(self._hub.statistics())
        if self._lag is not None:
            yield _gauge(
                "reader_lag_updates", "Updates that readers have not come to yet, all together", self._lag.total
            )
            yield _gauge("reader_lag_updates_max", "The same of the reader that is furthest behind", self._lag.most)
        if self._figures is not None:
            yield from _gateway_metrics(self._figures.snapshot())


def _hub_metrics(hub: HubStatistics) -> Iterator[Metric]:
    yield _gauge("executions", "Executions this process has written to and not forgotten", hub.executions)
    yield _gauge("executions_running", "Executions with an open run", hub.running)
    yield _gauge("readers", "Subscriptions to executions, also those inside this process", hub.subscriptions)
    yield _gauge("updates_waiting", "Updates on their way to the log", hub.waiting)
    yield _counter_by("updates_published", "Updates given to the log", "kind", hub.published_by_kind.items())
    yield _counter("updates_delivered", "Updates that readers took", hub.delivered)
    dropped = {**hub.dropped, "repeated": hub.repeated}
    yield _counter_by("updates_dropped", "Updates that did not get into the log", "reason", dropped.items())
    yield _counter("updates_shortened", "Updates too large to leave in one piece", hub.shortened)
    yield _counter("append_failures", "Tries to write to the log that failed", hub.append_failures)
    yield _counter("encode_fallbacks", "Updates that held something JSON cannot hold", hub.encode_fallbacks)
    raised = {"observer": hub.observer_errors, "callable": hub.callable_errors, "sink": hub.sink_errors}
    yield _counter_by("callback_errors", "Exceptions of the program's own functions", "source", raised.items())
    yield _histogram("publish_seconds", "Time inside a call that publishes, of every 16th", hub.publish_seconds)


def _gateway_metrics(gateway: GatewayStatistics) -> Iterator[Metric]:
    connections = GaugeMetricFamily(f"{_PREFIX}connections", "Open connections", labels=["transport"])
    closed = CounterMetricFamily(
        f"{_PREFIX}connections_closed", "Connections that are over", labels=["transport", "code"]
    )
    for name, wire in gateway.transports.items():
        connections.add_metric([name], wire.connections)
        for code, count in wire.closed.items():
            closed.add_metric([name, code], count)
    yield connections
    yield closed
    wires = gateway.transports.items()
    opened = [(name, wire.opened) for name, wire in wires]
    yield _counter_by("connections_opened", "Connections that were let in", "transport", opened)
    updates = [(name, wire.updates) for name, wire in wires]
    yield _counter_by("updates_sent", "Updates handed to a transport", "transport", updates)
    sizes = [(name, wire.bytes) for name, wire in wires]
    yield _counter_by("sent_bytes", "Bytes of the frames of updates", "transport", sizes)
    yield _gauge("subscriptions", "Subscriptions of connections", gateway.subscriptions)
    yield _counter("subscriptions_opened", "Subscriptions that began", gateway.subscriptions_opened)
    yield _gauge("rooms_joined", "Memberships of connections in rooms", gateway.rooms_joined)
    yield _counter_by("messages_received", "Messages from clients", "message", gateway.received.items())
    yield _counter("messages_failed", "Messages that were answered with an error", gateway.failed)
    yield _histogram("message_seconds", "Time it took to carry out a message", gateway.handling)
    yield _counter_by("refused", "Messages, logins and connections that were refused", "code", gateway.refused.items())
    yield _counter("login_failures", "Credentials that did not hold", gateway.login_failures)
    resumes = {"true": gateway.resumes, "false": gateway.resumes_lost}
    yield _counter_by("resumes", "Subscriptions that went on after a position", "recovered", resumes.items())
    yield _counter_by("gaps", "Gaps that readers were told", "reason", gateway.gaps.items())
    yield _counter("updates_merged", "Updates saved by merging them into others", gateway.merged)
    yield _histogram("delivery_seconds", "From publishing an update to handing it to a transport", gateway.delivery)
    yield _gauge("uptime_seconds", "Since the gateway was made", gateway.uptime)


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, help, value=value)


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, help, value=value)


def _counter_by(name: str, help: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, help, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _histogram(name: str, help: str, durations: Durations) -> Metric:
    bounds = [*map(str, durations.bounds), "+Inf"]
    buckets = list(zip(bounds, durations.cumulative(), strict=True))
    return HistogramMetricFamily(_PREFIX + name, help, buckets=buckets, sum_value=durations.total)
