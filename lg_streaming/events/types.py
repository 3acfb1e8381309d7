"""Types of updates, with the kind and the priority of each."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal

from lg_streaming.errors import BadRequestError

__all__ = [
    "FINAL_TYPES",
    "HUB_TYPES",
    "KINDS",
    "PRIORITIES",
    "Delivery",
    "Kind",
    "Priority",
    "StreamEventType",
    "clamp_priority",
    "is_debug",
    "kind_of",
    "parse_priority",
    "priority_of",
]

Kind = Literal["token", "progress", "status", "event"]
"""Coarse class of updates, to subscribe by; every type belongs to exactly one kind."""

Priority = Literal["low", "medium", "high", "critical"]

Delivery = Literal["at-most-once", "at-least-once", "exactly-once"]
"""Guarantee for an update until it is in the log; in the log, all updates are alike.

``at-most-once``: under back-pressure (a rate limit, a full buffer) the update may be dropped, which is counted; its
append is never retried. ``at-least-once``: its append is retried until it succeeds. ``exactly-once``: the same, and
the log skips a second update of the execution with the same key while it keeps the first.
"""

PRIORITIES: Final[tuple[Priority, ...]] = ("low", "medium", "high", "critical")


class StreamEventType(StrEnum):
    """Canonical types of updates. Any other name is allowed too and is of kind ``event``."""

    TOKEN = "token"
    THINKING = "thinking"
    PROGRESS = "progress"
    MILESTONE = "milestone"
    WORKFLOW_PROGRESS = "workflow_progress"
    STATUS = "status"
    WORKFLOW_START = "workflow_start"
    WORKFLOW_COMPLETE = "workflow_complete"
    WORKFLOW_ERROR = "workflow_error"
    WORKFLOW_CANCELLED = "workflow_cancelled"
    WORKFLOW_INTERRUPTED = "workflow_interrupted"
    WORKFLOW_ABANDONED = "workflow_abandoned"
    VALUES = "values"
    """State with which a node was called."""
    UPDATES = "updates"
    """Update of the state that a node returned: ``{node_id: update}``."""
    EVENTS = "events"
    """Event of LangChain that a program publishes."""
    MESSAGES = "messages"
    MESSAGE = "message"
    """Whole message: ``{role, content}``."""
    LOG = "log"
    """Log line for people: ``{level, message}``."""
    DEBUG = "debug"
    """Facts for the search for errors, with the lowest priority."""
    CUSTOM = "custom"
    ERROR = "error"
    METADATA = "metadata"
    """Further facts about the run."""
    NODE_START = "node_start"
    NODE_COMPLETE = "node_complete"
    NODE_ERROR = "node_error"
    NODE_INTERRUPTED = "node_interrupted"
    NODE_CACHED = "node_cached"
    """Node that LangGraph answered from its cache: the node did not run."""
    TOOL_START = "tool_start"
    TOOL_COMPLETE = "tool_complete"
    TOOL_ERROR = "tool_error"
    TOOL_INTERRUPTED = "tool_interrupted"
    """Tool that paused for a human; it starts again when the run resumes."""
    TOOL_ARGS = "tool_args"
    LLM_START = "llm_start"
    LLM_COMPLETE = "llm_complete"
    LLM_ERROR = "llm_error"
    USAGE = "usage"
    HUMAN_PROMPT = "human_prompt"
    HUMAN_RESPONSE = "human_response"
    INPUT_INJECTED = "input_injected"
    """Update of a run's state that came from outside: ``{values, as_node?}``."""
    STATE = "state"
    """State of a run's graph after a step: ``{values?, next?, checkpoint_id?, …}``."""
    SOURCE_DOCUMENTS = "source_documents"
    USED_TOOLS = "used_tools"
    ARTIFACTS = "artifacts"
    UPDATES_LOST = "updates_lost"
    """Updates that a producer dropped before they reached the log; ``data`` is ``{count, reason}``."""
    GAP = "gap"
    """Missing updates of a reader's range; made for one reader, never in the log. ``data``: ``{from, to, reason}``."""


FINAL_TYPES: Final[frozenset[str]] = frozenset(
    {"workflow_complete", "workflow_error", "workflow_cancelled", "workflow_abandoned"}
)
"""Types that end a run. Exactly one of them ends each run, and no update of that run follows it."""

HUB_TYPES: Final = FINAL_TYPES | {"workflow_start", "gap"}
"""Types that only the hub may publish."""

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "token": "token",
        "thinking": "token",
        "progress": "progress",
        "milestone": "progress",
        "workflow_progress": "progress",
        "status": "status",
        "workflow_start": "status",
        "workflow_complete": "status",
        "workflow_error": "status",
        "workflow_cancelled": "status",
        "workflow_interrupted": "status",
        "workflow_abandoned": "status",
    }
)


def kind_of(type: str) -> Kind:
    """Return the kind of a type: ``token``, ``progress``, ``status``, or ``event`` for every other name."""
    return KINDS.get(type, "event")


_HIGH: Final = frozenset(
    {
        "workflow_start",
        "workflow_interrupted",
        "node_interrupted",
        "human_prompt",
        "human_response",
        "input_injected",
        "updates_lost",
    }
)


@functools.lru_cache(maxsize=1_024)
def priority_of(type: str) -> Priority:
    """Return the priority of an update for which neither its publisher nor its execution sets one.

    - ``high``: types that end with ``error``; the start, end and interruption of a run; an interrupted node.
      Also prompts to a human, their answers and injected inputs; ``updates_lost``.
    - ``low``: ``debug`` and ``debug:…``.
    - ``medium``: all others. Only a publisher or an execution sets ``critical``.
    """
    if type in _HIGH or type in FINAL_TYPES or type.endswith("error"):
        return "high"
    return "low" if is_debug(type) else "medium"


def clamp_priority(priority: Priority, default: Priority) -> Priority:
    """Return the priority of an update whose type has ``priority``, in an execution with the priority ``default``.

    ``medium`` becomes the execution's priority; ``high`` becomes ``critical`` in a ``critical`` execution.
    """
    if priority == "medium":
        return default
    return "critical" if priority == "high" and default == "critical" else priority


def is_debug(type: str) -> bool:
    """Return whether a type is ``debug`` or begins with ``debug:``."""
    return type == "debug" or type.startswith("debug:")


def parse_priority(value: str) -> Priority:
    """Return ``value`` as a priority; ``normal`` is an alias of ``medium``.

    Raises:
        BadRequestError: If it is not one of ``low``, ``medium``, ``high``, ``critical``.
    """
    if value == "normal":
        return "medium"
    if value in PRIORITIES:
        return value
    raise BadRequestError(f"{value!r} is not a priority: use one of {', '.join(PRIORITIES)}")
