"""The hub: write and read executions."""

from lg_streaming.hub.attachment import Attachment
from lg_streaming.hub.histogram import Durations, Histogram
from lg_streaming.hub.hub import StreamHub
from lg_streaming.hub.metrics import ExecutionInfo, HubHealth
from lg_streaming.hub.page import Gap, Page, SubscribeResult
from lg_streaming.hub.sink import ClosableSink, CloseReason, PageSink, SendPolicy, Sink
from lg_streaming.hub.statistics import HubStatistics, ReaderLag
from lg_streaming.hub.subscription import Subscription
from lg_streaming.hub.vetting import Vetting

__all__ = [
    "Attachment",
    "ClosableSink",
    "CloseReason",
    "Durations",
    "ExecutionInfo",
    "Gap",
    "Histogram",
    "HubHealth",
    "HubStatistics",
    "Page",
    "PageSink",
    "ReaderLag",
    "SendPolicy",
    "Sink",
    "StreamHub",
    "SubscribeResult",
    "Subscription",
    "Vetting",
]
