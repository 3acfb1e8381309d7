"""The hub: write and read executions. `hub.StreamHub` is made of parts, one in each module.

- Runs: `runs` (join, leave, end), `run_opener`, `open_options`, `status_writer` (starts and ends), `idle` (silent
  runs), `cancellation`, `prompts`, `callbacks`.
- Executions: `registry` (by id, their retention), `execution` (state machine), `due` (queue by time).
- Publishing: `publisher`, `encoder` (checks, rates), `writer`, `buffered_writer`, `execution_queue`, `exit_flush` (a
  log that may block), `drops` (counts of dropped updates), `update_logger`.
- Reading: `subscription` (position and gaps), `page`, `readers` (all subscriptions), `notifier` (wakes readers).
  `carry` is the loop from a subscription to a receiver, with retries; `vetting` checks rights after a change of owner.
- Many executions: `wildcard` (subscriptions by pattern), `wildcard_notifier`, `denials` (unreadable executions).
- Sinks: `sink` (protocols), `attachments`, `attachment`, `sink_delivery` (pages with retries), `background_loop`.
- Several processes: `run_control` (requests to runs), `fleet` (to those of other processes), `sink_claim`,
  `fleet_statistics`.
- Further: `observe` (observables), `lifespan` (shutdown, restart), `run_listeners` (ends of runs), `metrics`,
  `statistics`, `histogram`, `options` (keyword arguments).
"""

from lg_streaming.hub.attachment import Attachment
from lg_streaming.hub.fleet_statistics import FleetStatistics
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
    "FleetStatistics",
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
