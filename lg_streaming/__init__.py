"""Stream LangGraph runs: live, in order, resumable.

The names below are the public interface; everything else is reached through them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from lg_streaming.activity import Agents, AgentStream, LLMStream, Tasks, TaskStream
    from lg_streaming.decorators import stream_all, stream_event, stream_progress, stream_token, streaming_options
    from lg_streaming.emitter import Emitter, current_emitter
    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position, StreamEventType, StreamMetadata, StreamUpdate
    from lg_streaming.filters import UpdateFilter
    from lg_streaming.gateway import Grant, Principal, ai_sdk_response, sse_response
    from lg_streaming.hub import Attachment, SendPolicy, Sink, StreamHub, Subscription
    from lg_streaming.log import EventLog, MemoryLog
    from lg_streaming.module import StreamingModule
    from lg_streaming.pipeline import ProgressTracker, current_progress
    from lg_streaming.runs import human_prompt, human_prompt_sync
    from lg_streaming.settings import StreamingSettings
    from lg_streaming.texts import MessageText, TextAssembly

__version__ = "0.1.0"

__all__ = [
    "AgentStream",
    "Agents",
    "Attachment",
    "Emitter",
    "EventLog",
    "Grant",
    "LLMStream",
    "MemoryLog",
    "MessageText",
    "Position",
    "Principal",
    "ProgressTracker",
    "SendPolicy",
    "Sink",
    "StreamEventType",
    "StreamHub",
    "StreamMetadata",
    "StreamUpdate",
    "StreamingError",
    "StreamingModule",
    "StreamingSettings",
    "Subscription",
    "TaskStream",
    "Tasks",
    "TextAssembly",
    "UpdateFilter",
    "ai_sdk_response",
    "current_emitter",
    "current_progress",
    "human_prompt",
    "human_prompt_sync",
    "sse_response",
    "stream_all",
    "stream_event",
    "stream_progress",
    "stream_token",
    "streaming_options",
]

# Names are imported on first use: a client needs neither LangGraph nor FastAPI, a worker no server.
_HOME: Final = {
    "AgentStream": "activity",
    "Agents": "activity",
    "Attachment": "hub",
    "Emitter": "emitter",
    "EventLog": "log",
    "Grant": "gateway",
    "LLMStream": "activity",
    "MemoryLog": "log",
    "MessageText": "texts",
    "Position": "events",
    "Principal": "gateway",
    "ProgressTracker": "pipeline",
    "SendPolicy": "hub",
    "Sink": "hub",
    "StreamEventType": "events",
    "StreamHub": "hub",
    "StreamMetadata": "events",
    "StreamUpdate": "events",
    "StreamingError": "errors",
    "StreamingModule": "module",
    "StreamingSettings": "settings",
    "Subscription": "hub",
    "TaskStream": "activity",
    "Tasks": "activity",
    "TextAssembly": "texts",
    "UpdateFilter": "filters",
    "ai_sdk_response": "gateway",
    "current_emitter": "emitter",
    "current_progress": "pipeline",
    "human_prompt": "runs",
    "human_prompt_sync": "runs",
    "sse_response": "gateway",
    "stream_all": "decorators",
    "stream_event": "decorators",
    "stream_progress": "decorators",
    "stream_token": "decorators",
    "streaming_options": "decorators",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
