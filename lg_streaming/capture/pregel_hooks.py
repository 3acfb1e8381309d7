"""Hook into LangGraph's loop for what it has no callbacks: stream writers, cached nodes, breakpoints, node timeouts.

The hooked methods are not public. Each hook only observes its method. If a version of LangGraph lacks a method, its
hook is missing, with a warning, and everything else works. `tests/capture/test_pregel_hooks.py` has the assumptions.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from langgraph.errors import NodeTimeoutError
from langgraph.pregel import _loop, _retry
from langgraph.runtime import Runtime

from lg_streaming.capture.callbacks import TAP
from lg_streaming.capture.called_graphs import calling_graph
from lg_streaming.capture.decorated_graph import get_node_options
from lg_streaming.capture.graph import ListeningTracker, configured_execution_id
from lg_streaming.capture.node import agent_name
from lg_streaming.capture.outcome import to_interrupts
from lg_streaming.capture.place import frame_of_run, parent_run_id
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.context import reset_in_context
from lg_streaming.eventloop import running_task
from lg_streaming.events import node_path
from lg_streaming.publisher import Scope, publishers

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.capture.run import Run

__all__ = ["install_hooks"]

logger: logging.Logger = logging.getLogger(__name__)

_RUNTIME: Final = "__pregel_runtime"


class _PublishingWriter:
    """Stream writer of LangGraph that also publishes its chunks."""

    def __init__(self, writer: Callable[[Any], None]) -> None:
        self._writer = writer

    def __call__(self, chunk: Any) -> None:
        """Write a chunk, then publish it."""
        self._writer(chunk)
        frame = frame_of_run(RUNS.get(parent_run_id()))
        if frame is not None:
            frame.record("custom", {"name": "stream_writer", "data": chunk}, frame.scope)


def _run_of(loop: Any) -> Run | None:
    """Return the run of a loop's graph; None if it belongs to no execution."""
    if not publishers.count:
        return None
    return RUNS.get(getattr(loop.manager, "run_id", None))


def _start_graph(loop: Any) -> None:
    """Pass LangGraph's thread to the call, then capture a decorated graph that is a node."""
    run = _run_of(loop)
    if run is None:
        return
    run.is_graph = True
    run.stop_watching()
    if run.on_thread_id is not None:
        run.on_thread_id(loop.config["configurable"].get("thread_id"))
    begin, run.capture_graph = run.capture_graph, None
    if begin is not None:
        begin()


def _note_execution(loop: Any) -> None:
    """Record the execution that a graph's config names: no callback gets the config."""
    run = _run_of(loop)
    if run is not None and run.call is not None and run.call.configured_execution is None:
        run.call.configured_execution = configured_execution_id(loop.config)


def _note_graph(loop: Any) -> None:
    """Record which graph is called: readers of the execution may ask for its nodes and its states."""
    run = _run_of(loop)
    if run is None or run.call is None or run.call.has_graph:
        return
    graph = calling_graph()
    if graph is not None:
        run.call.note_graph(graph, loop.config["configurable"].get("thread_id"))


def _note_decorated_nodes(loop: Any) -> None:
    """Record the nodes of a graph that are decorated themselves: the graph's plan does not apply to them."""
    run = _run_of(loop)
    if run is not None and run.plan is not None:
        run.decorated_nodes = frozenset(
            name for name, node in loop.nodes.items() if get_node_options(node.bound) is not None
        )


def _replace_finished_trackers(loop: Any) -> None:
    """Replace finished trackers by the capture handler for the graph's calls: each handler costs time per token.

    A tracker whose config names no execution stays, to find calls inside that name another thread.
    """
    run, manager = _run_of(loop), loop.manager
    if run is None or run.plan is None:
        return
    handlers = manager.inheritable_handlers
    done = [each for each in handlers if isinstance(each, ListeningTracker) and _is_finished(each, run)]
    if done:
        # The graph's own end is still the trackers'.
        manager.inheritable_handlers = [*(each for each in handlers if each not in done), TAP]


def _is_finished(tracker: ListeningTracker, run: Run) -> bool:
    return tracker.options.execution_id is not None and tracker in run.root_handlers


def _wrap_stream_writer(loop: Any) -> None:
    runtime: object = loop.config["configurable"].get(_RUNTIME)
    if (
        _run_of(loop) is None
        or not isinstance(runtime, Runtime)
        or isinstance(runtime.stream_writer, _PublishingWriter)
    ):
        return
    runtime_config = cast("Any", runtime).override(stream_writer=_PublishingWriter(cast("Any", runtime).stream_writer))
    loop.config = {**loop.config, "configurable": {**loop.config["configurable"], _RUNTIME: runtime_config}}


def _publish_cached(loop: Any, tasks: Sequence[Any]) -> None:
    """Publish that LangGraph answered captured nodes from its cache."""
    run = _run_of(loop) if tasks else None
    if run is None:
        return
    for task in tasks:
        try:
            _publish_cached_node(loop.manager.run_id, run, task)
        except Exception as error:  # streaming must never change what a graph does
            logger.warning("that node %r was answered from a cache is lost: %s", task.name, error, exc_info=error)


