"""Shapes of the ``data`` of the canonical update types, for the OpenAPI document.

Published data is not checked against them. The data of other types is any JSON value.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from lg_streaming.types import GapReason

__all__ = ["PAYLOADS"]


class Payload(BaseModel):
    """Data of an update; it may have more fields than those that are named."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")


class TokenData(Payload):
    """Data of ``token`` and ``thinking``: joined in order, the contents of one message are the model's text."""

    content: str
    index: int | None = None
    role: str | None = None
    total_tokens: int | None = None
    message_id: str | None = None
    part: int | None = None
    """Number of this part, from 1, of a piece that is too large for one update."""
    parts: int | None = None
    """Number of parts of that piece."""


class ProgressData(Payload):
    """Data of ``progress``."""

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
    """Data of ``milestone``."""

    milestone: float | str
    progress: float | None = None


class WorkflowProgressData(Payload):
    """Data of ``workflow_progress``."""

    total_nodes: int
    completed_nodes: int
    current_node: str | None = None
    current_node_name: str | None = None
    progress: float
    eta_s: float | None = None


class MessageData(Payload):
    """Data of ``message``: a whole message."""

    role: str
    content: Any
    created_at: str | None = None
    item: Any = None


class MessagesData(Payload):
    """Data of ``messages``: the messages that a node returned."""

    messages: list[Any]


class ListData(RootModel[list[Any]]):
    """Data of ``source_documents``, ``used_tools`` and ``artifacts``: a list."""


class LogData(Payload):
    """Data of ``log``: a line for people."""

    level: str
    message: str
    context: dict[str, Any] | None = None


class StatusData(Payload):
    """Data of ``status``."""

    status: str


class CustomData(Payload):
    """Data of ``custom``: an event that a program defines."""

    name: str
    data: Any = None


class HumanPromptData(Payload):
    """Data of ``human_prompt``."""

    prompt_id: str
    """Id of LangGraph's interrupt, or one of the program's own."""
    prompt: str
    type: Literal["approval", "input", "choice", "confirmation"]
    choices: list[Any] | None = None
    timeout_s: float | None = None
    """Seconds after which it closes without an answer."""
    expires_at: float | None = None
    """Time of that, in seconds since 1970."""
    default: Any = None
    """Answer after the timeout."""
    required: bool | None = None
    """False: ``null`` is an answer too."""
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    """JSON Schema of the answer."""
    metadata: dict[str, Any] | None = None
    value: Any = None
    """Argument of ``interrupt``."""
    node_id: str | None = None
    namespace: str | None = None
    tool_call_id: str | None = None
    error: str | None = None
    """Reason why the node asks again."""


class HumanResponseData(Payload):
    """Data of ``human_response``."""

    prompt_id: str
    response: Any
    responded_by: str | None = None
    """The person who answered: the subject of the token."""
    timed_out: bool | None = None
    """True if there was no answer in time: the response is the default."""


class Interruption(Payload):
    """One question of a run that waits for a human."""

    id: str | None = None
    value: Any = None
    """Argument of ``interrupt``: the question."""
    namespace: str | None = None
    """LangGraph's checkpoint namespace of the node that asks."""
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    """JSON Schema of the answer."""


class Parent(Payload):
    """Place where a run was started: the execution, its run, and the node and the tool call in it."""

    execution_id: str
    run_id: str | None = None
    node_id: str | None = None
    tool_call_id: str | None = None


class ForkedFrom(Payload):
    """Execution and checkpoint from which a run goes on in a new execution."""

    execution_id: str
    checkpoint_id: str


class WorkflowData(Payload):
    """Data of ``workflow_start`` and of the types that end or interrupt a run."""

    run_id: str | None = None
    """Id of the run, at its start."""
    name: str | None = None
    graph: str | None = None
    """Name of the graph, at the start of a run."""
    title: str | None = None
    """First question of the run in one line, or the title in its metadata; at its start."""
    metadata: dict[str, Any] | None = None
    result: Any = None
    """Result, in ``workflow_complete``."""
    error: Any = None
    reason: str | None = None
    """Reason of a cancellation or an abandonment."""
    still_running: list[str] | None = None
    """Ids of the nodes that were still at work at a ``workflow_cancelled``, because they could not be stopped."""
    interrupts: list[Interruption] | None = None
    """Interrupts of the graph, in ``workflow_interrupted``."""
    prompts: list[HumanPromptData] | None = None
    """Open prompts, in ``workflow_interrupted``."""
    parent: Parent | None = None
    """Place of the start, if it is inside another execution."""
    thread_id: str | None = None
    """LangGraph's thread, at the start, where it is not the execution's id."""
    forked_from: ForkedFrom | None = None
    """Origin of a run that goes on from a checkpoint of another execution, at its start."""


