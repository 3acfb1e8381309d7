"""The vocabulary: what an update is, which types there are, and where in an execution it stands."""

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
    "validate_scope",
]

Kind = Literal["token", "progress", "status", "event"]
"""What clients usually subscribe by; every type belongs to exactly one kind."""

Priority = Literal["low", "medium", "high", "critical"]

Delivery = Literal["at-most-once", "at-least-once", "exactly-once"]
"""What may happen to an update before it is in the log; once there, all updates are alike.

``at-most-once``: under pressure (a rate limit, a full buffer before a log that is slow or away) it may be dropped;
that is counted, and it is never tried again. ``at-least-once``: never dropped by choice; its append is tried until
it works. ``exactly-once``: the same, and it has a key: a second update of the execution with that key is left out
as long as the log keeps the first.
"""

PRIORITIES: Final[tuple[Priority, ...]] = ("low", "medium", "high", "critical")


class StreamEventType(StrEnum):
    """The canonical types. Any other name is allowed too and counts as an ``event``."""

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
    """A whole message: ``{role, content}``."""
    LOG = "log"
    """A line for people: ``{level, message}``."""
    DEBUG = "debug"
    CUSTOM = "custom"
    ERROR = "error"
    METADATA = "metadata"
    NODE_START = "node_start"
    NODE_COMPLETE = "node_complete"
    NODE_ERROR = "node_error"
    NODE_INTERRUPTED = "node_interrupted"
    NODE_CACHED = "node_cached"
    """LangGraph answered a node from its cache: the node did not run."""
    TOOL_START = "tool_start"
    TOOL_COMPLETE = "tool_complete"
    TOOL_ERROR = "tool_error"
    TOOL_INTERRUPTED = "tool_interrupted"
    """A tool paused for a human; it starts again when the run resumes."""
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
    """A producer had to give up updates before they reached the log; ``data`` is ``{count, reason}``."""
    GAP = "gap"
    """Made for one reader, never kept in the log: updates it asked for are gone; ``data`` is ``{from, to, reason}``."""


FINAL_TYPES: Final[frozenset[str]] = frozenset(
    {"workflow_complete", "workflow_error", "workflow_cancelled", "workflow_abandoned"}
)
"""The types that end a run. Exactly one of them ends each run, and nothing of that run follows it."""

HUB_TYPES: Final = FINAL_TYPES | {"workflow_start", "gap"}
"""The types that only the hub itself may write."""

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
    """The kind a type belongs to: ``token``, ``progress``, ``status``, or ``event`` for every other name."""
    return KINDS.get(type, "event")


_HIGH: Final = frozenset(
    {"workflow_start", "workflow_interrupted", "node_interrupted", "human_prompt", "human_response", "updates_lost"}
)


@functools.lru_cache(maxsize=1_024)
def priority_of(type: str) -> Priority:
    """The priority of an update whose publisher names none, in an execution that has none of its own.

    ``high``: every type that ends with ``error``, the start, end and interruption of a run, an interrupted node,
    prompts to a human and their answers, ``updates_lost``. ``low``: ``debug`` and ``debug:…``. ``medium``: all
    others. Nothing is ``critical`` unless its publisher or its execution says so.
    """
    if type in _HIGH or type in FINAL_TYPES or type.endswith("error"):
        return "high"
    return "low" if is_debug(type) else "medium"


def clamp_priority(own: Priority, usual: Priority) -> Priority:
    """The priority of an update whose type has ``own``, in an execution whose priority is ``usual``.

    What is ``medium`` has the execution's; what is ``high`` is not below the rest of a ``critical`` execution.
    """
    if own == "medium":
        return usual
    return "critical" if own == "high" and usual == "critical" else own


def is_debug(type: str) -> bool:
    """Whether a type is ``debug`` or begins with ``debug:``."""
    return type == "debug" or type.startswith("debug:")


def parse_priority(value: str) -> Priority:
    """``value`` as a priority; ``normal`` is read as ``medium``.

    Raises:
        BadRequestError: It is not one of ``low``, ``medium``, ``high``, ``critical``.
    """
    if value == "normal":
        return "medium"
    if value in PRIORITIES:
        return value
    raise BadRequestError(f"{value!r} is not a priority: use one of {', '.join(PRIORITIES)}")


def run_metadata(value: object) -> dict[str, Any]:
    """Return a copy of the metadata that a program gives a run; empty for None.

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
    """A checkpoint namespace as the names of its nodes, from the outermost inwards, with ``/`` between.

    ``agent:<task id>|model:<task id>`` gives ``agent/model``. A part of digits alone, with which LangGraph counts the
    calls of one subgraph, is left out, as LangGraph itself does.
    """
    parts = namespace.replace("/", "|").split("|")
    return "/".join(name for part in parts if not part.isdigit() and (name := part.partition(":")[0]))


_EXECUTION_ID_LENGTH: Final = 256

ROOM_PREFIX: Final = "room:"
"""How the id of an execution begins that is a room of the gateway."""


def check_execution_id(value: object) -> str:
    """``value`` if it can name an execution: 1 to 256 printable characters without spaces, and neither `.` nor `..`.

    Raises:
        BadRequestError: It cannot.
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


