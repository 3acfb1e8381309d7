"""Publish the progress of a whole run as ``workflow_progress``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.capture import running_node
from lg_streaming.errors import StreamingError
from lg_streaming.fork import new_lock
from lg_streaming.pipeline import ProgressTracker
from lg_streaming.publisher import Scope
from lg_streaming.runs.estimate import RunEstimate, RunFigures
from lg_streaming.runs.structure import GraphStructure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.capture import Ending
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.history import RunHistory, RunTrace
    from lg_streaming.runs.registry import AnyGraph

__all__ = ["RunProgress"]

_TYPE: Final = "workflow_progress"
_SOON: Final = 0.05
"""Seconds from a node's end to its update, which then has the start of the next node too."""
_PAUSE: Final = 0.25
"""Fewest seconds between two updates."""
_INTERVAL: Final = 1.0
"""Seconds between two looks at the clock and at the live progress of nodes."""
_STEP: Final = 1.0
"""Change of the percentage that is published by itself."""


class RunProgress:
    """Publisher of the progress of one run. Implements `capture.NodeObserver`.

    Pass it as ``observer`` of `capture.CallOptions` to each call of the graph, also to those after an interrupt. Call
    `start`, `complete` and `close` on one event loop; nodes may run in any thread. It publishes when a node starts or
    ends, and when the percentage rises by 1, at most four times a second. A token costs nothing.

    Args:
        hub: The hub.
        execution_id: The execution.
        run_id: The run.
        graph: The compiled graph.
        history: Earlier runs of the hub's graphs.
        name: Name under which the history keeps the graph; the graph's own when not given.
        earlier: Data of the run's last ``workflow_progress``, if the run began in another process.
    """

    def __init__(
        self,
        hub: StreamHub,
        execution_id: str,
        run_id: str,
        graph: AnyGraph,
        history: RunHistory,
        *,
        name: str | None = None,
        earlier: Mapping[str, Any] | None = None,
    ) -> None:
        structure = GraphStructure.of(graph)
        self._publisher = hub.publisher
        self._execution_id = execution_id
        self._scope = Scope(run_id=run_id)
        self._history = history
        self._graph = f"{name or graph.name}:{structure.fingerprint}"
        self._estimate = RunEstimate(
            structure,
            history.get(self._graph),
            progress=_number(earlier, "progress"),
            completed=int(_number(earlier, "completed_nodes")),
        )
        self._lock = new_lock()
        self._labels: dict[str, tuple[str, str | None]] = {}
        """Node's id and name by visit."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._published: RunFigures | None = None
        self._published_at = float("-inf")
        self._closed = False

    # --- its life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the history of the graph, and publish from now on. Returns at once."""
        self._loop = asyncio.get_running_loop()
        self._history.load(self._graph, self._learn)

    def complete(self) -> None:
        """Publish 100 %, and add the run to the history. Call it before the end of a run that is complete."""
        loop = self._loop
        if loop is None or self._closed:
            return
        with self._lock:
            trace = self._estimate.finish(loop.time())
            figures = self._estimate.figures(loop.time())
        self._publish(figures, loop.time())
        if trace is not None:
            self._history.add(self._graph, trace)
        self.close()

    def close(self) -> None:
        """Publish no more. Harmless when repeated. A run that has failed or was cancelled keeps its percentage."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _learn(self, traces: Sequence[RunTrace]) -> None:
        with self._lock:
            self._estimate.learn(traces)

    # --- nodes ----------------------------------------------------------------------------------------------

    def node_started(self, node: str, namespace: str, *, in_node: str | None) -> None:
        """See `capture.NodeObserver`."""
        loop = self._loop
        if loop is None or self._closed:
            return
        with self._lock:
            self._estimate.start(namespace, node, loop.time(), in_node=in_node)
            self._labels[namespace] = (node, None)
        self._wake(loop)

    def node_ended(self, namespace: str, ending: Ending) -> None:
        """See `capture.NodeObserver`."""
        loop = self._loop
        if loop is None or self._closed:
            return
        with self._lock:
            self._estimate.end(namespace, ending, loop.time())
            if ending == "complete":
                self._labels.pop(namespace, None)
        self._wake(loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(self._schedule)

    def _schedule(self) -> None:
        """Look as soon as an update may follow the last one."""
        loop = self._loop
        if loop is None or self._closed:
            return
        at = max(loop.time() + _SOON, self._published_at + _PAUSE)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._look)

    # --- updates --------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Publish the progress if it has changed enough."""
        loop = self._loop
        self._timer = None
        if loop is None or self._closed:
            return
        now = loop.time()
        with self._lock:
            running = self._estimate.running
            for visit in running:
                self._read_node(visit, now)
            figures = self._estimate.figures(now)
        if _is_news(self._published, figures):
            self._publish(figures, now)
        if running:
            self._timer = loop.call_at(now + _INTERVAL, self._look)

    def _read_node(self, visit: str, now: float) -> None:
        """Read id, name and live progress of a captured node."""
        node = running_node(visit)
        if node is None:
            return
        self._labels[visit] = (node.scope.node_id or node.name, node.name)
        if isinstance(node.progress, ProgressTracker):
            self._estimate.progress(visit, node.progress.percent, now)

    def _publish(self, figures: RunFigures, now: float) -> None:
        self._published, self._published_at = figures, now
        node_id, node_name = self._labels.get(figures.current or "", (None, None))
        data = {
            "total_nodes": figures.total_nodes,
            "completed_nodes": figures.completed_nodes,
            "current_node": node_id,
            "current_node_name": node_name,
            "progress": round(figures.progress, 1),
            "eta_s": round(figures.eta_s, 3) if figures.eta_s is not None else None,
        }
        data = {name: value for name, value in data.items() if value is not None}
        try:
            self._publisher.publish(self._execution_id, _TYPE, data, scope=self._scope, missing="drop")
        except StreamingError as error:
            self._publisher.note_refused(self._execution_id, _TYPE, error)


def _is_news(before: RunFigures | None, now: RunFigures) -> bool:
    return (
        before is None
        or now.progress >= before.progress + _STEP
        or (now.completed_nodes, now.current, now.eta_s is None)
        != (before.completed_nodes, before.current, before.eta_s is None)
    )


def _number(data: Mapping[str, Any] | None, name: str) -> float:
    value = data.get(name) if data is not None else None
    return float(value) if isinstance(value, (int, float)) and value > 0 else 0.0
