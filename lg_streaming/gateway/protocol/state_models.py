"""Pydantic models of the routes for graphs, states and forks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from lg_streaming.gateway.protocol.inbound import ExecutionId, Inbound, StartConfig
from lg_streaming.gateway.protocol.outbound import Outbound

__all__ = [
    "ExecutionGraphInfo",
    "ForkBody",
    "GraphEdge",
    "GraphNode",
    "StateInfo",
    "States",
    "StatesQuery",
]

CheckpointId = Annotated[str, Field(min_length=1, max_length=256)]


# ---------------------------------------------------------------- what comes in
class StatesQuery(Inbound):
    """The query of `GET /executions/{execution_id}/states`."""

    limit: Annotated[int, Field(ge=1, le=100)] = 20
    before: CheckpointId | None = None
    """`next` of the page before: only older states follow."""


class ForkBody(Inbound):
    """The body of `POST /executions/{execution_id}/forks`."""

    checkpoint_id: CheckpointId
    """The checkpoint to go on from."""
    values: Any = None
    """An update of its state, as a node returns it."""
    as_node: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """The node that seems to have made the update; the graph continues behind it."""
    execution_id: ExecutionId | None = None
    """The new execution; one of a new id when absent."""
    config: StartConfig | None = None


# ---------------------------------------------------------------- what goes out
class GraphNode(Outbound):
    """A node of a graph."""

    id: str
    """Its name, behind those of the nodes that it is inside of: `research:search`."""
    name: str
    kind: Literal["node", "start", "end", "subgraph"]
    parent: str | None = None
    """The node of the subgraph that it is part of; absent: none."""


class GraphEdge(Outbound):
    """An edge of a graph."""

    source: str
    target: str
    conditional: bool
    """True for one of several alternatives, which a router chooses."""
    label: str | None = None
    """The router's answer, where it is not the target's name."""


class ExecutionGraphInfo(Outbound):
    """Nodes and edges of the graph of an execution's last run."""

    name: str
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    functional: bool
    """True for an `@entrypoint`, whose tasks are known only when they begin."""


class StateInfo(Outbound):
    """The state of a graph after a step, redacted."""

    checkpoint_id: str
    parent_checkpoint_id: str | None
    checkpoint: dict[str, Any]
    parent_checkpoint: dict[str, Any] | None
    created_at: str | None
    values: Any
    next: list[str]
    """The nodes of the next step; empty at the end."""
    tasks: list[dict[str, Any]]
    """The nodes of the next step: `id`, `name`, `error`, `interrupts`, `result`."""
    interrupts: list[dict[str, Any]]
    metadata: dict[str, Any]
    """`source`, `step`, `parents`, `run_id`."""
    has_errors: bool
    """True if a node of the next step has failed."""
    truncated: dict[str, int] | None = None
    """The bytes of the fields that were cut; absent: none. The route of one state returns it whole."""


class States(Outbound):
    """A page of the states of an execution's thread, newest first."""

    execution_id: str
    graph: str
    states: list[StateInfo]
    next: str | None
    """The value of `before` for the next page; null on the last one."""
