"""Find the calls of graphs: the root of the runs that a handler was attached to is a call, at any depth.

A tracker is a plain callback handler: it does not make models stream. ``streaming.config(...)`` puts one into a
call's config; the default one sees every call while a module is active or an execution block is open. A call that was
given its execution is that execution's run from its first moment; others are when the first captured node enters.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import merge_configs, var_child_runnable_config
from langchain_core.tracers.context import register_configure_hook
from langgraph.callbacks import GraphCallbackHandler

from lg_streaming.capture.callbacks import ModelFollower
from lg_streaming.capture.graph_call import CallOptions, GraphCall
from lg_streaming.capture.outcome import to_interrupts
from lg_streaming.capture.place import Place, parent_run_id, place_of_run
from lg_streaming.capture.plan import configured_plan
from lg_streaming.capture.run import Run
from lg_streaming.capture.run_follower import RunFollower, RunStart, end_with_task, note_task
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.context import current_block, current_frame
from lg_streaming.publisher import publishers

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.runnables import RunnableConfig
    from langgraph.callbacks import GraphInterruptEvent

    from lg_streaming.capture.plan import GraphPlan
    from lg_streaming.publisher import Publisher

__all__ = [
    "CallTracker",
    "GraphTracker",
    "configured_execution_id",
    "current_call",
    "graph_config",
    "is_tracker",
    "options_in",
]


class GraphTracker(RunFollower, GraphCallbackHandler):
    """A handler that finds the root runs of graph calls, and their interrupts and breakpoints."""

    finds_roots: ClassVar[bool] = True

    @property
    def ignore_llm(self) -> bool:
        """True, unless code is cancelled: models' tokens pass it by, since each handler costs every token."""
        return not RUNS.is_cancelling

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Note that a graph waits for a human, at an ``interrupt()`` or a breakpoint."""
        run = RUNS.get(event.run_id)
        if run is not None and run.call is not None:
            run.call.pause(to_interrupts(event.interrupts, "|".join(event.checkpoint_ns)))
            if not event.interrupts and not event.checkpoint_ns:
                run.call.breakpoint = event.checkpoint_id


class CallTracker(GraphTracker):
    """The handler of a config that makes its calls runs of an execution.

    Args:
        publisher: The destination of updates.
        options: The options of ``streaming.config(...)``.
    """

    def __init__(self, publisher: Publisher, options: CallOptions) -> None:
        super().__init__()
        self.publisher = publisher
        self.options = options

    def take_root(self, start: RunStart) -> None:
        """Make the first run with this config a graph call."""
        self._take_root(start, _own_thread(start))
        if self.options.execution_id is None and start.run.on_thread_id is None:
            start.run.on_thread_id = functools.partial(self._learn_thread, start)

    def _learn_thread(self, start: RunStart, thread_id: object) -> None:
        """Note the call's own thread: LangGraph takes the metadata from the context, which may have another one."""
        if start.run.root_call is not None:
            start.run.root_call.begin(thread_id)
        elif thread_id is not None and str(thread_id) not in _threads_around("configurable"):
            self._take_root(start, str(thread_id))

    def _take_root(self, start: RunStart, own_thread: str | None) -> None:
        run, execution_id = start.run, self.options.execution_id
        named = execution_id or own_thread
        if own_thread is None or execution_id is not None:
            if self in run.root_handlers:
                return
            if _is_ambient(self) and (run.parent is None or run.is_detached):
                return  # left over in a worker's context from a call that has ended, or is not the one that is named
        if self not in run.root_handlers:
            run.root_handlers = (*run.root_handlers, self)
        place = place_of_run(run.parent)
        if self._is_part_of(place, run, named):
            if run.plan is None:
                run.plan = self.options.plan
            return
        replaced, parent = run.root_call, _parent_of(place) if place is not None and named is not None else None
        call = GraphCall(
            self.publisher,
            start.name,
            start.run_id,
            options=self.options,
            thread_id=own_thread or start.thread_id,
            parent=parent,
            namespace=start.namespace,
        )
        _take(start, call, self.options.plan, sure=named is not None)
        if replaced is not None:
            replaced.hand_over()

    def _is_part_of(self, place: Place | None, run: Run, named: str | None) -> bool:
        """Return whether the call is made inside an execution, and names no other."""
        if run.root_call is not None and run.root_call.explicit and self.options.execution_id is None:
            return True
        context = place.context if place is not None else None
        if context is None or context.publisher is not self.publisher:
            return False
        return named is None or named == context.execution_id


def _own_thread(start: RunStart) -> str | None:
    """Return LangGraph's thread, where the call itself names it and does not inherit it."""
    thread_id = start.thread_id
    own = thread_id is not None and str(thread_id) not in _threads_around("metadata", "configurable")
    return str(thread_id) if own else None


def _threads_around(*parts: Literal["metadata", "configurable"]) -> set[str]:
    config = cast("dict[str, Any]", var_child_runnable_config.get() or {})
    around: list[dict[str, Any]] = [config.get(part) or {} for part in parts]
    return {str(each.get("thread_id")) for each in around}


def _is_ambient(handler: BaseCallbackHandler) -> bool:
    """Return whether a handler is one of the context's, so that the call need not have named it."""
    manager = (var_child_runnable_config.get() or {}).get("callbacks")
    return isinstance(manager, BaseCallbackManager) and handler in manager.handlers


class ListeningTracker(CallTracker, ModelFollower):
    """A tracker of ``capture="all"``: it follows models too, where no context reaches the tap."""

    @property
    def ignore_llm(self) -> bool:
        """False: it follows models, too."""
        return False


