"""Parts of updates, as the events of a thread have them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.codec import decode_data
from lg_streaming.values import escape_line_separators

if TYPE_CHECKING:
    from lg_streaming.gateway.dialects.langgraph.channels import Namespace
    from lg_streaming.log.base import StoredUpdate

__all__ = [
    "FIRST_SLOT",
    "Place",
    "as_list",
    "as_text",
    "data_of",
    "epoch_number",
    "error_text",
    "graph_name",
    "interrupt_of",
    "members",
    "node_name",
    "parse_event_id",
    "place_of",
    "returned",
    "to_json",
]

FIRST_SLOT: Final = 10
"""Number of an update's first event in it, after the starts of a run and of graphs."""
_MOST_DIGITS: Final = 16
"""Digits of the numbers that JavaScript holds exactly."""


def to_json(value: object) -> bytes:
    """Encode a value as JSON on one line, also for readers that split at other line separators."""
    json = orjson.dumps(value)
    return json if json.isascii() else escape_line_separators(json)


def epoch_number(epoch: str) -> int:
    """Return a number for an epoch, for ids of two numbers."""
    return zlib.crc32(epoch.encode())


def parse_event_id(text: str) -> tuple[int | None, int] | None:
    """Return the epoch's number and the event's number in an id; of a bare number only that. None if it is neither."""
    epoch, dash, number = text.rpartition(":")[2].rpartition("-")
    if not _is_number(number) or (dash and not _is_number(epoch)):
        return None
    return (int(epoch) if dash else None), int(number)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


@dataclass(frozen=True, slots=True)
class Place:
    """Node of an update, and the graph that has the node."""

    graph: Namespace
    """Namespace of the graph."""
    json: bytes
    """The same, as JSON."""
    key: str
    """The same, as LangGraph writes it."""
    own: Namespace
    """Namespace of the node itself."""
    task_id: str


def place_of(namespace: str | None) -> Place:
    """Return the place of a node's namespace."""
    own = tuple(namespace.split("|")) if namespace else ()
    graph, task = own[:-1], own[-1] if own else ""
    return Place(graph, to_json(graph), "|".join(graph), own, task.partition(":")[2] or task)


def data_of(record: StoredUpdate) -> Any:
    """Return the data of an update."""
    if record.scope.extra is None and record.merged_from is None:
        return decode_data(record.json)
    return record.update.data


def members(data: object) -> dict[str, Any]:
    """Return an object's members; none of any other value."""
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return a list; an empty one for any other value."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return a text; an empty one for any other value."""
    return value if isinstance(value, str) else ""


def graph_name(namespace: Namespace) -> str:
    """Return the name of the node that called a graph."""
    named = next((part for part in reversed(namespace) if not part.isdigit()), "")
    return named.partition(":")[0]


def node_name(record: StoredUpdate, data: object) -> str:
    """Return the name of an update's node."""
    return as_text(members(data).get("node_name")) or record.scope.node_id or ""


def error_text(data: object, default: str) -> str:
    """Return the message of an error in an update's data."""
    fields = members(data)
    error: object = fields.get("error", fields)
    text = members(error).get("message") or error
    return as_text(text) or as_text(fields.get("reason")) or default


def interrupt_of(value: object) -> dict[str, Any]:
    """Return an interrupt as clients have it."""
    fields = members(value)
    return {"id": fields.get("id"), "value": fields.get("value")}


def returned(result: object) -> object:
    """Return a node's state update: of a `Command`, its update, and of a list of them, all updates."""
    if isinstance(result, list):
        updates = [returned(each) for each in cast("list[object]", result)]
        return updates[0] if len(updates) == 1 else updates
    fields = members(result)
    return fields["update"] if fields.keys() >= {"graph", "update", "goto"} else result
