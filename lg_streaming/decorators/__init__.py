"""The decorators: they mark a node with options, and nothing else."""

from lg_streaming.decorators.all import stream_all
from lg_streaming.decorators.event import StreamEventOptions, stream_event
from lg_streaming.decorators.marking import streaming_options
from lg_streaming.decorators.plans import plan_of
from lg_streaming.decorators.progress import StreamProgressOptions, stream_progress
from lg_streaming.decorators.token import StreamTokenOptions, stream_token

__all__ = [
    "StreamEventOptions",
    "StreamProgressOptions",
    "StreamTokenOptions",
    "plan_of",
    "stream_all",
    "stream_event",
    "stream_progress",
    "stream_token",
    "streaming_options",
]
