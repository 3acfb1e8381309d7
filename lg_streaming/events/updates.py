"""Updates of an execution, and their form on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, cast

import orjson

from lg_streaming.errors import BadRequestError
from lg_streaming.events.positions import Position
from lg_streaming.events.scope import METADATA_NAMES, NAMES, Scope
from lg_streaming.events.types import FINAL_TYPES, PRIORITIES, Kind, Priority, kind_of
from lg_streaming.values import to_json

__all__ = ["StreamMetadata", "StreamUpdate", "format_timestamp", "parse_timestamp", "parse_update"]


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
