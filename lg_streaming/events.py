"""Updates, their types, kinds and priorities, their scope, and positions in an execution."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal, Self, cast

import orjson

from lg_streaming.errors import BadPositionError, BadRequestError
from lg_streaming.values import to_json

__all__ = [
    "FINAL_TYPES",
    "NO_SCOPE",
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
    "kind_of",
    "node_path",
    "parse_priority",
    "priority_of",
    "room_execution",
    "validate_scope",
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
    UPDATES = "updates"
    EVENTS = "events"
    MESSAGES = "messages"
    MESSAGE = "message"
    """Whole message: ``{role, content}``."""
    LOG = "log"
    """Log line for people: ``{level, message}``."""
    DEBUG = "debug"
    CUSTOM = "custom"
    ERROR = "error"
    METADATA = "metadata"
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
    {"workflow_start", "workflow_interrupted", "node_interrupted", "human_prompt", "human_response", "updates_lost"}
)


@functools.lru_cache(maxsize=1_024)
def priority_of(type: str) -> Priority:
    """Return the priority of an update for which neither its publisher nor its execution sets one.

    - ``high``: types that end with ``error``; the start, end and interruption of a run; an interrupted node; prompts to
      a human and their answers; ``updates_lost``.
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


def run_metadata(value: object) -> dict[str, Any]:
    """Return a copy of the metadata of a new run; empty for None.

    Raises:
        BadRequestError: If it is no mapping.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BadRequestError(f"metadata is a mapping, such as {{'topic': 'rain'}}, not {value!r:.80}")
    return dict(cast("Mapping[str, Any]", value))


@functools.lru_cache(maxsize=4_096)
def node_path(namespace: str) -> str:
    """Return a checkpoint namespace as the names of its nodes, from the outermost inwards, joined by ``/``.

    ``agent:<task id>|model:<task id>`` gives ``agent/model``. Parts of digits, which count the calls of one subgraph,
    are left out, as LangGraph itself does.
    """
    parts = namespace.replace("/", "|").split("|")
    return "/".join(name for part in parts if not part.isdigit() and (name := part.partition(":")[0]))


_EXECUTION_ID_LENGTH: Final = 256

ROOM_PREFIX: Final = "room:"
"""Prefix of the execution ids of the gateway's rooms."""


def check_execution_id(value: object) -> str:
    """Return ``value`` if it is a valid execution id.

    An id has 1 to 256 printable characters without spaces, and is neither `.` nor `..`.

    Raises:
        BadRequestError: If ``value`` is no such id.
    """
    if not isinstance(value, str):
        raise BadRequestError(f"an execution id is a string, not {type(value).__name__}")
    if not value:
        raise BadRequestError("the execution id is required and may not be empty")
    if len(value) > _EXECUTION_ID_LENGTH:
        raise BadRequestError(f"an execution id has at most {_EXECUTION_ID_LENGTH} characters, this one {len(value)}")
    if not value.isprintable() or " " in value:
        raise BadRequestError(f"an execution id holds printable characters only, and no spaces, not {value!r:.80}")
    if value in {".", ".."}:
        raise BadRequestError("an execution id that is '.' or '..' would lead elsewhere in an address")
    return value


def room_execution(room_id: str) -> str:
    """Return the id of the execution that a room is.

    Raises:
        BadRequestError: If the id cannot name a room: 1 to 251 printable characters without spaces.
    """
    check_execution_id(room_id)
    return check_execution_id(ROOM_PREFIX + room_id)


