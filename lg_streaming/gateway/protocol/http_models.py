"""Pydantic models of the HTTP routes: queries, request bodies and responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from lg_streaming.gateway.protocol.inbound import (
    DialectName,
    EventName,
    ExecutionId,
    Inbound,
    PromptId,
    SubscribeExecution,
)
from lg_streaming.gateway.protocol.outbound import ErrorBody, Outbound, ServerWarning, Update
from lg_streaming.log.base import ExecutionState
from lg_streaming.types import GapReason

__all__ = [
    "ErrorResponse",
    "ExecutionInfo",
    "Executions",
    "FleetInfo",
    "GapInfo",
    "GraphInfo",
    "Graphs",
    "Health",
    "HistoryQuery",
    "InputBody",
    "IssuedLink",
    "LinkRequest",
    "ListQuery",
    "ProcessInfo",
    "PromptResponse",
    "StreamQuery",
    "Ticket",
    "TicketRequest",
    "UpdatesPage",
    "UsageInfo",
    "WatchLogin",
    "WatchSessionQuery",
]

MAX_WAIT = 25.0
"""Seconds; proxies time out after 30 or 60."""


# ---------------------------------------------------------------- what comes in
class StreamQuery(SubscribeExecution):
    """The query of `GET /executions/{execution_id}/stream`."""

    named: bool = True
    """True for an `event:` line in updates, see `event`; else a browser's `onmessage` fires."""
    dialect: Annotated[
        DialectName | None, Field(description="What the stream is written in; this library's own events when absent.")
    ] = None

    @model_validator(mode="after")
    def _fits_the_dialect(self) -> Self:
        if self.event is not None and not self.named:
            reason = (
                f"event={self.event} does not go with named=false, which leaves the event line out: give one of them"
            )
            raise PydanticCustomError("event", "{reason}", {"reason": reason})
        if self.dialect is None:
            return self
        named = self.named and "named" in self.model_fields_set
        for name, given in {"batch": self.batch, "named": named, "event": self.event is not None}.items():
            if given:
                reason = (
                    f"{name} does not go with dialect={self.dialect}: its frames hold one update each, without names"
                )
                raise PydanticCustomError("dialect", "{reason}", {"reason": reason})
        return self

    @property
    def event_line(self) -> EventName | None:
        """The value of an update's `event:` line; None for no line."""
        return (self.event or "type") if self.named else None


class HistoryQuery(SubscribeExecution):
    """The query of `GET /executions/{execution_id}/updates`."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    """Maximum of updates that are read, before the filter."""
    wait: Annotated[float, Field(ge=0, le=MAX_WAIT)] = 0
    """Seconds to wait for an update if the page would be empty."""


class ListQuery(Inbound):
    """The query of `GET /executions`."""

    state: Annotated[list[ExecutionState], Field(max_length=6)] | None = None
    owner: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    text: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """Part of the id, the title, the owner or the graph's name, in upper or lower case."""
    order: Literal["id", "newest"] = "id"
    """`newest`: the last start of a run first."""
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(min_length=1, max_length=2_048)] | None = None
    """`next_cursor` of the page before."""
    id: Annotated[list[ExecutionId], Field(min_length=1, max_length=50)] | None = None
    """Only these executions, in this order; without `order`, `limit` and `cursor`."""

    @model_validator(mode="after")
    def _is_a_list_or_ids(self) -> Self:
        if self.id is not None and (others := sorted(self.model_fields_set & {"order", "limit", "cursor"})):
            reason = f"id does not go with {', '.join(others)}: it names all executions of the answer"
            raise PydanticCustomError("id", "{reason}", {"reason": reason})
        return self


class PromptResponse(Inbound):
    """The body of `POST /executions/{execution_id}/responses`."""

    prompt_id: PromptId
    response: Any


class InputBody(Inbound):
    """The body of `POST /executions/{execution_id}/inputs`."""

    input: Any
    """The update of the state, as a node returns it."""
    as_node: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The node that seems to have made the update; the graph continues behind it."""


class TicketRequest(Inbound):
    """The body of `POST /tickets`."""

    execution_id: ExecutionId | None = None
    """The only execution that the ticket's holder may read; absent: all that the caller may read."""


