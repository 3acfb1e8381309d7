"""An update as one line of text."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.events import node_path
from lg_streaming.folding.prompt_view import as_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["update_line"]

_MAX_DATA: Final = 2_000
_HIDDEN: Final = frozenset({"node_id", "node_name", "attempt", "index", "batch_size", "message_id", "role"})
"""Fields that repeat the metadata, or hold what only programs need."""


def update_line(update: Mapping[str, Any], *, with_execution: bool) -> str:
    """Return the time, the execution if asked for, the node, the type and the data of an update."""
    metadata, kind = as_mapping(update["metadata"]), str(update["type"])
    node = node_path(str(metadata.get("namespace") or "")) or str(metadata.get("node_id") or "-")
    execution = f"{metadata.get('execution_id')}  " if with_execution else ""
    data = _data_text(kind, update["data"])
    if len(data) > _MAX_DATA:
        data = f"{data[:_MAX_DATA]}…"
    return f"{_time(metadata)}  {execution}{node}  {kind}  {data}".rstrip()


def _time(metadata: Mapping[str, Any]) -> str:
    """Return the local time with milliseconds."""
    at = datetime.fromisoformat(str(metadata["timestamp"])).astimezone()
    return at.isoformat(timespec="milliseconds")[11:23]


def _data_text(kind: str, data: Any) -> str:
    if kind == "gap":
        gap = as_mapping(data)
        last = gap.get("to")
        which = f"updates from {gap.get('from')} on" if last is None else f"updates {gap.get('from')} to {last}"
        return f"{which} are missing ({gap.get('reason')})"
    fields = as_mapping(data)
    if kind in ("token", "thinking") and isinstance(fields.get("content"), str):
        return json.dumps(fields["content"], ensure_ascii=False)
    if not fields:
        return "" if data == {} else json.dumps(data, ensure_ascii=False)
    shown = {name: value for name, value in fields.items() if name not in _HIDDEN}
    return "  ".join(f"{name}={_value_text(value)}" for name, value in shown.items())


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value, ensure_ascii=False)
