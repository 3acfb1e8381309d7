"""What the ``data`` of the canonical update types looks like.

These describe; nothing is checked against them on the way out. Types that are not listed, and a user's own,
hold whatever was published. The data of `source_documents`, `used_tools` and `artifacts` is a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["PAYLOADS"]


class Payload(BaseModel):
    """The ``data`` of an update; more fields may stand beside those that are named."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


class TokenData(Payload):
    """``token``, ``thinking``: joined in order, the contents of one message are the model's text."""

    content: str
    index: int | None = None
    role: str | None = None
    total_tokens: int | None = None
    message_id: str | None = None
    part: int | None = None
    """Of a piece too large for one update: which part of it this is, from 1."""
    parts: int | None = None
    """How many parts that piece has."""


class ProgressData(Payload):
    """``progress``."""

    progress: float
    """0 to 100."""
    current: float | None = None
    total: float | None = None
    eta_s: float | None = None
    rate: float | None = None
    elapsed_s: float | None = None
    status: str | None = None
    text: str | None = None


class MilestoneData(Payload):
    """``milestone``."""

    milestone: float | str
    progress: float | None = None


class WorkflowProgressData(Payload):
    """``workflow_progress``."""

    total_nodes: int
    completed_nodes: int
    current_node: str | None = None
    current_node_name: str | None = None
    progress: float
    eta_s: float | None = None


class MessageData(Payload):
    """``message``: a whole message."""

    role: str
    content: Any
    created_at: str | None = None
    item: Any = None


class LogData(Payload):
    """``log``: a line for people."""

    level: str
    message: str
    context: dict[str, Any] | None = None


class StatusData(Payload):
    """``status``."""

    status: str


class CustomData(Payload):
    """``custom``: an event of the program's own."""

    name: str
    data: Any = None


class Interruption(Payload):
    """One question of a run that waits for a human."""

    id: str | None = None
    value: Any = None
    """What the program asks; whatever it gave to ``interrupt``."""
    namespace: str | None = None
    """Where it asks."""


class Parent(Payload):
    """Where a run was started: the execution, its run, and the node and the call of a tool in it."""

    execution_id: str
    run_id: str | None = None
    node_id: str | None = None
    tool_call_id: str | None = None


class WorkflowData(Payload):
    """``workflow_start`` and what ends or interrupts a run."""

    run_id: str | None = None
    """At the start."""
    name: str | None = None
    metadata: dict[str, Any] | None = None
    result: Any = None
    """At a good end."""
    error: Any = None
    reason: str | None = None
    """Why it was cancelled or given up."""
    interrupts: list[Interruption] | None = None
    """What a human is asked, where the run was interrupted."""
    parent: Parent | None = None
    """Where a run was started that was started inside of another execution."""


class NodeData(Payload):
    """``node_start``, ``node_complete``, ``node_error``, ``node_interrupted``, ``node_cached``."""

    node_id: str
    node_name: str | None = None
    result: Any = None
    duration_s: float | None = None
    error: Any = None


class ToolData(Payload):
    """``tool_start``, ``tool_complete``, ``tool_error``, ``tool_interrupted``, ``tool_args``."""

    tool: str | None = None
    tool_call_id: str | None = None
    input: Any = None
    output: Any = None
    duration_s: float | None = None
    error: Any = None
    interrupts: list[Interruption] | None = None
    """What a human is asked, where the tool has paused."""


class ModelCallData(Payload):
    """``llm_start``, ``llm_complete``, ``llm_error``."""

    model: str | None = None
    provider: str | None = None
    response: str | None = None
    response_truncated: bool | None = None
    error_type: str | None = None
    code: int | str | None = None
    will_retry: bool | None = None
    retry_attempt: int | None = None
    duration_s: float | None = None
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    answers: int | None = None
    """How many answers the call has, where there is more than one; the first is published."""
    cancelled: bool | None = None
    """True where the call was cancelled, or its reader stopped; its text counts."""
    replaces: list[str] | None = None
    """Ids under which pieces of this message left before its own was known."""
    error: Any = None


class UsageData(Payload):
    """``usage``."""

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None
    """In a currency of the program's own."""