class LinkRequest(Inbound):
    """The body of `POST /executions/{execution_id}/links`."""

    expires_in_s: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] = 3_600
    """Seconds until the link's end; at most `auth.max_link_age`."""


class WatchSessionQuery(Inbound):
    """The query of `GET /watch-session`."""

    execution_id: ExecutionId | None = None
    """The execution whose rights are asked for."""


class WatchLogin(Inbound):
    """The body of `POST /watch-session`."""

    token: Annotated[str, Field(min_length=1, max_length=16_384)]


# ---------------------------------------------------------------- what goes out
class ErrorResponse(Outbound):
    """The body of every answer that is an error."""

    error: ErrorBody


class UsageInfo(Outbound):
    """The usage of models: tokens, and a cost in the currency of the program."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost: float | None
    """The sum of the known costs; null if none is known."""


class ExecutionInfo(Outbound):
    """The state of an execution."""

    execution_id: str
    state: ExecutionState
    title: str | None
    """The first question of the last run, or the title that the program gave it."""
    graph: str | None
    """The name of the graph of the last run."""
    owner: str | None
    position: str
    """The position of its last update."""
    oldest: int
    """The first sequence number that is still kept."""
    started_at: str
    """The start of the last run."""
    updated_at: str
    ended_at: str | None
    """The end of the last run; null while it is open."""
    progress: float | None
    """Progress of the last run, 0 to 100, if it reports any."""
    usage: UsageInfo | None
    """The usage of models in the last run so far; null if none is known."""
    metadata: dict[str, Any]
    """Metadata of the last run; often empty."""


class Executions(Outbound):
    """A page of executions, in the order of their ids or the newest start first."""

    executions: list[ExecutionInfo]
    next_cursor: str | None
    """Start of the next page; null on the last one. A page before it may be short, or empty."""


class GraphInfo(Outbound):
    """A graph that the caller may start."""

    name: str
    input_schema: dict[str, Any] | None
    """JSON Schema of its input, of which a part may be given; null for an input without a JSON form."""
    context_schema: dict[str, Any] | None
    """JSON Schema of its context; null where it has none."""


class Graphs(Outbound):
    """The graphs that the caller may start, in the order of their registration."""

    graphs: list[GraphInfo]


class GapInfo(Outbound):
    """Updates that cannot be had."""

    from_: Annotated[int, Field(alias="from")]
    to: int | None
    reason: GapReason


class UpdatesPage(Outbound):
    """A page of an execution's updates."""

    execution_id: str
    state: ExecutionState | Literal["unknown"]
    position: str | None
    """The value of `after` for the next request; null if nothing has happened yet."""
    recovered: bool
    """True if no update is missing before the first one."""
    gap: GapInfo | None = None
    """The updates that are missing."""
    ended: bool
    """True if no more updates follow, unless another run begins."""
    more: bool
    """True if the next page has updates already."""
    updates: list[Update]


class Ticket(Outbound):
    """A credential for one request, for where a browser can send no header: `?ticket=…`."""

    ticket: str
    expires_in_s: float


class IssuedLink(Outbound):
    """A read-only credential for one execution, which many readers may use until its end."""

    link: str
    expires_in_s: float
    expires_at: str


class ProcessInfo(Outbound):
    """A process that shares the log."""

    process_id: str
    host: str
    pid: int
    version: str
    """The version of lg_streaming there."""
    started_at: str
    seen_at: str
    """The time of its last report."""
    counts: dict[str, dict[str, int]]
    """Its counts, by part: `hub`, and `gateway` if it has one."""


class FleetInfo(Outbound):
    """The processes that share the log, oldest first."""

    processes: list[ProcessInfo]
    totals: dict[str, dict[str, int]]
    """The sums of the counts."""


class Health(Outbound):
    """The health of the server."""

    status: Literal["ok", "draining", "closed", "log_unavailable"]
    protocol: int
    warnings: list[ServerWarning] | None = None
    """Reasons why clients may miss executions; absent: none. ``several_processes``: the processes share no log."""
