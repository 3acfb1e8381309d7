"""Messages to clients, and answers to theirs, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from lg_streaming.events import Priority
from lg_streaming.log.base import ExecutionState
from lg_streaming.types import GapReason

PROTOCOL_VERSION: Final = 1

ServerWarning = Literal["several_processes"]


# ---------------------------------------------------------------- answers
class Outbound(BaseModel):
    """A payload that the server sends."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ErrorBody(Outbound):
    """An error, wherever it appears: in an answer, as an ``error`` message, as an HTTP body."""

    code: int
    name: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None
    execution_id: str | None = None
    details: dict[str, Any] | None = None
    """Facts for programs, such as the limit that was reached."""


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
    """True if no update after the requested position is missing."""
    reason: GapReason | None = None


class Unsubscribed(Ok):
    """The answer to ``unsubscribe_execution``."""

    execution_id: str


class EventsSubscribed(Ok):
    """The answer to ``subscribe_events`` and ``unsubscribe_events``: what is watched now."""

    events: list[str]
    """Empty: all kinds and types."""
    executions: list[str]
    """Empty: nothing is watched."""


class RoomAnswer(Ok):
    """The answer to ``join_room`` and ``leave_room``."""

    room_id: str
    clients: int
    """Number of this server's connections in the room."""


class Responded(Ok):
    """The answer to ``respond``: this response is the one that counts."""

    execution_id: str
    prompt_id: str


class Cancelled(Ok):
    """The answer to ``cancel_execution``."""

    execution_id: str
    cancelled: bool
    """True if a run was open. It ends soon after, if it has not ended yet."""


class Paused(Ok):
    """The answer to ``pause_execution``."""

    execution_id: str
    paused: bool
    """True if a run was open. It pauses soon after: ``workflow_interrupted`` follows."""


class Resumed(Ok):
    """The answer to ``resume_execution``."""

    execution_id: str
    resumed: bool
    """True if a run was paused, or about to be."""


class Injected(Ok):
    """The answer to ``inject_input``."""

    execution_id: str
    injected: bool
    """True if a run was open. ``input_injected`` follows, or ``error`` if the graph refuses the update."""


class Started(Ok):
    """The answer to ``start_execution``: the run goes on without its caller."""

    execution_id: str
    run_id: str
    thread_id: str
    state: Literal["queued", "running", "interrupted", "completed", "failed", "cancelled"]
    position: str | None
    """The position before the run: a reader that begins after it gets the whole run. Null: the beginning."""
    stream_url: str | None
    """Path of the run's event stream; null if the server has none."""


class Authenticated(Ok):
    """The answer to ``authenticate``."""

    expires_in_s: float | None


class Pong(Ok):
    """The answer to ``ping``."""

    timestamp: str


class ConnectionFigures(Outbound):
    """State of the connection."""

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

    status: Literal["connected", "authentication_required"] = "connected"
    """``authentication_required``: send ``authenticate`` within ``login_timeout_s``."""
    connection_id: str
    server_time: str
    heartbeat_interval_s: float | None
    login_timeout_s: float | None = None
    protocol: int = PROTOCOL_VERSION
    warnings: list[ServerWarning] | None = None
    """Reasons why clients may miss executions; absent: none. ``several_processes``: the processes share no log."""


class Metadata(BaseModel):
    """Origin of an update. The user's keys are siblings of these."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="allow")

    timestamp: str
    """UTC, such as ``2026-11-20T20:00:00.123Z``."""
    sequence_number: int
    """1, 2, 3 … without gaps."""
    execution_id: str
    epoch: str
    """Epoch of the log that the number belongs to."""
    run_id: str | None = None
    node_id: str | None = None
    namespace: str | None = None
    """LangGraph's checkpoint namespace of the node."""
    attempt: int | None = None
    """Number of the node's attempt."""
    agent_type: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    tool_call_id: str | None = None
    message_id: str | None = None
    category: str | None = None
    traceparent: str | None = None
    priority: Priority | None = None
    """Absent: ``medium``."""
    merged_from: int | None = None
    """The first sequence number of the updates that were merged into this one."""


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
    reason: GapReason


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


class DirectMessage(Outbound):
    """``message``: something for this connection alone, in no execution and without a position."""

    type: str
    data: Any
    timestamp: str
