"""Graphs that were called in this process, by the execution to which their newest call belongs."""

from __future__ import annotations

import inspect
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from langgraph.pregel import Pregel

if TYPE_CHECKING:
    from lg_streaming.context import ExecutionContext
    from lg_streaming.publisher import Publisher

__all__ = ["CALLED_GRAPHS", "CalledGraph", "CalledGraphs", "calling_graph"]

_MAX_EXECUTIONS: Final = 10_000
_FRAMES: Final = 6
"""Most frames up to the method of the graph that creates the loop; with LangGraph 1 it is the fourth."""


class CalledGraph(NamedTuple):
    """A graph that was called, and the thread in which it keeps its state."""

    graph: weakref.ref[Pregel[Any, Any, Any, Any]]
    thread_id: str | None


class CalledGraphs:
    """The graphs of the newest 10,000 executions of each publisher. It keeps no graph alive."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Publisher, OrderedDict[str, tuple[str, CalledGraph]]] = (
            weakref.WeakKeyDictionary()
        )

    def note(self, context: ExecutionContext, called: CalledGraph) -> None:
        """Record the graph of a run."""
        known = self._known.setdefault(context.publisher, OrderedDict())
        known.pop(context.execution_id, None)
        known[context.execution_id] = context.run_id, called
        if len(known) > _MAX_EXECUTIONS:
            known.popitem(last=False)

    def find(
        self, publisher: Publisher, execution_id: str, run_id: str | None = None
    ) -> tuple[Pregel[Any, Any, Any, Any], str | None] | None:
        """Return graph and thread of an execution's run; None if they are not known.

        Args:
            publisher: The publisher of the run's updates.
            execution_id: The execution.
            run_id: The run; None for the newest one of this process.
        """
        known = self._known.get(publisher)
        found = known.get(execution_id) if known is not None else None
        if found is None or run_id not in {None, found[0]}:
            return None
        graph = found[1].graph()
        return None if graph is None else (graph, found[1].thread_id)


CALLED_GRAPHS: Final = CalledGraphs()


def calling_graph() -> Pregel[Any, Any, Any, Any] | None:
    """Return the graph whose method creates the loop that is made right now: a loop has no reference to its graph."""
    frame = inspect.currentframe()
    for _ in range(_FRAMES):
        frame = frame.f_back if frame is not None else None
        if frame is not None and frame.f_code.co_varnames[:1] == ("self",):
            found = frame.f_locals.get("self")
            if isinstance(found, Pregel):
                return cast("Pregel[Any, Any, Any, Any]", found)
    return None
