"""The shapes of the wire's messages, as pydantic models.

Inbound payloads are checked strictly: a field of the wrong type is refused, and so is a field nobody knows,
because a misspelt ``node_ids`` that was ignored would silently give the reader everything. Keys are
snake_case; camelCase (``executionId``) is accepted.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from lg_streaming.errors import BadRequestError
from lg_streaming.events import Position, Priority, check_execution_id
from lg_streaming.log.base import ExecutionState

PROTOCOL_VERSION: Final = 1


# ---------------------------------------------------------------- client to server
def _execution_id(value: str) -> str:
    try:
        return check_execution_id(value)
    except BadRequestError as error:
        raise PydanticCustomError("execution_id", "{reason}", {"reason": error.message}) from None


def _after(value: str) -> str:
    """Only the form is looked at here; a position that does not parse has an error code of its own."""
    return value if value == "latest" else str(Position.parse(value))


def _not_available(value: object) -> object:
    if value in (None, False):
        return value
    raise PydanticCustomError("not_available", "not available in this version: leave it out")


ExecutionId = Annotated[str, AfterValidator(_execution_id), Field(json_schema_extra={"minLength": 1, "maxLength": 256})]
Names = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=128)]
After = Annotated[str, AfterValidator(_after), Field(description="A position '<epoch>:<seq>', or 'latest'.")]


class Inbound(BaseModel):
    """A payload from a client."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        loc_by_alias=False,
    )


class SubscribeExecution(Inbound):
    """``subscribe_execution``: watch one execution."""

    execution_id: ExecutionId
    events: Names | None = None
    """Kinds, types and globs such as ``task:*``; all when absent."""
    node_ids: Names | None = None
    agent_types: Names | None = None
    categories: Names | None = None
    min_priority: Priority | Literal["normal"] | None = None
    after: After | None = None
    """Where to go on; from the start of what is kept when absent."""
    batch: bool = False
    """Updates come as lists, in ``updates`` messages."""
    follow: bool = False
    """Stay after a run's final update."""
    on_gap: Literal["oldest", "tail", "fail"] = "oldest"
    """Where to go on when updates are gone."""
    merge: Annotated[Literal[False] | None, BeforeValidator(_not_available)] = None
    delivery: Annotated[None, BeforeValidator(_not_available)] = None


class UnsubscribeExecution(Inbound):
    """``unsubscribe_execution``: stop watching it."""

    execution_id: ExecutionId


class Authenticate(Inbound):
    """``authenticate``: a fresh token of the same subject."""

    token: Annotated[str, Field(min_length=1)]


class Empty(Inbound):
    """The payload of messages that have none."""


# ---------------------------------------------------------------- answers
class Outbound(BaseModel):
    """What the server sends."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ErrorBody(Outbound):
    """An error, wherever it appears: in an answer, as an ``error`` message, as an HTTP body."""

    code: int
    name: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    execution_id: str | None = None


class Failure(Outbound):
    """The answer to a message that was refused."""

    ok: Literal[False] = False
    error: ErrorBody


class Ok(Outbound):
    """The answer to a message that was carried out."""

    ok: Literal[True] = True


class Subscribed(Ok):
    """The answer to ``subscribe_execution``."""

    execution_id: str
    state: ExecutionState | Literal["unknown"]
    position: str | None
    """The head: the position of the last update there is."""
    oldest: int | None
    """The first sequence number that is still kept."""
    recovered: bool
    """Whether everything after the asked position is there."""
    reason: Literal["evicted", "epoch_changed", "future_position"] | None = None


class Unsubscribed(Ok):
    """The answer to ``unsubscribe_execution``."""

    execution_id: str


class Authenticated(Ok):
    """The answer to ``authenticate``."""

    expires_in_s: float | None


class Pong(Ok):
    """The answer to ``ping``."""

    timestamp: str


class ConnectionFigures(Outbound):
    """This connection."""

    connection_id: str
    uptime_s: float
    subject: str | None = None
    expires_in_s: float | None = None


class SubscriptionFigures(Outbound):
    """One subscription of this connection."""

    execution_id: str
    position: str | None
    batch: bool
    follow: bool


class ServerFigures(Outbound):
    """The server."""

    protocol: int
    server_time: str
    connections: int


class Status(Ok):
    """The answer to ``get_status``."""

    connection: ConnectionFigures
    subscriptions: list[SubscriptionFigures]
    server: ServerFigures


# ---------------------------------------------------------------- server to client
class ConnectionStatus(Outbound):
    """``connection_status``: once, right after connecting."""

    status: Literal["connected"] = "connected"
    connection_id: str
    server_time: str
    heartbeat_interval_s: float
    protocol: int = PROTOCOL_VERSION


class Metadata(BaseModel):
    """Where an update belongs. The user's own keys stand beside these."""

    model_config = ConfigDict(extra="allow")

    timestamp: str
    sequence_number: int
    execution_id: str
    epoch: str
    run_id: str | None = None
    node_id: str | None = None
    namespace: str | None = None
    attempt: int | None = None
    agent_type: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    tool_call_id: str | None = None
    message_id: str | None = None
    category: str | None = None
    priority: Priority | None = None
    merged_from: int | None = None
    """Set where several updates were merged into this one: the sequence number of the first."""


class Update(Outbound):
    """``token``, ``progress``, ``status``, ``event``: one update."""

    type: str
    data: Any
    metadata: Metadata


class Updates(Outbound):
    """``updates``: several, to a subscription with ``batch``."""

    execution_id: str
    updates: list[Update]


class GapMessage(Outbound):
    """``gap``: updates the reader asked for are gone."""

    execution_id: str
    from_: Annotated[int, Field(alias="from")]
    to: int | None
    reason: Literal["evicted", "epoch_changed", "future_position"]


class Heartbeat(Outbound):
    """``heartbeat``: the head of each execution this connection watches."""

    timestamp: str
    positions: dict[str, str]


class SubscriptionClosed(Outbound):
    """``subscription_closed``: no more updates of this execution will come."""

    execution_id: str
    reason: Literal["ended", "gap", "forbidden", "closed"]


class AuthExpiring(Outbound):
    """``auth_expiring``: send ``authenticate`` with a fresh token."""

    in_s: float


class ServerRestart(Outbound):
    """``server_restart``: the connection is about to close; come back after the delay."""

    retry_ms: int
