"""The decorators: they mark a node with options, and nothing else."""

from lg_streaming.decorators.all import stream_all
from lg_streaming.decorators.event import stream_event
from lg_streaming.decorators.marking import streaming_options
from lg_streaming.decorators.progress import stream_progress
from lg_streaming.decorators.token import stream_token

__all__ = ["stream_all", "stream_event", "stream_progress", "stream_token", "streaming_options"]
