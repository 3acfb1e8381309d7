"""Checked arguments of a start."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langgraph.checkpoint.memory import InMemorySaver

from lg_streaming.runs.registry import checkpointer_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langgraph.checkpoint.base import BaseCheckpointSaver

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.runs.records import OnAbandoned
    from lg_streaming.runs.registry import AnyGraph
    from lg_streaming.runs.takeover import Takeover

__all__ = ["IfRunning", "OnDisconnect", "RunRequest"]

IfRunning = Literal["reject", "enqueue", "cancel", "rollback"]
"""Handling of a start while the execution has an open run. ``reject``: the start fails. ``enqueue``: the run waits for
the end of earlier ones. ``cancel``: it cancels the earlier ones, also those that wait. ``rollback``: it also takes back
their changes to the thread's state."""

OnDisconnect = Literal["continue", "cancel"]
"""Handling of a run whose last reader has left: it goes on, or is cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Checked arguments of `GraphRunner.start`."""

    graph: AnyGraph
    graph_name: str
    input: Any
    execution_id: str
    thread_id: str
    is_named: bool = True
    """False if the execution got a new id."""
    owner: str | None = None
    config: RunnableConfig | None = None
    context: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    parent: Mapping[str, Any] | None = None
    """Node or block in which the run is started, for its ``workflow_start``."""
    forked_from: Mapping[str, Any] | None = None
    """Execution and checkpoint from which the run goes on, for its ``workflow_start``."""
    if_running: IfRunning = "reject"
    on_disconnect: OnDisconnect = "continue"
    deadline: float | None = None
    """Seconds from the start to the end of the run, with its waits; None for no limit."""
    call_options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Further options of LangGraph's ``ainvoke``."""
    is_registered: bool = False
    """True for a graph in ``streaming.graphs``, which other processes may have too."""
    on_abandoned: OnAbandoned = "end"
    takeover: Takeover | None = None
    """The run of another process that goes on here; None for a new one."""

    @property
    def checkpointer(self) -> BaseCheckpointSaver[Any] | None:
        """Checkpointer of the graph, or None."""
        return checkpointer_of(self.graph)

    @property
    def has_persistent_checkpointer(self) -> bool:
        """True if the thread's state outlives this process: the checkpointer is not LangGraph's `InMemorySaver`."""
        return self.checkpointer is not None and type(self.checkpointer) is not InMemorySaver
