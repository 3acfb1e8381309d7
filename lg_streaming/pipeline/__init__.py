"""The pipelines of decorated nodes: from events and text to the updates that leave."""

from lg_streaming.pipeline.event_options import EventFilter, EventOptions
from lg_streaming.pipeline.node import NodeOptions
from lg_streaming.pipeline.progress import (
    ProgressFormat,
    ProgressOptions,
    ProgressPart,
    ProgressTracker,
    current_progress,
)
from lg_streaming.pipeline.token_options import TokenFilter, TokenOptions

__all__ = [
    "EventFilter",
    "EventOptions",
    "NodeOptions",
    "ProgressFormat",
    "ProgressOptions",
    "ProgressPart",
    "ProgressTracker",
    "TokenFilter",
    "TokenOptions",
    "current_progress",
]
