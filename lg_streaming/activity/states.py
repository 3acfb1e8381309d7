"""States of tasks, agents and requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from lg_streaming.events import Priority

__all__ = ["AgentState", "AgentStatus", "LLMRequestState", "LLMRequestStatus", "LogLevel", "TaskState", "TaskStatus"]

TaskStatus = Literal["pending", "queued", "assigned", "running", "completed", "failed", "cancelled"]

LLMRequestStatus = Literal["running", "retrying", "completed", "failed"]

AgentStatus = Literal["idle", "busy", "paused", "stopped", "error"]

LogLevel = Literal["debug", "info", "warn", "error", "fatal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """The state of a task after all its steps. Immutable."""

    task_id: str
    status: TaskStatus | None = None
    """None until its first update."""
    name: str | None = None
    description: str | None = None
    type: str | None = None
    priority: Priority = "medium"
    agent_id: str | None = None
    dependencies: tuple[str, ...] = ()
    """Ids of tasks that come before it. They are published; nothing waits for them."""
    metadata: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The last progress, published or held."""
    metrics: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The last value of each metric."""
    intermediate_results: int = 0
    """Number of intermediate results."""
    result: Any = None
    error: Mapping[str, Any] | None = None
    reason: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


_NO_METRICS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "tasks_completed": 0,
        "tasks_failed": 0,
        "avg_execution_s": 0,
        "cpu_percent": 0,
        "memory_bytes": 0,
        "total_tokens": 0,
        "total_cost": 0,
        "uptime_s": 0,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """The state of an agent after all its steps. Immutable."""

    agent_id: str
    agent_type: str | None = None
    name: str | None = None
    status: AgentStatus | None = None
    """None until its first update."""
    task_id: str | None = None
    """The task it works on, or worked on last."""
    metadata: Mapping[str, Any] | None = None
    metrics: Mapping[str, float] = field(default_factory=lambda: _NO_METRICS)
    """The last value of each metric, published or held."""
    health: Mapping[str, Any] = field(default_factory=dict[str, Any])
    error: Mapping[str, Any] | None = None
    """The last error."""
    spawned_at: datetime | None = None
    stopped_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMRequestState:
    """The state of a request after all its steps. Immutable."""

    request_id: str
    status: LLMRequestStatus = "running"
    model: str | None = None
    provider: str | None = None
    agent_id: str | None = None
    task_id: str | None = None
    tokens: int = 0
    """Pieces of text of the present attempt."""
    usage: Mapping[str, Any] = field(default_factory=dict[str, Any])
    tool_calls: Mapping[str, str] = field(default_factory=dict[str, str])
    """Tools that were called in the present attempt, by the id of the call."""
    finish_reason: str | None = None
    failures: int = 0
    """Attempts that failed."""
    error: Mapping[str, Any] | None = None
    """The error of the last failed attempt."""
    started_at: datetime
    ended_at: datetime | None = None
