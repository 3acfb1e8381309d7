"""Find the graph of an execution: in the program that called it, or by its name in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lg_streaming.capture import CALLED_GRAPHS
from lg_streaming.errors import GraphNotFoundError
from lg_streaming.runs.registry import checkpointer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lg_streaming.hub import StreamHub
    from lg_streaming.log.base import LogState
    from lg_streaming.runs.driver import RunDriver
    from lg_streaming.runs.registry import AnyGraph, GraphRegistry

__all__ = ["ExecutionGraph", "ExecutionGraphs"]


class ExecutionGraph(NamedTuple):
    """Graph of the last run of an execution."""

    name: str
    graph: AnyGraph
    thread_id: str
    """LangGraph's thread of the run."""
    is_registered: bool
    """True if callers on the network may start it, by its name."""

    @property
    def has_checkpointer(self) -> bool:
        """True if the graph keeps the states of its threads."""
        return checkpointer_of(self.graph) is not None


class ExecutionGraphs:
    """Finder of the graphs of executions.

    Args:
        hub: The hub.
        graphs: The registered graphs.
        find_driver: Returns the driver of the open run of an execution in this process, or None.
    """

    def __init__(self, hub: StreamHub, graphs: GraphRegistry, find_driver: Callable[[str], RunDriver | None]) -> None:
        self._hub = hub
        self._graphs = graphs
        self._find_driver = find_driver

    async def find(self, execution_id: str) -> ExecutionGraph:
        """Return the graph of the last run of an execution.

        It is the graph that this process called, in `GraphRunner` or with ``streaming.config``, or a registered graph
        of the name in the log.

        Raises:
            GraphNotFoundError: If neither is known.
            LogUnavailableError: If the log cannot be reached.
        """
        driver = self._find_driver(execution_id)
        if driver is not None:
            return self._named(driver.graph, driver.run.thread_id)
        state = await self._hub.describe(execution_id)
        start = _start_of(state)
        called = self._called(execution_id, start)
        if called is not None:
            return self._named(called[0], called[1] or execution_id)
        name = start.get("graph") or start.get("name")
        if isinstance(name, str) and name in self._graphs:
            return self._named(self._graphs[name], _text(start.get("thread_id")) or execution_id)
        raise GraphNotFoundError(
            f"this process has no graph of execution {execution_id!r:.80}: register it in streaming.graphs, or pass "
            "graph= in a program",
            execution_id=execution_id,
        )

    async def thread_of(self, execution_id: str) -> str:
        """Return LangGraph's thread of the last run of an execution; its id if nothing else is known."""
        driver = self._find_driver(execution_id)
        if driver is not None:
            return driver.run.thread_id
        start = _start_of(await self._hub.describe(execution_id))
        called = self._called(execution_id, start)
        thread_id = called[1] if called is not None else _text(start.get("thread_id"))
        return thread_id or execution_id

    def _called(self, execution_id: str, start: Mapping[str, Any]) -> tuple[AnyGraph, str | None] | None:
        """Return the graph that this process called in the last run; in an earlier run if the last one has no graph."""
        run_id = _text(start.get("run_id")) if start.get("graph") or start.get("name") else None
        return CALLED_GRAPHS.find(self._hub.publisher, execution_id, run_id)

    def _named(self, graph: AnyGraph, thread_id: str) -> ExecutionGraph:
        name, found, is_registered = self._graphs.find(graph)
        return ExecutionGraph(name, found, thread_id, is_registered)


def _start_of(state: LogState | None) -> dict[str, Any]:
    """Return the data of the ``workflow_start`` of the last run."""
    record = state.start_record if state is not None else None
    data = record.update.data if record is not None else None
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
