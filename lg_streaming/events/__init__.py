"""Updates, their types, kinds and priorities, their scope, and positions in an execution.

- `types`: types, with their kinds and priorities; `updates`: updates with their metadata, and their JSON.
- `scope`: the run, node and message that updates are about; `positions`: the position of a reader.
- `executions`: ids of executions and rooms.
"""

from lg_streaming.events.executions import ROOM_PREFIX, check_execution_id, room_execution, run_metadata
from lg_streaming.events.positions import Position
from lg_streaming.events.scope import NAMES, NO_SCOPE, RESERVED, Scope, node_path, validate_scope
from lg_streaming.events.types import (
    FINAL_TYPES,
    HUB_TYPES,
    KINDS,
    PRIORITIES,
    Delivery,
    Kind,
    Priority,
    StreamEventType,
    clamp_priority,
    is_debug,
    kind_of,
    parse_priority,
    priority_of,
)
from lg_streaming.events.updates import StreamMetadata, StreamUpdate, format_timestamp, parse_timestamp, parse_update

__all__ = [
    "FINAL_TYPES",
    "HUB_TYPES",
    "KINDS",
    "NAMES",
    "NO_SCOPE",
    "PRIORITIES",
    "RESERVED",
    "ROOM_PREFIX",
    "Delivery",
    "Kind",
    "Position",
    "Priority",
    "Scope",
    "StreamEventType",
    "StreamMetadata",
    "StreamUpdate",
    "check_execution_id",
    "clamp_priority",
    "format_timestamp",
    "is_debug",
    "kind_of",
    "node_path",
    "parse_priority",
    "parse_timestamp",
    "parse_update",
    "priority_of",
    "room_execution",
    "run_metadata",
    "validate_scope",
]
