"""Enter a decorated node: find its execution and its identity, and make it the current node."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config

from lg_streaming.capture.callbacks import TAP
from lg_streaming.capture.graph import configured_execution_id, is_tracker
from lg_streaming.capture.node import NodeRun, identify, step_of
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.context import frame_var, reset_in_context
from lg_streaming.errors import StreamingError
from lg_streaming.publisher import publishers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

    from lg_streaming.capture.place import Place
    from lg_streaming.capture.plan import NodePlan
    from lg_streaming.context import ExecutionContext

__all__ = ["activate", "enter_node"]

logger: logging.Logger = logging.getLogger(__name__)


def enter_node(
    plan: NodePlan, name: str, config: RunnableConfig | None, arguments: Sequence[object] = ()
) -> NodeRun | None:
    """Start and return a run of the node; None if it belongs to no execution, or streaming fails."""
    try:
        config = config or var_child_runnable_config.get()
        if RUNS.is_cancelling:
            RUNS.check(_parent_id(config))
        run = _start_node(plan, name, config, arguments)
        if run is not None:
            run.config = _config_inside(run, config)
    except StreamingError as error:
        logger.warning("node %r runs without streaming: %s", name, error)
        return None
    except Exception as error:  # streaming must never change what a node does
        logger.warning("node %r runs without streaming: %s", name, error, exc_info=error)
        return None
    return run


def _start_node(
    plan: NodePlan, name: str, config: RunnableConfig | None, arguments: Sequence[object]
) -> NodeRun | None:
    metadata: Mapping[str, Any] = (config.get("metadata") if config is not None else None) or {}
    parent_id = _parent_id(config)
    if not plan.enabled:
        return None
    task = _find_planned_task(parent_id, name)
    if task is not None and task.adopt(plan):
        return task
    place = RUNS.place_of_call(parent_id)
    context = _join_execution(place, config)
    if context is None or place is None:
        _warn_of_no_execution(name)
        return None
    identity = identify(name, plan.node_id, metadata, context, place)
    if identity is None:
        return None
    parent = RUNS.get(parent_id)
    call = parent.call if parent is not None else place.frame.call if place.frame is not None else None
    run = NodeRun(plan, context, identity, outer=place.frame, call=call)
    run.begin((arguments[-1], step_of(metadata)) if arguments else None)
    return run


def _parent_id(config: RunnableConfig | None) -> UUID | None:
    manager = config.get("callbacks") if config is not None else None
    return manager.parent_run_id if isinstance(manager, BaseCallbackManager) else None


def _find_planned_task(parent_id: UUID | None, name: str) -> NodeRun | None:
    """Return the node that the graph's plan captured already and whose function this is: a ``@task`` of this name."""
    run = RUNS.get(parent_id)
    node = run.node if run is not None else None
    return node if isinstance(node, NodeRun) and node.name == name else None


def _join_execution(place: Place | None, config: RunnableConfig | None) -> ExecutionContext | None:
    if place is None:
        return None
    return place.context or (place.call.join_run(configured_execution_id(config)) if place.call is not None else None)


def _config_inside(run: NodeRun, config: RunnableConfig | None) -> RunnableConfig | None:
    """Return ``config`` with the capture handler, and without finished trackers: each handler costs time per token."""
    manager = config.get("callbacks") if config is not None else None
    if config is None or not isinstance(manager, BaseCallbackManager):
        return None
    manager = manager.copy()
    tapped = run.listens
    manager.handlers = [each for each in manager.handlers if not is_tracker(each, tapped=tapped)]
    inherited = manager.inheritable_handlers
    manager.inheritable_handlers = [each for each in inherited if not is_tracker(each, tapped=tapped)]
    if tapped:
        if TAP not in manager.handlers:
            manager.add_handler(TAP, inherit=True)
        if not run.is_graph_node:
            run.listener = TAP
        elif manager.parent_run_id is not None:
            RUNS.register(TAP, manager.parent_run_id, run, run.graph_namespace)
    return {**config, "callbacks": manager}


def activate(run: NodeRun) -> Callable[[], None]:
    """Make a node the current one of this context. Return a function that undoes that, a no-op in other contexts."""
    trace = run.context.publisher.trace
    undo_trace = trace.enter(run.scope) if trace is not None else None
    config = var_child_runnable_config.set(run.config) if run.config is not None else None
    frame = frame_var.set(run.mark)

    def undo() -> None:
        if not reset_in_context(frame_var, frame):
            return
        if config is not None:
            reset_in_context(var_child_runnable_config, config)
        if undo_trace is not None:
            undo_trace()

    return undo


_warned: set[str] = set()
_MOST_WARNED = 256


def _warn_of_no_execution(name: str) -> None:
    """Warn once for each node that it is not streamed."""
    if publishers.count and name not in _warned and len(_warned) < _MOST_WARNED:
        _warned.add(name)
        logger.warning(
            "node %r runs without an execution, so nothing of it is streamed: call the graph with "
            "streaming.config(execution_id=…) or inside streaming.execution(…), or activate the module",
            name,
        )
