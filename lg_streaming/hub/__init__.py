"""The hub: where executions are written and read."""

from lg_streaming.hub.histogram import Durations, Histogram
from lg_streaming.hub.hub import StreamHub
from lg_streaming.hub.overview import ExecutionInfo, HubHealth
from lg_streaming.hub.statistics import HubStatistics, ReaderLag
from lg_streaming.hub.subscription import Attached, Gap, Page, Subscription

__all__ = [
    "Attached",
    "Durations",
    "ExecutionInfo",
    "Gap",
    "Histogram",
    "HubHealth",
    "HubStatistics",
    "Page",
    "ReaderLag",
    "StreamHub",
    "Subscription",
]
