"""Finds the calls of graphs: the root of what a handler was attached to is a call, however deep LangChain sees it.

A tracker is a plain callback handler: it does not make models stream. ``streaming.config(...)`` puts one into a
call's config; the default one sees every call while a module is active or an execution block is open. A call that was
given its execution is that execution's run from its first moment; others are when the first captured node enters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import merge_configs, var_child_runnable_config
from langchain_core.tracers.context import register_configure_hook
from langgraph.callbacks import GraphCallbackHandler

from lg_streaming.capture.calls import CallOptions, GraphCall
from lg_streaming.capture.follow import RunFollower, RunStart
from lg_streaming.capture.outcome import questions
from lg_streaming.capture.runs import RUNS, Place, Run
from lg_streaming.capture.tap import ModelFollower
from lg_streaming.scope import current_block, current_frame, publishers

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig
    from langgraph.callbacks import GraphInterruptEvent

    from lg_streaming.capture.plan import GraphPlan
    from lg_streaming.scope import Publisher

__all__ = [
    "CallTracker",
    "configured_id",
    "current_call",
    "graph_config",
    "is_tracker",
    "note_interrupt",
    "parent_run_id",
]


class _Interrupts(GraphCallbackHandler):
    """Hears of LangGraph's interrupts and breakpoints."""

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Notes that a graph waits for a human."""
        note_interrupt(event)


def note_interrupt(event: GraphInterruptEvent) -> None:
    """Notes that a graph waits for a human, at an ``interrupt()`` or a breakpoint."""
    run = RUNS.get(event.run_id)
    if run is not None and run.call is not None:
        run.call.pause(questions(event.interrupts, "|".join(event.checkpoint_ns)))


class CallTracker(RunFollower, _Interrupts):
    """Makes the calls whose config it is in runs of an execution.

    Args:
        publisher: Where updates go.
        options: What ``streaming.config(...)`` was given.
    """

    takes_roots: ClassVar[bool] = True

    def __init__(self, publisher: Publisher, options: CallOptions) -> None:
        super().__init__()
        self._publisher = publisher
        self._options = options

    @property
    def ignore_llm(self) -> bool:
        """Whether models' tokens pass it by: each handler costs every token."""
        return True

    def take_root(self, start: RunStart) -> None:
        """Makes a graph call of the first run that this config reaches."""
        run, parent_run_id = start.run, start.parent_run_id
        if self in run.handlers:
            return
        run.handlers = (*run.handlers, self)
        options = self._options
        place = RUNS.place_of(parent_run_id)
        if self._is_part_of(place, run):
            if run.plan is None:
                run.plan = options.plan
            return
        parent = _told_of(place) if place is not None and options.execution_id is not None else None
        if run.root is not None:
            run.root.complete()
        thread_id = start.metadata.get("thread_id")
        call = GraphCall(self._publisher, start.name, start.run_id, options=options, thread_id=thread_id, parent=parent)
        _take(start, call, options.plan)

    def _is_part_of(self, place: Place | None, run: Run) -> bool:
        """Whether the call names no execution of its own, but is made inside one."""
        execution_id = self._options.execution_id
        if run.root is not None and run.root.explicit and execution_id is None:
            return True
        binding = place.binding if place is not None else None
        if binding is None or binding.publisher is not self._publisher:
            return False
        return execution_id is None or execution_id == binding.execution_id


class ListeningTracker(CallTracker, ModelFollower):
    """A tracker of ``capture="all"``: hears models too, where no context reaches the tap."""

    @property
    def ignore_llm(self) -> bool:
        """Whether models pass it by."""
        return False


