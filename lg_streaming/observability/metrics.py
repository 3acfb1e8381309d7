"""Prometheus metrics of a hub and a gateway.

Names begin with `lg_streaming_` and end with their base unit; labels come from closed sets, never from an execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import LogUnavailableError, MissingExtraError
from lg_streaming.hub import Durations
from lg_streaming.observability.gateway_metrics import samples

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

    from lg_streaming.hub import HubStatistics, ReaderLag, StreamHub
    from lg_streaming.observability.gateway_metrics import GatewayMetrics, GatewayStatistics

__all__ = ["MetricsCollector", "metrics_text"]

_PREFIX: Final = "lg_streaming_"
_FAMILIES: Final = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


async def metrics_text(hub: StreamHub, metrics: GatewayMetrics | None = None, accept: str = "") -> tuple[str, bytes]:
    """Return all metrics in the format of Prometheus; the response to `GET /metrics`.

    It adds the lag of readers to the metrics of `MetricsCollector`, unless the log cannot be reached.

    Args:
        hub: The hub.
        metrics: The gateway's counters; None without a gateway.
        accept: The request's `Accept` header; it may ask for OpenMetrics.

    Returns:
        The content type and the body.
    """
    try:
        lag = await hub.readers.lag()
    except LogUnavailableError:
        lag = None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(hub, metrics, lag))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class MetricsCollector(Collector):
    """A collector of all counters, for a registry of your own: `REGISTRY.register(…)`.

    Args:
        hub: The hub.
        metrics: The gateway's counters; None without a gateway.
        lag: The lag of readers, where it was measured.
    """

    def __init__(self, hub: StreamHub, metrics: GatewayMetrics | None = None, lag: ReaderLag | None = None) -> None:
        self._hub = hub
        self._metrics = metrics
        self._lag = lag

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names come with the values."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they are now."""
        yield from _hub_metrics(self._hub.statistics())
        if self._lag is not None:
            yield _gauge(
                "reader_lag_updates", "Updates that readers have not come to yet, all together", self._lag.total
            )
            yield _gauge("reader_lag_updates_max", "The same of the reader that is furthest behind", self._lag.most)
        if self._metrics is not None:
            yield from _gateway_metrics(self._metrics.snapshot())


def _hub_metrics(hub: HubStatistics) -> Iterator[Metric]:
    yield _gauge("executions", "Executions this process has written to and not forgotten", hub.executions)
    yield _gauge("executions_running", "Executions with an open run", hub.running)
    runs = {"queued": hub.runs.queued, "running": hub.runs.running, "waiting": hub.runs.waiting}
    yield _gauge_by("runs", "Runs of graphs started here, without ended ones", "state", runs.items())
    yield _gauge("readers", "Subscriptions to executions, also those inside this process", hub.subscriptions)
    yield _gauge("updates_waiting", "Updates on their way to the log", hub.waiting)
    yield _counter_by("updates_published", "Updates given to the log", "kind", hub.published_by_kind.items())
    yield _counter("updates_delivered", "Updates that readers took", hub.delivered)
    dropped = {**hub.dropped, "repeated": hub.repeated}
    yield _counter_by("updates_dropped", "Updates that did not get into the log", "reason", dropped.items())
    yield _counter("updates_shortened", "Updates too large to leave in one piece", hub.shortened)
    yield _counter("append_batches", "Batches that a log on another machine accepted", hub.append_batches)
    yield _counter("append_failures", "Tries to write to the log that failed", hub.append_failures)
    yield _counter("encode_fallbacks", "Updates that held something JSON cannot hold", hub.encode_fallbacks)
    raised = {"observer": hub.observer_errors, "callable": hub.callable_errors, "sink": hub.sink_errors}
    yield _counter_by("callback_errors", "Exceptions of the program's own functions", "source", raised.items())
    yield _histogram("append_seconds", "Time of a request to a log on another machine", hub.append_seconds)
    yield _histogram("publish_seconds", "Time inside a call that publishes, of every 16th", hub.publish_seconds)


def _gateway_metrics(statistics: GatewayStatistics) -> Iterable[Metric]:
    families: dict[str, Any] = {}
    for metric, labels, value in samples(statistics):
        if metric.name not in families:
            families[metric.name] = _FAMILIES[metric.kind](_PREFIX + metric.name, metric.help, labels=[*labels])
        if isinstance(value, Durations):
            families[metric.name].add_metric([*labels.values()], **_buckets(value))
        else:
            families[metric.name].add_metric([*labels.values()], value)
    return families.values()


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, help, value=value)


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, help, value=value)


def _gauge_by(name: str, help: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, help, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _counter_by(name: str, help: str, label: str, values: Iterable[tuple[str, int]]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, help, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def _histogram(name: str, help: str, durations: Durations) -> Metric:
    return HistogramMetricFamily(_PREFIX + name, help, **_buckets(durations))


def _buckets(durations: Durations) -> dict[str, Any]:
    bounds = [*map(str, durations.bounds), "+Inf"]
    return {
        "buckets": list(zip(bounds, durations.cumulative(), strict=True)),
        "sum_value": durations.total,
    }
