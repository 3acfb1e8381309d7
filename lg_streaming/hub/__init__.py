"""The hub: where executions are written and read."""

from lg_streaming.hub.hub import StreamHub
from lg_streaming.hub.statistics import HubStatistics
from lg_streaming.hub.subscription import Attached, Gap, Page, Subscription

__all__ = ["Attached", "Gap", "HubStatistics", "Page", "StreamHub", "Subscription"]