class ErrorData(Payload):
    """``error``."""

    message: str
    type: str | None = None
    code: int | str | None = None
    option: str | None = None
    """The decorator's option whose function failed."""
    node_id: str | None = None


class HumanPromptData(Payload):
    """``human_prompt``."""

    prompt_id: str
    prompt: str
    type: Literal["approval", "input", "choice", "confirmation"]
    choices: list[Any] | None = None
    timeout_s: float | None = None
    required: bool | None = None
    metadata: dict[str, Any] | None = None


class HumanResponseData(Payload):
    """``human_response``."""

    prompt_id: str
    response: Any


class TaskData(Payload):
    """``task:…``: what each step adds is in the guide to tasks."""

    task_id: str
    status: Literal["pending", "queued", "assigned", "running", "completed", "failed", "cancelled"]
    name: str | None = None
    description: str | None = None
    priority: Literal["low", "medium", "high", "critical"] | None = None
    agent_id: str | None = None
    dependencies: list[str] | None = None
    progress: float | None = None
    current_step: str | None = None
    current_step_number: int | None = None
    total_steps: int | None = None
    eta_s: float | None = None
    data: Any = None
    type: str | None = None
    """Of the task, or in ``task:intermediate`` one of ``partial``, ``checkpoint``, ``artifact``."""
    sequence: int | None = None
    is_final: bool | None = None
    metrics: dict[str, float] | None = None
    metadata: dict[str, Any] | None = None
    result: Any = None
    error: Any = None
    reason: str | None = None
    waited_s: float | None = None
    duration_s: float | None = None


class AgentData(Payload):
    """``agent:…``: what each step adds is in the guide to agents."""

    agent_id: str
    status: Literal["idle", "busy", "paused", "stopped", "error"] | None = None
    agent_type: str | None = None
    name: str | None = None
    task_id: str | None = None
    content: str | None = None
    level: Literal["debug", "info", "warn", "error", "fatal"] | None = None
    message: str | None = None
    logger: str | None = None
    context: dict[str, Any] | None = None
    exception: Any = None
    metrics: dict[str, float] | None = None
    healthy: bool | None = None
    score: float | None = None
    issues: list[str] | None = None
    last_check: str | None = None
    metadata: dict[str, Any] | None = None
    error: Any = None
    reason: str | None = None
    uptime_s: float | None = None


_TASK_STEPS: Final = (
    "created",
    "queued",
    "assigned",
    "started",
    "progress",
    "intermediate",
    "metrics",
    "completed",
    "failed",
    "cancelled",
)
_AGENT_STEPS: Final = (
    "spawned",
    "started",
    "paused",
    "error",
    "stopped",
    "output:stdout",
    "output:stderr",
    "log:debug",
    "log:info",
    "log:warn",
    "log:error",
    "log:fatal",
    "metrics",
    "health",
)

PAYLOADS: Final[Mapping[str, type[Payload]]] = MappingProxyType(
    {
        **dict.fromkeys(("token", "thinking"), TokenData),
        "progress": ProgressData,
        "milestone": MilestoneData,
        "workflow_progress": WorkflowProgressData,
        **dict.fromkeys(("node_start", "node_complete", "node_error", "node_interrupted", "node_cached"), NodeData),
        **dict.fromkeys(("tool_start", "tool_complete", "tool_error", "tool_interrupted", "tool_args"), ToolData),
        **dict.fromkeys(("llm_start", "llm_complete", "llm_error"), ModelCallData),
        **dict.fromkeys(
            (
                "workflow_start",
                "workflow_complete",
                "workflow_error",
                "workflow_cancelled",
                "workflow_abandoned",
                "workflow_interrupted",
            ),
            WorkflowData,
        ),
        "message": MessageData,
        "log": LogData,
        "status": StatusData,
        "custom": CustomData,
        "usage": UsageData,
        "error": ErrorData,
        "human_prompt": HumanPromptData,
        "human_response": HumanResponseData,
        **{f"task:{step}": TaskData for step in _TASK_STEPS},
        **{f"agent:{step}": AgentData for step in _AGENT_STEPS},
    }
)
"""The shape of ``data``, by update type."""
