"""Pipelines of decorated nodes: from the events and text of a node to published updates.

- `node`: the pipelines of one node, in order.
- `tokens`: text: filter, processor, buffer; `token_batches`: joining and format.
- `events`: filter, transformer, `redact`, buffer.
- `progress`: reports of a node's code; `progress_tree`: its parts; `branches`: parallel runs.
- `reporter`: throttling, milestones and format of progress; `eta`: the time left.
- `timed_buffer`: the buffer of all three; `safe_callable`: calls of the user's functions.
- `decorator_options`, `token_options`, `event_options`, `progress_options`: the options, checked.
"""

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
