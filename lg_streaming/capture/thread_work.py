"""Find the nodes that are at work, and the functions in threads for which they wait: no cancel stops those."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lg_streaming.capture.run import Run

__all__ = ["ThreadWork", "find_thread_work", "nodes_at_work"]


class ThreadWork(NamedTuple):
    """Function that a node has called in a thread."""

    run: Run
    """The node."""
    future: concurrent.futures.Future[Any]
    """The function's result."""


def nodes_at_work(runs: Iterable[Run]) -> list[str]:
    """Return the ids of the innermost nodes among the runs of nodes, each once."""
    nodes = list(runs)
    around = {namespace for run in nodes for namespace in _namespaces_around(run.namespace or "")}
    return list(dict.fromkeys(_node_id(run) for run in nodes if run.namespace not in around))


def find_thread_work(runs: Iterable[Run]) -> list[ThreadWork]:
    """Return the functions in threads for which the tasks of nodes wait. The tasks' own event loop must run here."""
    return [ThreadWork(run, future) for run in runs if run.task is not None for future in _awaited_threads(run.task)]


def _node_id(run: Run) -> str:
    frame = run.frame
    if frame is not None and frame.graph_namespace == run.namespace and frame.scope.node_id:
        return frame.scope.node_id
    return (run.namespace or "").rpartition("|")[2].partition(":")[0]


def _namespaces_around(namespace: str) -> Iterator[str]:
    while namespace := namespace.rpartition("|")[0]:
        yield namespace


def _awaited_threads(task: asyncio.Task[Any]) -> Iterator[concurrent.futures.Future[Any]]:
    """Return the results for which a task waits, also through other tasks.

    asyncio has no public name for what a task waits for. Without its private ones nothing is found.
    """
    waiting: list[Any] = [task]
    seen = set[int]()
    while waiting:
        awaited = waiting.pop()
        if awaited is None or id(awaited) in seen:
            continue
        seen.add(id(awaited))
        if isinstance(awaited, asyncio.Task):
            waiting.append(getattr(cast("object", awaited), "_fut_waiter", None))
        else:
            waiting.extend(getattr(awaited, "_children", None) or ())  # of a gather
            yield from _chained(awaited)


def _chained(future: Any) -> Iterator[concurrent.futures.Future[Any]]:
    """Return the result in a thread that an asyncio future waits for."""
    for callback, _ in getattr(future, "_callbacks", None) or ():
        for cell in getattr(callback, "__closure__", None) or ():
            found: object = cell.cell_contents
            if isinstance(found, concurrent.futures.Future) and not found.done():
                yield found
