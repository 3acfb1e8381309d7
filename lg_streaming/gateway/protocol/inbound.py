"""Messages from clients, as pydantic models.

Payloads are checked strictly: a field of the wrong type is refused, and so is an unknown field. Otherwise a reader with
a misspelt ``node_ids`` would silently receive all updates. Keys are snake_case; camelCase (``executionId``) is also
accepted.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from lg_streaming.errors import BadRequestError
from lg_streaming.events import Position, Priority, check_execution_id, room_execution
from lg_streaming.filters import FILTER_FIELDS, INTERRUPTED, UpdateFilter
from lg_streaming.types import OnGap

_GLOB_LETTERS: Final = 4_096


def _execution_id(value: str) -> str:
    try:
        return check_execution_id(value)
    except BadRequestError as error:
        raise PydanticCustomError("execution_id", "{reason}", {"reason": error.message}) from None


def _after(value: str) -> str:
    """Check the form only; a position that does not parse has a separate error code."""
    return value if value == "latest" else str(Position.parse(value))


def _moment(value: object) -> object:
    if not isinstance(value, str):
        raise PydanticCustomError("moment", "a time is a text such as '2026-11-20T20:00:00Z'")
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise PydanticCustomError("moment", "a time looks like '2026-11-20T20:00:00Z'") from None


def _end(value: object) -> object:
    if value == INTERRUPTED:
        return value
    moment = _moment(value)
    if isinstance(moment, datetime) and moment.tzinfo is None:
        raise PydanticCustomError("moment", "a time needs a time zone: '2026-11-20T20:00:00Z'")
    return moment


def _short_globs(values: list[str]) -> list[str]:
    """Bound the total size of globs, because each is matched against the id of every execution."""
    if sum(len(value) for value in values if "*" in value) > _GLOB_LETTERS:
        raise PydanticCustomError(
            "globs", "the globs have more than {limit} characters together", {"limit": _GLOB_LETTERS}
        )
    return values


def _room_id(value: str) -> str:
    try:
        room_execution(value)
    except BadRequestError as error:
        raise PydanticCustomError("room_id", "{reason}", {"reason": error.message}) from None
    return value


ExecutionId = Annotated[str, AfterValidator(_execution_id), Field(json_schema_extra={"minLength": 1, "maxLength": 256})]
Names = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=128)]
RoomId = Annotated[str, AfterValidator(_room_id), Field(json_schema_extra={"minLength": 1, "maxLength": 251})]
PromptId = Annotated[str, Field(min_length=1, max_length=256)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
Until = Annotated[datetime | Literal["interrupted"], BeforeValidator(_end)]
After = Annotated[str, AfterValidator(_after), Field(description="A position '<epoch>:<seq>', or 'latest'.")]


DialectName = Literal["flowise"]
"""Formats of event streams in addition to the library's own."""

EventName = Literal["kind", "type"]
"""Source of an update's event name: one of the four kinds, or its type."""


class Inbound(BaseModel):
    """A payload from a client."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        loc_by_alias=False,
    )


class FilterParams(Inbound):
    """Selection of updates, and their form."""

    events: Names | None = None
    """Kinds, types and globs such as ``task:*``; all when absent."""
    node_ids: Names | None = None
    """Nodes: names, and globs such as ``review*``."""
    agent_types: Names | None = None
    """Agents: names, and globs."""
    namespaces: Names | None = None
    """Globs over node paths such as ``supervisor/researcher``: ``*`` within a ``/`` segment, ``**`` across."""
    categories: Names | None = None
    min_priority: Priority | Literal["normal"] | None = None
    since: Moment | None = None
    """Updates at or after this time."""
    batch: bool = False
    """Updates come as lists, in ``updates`` messages."""
    event: EventName | None = None
    """The name of an update's event: its ``kind`` or its ``type``. Absent: the kind on Socket.IO and ``/ws``, the type
    on event streams."""

    def filter(self) -> UpdateFilter:
        """Return these conditions as a filter."""
        conditions = {name: getattr(self, name) for name in FILTER_FIELDS}
        if conditions["until"] == INTERRUPTED:
            del conditions["until"]
        return UpdateFilter.of(**conditions)


class SubscribeExecution(FilterParams):
    """``subscribe_execution``: watch one execution."""

    execution_id: ExecutionId
    until: Until | None = None
    """Updates at or before this time; ``interrupted``: the subscription ends when the run waits for a human."""
    after: After | None = None
    """Position to continue from; the oldest stored update when absent."""
    follow: bool = False
    """Stay after a run's final update."""
    on_gap: OnGap = "oldest"
    """Reaction to updates that are gone."""
    merge: bool = False
    """While the reader lags, token deltas of one message may come as one update, and progress as its newest."""

    @property
    def until_interrupted(self) -> bool:
        """Return whether reading ends when the run waits for a human."""
        return self.until == INTERRUPTED


