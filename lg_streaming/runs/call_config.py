"""Config and context of the calls of a run's graph."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables.config import merge_configs, var_child_runnable_config
from langgraph.callbacks import GraphCallbackHandler

from lg_streaming.capture import CallOptions, configured_plan, graph_config, has_decorated_nodes
from lg_streaming.context import block_var, current_block, current_frame, frame_var
from lg_streaming.decorators import plan_of
from lg_streaming.errors import BadRequestError
from lg_streaming.runs.records import RECORD_KEY
from lg_streaming.runs.rollback import RUN_KEY

if TYPE_CHECKING:
    from langgraph.callbacks import GraphInterruptEvent

    from lg_streaming.capture import NodeObserver, RunnableConfig
    from lg_streaming.publisher import Publisher
    from lg_streaming.runs.records import RunRecord
    from lg_streaming.runs.request import RunRequest

__all__ = ["PauseHandler", "configured_thread", "detached_context", "parent_place", "root_config", "run_config"]


def run_config(
    publisher: Publisher,
    request: RunRequest,
    run_id: str,
    pauses: PauseHandler,
    *,
    observer: NodeObserver | None = None,
    record: RunRecord | None = None,
) -> RunnableConfig:
    """Return the config of a run's calls. Call it in a `detached_context`: configs are merged with the one around."""
    plan = configured_plan(publisher)
    if plan is None and not has_decorated_nodes(request.graph):
        plan = plan_of("all")
    options = CallOptions(execution_id=request.execution_id, owner=request.owner, plan=plan, observer=observer)
    config = graph_config(request.config, publisher, options, thread_id=request.thread_id)
    text = (record.for_checkpoints() if record is not None else None) or ""
    values = {RECORD_KEY: text} if text or RECORD_KEY in config.get("configurable", {}) else {}
    return merge_configs(config, {"callbacks": [pauses], "metadata": {RUN_KEY: run_id}, "configurable": values})


class PauseHandler(GraphCallbackHandler):
    """Handler that notes a stop at an ``interrupt()`` or a breakpoint of the run's own graph."""

    run_inline = True  # otherwise LangChain calls it on a thread, with every event

    @property
    def ignore_llm(self) -> bool:
        """True: tokens are no concern of it."""
        return True

    def __init__(self) -> None:
        super().__init__()
        self.paused: bool = False

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Note a stop of the root graph."""
        if not event.checkpoint_ns:
            self.paused = True


def configured_thread(config: RunnableConfig | None) -> str | None:
    """Return the thread that a config names, or None."""
    thread_id = ((config or {}).get("configurable") or {}).get("thread_id")
    return None if thread_id is None else str(thread_id)


def root_config(config: RunnableConfig | None) -> RunnableConfig | None:
    """Return a config without what LangGraph adds to that of a node: a run is no part of the graph around it."""
    if config is not None and not isinstance(config, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadRequestError(f"a config is a dict, not {type(config).__name__}")
    if not config or "configurable" not in config:
        return config
    configurable: dict[str, Any] = config.get("configurable") or {}
    private = ("__pregel_", "checkpoint_ns", "checkpoint_map", "langgraph_")
    kept = {name: value for name, value in configurable.items() if not name.startswith(private)}
    return cast("RunnableConfig", {**config, "configurable": kept})


def parent_place() -> dict[str, Any] | None:
    """Return the node or block in which a run is started, for its ``workflow_start``."""
    frame, block = current_frame(), current_block()
    place = frame.context if frame is not None else block.context if block is not None else None
    if place is None:
        return None
    scope = frame.scope if frame is not None else None
    found = {
        "execution_id": place.execution_id,
        "run_id": place.run_id,
        "node_id": scope.node_id if scope is not None else None,
        "tool_call_id": scope.tool_call_id if scope is not None else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def detached_context() -> contextvars.Context:
    """Return a copy of the context without the graph, the node and the block around the caller."""
    context = contextvars.copy_context()
    context.run(var_child_runnable_config.set, None)
    context.run(frame_var.set, None)
    context.run(block_var.set, None)
    return context
