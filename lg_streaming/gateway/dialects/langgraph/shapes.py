"""Data of the modes that describe tasks, checkpoints, tools and events of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.gateway.session.session import format_time

if TYPE_CHECKING:
    from lg_streaming.log.base import StoredUpdate

__all__ = [
    "chain_event",
    "checkpoint_of",
    "custom_of",
    "debug_of",
    "end_error",
    "interrupts_of",
    "model_event",
    "task_end",
    "task_start",
    "tool_of",
]

Json = dict[str, Any]

_OWN_PROGRESS: Final = frozenset({"started", "completed", "failed", "interrupted"})
_EVENTS: Final = {
    "node_start": "on_chain_start",
    "node_complete": "on_chain_end",
    "tool_start": "on_tool_start",
    "tool_complete": "on_tool_end",
    "tool_error": "on_tool_error",
}
_TOOLS: Final = {"tool_start": "input", "tool_complete": "output", "tool_error": "error"}
"""Field of a ``tools`` frame that has the data of an update, by its type."""
_HIDDEN: Final = frozenset(
    {
        "human_prompt",
        "human_response",
        "input_injected",
        "metadata",
        "messages",
        "node_cached",
        "status",
        "tool_interrupted",
        "usage",
        "values",
        "workflow_progress",
    }
)
"""Types that no mode shows, or that another one shows."""


def task_id_of(namespace: str | None) -> str:
    """Return the id of the task of a node."""
    return (namespace or "").rpartition("|")[2].partition(":")[2]


def task_start(record: StoredUpdate, data: Mapping[str, Any]) -> Json:
    """Return the start of a task."""
    return {
        "id": task_id_of(record.scope.namespace),
        "name": data.get("node_name") or record.scope.node_id,
        "input": None,
        "triggers": [],
        "metadata": {},
    }


def task_end(record: StoredUpdate, data: Mapping[str, Any]) -> Json:
    """Return the end of a task."""
    return {
        "id": task_id_of(record.scope.namespace),
        "name": data.get("node_name") or record.scope.node_id,
        "error": error_text(data.get("error")) if record.type == "node_error" else None,
        "result": data.get("result"),
        "interrupts": interrupts_of(data),
    }


def error_text(error: object) -> str:
    """Return an error as a text such as ``ValueError('boom')``."""
    if not isinstance(error, Mapping):
        return str(error)
    fields = cast("Mapping[str, Any]", error)
    return f"{fields.get('type') or 'Error'}({fields.get('message')!r})"


def error_of(data: Mapping[str, Any], default: str) -> Json:
    """Return the data of an ``error`` frame."""
    error = data.get("error")
    if isinstance(error, Mapping):
        fields = cast("Mapping[str, Any]", error)
        return {"error": fields.get("type") or "Error", "message": str(fields.get("message") or default)}
    return {"error": "Error", "message": str(error or data.get("reason") or default)}


def end_error(type: str, data: Mapping[str, Any]) -> Json | None:
    """Return the error of a run's end; None for an end without one."""
    if type == "workflow_error":
        return error_of(data, "the graph failed")
    if type == "workflow_abandoned":
        return {"error": "Abandoned", "message": str(data.get("reason") or "the process was lost")}
    return None


def interrupts_of(data: Mapping[str, Any]) -> list[Json]:
    """Return interrupts, as clients know them."""
    interrupts = cast("list[Mapping[str, Any]]", data.get("interrupts") or [])
    return [
        {
            "id": each.get("id"),
            "value": each.get("value"),
            **({"response_schema": each["schema"]} if each.get("schema") is not None else {}),
        }
        for each in interrupts
    ]


def checkpoint_of(thread_id: str, namespace: str, data: Mapping[str, Any], values: object) -> Json:
    """Return the data of a ``checkpoints`` frame."""

    def config(checkpoint_id: object) -> Json | None:
        if checkpoint_id is None:
            return None
        return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}

    following: list[Any] = data.get("next") or []
    return {
        "config": config(data.get("checkpoint_id")),
        "metadata": {"source": data.get("source"), "step": data.get("step"), "parents": {}},
        "values": values,
        "next": following,
        "parent_config": config(data.get("parent_checkpoint_id")),
        "tasks": [{"id": None, "name": each, "interrupts": [], "state": None} for each in following],
    }


def debug_of(type: str, step: object, timestamp: float, payload: object) -> Json:
    """Return the data of a ``debug`` frame."""
    return {"type": type, "step": step, "timestamp": format_time(timestamp), "payload": payload}


def tool_of(record: StoredUpdate, data: Mapping[str, Any]) -> Json | None:
    """Return the data of a ``tools`` frame; None for an update without one."""
    field = _TOOLS.get(record.type)
    if field is None:
        return None
    return {
        "event": _EVENTS[record.type],
        "toolCallId": data.get("tool_call_id") or record.scope.tool_call_id,
        "name": data.get("tool"),
        field: data.get(field),
    }


def _event(record: StoredUpdate, event: str, name: object, data: Json) -> Json:
    scope = record.scope
    return {
        "event": event,
        "name": name,
        "run_id": scope.request_id or scope.tool_call_id or task_id_of(scope.namespace) or scope.run_id,
        "tags": [],
        "metadata": {"langgraph_node": scope.node_id, "langgraph_checkpoint_ns": scope.namespace},
        "parent_ids": [],
        "data": data,
    }


def chain_event(record: StoredUpdate, data: Mapping[str, Any]) -> Json | None:
    """Return the event of a node or a tool; None for an update without one."""
    event = _EVENTS.get(record.type)
    if event is None:
        return None
    if record.type.startswith("node"):
        shown = {"output": data.get("result")} if record.type == "node_complete" else {"input": None}
        return _event(record, event, data.get("node_name") or record.scope.node_id, shown)
    names = {"tool_start": "input", "tool_complete": "output", "tool_error": "error"}
    return _event(record, event, data.get("tool"), {names[record.type]: data.get(names[record.type])})


def model_event(record: StoredUpdate, event: str, name: object, data: Json) -> Json:
    """Return an event of a call of a model."""
    return _event(record, event, name, data)


def custom_of(record: StoredUpdate, data: object) -> tuple[bool, object]:
    """Return whether an update is custom data, and the data."""
    type = record.type  # noqa: A001 (the field's name)
    if type == "custom" and isinstance(data, Mapping):
        return True, cast("Mapping[str, Any]", data).get("data")
    if type in _HIDDEN or type.startswith(("workflow_", "node_", "llm_", "tool_")):
        return False, None
    fields = cast("Mapping[str, Any]", data) if isinstance(data, Mapping) else {"data": data}
    if type == "progress" and fields.get("status") in _OWN_PROGRESS:
        return False, None
    return True, {**fields, "type": type}