def _publish_cached_node(graph_id: Any, run: Run, task: Any) -> None:
    namespace = str(task.config["configurable"].get("checkpoint_ns") or task.name)
    options = get_node_options(task.proc)
    if options is None and run.plan is not None:
        options = run.plan.for_node(task.name, node_path(namespace))
    place = RUNS.place_of_call(graph_id)
    if options is None or not options.enabled or place is None:
        return
    context = place.context or (
        place.call.join_run(configured_execution_id(task.config)) if place.call is not None else None
    )
    if context is None:
        return
    if place.frame is not None:
        place.frame.release()
    if run.call is not None:
        run.call.captured_nodes += 1
    node_id = options.node_id or task.name
    metadata: dict[str, Any] = task.config.get("metadata") or {}
    scope = Scope(run_id=context.run_id, node_id=node_id, namespace=namespace, agent_type=agent_name(metadata))
    data = {"node_id": node_id, "node_name": task.name}
    context.publisher.publish(context.execution_id, "node_cached", data, scope=scope)


def _note_interrupts(loop: Any, interrupts: object) -> None:
    run = _run_of(loop)
    if run is not None and run.call is not None:
        run.call.pause(to_interrupts(interrupts, "|".join(loop.checkpoint_ns)))


def _after_init(original: Any) -> Any:
    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        _note_execution(self)
        _start_graph(self)
        _note_graph(self)
        _note_decorated_nodes(self)
        _replace_finished_trackers(self)
        _wrap_stream_writer(self)

    return init


def _unless_cancelled(original: Any) -> Any:
    """Stop a cancelled graph before and after each step. A step that was stopped is not recorded as done."""

    @functools.wraps(original)
    def step(self: Any) -> Any:
        if RUNS.is_cancelling and _run_of(self) is not None:
            RUNS.check(self.manager.run_id)
        return original(self)

    return step


def _around_match(original: Any) -> Any:
    @functools.wraps(original)
    def match_cached_writes(self: Any, *args: Any, **kwargs: Any) -> Any:
        tasks = original(self, *args, **kwargs)
        _publish_cached(self, tasks)
        return tasks

    return match_cached_writes


def _around_async_match(original: Any) -> Any:
    @functools.wraps(original)
    async def amatch_cached_writes(self: Any, *args: Any, **kwargs: Any) -> Any:
        tasks = await original(self, *args, **kwargs)
        _publish_cached(self, tasks)
        return tasks

    return amatch_cached_writes


def _before_event(original: Any) -> Any:
    @functools.wraps(original)
    def push(self: Any, kind: str, *args: Any, **kwargs: Any) -> Any:
        if kind == "interrupt":
            _note_interrupts(self, kwargs.get("interrupts", ()))
        return original(self, kind, *args, **kwargs)

    return push


_timed: ContextVar[tuple[str, object] | None] = ContextVar("lg_streaming_timed", default=None)
"""Namespace of the node for whose timeout LangGraph waits, and the task that waits."""


def _around_timeout(original: Any) -> Any:
    @functools.wraps(original)
    async def run_with_timeout(task: Any, *args: Any, **kwargs: Any) -> Any:
        namespace = task.config["configurable"].get("checkpoint_ns")
        token = _timed.set((namespace, asyncio.current_task()) if namespace else None)
        try:
            return await original(task, *args, **kwargs)
        finally:
            reset_in_context(_timed, token)

    return run_with_timeout


def _around_timeout_error(original: Any) -> Any:
    @functools.wraps(original)
    def init(self: NodeTimeoutError, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        timed = _timed.get()
        if timed is not None and timed[1] is running_task() and publishers.count:
            # the node is cancelled only later, and maybe after the end of the graph
            RUNS.end_node(timed[0], self)

    return init


_HOOKS: Final[Sequence[tuple[str, str, Callable[[Any], Any]]]] = (
    ("PregelLoop", "__init__", _after_init),
    ("PregelLoop", "_push_graph_lifecycle_event", _before_event),
    ("PregelLoop", "tick", _unless_cancelled),
    ("PregelLoop", "after_tick", _unless_cancelled),
    ("SyncPregelLoop", "match_cached_writes", _around_match),
    ("AsyncPregelLoop", "amatch_cached_writes", _around_async_match),
)
_installed: list[str] = []


_TIMEOUT: Final = "_arun_with_timeout"


def install_hooks() -> None:
    """Install the hooks, once."""
    if _installed:
        return
    for class_name, method, hook in _HOOKS:
        kind: Any = getattr(_loop, class_name, None)
        original = getattr(kind, method, None)
        if original is None:
            logger.warning("LangGraph has no %s.%s here: part of what it does is not seen", class_name, method)
        else:
            setattr(kind, method, hook(original))
        _installed.append(f"{class_name}.{method}")
    timed: Any = getattr(_retry, _TIMEOUT, None)
    if timed is None:
        logger.warning("LangGraph has no %s here: nodes that it times out end as cancelled", _TIMEOUT)
    else:
        setattr(_retry, _TIMEOUT, _around_timeout(timed))
        setattr(NodeTimeoutError, "__init__", _around_timeout_error(NodeTimeoutError.__init__))  # noqa: B010
