"""From what a node does to the updates that leave, as the decorators' options say."""

from lg_streaming.pipeline.node import NodeOptions
from lg_streaming.pipeline.options import (
    EventFilter,
    EventOptions,
    ProgressFormat,
    ProgressOptions,
    TokenFilter,
    TokenOptions,
)
from lg_streaming.pipeline.progress import ProgressTracker, current_progress

__all__ = [
    "EventFilter",
    "EventOptions",
    "NodeOptions",
    "ProgressFormat",
    "ProgressOptions",
    "ProgressTracker",
    "TokenFilter",
    "TokenOptions",
    "current_progress",
]