class DefaultTracker(GraphTracker):
    """The handler of every graph call while a module is active or an execution block is open."""

    def take_root(self, start: RunStart) -> None:
        """Make a run that belongs to no call or node a graph call."""
        if start.run.call is not None or start.run.frame is not None:
            return
        block, publisher = current_block(), publishers.default
        own, thread_id = publisher if block is None else None, start.thread_id
        call = GraphCall(
            own,
            start.name,
            start.run_id,
            thread_id=thread_id,
            block=block,
            namespace=start.namespace,
        )
        source = block.context.publisher if block is not None else publisher
        sure = start.thread_id is None or _own_thread(start) is not None
        _take(start, call, configured_plan(source) if source is not None else None, sure=sure)
        start.run.on_thread_id = call.begin


def _take(start: RunStart, call: GraphCall, plan: GraphPlan | None, *, sure: bool) -> None:
    """Make a run the root of a call. It leaves its parents, but keeps the options of the graph's own decorator.

    The call begins, unless its thread may be that of the context around it (not `sure`).
    """
    run, run_id = start.run, start.run_id
    run.root_call = run.call = call
    run.frame = run.capture_graph = run.on_thread_id = run.tool_call_id = None
    run.is_detached = False
    run.ids.discard(run_id)
    run.ids = call.run_ids
    run.ids.add(run_id)
    if not run.has_own_plan:
        run.plan, run.children_wrapped = plan, False
    note_task(call)
    if sure:
        call.begin()
    end_with_task(run, run_id)


def _parent_of(place: Place) -> dict[str, Any] | None:
    """Return the parent of a call that names another execution, for its ``workflow_start``."""
    context = place.context
    if context is None:
        return None
    scope = place.frame.scope if place.frame is not None else None
    parent = {
        "execution_id": context.execution_id,
        "run_id": context.run_id,
        "node_id": scope.node_id if scope is not None else None,
        "tool_call_id": scope.tool_call_id if scope is not None else None,
    }
    return {name: value for name, value in parent.items() if value is not None}


def configured_execution_id(config: RunnableConfig | None) -> str | None:
    """Return the execution that a config names: its ``configurable.execution_id``, else its ``thread_id``."""
    configurable = (config.get("configurable") if config is not None else None) or {}
    found = configurable.get("execution_id") or configurable.get("thread_id")
    return str(found) if found is not None else None


def graph_config(
    config: RunnableConfig | None,
    publisher: Publisher,
    options: CallOptions,
    *,
    thread_id: str | None = None,
) -> RunnableConfig:
    """Return ``config`` with the tracker that makes a graph call an execution; its other values are kept.

    Trackers of ``publisher`` that it holds from an earlier call are left out: a graph call has one execution.

    Args:
        config: The caller's own config.
        publisher: The destination of updates.
        options: The options of the call. Without an execution's id, the config's own names the execution.
        thread_id: LangGraph's thread; the execution's id where neither this nor ``config`` names one.
    """
    own_id = options.execution_id
    configured = (config.get("configurable") if config is not None else None) or {}
    options = replace(options, execution_id=own_id or configured_execution_id(config) or thread_id)
    tracker = CallTracker if options.plan is None else ListeningTracker
    configurable: dict[str, Any] = {"execution_id": own_id, "thread_id": thread_id}
    if thread_id is None and configured.get("thread_id") is None:
        configurable["thread_id"] = own_id
    ours: RunnableConfig = {
        "callbacks": [tracker(publisher, options)],
        "configurable": {name: value for name, value in configurable.items() if value is not None},
    }
    return merge_configs(_without_trackers(config, publisher), ours)


def options_in(config: RunnableConfig | None, publisher: Publisher) -> CallOptions | None:
    """Return the options of an earlier ``graph_config`` of ``publisher`` in a config; None for any other config."""
    found = [each.options for each in _handlers(config) if _is_of(each, publisher)]
    return found[-1] if found else None


def _without_trackers(config: RunnableConfig | None, publisher: Publisher) -> RunnableConfig | None:
    if config is None or not isinstance(config.get("callbacks"), list):
        return config  # a manager belongs to a running call, whose trackers do their work there
    return {**config, "callbacks": [each for each in _handlers(config) if not _is_of(each, publisher)]}


def _handlers(config: RunnableConfig | None) -> list[Any]:
    callbacks: object = (config or {}).get("callbacks")
    return cast("list[Any]", callbacks) if isinstance(callbacks, list) else []


def _is_of(handler: object, publisher: Publisher) -> bool:
    return isinstance(handler, CallTracker) and handler.publisher is publisher


def current_call() -> GraphCall | None:
    """Return the graph call in which the running code was called, even when its node is not captured."""
    run = RUNS.get(parent_run_id())
    return run.call if run is not None else None


def is_tracker(handler: object, *, tapped: bool) -> bool:
    """Return whether a handler has done its work where a decorated node is entered: it costs every token inside.

    Args:
        handler: A handler among the node's callbacks.
        tapped: True if the tap is among them. It captures the nodes of inner graphs in place of a graph's follower.
    """
    return isinstance(handler, GraphTracker if tapped else (CallTracker, DefaultTracker))


_DEFAULT: Final = DefaultTracker()


class _TrackerHook:
    """A context variable for LangChain whose value follows the block in force; LangChain only calls `get`."""

    def get(self) -> DefaultTracker | None:
        """Return the default tracker outside of captured nodes, where a module is active or a block is open."""
        if not publishers.count or current_frame() is not None:
            return None
        return _DEFAULT if publishers.default is not None or current_block() is not None else None


register_configure_hook(cast("Any", _TrackerHook()), inheritable=True)