class UnsubscribeExecution(Inbound):
    """``unsubscribe_execution``: stop watching it."""

    execution_id: ExecutionId


class SubscribeEvents(FilterParams):
    """``subscribe_events``: watch all executions the caller may see, from now on; replaces the one before."""

    executions: Annotated[Names, AfterValidator(_short_globs)] | None = None
    """Globs over execution ids: ``*`` within a ``/`` segment, ``**`` across; all when absent."""
    until: Moment | None = None
    """Updates at or before this time."""


class UnsubscribeEvents(Inbound):
    """``unsubscribe_events``: stop that; or, with ``events``, only with these."""

    events: Names | None = None


class RoomMessage(Inbound):
    """``join_room``, ``leave_room``."""

    room_id: RoomId


class Respond(Inbound):
    """``respond``: answer a ``human_prompt`` of the open run."""

    execution_id: ExecutionId
    prompt_id: PromptId
    response: Any
    """Any value that the prompt asks for."""


class CancelExecution(Inbound):
    """``cancel_execution``: end the open run."""

    execution_id: ExecutionId
    reason: Annotated[str, Field(max_length=1_000)] | None = None
    """Passed to the run and to its readers."""


class PauseExecution(Inbound):
    """``pause_execution``: pause the open run, after the nodes that are at work."""

    execution_id: ExecutionId
    reason: Annotated[str, Field(max_length=1_000)] | None = None
    """Passed to the run's readers."""


class ResumeExecution(Inbound):
    """``resume_execution``: continue a paused run."""

    execution_id: ExecutionId


class InjectInput(Inbound):
    """``inject_input``: update the state of the open run before its next step."""

    execution_id: ExecutionId
    input: Any
    """The update, as a node returns it."""
    as_node: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The node that seems to have made the update; the graph continues behind it."""


class StartConfig(Inbound):
    """Parts of a LangGraph config that a start may set. Other keys are refused."""

    configurable: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Values of keys that the graph declares."""
    recursion_limit: Annotated[int, Field(ge=1)] | None = None
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=64)] = Field(
        default_factory=list[str]
    )
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])


class StartExecution(Inbound):
    """``start_execution``: start a run of a registered graph."""

    graph: Annotated[str, Field(min_length=1, max_length=128)]
    """The name of the graph."""
    input: Any
    """The graph's input, or a part of its state."""
    execution_id: ExecutionId | None = None
    """The execution; a new one when absent."""
    thread_id: ExecutionId | None = None
    """LangGraph's thread; the execution's id when absent."""
    config: StartConfig | None = None
    context: Any = None
    """The graph's static context."""
    metadata: dict[str, Any] | None = None
    """Kept with the run, and sent with its ``workflow_start``."""
    if_running: Literal["reject", "enqueue", "cancel", "rollback"] = "reject"
    """Handling of an execution that has an open run."""
    on_disconnect: Literal["continue", "cancel"] = "continue"
    """``cancel``: the run is cancelled when all its readers have left."""
    deadline: Annotated[float, Field(gt=0)] | None = None
    """Seconds after which the run fails, with its waits."""
    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """A repeated start with the same key returns the run of the first one."""


class Authenticate(Inbound):
    """``authenticate``: a late login, or a fresh token of the same subject."""

    token: Annotated[str, Field(min_length=1)]


class Empty(Inbound):
    """The payload of messages that have none."""
