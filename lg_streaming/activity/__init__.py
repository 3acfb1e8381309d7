"""Tasks, agents, and requests to models, published step by step."""

from lg_streaming.activity.agent import AgentStream, CaptureOptions
from lg_streaming.activity.handler import AgentLogHandler
from lg_streaming.activity.llm import LLMStream
from lg_streaming.activity.output import Output, OutputStream
from lg_streaming.activity.providers import LLMErrorType
from lg_streaming.activity.registry import Agents, Tasks
from lg_streaming.activity.request import LLMRequest
from lg_streaming.activity.states import (
    AgentState,
    AgentStatus,
    LLMRequestState,
    LLMRequestStatus,
    LogLevel,
    TaskState,
    TaskStatus,
)
from lg_streaming.activity.task import IntermediateType, TaskStream

__all__ = [
    "AgentLogHandler",
    "AgentState",
    "AgentStatus",
    "AgentStream",
    "Agents",
    "CaptureOptions",
    "IntermediateType",
    "LLMErrorType",
    "LLMRequest",
    "LLMRequestState",
    "LLMRequestStatus",
    "LLMStream",
    "LogLevel",
    "Output",
    "OutputStream",
    "TaskState",
    "TaskStatus",
    "TaskStream",
    "Tasks",
]
