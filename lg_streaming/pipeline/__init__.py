"""From what a node does to the updates that leave, as the decorators' options say."""

from lg_streaming.pipeline.event_options import EventFilter, EventOptions
from lg_streaming.pipeline.node import NodeOptions
from lg_streaming.pipeline.processor import EventStats, EventStreamProcessor
from lg_streaming.pipeline.progress import (
    ProgressFormat,
    ProgressOptions,
    ProgressPart,
    ProgressTracker,
    current_progress,
)
from lg_streaming.pipeline.token_options import TokenFilter, TokenOptions
from lg_streaming.pipeline.token_service import TokenStats, TokenStreamInfo, TokenStreamingService

__all__ = [
    "EventFilter",
    "EventOptions",
    "EventStats",
    "EventStreamProcessor",
    "NodeOptions",
    "ProgressFormat",
    "ProgressOptions",
    "ProgressPart",
    "ProgressTracker",
    "TokenFilter",
    "TokenOptions",
    "TokenStats",
    "TokenStreamInfo",
    "TokenStreamingService",
    "current_progress",
]
