"""See what a LangGraph run does while it runs: live, in order, resumable.

The names below are the public interface; everything else is reached through them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lg_streaming.decorators import stream_all, stream_event, stream_progress, stream_token, streaming_options
from lg_streaming.emitter import Emitter, current_emitter
from lg_streaming.errors import StreamingError
from lg_streaming.events import Position, StreamEventType, StreamMetadata, StreamUpdate
from lg_streaming.filters import UpdateFilter
from lg_streaming.hub import StreamHub, Subscription
from lg_streaming.log import EventLog, MemoryLog
from lg_streaming.pipeline import ProgressTracker, current_progress
from lg_streaming.settings import StreamingSettings

if TYPE_CHECKING:
    from lg_streaming.gateway import sse_response
    from lg_streaming.module import StreamingModule

__version__ = "0.1.0"

__all__ = [
    "Emitter",
    "EventLog",
    "MemoryLog",
    "Position",
    "ProgressTracker",
    "StreamEventType",
    "StreamHub",
    "StreamMetadata",
    "StreamUpdate",
    "StreamingError",
    "StreamingModule",
    "StreamingSettings",
    "Subscription",
    "UpdateFilter",
    "current_emitter",
    "current_progress",
    "sse_response",
    "stream_all",
    "stream_event",
    "stream_progress",
    "stream_token",
    "streaming_options",
]


_LATE = {"StreamingModule": "lg_streaming.module", "sse_response": "lg_streaming.gateway"}


def __getattr__(name: str) -> Any:
    # these pull in FastAPI and Socket.IO, which a program without a server does not need
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