class DefaultTracker(RunFollower, _Interrupts):
    """Sees every graph call while a module is active or an execution block is open."""

    takes_roots: ClassVar[bool] = True

    @property
    def ignore_llm(self) -> bool:
        """Whether models' tokens pass it by."""
        return True

    def take_root(self, start: RunStart) -> None:
        """Makes a graph call of a run that belongs to nothing yet."""
        if start.run.call is not None or start.run.frame is not None:
            return
        block, publisher = current_block(), publishers.default
        own, thread_id = publisher if block is None else None, start.metadata.get("thread_id")
        call = GraphCall(own, start.name, start.run_id, thread_id=thread_id, block=block)
        source = block.binding.publisher if block is not None else publisher
        _take(start, call, cast("Any", source).capture_plan if source is not None else None)


def _take(start: RunStart, call: GraphCall, plan: GraphPlan | None) -> None:
    """Makes a run the root of a call. What it was part of before holds no more, but for the graph's own decorator."""
    run, run_id = start.run, start.run_id
    run.root = run.call = call
    run.frame = None
    run.ids.discard(run_id)
    run.ids = call.run_ids
    run.ids.add(run_id)
    if not run.own_plan:
        run.plan, run.children_wrapped = plan, False
    call.begin()


def _told_of(place: Place) -> dict[str, Any] | None:
    """Where a call with an execution of its own was made, as its ``workflow_start`` says it."""
    binding = place.binding
    if binding is None:
        return None
    scope = place.frame.scope if place.frame is not None else None
    known = {
        "execution_id": binding.execution_id,
        "run_id": binding.run_id,
        "node_id": scope.node_id if scope is not None else None,
        "tool_call_id": scope.tool_call_id if scope is not None else None,
    }
    return {name: value for name, value in known.items() if value is not None}


def configured_id(config: RunnableConfig | None) -> str | None:
    """The execution that a config names: its ``configurable.execution_id``, else its ``thread_id``."""
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
    """Return ``config`` with what makes a graph called with it an execution; what it holds is kept.

    Args:
        config: The caller's own config.
        publisher: Where updates go.
        options: What the call is to be. Without an execution's id, the config's own names the execution.
        thread_id: LangGraph's thread; the execution's id where neither this nor ``config`` names one.
    """
    given = options.execution_id
    known = (config.get("configurable") if config is not None else None) or {}
    options = replace(options, execution_id=given or configured_id(config) or thread_id)
    tracker = CallTracker if options.plan is None else ListeningTracker
    configurable: dict[str, Any] = {"execution_id": given, "thread_id": thread_id}
    if thread_id is None and known.get("thread_id") is None:
        configurable["thread_id"] = given
    ours: RunnableConfig = {
        "callbacks": [tracker(publisher, options)],
        "configurable": {name: value for name, value in configurable.items() if value is not None},
    }
    return merge_configs(config, ours)


def current_call() -> GraphCall | None:
    """The graph call in which the running code was called, whether or not its node is captured."""
    run = RUNS.get(parent_run_id())
    return run.call if run is not None else None


def parent_run_id() -> UUID | None:
    """The id of the LangChain run in whose context the code runs; None outside of any."""
    config = var_child_runnable_config.get()
    manager = config.get("callbacks") if config else None
    return manager.parent_run_id if isinstance(manager, BaseCallbackManager) else None


def is_tracker(handler: object, *, tapped: bool) -> bool:
    """Whether a handler has done its work where a decorated node is entered: it costs every token inside.

    Args:
        handler: A handler among the node's callbacks.
        tapped: Whether the tap is among them. It captures the nodes of inner graphs in place of a graph's follower.
    """
    return isinstance(handler, (CallTracker, DefaultTracker)) or (
        tapped and isinstance(handler, RunFollower) and handler.takes_roots
    )


_DEFAULT: Final = DefaultTracker()


class _TrackerHook:
    """Answers like a context variable whose value follows what is in force; LangChain only ever asks for `get`."""

    def get(self) -> DefaultTracker | None:
        """The default tracker outside of captured nodes, where a module is active or a block is open."""
        if not publishers.count or current_frame() is not None:
            return None
        return _DEFAULT if publishers.default is not None or current_block() is not None else None


register_configure_hook(cast("Any", _TrackerHook()), inheritable=True)