class NodeData(Payload):
    """Data of ``node_start``, ``node_complete``, ``node_error``, ``node_interrupted`` and ``node_cached``."""

    node_id: str
    node_name: str | None = None
    result: Any = None
    duration_s: float | None = None
    error: Any = None
    attempt: int | None = None
    """Number of the try, from 1, in ``node_start`` and ``node_error``."""
    will_retry: bool | None = None
    """True if LangGraph's retry policy of the node makes another try, in ``node_error``."""
    input: Any = None
    """Input of the node, in ``node_error`` and with the setting ``debug``; up to 16 KiB of it."""


class ToolData(Payload):
    """Data of ``tool_start``, ``tool_complete``, ``tool_error``, ``tool_interrupted`` and ``tool_args``."""

    tool: str | None = None
    tool_call_id: str | None = None
    input: Any = None
    output: Any = None
    duration_s: float | None = None
    error: Any = None
    interrupts: list[Interruption] | None = None
    """Questions for a human, in ``tool_interrupted``."""


class ModelCallData(Payload):
    """Data of ``llm_start``, ``llm_complete`` and ``llm_error``."""

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
    """Number of answers of the call, if more than one; the first is published."""
    cancelled: bool | None = None
    """True if the call was cancelled, or its reader stopped; its text is valid."""
    replaces: list[str] | None = None
    """Ids under which pieces of this message were published before its id was known."""
    error: Any = None


class UsageData(Payload):
    """Data of ``usage``."""

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None
    """Cost, in a currency that the program chooses."""


class ErrorData(Payload):
    """Data of ``error``."""

    message: str
    type: str | None = None
    code: int | str | None = None
    option: str | None = None
    """Decorator option whose function failed."""
    node_id: str | None = None


class InputInjectedData(Payload):
    """Data of ``input_injected``."""

    values: Any
    as_node: str | None = None


class StateData(Payload):
    """Data of ``state``."""

    values: Any = None
    """State of the graph; absent if it is larger than ``runs.state_bytes``."""
    next: list[str] | None = None
    """Nodes of the next step."""
    checkpoint_id: str | None = None
    parent_checkpoint_id: str | None = None
    source: str | None = None
    """Origin of the checkpoint: ``input`` (the input waits to be applied), ``loop``, ``update`` or ``fork``."""
    step: int | None = None
    """Number of the step; -1 for the input."""


class UpdatesLostData(Payload):
    """Data of ``updates_lost``: updates that a producer dropped before they reached the log."""

    count: int
    reason: str


class GapData(Payload):
    """Data of ``gap``: updates that the log no longer keeps."""

    from_: int | None = Field(default=None, alias="from")
    to: int | None = None
    reason: GapReason


class TaskData(Payload):
    """Data of ``task:…``: the guide to tasks lists the fields that each step adds."""

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
    """Type of the task, or in ``task:intermediate`` one of ``partial``, ``checkpoint``, ``artifact``."""
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
    """Data of ``agent:…``: the guide to agents lists the fields that each step adds."""

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

PAYLOADS: Final[Mapping[str, type[BaseModel]]] = MappingProxyType(
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
        "messages": MessagesData,
        **dict.fromkeys(("source_documents", "used_tools", "artifacts"), ListData),
        "log": LogData,
        "status": StatusData,
        "custom": CustomData,
        "usage": UsageData,
        "error": ErrorData,
        "human_prompt": HumanPromptData,
        "human_response": HumanResponseData,
        "input_injected": InputInjectedData,
        "state": StateData,
        "updates_lost": UpdatesLostData,
        "gap": GapData,
        **{f"task:{step}": TaskData for step in _TASK_STEPS},
        **{f"agent:{step}": AgentData for step in _AGENT_STEPS},
    }
)
"""Shape of ``data``, by update type."""
