"""Aliases of update types, as other systems name them: accepted in filters, never published."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["ALIASES"]

_WORKFLOW: Final = (
    "workflow_start",
    "workflow_complete",
    "workflow_error",
    "workflow_cancelled",
    "workflow_interrupted",
)
_NODE: Final = ("node_start", "node_complete", "node_error")
_TOOL_RESULT: Final = ("tool_complete", "tool_error")

ALIASES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        # spelled with a colon
        "workflow:start": ("workflow_start",),
        "workflow:end": ("workflow_complete",),
        "workflow:complete": ("workflow_complete",),
        "workflow:error": ("workflow_error",),
        "workflow:cancelled": ("workflow_cancelled",),
        "workflow:progress": ("workflow_progress",),
        "node:start": ("node_start",),
        "node:end": ("node_complete",),
        "node:complete": ("node_complete",),
        "node:error": ("node_error",),
        "tool:start": ("tool_start",),
        "tool:end": ("tool_complete",),
        "tool:complete": ("tool_complete",),
        "tool:error": ("tool_error",),
        "tool:call": ("tool_start",),
        "tool:result": _TOOL_RESULT,
        "llm:start": ("llm_start",),
        "llm:end": ("llm_complete",),
        "llm:error": ("llm_error",),
        "llm:request:started": ("llm_start",),
        "llm:token": ("token",),
        "llm:tool:call": ("tool_args", "tool_start"),
        "llm:tool:result": _TOOL_RESULT,
        "llm:usage": ("usage",),
        "llm:request:completed": ("llm_complete",),
        "llm:request:error": ("llm_error",),
        # in one word
        "workflowStart": ("workflow_start",),
        "workflowEnd": ("workflow_complete",),
        "workflowError": ("workflow_error",),
        "workflowProgress": ("workflow_progress",),
        "nodeStart": ("node_start",),
        "nodeEnd": ("node_complete",),
        "nodeError": ("node_error",),
        "toolCall": ("tool_start",),
        "toolResult": ("tool_complete",),
        "toolError": ("tool_error",),
        "humanPrompt": ("human_prompt",),
        "humanResponse": ("human_response",),
        "sourceDocuments": ("source_documents",),
        "usedTools": ("used_tools",),
        "calledTools": ("tool_start",),
        "usageMetadata": ("usage",),
        "agentFlowEvent": _WORKFLOW,
        "nextAgentFlow": _NODE,
        # ends in another word
        "workflow_end": ("workflow_complete",),
        "node_end": ("node_complete",),
        "tool_end": ("tool_complete",),
        "tool_call": ("tool_start",),
        "tool_result": _TOOL_RESULT,
        "tool_call_request": ("tool_start",),
        "tool_result_emission": _TOOL_RESULT,
        "text_delta": ("token",),
        "system_progress": ("progress",),
        "final_response": ("llm_complete",),
        "metadata_update": ("metadata",),
        "workflow_update": ("workflow_progress",),
        "final": ("workflow_complete",),
        "complete": ("workflow_complete",),
    }
)
"""Canonical types, by alias. Types such as ``task:…`` and ``agent:…`` need none."""