_POSITION = re.compile(r"([0-9A-Za-z_-]{1,32}):([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Position of a reader in an execution: it has every update up to and including ``seq``.

    When a log has lost its data, its numbers start again. The epoch changes then, so that a reader that resumes with
    an old number does not silently get the wrong updates.
    """

    epoch: str
    """Name of one life of the execution's log."""
    seq: int
    """Sequence number of the last update that the reader has; 0 is the very start."""

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Parse ``"<epoch>:<seq>"``.

        Raises:
            BadPositionError: If ``text`` is not of that form.
        """
        match = _POSITION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise BadPositionError(f"{text!r:.80} is not a position: a position looks like '<epoch>:<seq>'")
        return cls(match[1], int(match[2]))


RESERVED: Final = frozenset({"timestamp", "sequence_number", "execution_id", "epoch", "priority", "merged_from"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Subject of updates: run, node, agent, message and so on. Many updates share one scope, and its cached JSON.

    Fields with ``None`` are unknown, and left out of the JSON.
    """

    run_id: str | None = None
    node_id: str | None = None
    namespace: str | None = None
    """LangGraph's checkpoint namespace; it distinguishes parallel ``Send`` branches of one node."""
    attempt: int | None = None
    """1 for a node's first attempt; when it rises, readers discard the node's text."""
    agent_type: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    tool_call_id: str | None = None
    message_id: str | None = None
    category: str | None = None
    traceparent: str | None = None
    """Span of a traced run or node, on the update that starts it, in the format of W3C Trace Context."""
    extra: Mapping[str, Any] | None = None
    """User-defined metadata; keys of the fields above and of the log's fields are ignored."""
    encoded: bytes | None = field(default=None, init=False, repr=False, compare=False)
    """Cached `fragment`."""

    def derive(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    @property
    def fragment(self) -> bytes:
        """Set fields as JSON members, each with a comma before it: ``,"node_id":"write"``."""
        if self.encoded is None:
            members = {name: value for name in NAMES if (value := getattr(self, name)) is not None}
            encoded = to_json(members | self.user_metadata)
            object.__setattr__(self, "encoded", b"," + encoded[1:-1] if len(encoded) > len(b"{}") else b"")
        return self.encoded or b""

    @property
    def user_metadata(self) -> dict[str, Any]:
        """`extra` with text keys, without reserved ones."""
        return {str(key): value for key, value in (self.extra or {}).items() if key not in METADATA_NAMES}


NAMES: Final = tuple(f.name for f in fields(Scope) if f.name not in {"extra", "encoded"})
"""Fields of a scope, in the wire's order."""

METADATA_NAMES: Final = RESERVED.union(NAMES)
"""Names in an update's metadata that no user-defined key may have."""

_SCOPE_FIELDS: Final = frozenset({*NAMES, "extra"}) - {"run_id"}


def validate_scope(fields: Mapping[str, object]) -> None:
    """Check that a program may set these fields of a scope. The hub assigns `run_id`.

    Raises:
        BadRequestError: If a field is unknown or is `run_id`.
    """
    if not fields.keys() <= _SCOPE_FIELDS:
        unknown = ", ".join(sorted(fields.keys() - _SCOPE_FIELDS))
        allowed = ", ".join(name for name in NAMES if name in _SCOPE_FIELDS)
        raise BadRequestError(
            f"{unknown} cannot be set of a scope: there are {allowed}, and extra={{…}} for keys of your own"
        )


NO_SCOPE: Final = Scope()
"""Scope of updates about the execution as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMetadata:
    """Time, position, scope and priority of an update. ``None`` means unknown, and is left out of the JSON."""

    timestamp: datetime
    """Time of publication, in UTC."""
    sequence_number: int
    """Number 1, 2, 3 … without holes within an execution and epoch."""
    execution_id: str
    epoch: str
    scope: Scope = field(default_factory=Scope)
    """Subject of the update; each of its fields is also an attribute here."""
    priority: Priority = "medium"
    merged_from: int | None = None
    """First sequence number of the updates that were merged into this one, for a reader that asked for merging."""

    @property
    def run_id(self) -> str | None:
        """Run of the execution."""
        return self.scope.run_id

    @property
    def node_id(self) -> str | None:
        """Node of the graph."""
        return self.scope.node_id

    @property
    def namespace(self) -> str | None:
        """LangGraph's checkpoint namespace; it distinguishes parallel ``Send`` branches of one node."""
        return self.scope.namespace

    @property
    def attempt(self) -> int | None:
        """1 for a node's first attempt; when it rises, readers discard the node's text."""
        return self.scope.attempt

    @property
    def agent_type(self) -> str | None:
        """Agent, by its name."""
        return self.scope.agent_type

    @property
    def task_id(self) -> str | None:
        """Task."""
        return self.scope.task_id

    @property
    def request_id(self) -> str | None:
        """Request to a model."""
        return self.scope.request_id

    @property
    def tool_call_id(self) -> str | None:
        """Tool call inside which the update was made."""
        return self.scope.tool_call_id

    @property
    def message_id(self) -> str | None:
        """Message of whose text this is a part."""
        return self.scope.message_id

    @property
    def category(self) -> str | None:
        """Free word to filter by."""
        return self.scope.category

    @property
    def traceparent(self) -> str | None:
        """Span of the run or the node that this update starts, in the format of W3C Trace Context."""
        return self.scope.traceparent

    @property
    def extra(self) -> Mapping[str, Any]:
        """User-defined keys. They never replace one of the names above."""
        return self.scope.extra or {}

    def to_dict(self) -> dict[str, Any]:
        """Return the wire's object: the fields that are not None, in the wire's order."""
        return {
            "timestamp": format_timestamp(self.timestamp),
            "execution_id": self.execution_id,
            **({} if self.priority == "medium" else {"priority": self.priority}),
            **{name: value for name in NAMES if (value := getattr(self.scope, name)) is not None},
            **self.scope.user_metadata,
            "sequence_number": self.sequence_number,
            "epoch": self.epoch,
            **({} if self.merged_from is None else {"merged_from": self.merged_from}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamUpdate:
    """Update of an execution, the same for every reader on every transport.

    ``data`` holds plain JSON values, as a reader in another process gets them. An observer can neither see nor change
    the graph's objects through them.
    """

    type: str
    data: Any
    metadata: StreamMetadata

    @property
    def kind(self) -> Kind:
        """Kind of the type: ``token``, ``progress``, ``status`` or ``event``."""
        return kind_of(self.type)

    @property
    def position(self) -> Position:
        """Position of a reader that has this update; resume with ``after=update.position``."""
        return Position(self.metadata.epoch, self.metadata.sequence_number)

    @property
    def is_final(self) -> bool:
        """True if this update ends its run."""
        return self.type in FINAL_TYPES

    @property
    def text(self) -> str:
        """Text of a ``token`` update; empty for every other type, ``thinking`` too."""
        content: object = cast("dict[str, object]", self.data).get("content") if isinstance(self.data, dict) else None
        return content if self.type == "token" and isinstance(content, str) else ""

    @property
    def timestamp(self) -> datetime:
        """Time of publication, in UTC."""
        return self.metadata.timestamp

    @property
    def sequence_number(self) -> int:
        """Number 1, 2, 3 … without holes within an execution and epoch."""
        return self.metadata.sequence_number

    @property
    def seq(self) -> int:
        """Sequence number, under its name in `Position`."""
        return self.metadata.sequence_number

    @property
    def execution_id(self) -> str:
        """Execution that the update belongs to."""
        return self.metadata.execution_id

    @property
    def priority(self) -> Priority:
        """Priority: ``low``, ``medium``, ``high`` or ``critical``."""
        return self.metadata.priority

    @property
    def run_id(self) -> str | None:
        """Run of the execution."""
        return self.metadata.scope.run_id

    @property
    def node_id(self) -> str | None:
        """Node of the graph."""
        return self.metadata.scope.node_id

    @property
    def namespace(self) -> str | None:
        """LangGraph's checkpoint namespace; it distinguishes parallel ``Send`` branches of one node."""
        return self.metadata.scope.namespace

    @property
    def attempt(self) -> int | None:
        """1 for a node's first attempt; when it rises, readers discard the node's text."""
        return self.metadata.scope.attempt

    @property
    def agent_type(self) -> str | None:
        """Agent, by its name."""
        return self.metadata.scope.agent_type

    @property
    def task_id(self) -> str | None:
        """Task."""
        return self.metadata.scope.task_id

    @property
    def request_id(self) -> str | None:
        """Request to a model."""
        return self.metadata.scope.request_id

    @property
    def tool_call_id(self) -> str | None:
        """Tool call inside which the update was made."""
        return self.metadata.scope.tool_call_id

    @property
    def message_id(self) -> str | None:
        """Message of whose text this is a part."""
        return self.metadata.scope.message_id

    @property
    def category(self) -> str | None:
        """Free word to filter by."""
        return self.metadata.scope.category

    def to_dict(self) -> dict[str, Any]:
        """Return the wire's object: ``{type, data, metadata}``, as every transport sends it.

        The ``data`` in it is the update's own, not a copy.
        """
        return {"type": self.type, "data": self.data, "metadata": self.metadata.to_dict()}

    def to_json(self) -> str:
        """Return the wire's JSON, byte for byte what an event stream sends as ``data``. Never raises."""
        return to_json(self.to_dict()).decode()

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> StreamUpdate:
        """Read the wire's object: what `to_dict` returns, or a parsed message of any transport.

        Raises:
            BadRequestError: If ``value`` holds no update; the message names the field.
        """
        _check_update(value)
        try:
            return parse_update(value)
        except ValueError as error:
            raise BadRequestError(f"not an update: metadata.timestamp is a time in ISO 8601: {error}") from error

    @classmethod
    def from_json(cls, text: str | bytes) -> StreamUpdate:
        """Read the wire's JSON: what `to_json` returns, a line of a JSONL sink, the ``data`` of an event stream.

        Raises:
            BadRequestError: If ``text`` is not JSON, or holds no update.
        """
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise BadRequestError(f"not an update: {text!r:.80} is not JSON ({error})") from error
        return cls.from_dict(value)


def parse_timestamp(text: str) -> datetime:
    """Return a ``timestamp`` of the wire as an aware datetime in UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def format_timestamp(moment: datetime) -> str:
    """Return ``moment`` as a ``timestamp`` of the wire: UTC, whole milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_update(update: Mapping[str, Any]) -> StreamUpdate:
    """Return the update that parsed JSON describes, or raise ``ValueError``, ``KeyError`` or ``TypeError``."""
    metadata: dict[str, Any] = update["metadata"]
    extra = {key: value for key, value in metadata.items() if key not in METADATA_NAMES}
    return StreamUpdate(
        type=update["type"],
        data=update["data"],
        metadata=StreamMetadata(
            timestamp=parse_timestamp(metadata["timestamp"]),
            sequence_number=metadata["sequence_number"],
            execution_id=metadata["execution_id"],
            epoch=metadata["epoch"],
            scope=Scope(**{name: metadata[name] for name in NAMES if name in metadata}, extra=extra or None),
            priority=metadata.get("priority", "medium"),
            merged_from=metadata.get("merged_from"),
        ),
    )


_TEXT: Final = (str,)
_REQUIRED: Final[Mapping[str, tuple[type, ...]]] = MappingProxyType(
    {"timestamp": _TEXT, "sequence_number": (int,), "execution_id": _TEXT, "epoch": _TEXT}
)
_OPTIONAL: Final[Mapping[str, tuple[type, ...]]] = MappingProxyType(
    dict.fromkeys(NAMES, _TEXT) | {"attempt": (int,), "merged_from": (int,)}
)


def _check_update(value: object) -> None:
    """Check the shape of the wire's object.

    Raises:
        BadRequestError: If it has another shape.
    """
    update = _object("an update", value)
    if not isinstance(update.get("type"), str):
        raise BadRequestError(f"not an update: type is a string, not {update.get('type')!r:.80}")
    if "data" not in update:
        raise BadRequestError("not an update: data is missing")
    metadata = _object("metadata", update.get("metadata"))
    for name, types in (*_REQUIRED.items(), *((name, _OPTIONAL[name]) for name in _OPTIONAL if name in metadata)):
        found = metadata.get(name)
        if type(found) not in types:
            kind = "a string" if types is _TEXT else "a whole number"
            raise BadRequestError(f"not an update: metadata.{name} is {kind}, not {found!r:.80}")
    if metadata.get("priority", "medium") not in PRIORITIES:
        allowed = ", ".join(PRIORITIES)
        raise BadRequestError(f"not an update: metadata.priority is one of {allowed}, not {metadata['priority']!r:.80}")


def _object(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadRequestError(f"not an update: {name} is an object, not {value!r:.80}")
    return cast("Mapping[str, Any]", value)
