"""From what a node does to the updates that leave, as the decorators' options say."""

from lg_streaming.pipeline.event_options import EventFilter, EventOptions
from lg_streaming.pipeline.node import NodeOptions
from lg_streaming.pipeline.processor import EventStats, EventStreamProcessor
from lg_streaming.pipeline.progress import ProgressFormat, ProgressOptions, ProgressTracker, current_progress
from lg_streaming.pipeline.tokens import TokenFilter, TokenOptions

__all__ = [
    "EventFilter",
    "EventOptions",
    "EventStats",
    "EventStreamProcessor",
    "NodeOptions",
    "ProgressFormat",
    "ProgressOptions",
    "ProgressTracker",
    "TokenFilter",
    "TokenOptions",
    "current_progress",
]