_POSITION = re.compile(r"([0-9A-Za-z_-]{1,32}):([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """Where in an execution a reader stands: it has everything up to and including ``seq``.

    A number alone would not do: when a log has lost its data, numbers start again, and a reader that
    came back with an old number would silently be given the wrong updates. The epoch tells the two apart.
    """

    epoch: str
    """Names one life of the log of this execution."""
    seq: int
    """The sequence number of the last update the reader has; 0 is the very start."""

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: object) -> Self:
        """Reads ``"<epoch>:<seq>"``.

        Raises:
            BadPositionError: ``text`` is not of that form.
        """
        match = _POSITION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise BadPositionError(f"{text!r:.80} is not a position: a position looks like '<epoch>:<seq>'")
        return cls(match[1], int(match[2]))


RESERVED: Final = frozenset({"timestamp", "sequence_number", "execution_id", "epoch", "priority", "merged_from"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an update is about. One scope serves many updates, so its JSON is made once and kept.

    ``None`` means not known, and is left out of the JSON.
    """

    run_id: str | None = None
    node_id: str | None = None
    namespace: str | None = None
    """LangGraph's checkpoint namespace: tells parallel ``Send`` branches of one node apart."""
    attempt: int | None = None
    """1 for a node's first try; readers start a node's text afresh when it rises."""
    agent_type: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    tool_call_id: str | None = None
    message_id: str | None = None
    category: str | None = None
    traceparent: str | None = None
    """On the update that starts a run or a node which is traced: its span, as W3C Trace Context says it."""
    extra: Mapping[str, Any] | None = None
    """The user's own metadata; keys of the fields above and of the log's own fields are passed over."""
    encoded: bytes | None = field(default=None, init=False, repr=False, compare=False)
    """Its `fragment`, once that was made."""

    def derive(self, **changes: Any) -> Self:
        """The same scope with some fields changed."""
        return replace(self, **changes)

    @property
    def fragment(self) -> bytes:
        """The set fields as JSON members, each with a comma before it: ``,"node_id":"write"``."""
        if self.encoded is None:
            members = {name: value for name in NAMES if (value := getattr(self, name)) is not None}
            own = {str(k): v for k, v in (self.extra or {}).items() if k not in RESERVED and k not in NAMES}
            encoded = to_json(members | own)
            object.__setattr__(self, "encoded", b"," + encoded[1:-1] if len(encoded) > len(b"{}") else b"")
        return self.encoded or b""


NAMES: Final = tuple(f.name for f in fields(Scope) if f.name not in {"extra", "encoded"})

_SCOPE_FIELDS: Final = frozenset({*NAMES, "extra"}) - {"run_id"}


def validate_scope(fields: Mapping[str, object]) -> None:
    """Sees that a program may set these fields of a scope; which run it is, the hub knows.

    Raises:
        BadRequestError: It has not.
    """
    if not fields.keys() <= _SCOPE_FIELDS:
        unknown = ", ".join(sorted(fields.keys() - _SCOPE_FIELDS))
        fields_there_are = ", ".join(name for name in NAMES if name in _SCOPE_FIELDS)
        raise BadRequestError(
            f"{unknown} cannot be set of a scope: there are {fields_there_are}, and extra={{…}} for keys of your own"
        )


NO_SCOPE: Final = Scope()
"""About the execution as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamMetadata:
    """Where and when an update was, and what it is about. ``None`` means not known, and is left out of the JSON."""

    timestamp: datetime
    """When it was published, in UTC."""
    sequence_number: int
    """1, 2, 3 … without holes within an execution and epoch."""
    execution_id: str
    epoch: str
    scope: Scope = field(default_factory=Scope)
    """What it is about; each of its fields is also an attribute here."""
    priority: Priority = "medium"
    merged_from: int | None = None
    """The first sequence number of several updates that were merged into this one for a reader that asked for it."""

    @property
    def run_id(self) -> str | None:
        """The run of the execution."""
        return self.scope.run_id

    @property
    def node_id(self) -> str | None:
        """The node."""
        return self.scope.node_id

    @property
    def namespace(self) -> str | None:
        """LangGraph's checkpoint namespace: tells parallel ``Send`` branches of one node apart."""
        return self.scope.namespace

    @property
    def attempt(self) -> int | None:
        """1 for a node's first try; readers start a node's text afresh when it rises."""
        return self.scope.attempt

    @property
    def agent_type(self) -> str | None:
        """The kind of agent."""
        return self.scope.agent_type

    @property
    def task_id(self) -> str | None:
        """The task."""
        return self.scope.task_id

    @property
    def request_id(self) -> str | None:
        """The request to a model."""
        return self.scope.request_id

    @property
    def tool_call_id(self) -> str | None:
        """The tool call."""
        return self.scope.tool_call_id

    @property
    def message_id(self) -> str | None:
        """The message whose text this is a part of."""
        return self.scope.message_id

    @property
    def category(self) -> str | None:
        """A free word to filter by."""
        return self.scope.category

    @property
    def traceparent(self) -> str | None:
        """The span of the run or the node that this update starts, as W3C Trace Context says it."""
        return self.scope.traceparent

    @property
    def extra(self) -> Mapping[str, Any]:
        """The user's own keys. They can never replace one of the names above."""
        return self.scope.extra or {}

    def to_dict(self) -> dict[str, Any]:
        """Return the wire's object: the fields that are known, in the wire's order."""
        own = {str(key): value for key, value in self.extra.items() if key not in RESERVED and key not in NAMES}
        last = {"sequence_number": self.sequence_number, "epoch": self.epoch}
        return {
            "timestamp": format_timestamp(self.timestamp),
            "execution_id": self.execution_id,
            **({} if self.priority == "medium" else {"priority": self.priority}),
            **{name: value for name in NAMES if (value := getattr(self.scope, name)) is not None},
            **own,
            **last,
            **({} if self.merged_from is None else {"merged_from": self.merged_from}),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamUpdate:
    """One thing that happened: what every reader gets, on every wire.

    ``data`` holds plain JSON values: what a reader in another process would see, so an observer can
    neither see nor change the graph's own objects through it.
    """

    type: str
    data: Any
    metadata: StreamMetadata

    @property
    def kind(self) -> Kind:
        """``token``, ``progress``, ``status`` or ``event``."""
        return kind_of(self.type)

    @property
    def position(self) -> Position:
        """Where a reader stands that has this update; resume with ``after=update.position``."""
        return Position(self.metadata.epoch, self.metadata.sequence_number)

    @property
    def is_final(self) -> bool:
        """Whether this update ends its run."""
        return self.type in FINAL_TYPES

    @property
    def text(self) -> str:
        """The text of a ``token`` update; empty for every other type, ``thinking`` too."""
        content: object = cast("dict[str, object]", self.data).get("content") if isinstance(self.data, dict) else None
        return content if self.type == "token" and isinstance(content, str) else ""

    @property
    def timestamp(self) -> datetime:
        """When it was published, in UTC."""
        return self.metadata.timestamp

    @property
    def sequence_number(self) -> int:
        """1, 2, 3 … without holes within an execution and epoch."""
        return self.metadata.sequence_number

    @property
    def seq(self) -> int:
        """The same, as in `Position`."""
        return self.metadata.sequence_number

    @property
    def execution_id(self) -> str:
        """The execution."""
        return self.metadata.execution_id

    @property
    def priority(self) -> Priority:
        """``low``, ``medium``, ``high`` or ``critical``."""
        return self.metadata.priority

    @property
    def run_id(self) -> str | None:
        """The run of the execution."""
        return self.metadata.scope.run_id

    @property
    def node_id(self) -> str | None:
        """The node."""
        return self.metadata.scope.node_id

    @property
    def namespace(self) -> str | None:
        """LangGraph's checkpoint namespace: tells parallel ``Send`` branches of one node apart."""
        return self.metadata.scope.namespace

    @property
    def attempt(self) -> int | None:
        """1 for a node's first try; readers start a node's text afresh when it rises."""
        return self.metadata.scope.attempt

    @property
    def agent_type(self) -> str | None:
        """The agent's name."""
        return self.metadata.scope.agent_type

    @property
    def task_id(self) -> str | None:
        """The task."""
        return self.metadata.scope.task_id

    @property
    def request_id(self) -> str | None:
        """The request to a model."""
        return self.metadata.scope.request_id

    @property
    def tool_call_id(self) -> str | None:
        """The tool call inside which it arose."""
        return self.metadata.scope.tool_call_id

    @property
    def message_id(self) -> str | None:
        """The message whose text this is a part of."""
        return self.metadata.scope.message_id

    @property
    def category(self) -> str | None:
        """A free word to filter by."""
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
    """The ``timestamp`` of the wire as an aware datetime in UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


def format_timestamp(moment: datetime) -> str:
    """``moment`` as the ``timestamp`` of the wire: UTC, whole milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_NAMED: Final = RESERVED.union(NAMES)


def parse_update(update: Mapping[str, Any]) -> StreamUpdate:
    """The update that parsed JSON describes. Raises ``ValueError``, ``KeyError`` or ``TypeError`` when it is none."""
    metadata: dict[str, Any] = update["metadata"]
    own = {key: value for key, value in metadata.items() if key not in _NAMED}
    return StreamUpdate(
        type=update["type"],
        data=update["data"],
        metadata=StreamMetadata(
            timestamp=parse_timestamp(metadata["timestamp"]),
            sequence_number=metadata["sequence_number"],
            execution_id=metadata["execution_id"],
            epoch=metadata["epoch"],
            scope=Scope(**{name: metadata[name] for name in NAMES if name in metadata}, extra=own or None),
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
