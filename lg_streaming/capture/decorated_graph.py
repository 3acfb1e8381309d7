"""Decorate a compiled graph: the options hold for every node in it, subgraphs and agents included."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import merge_configs
from langgraph._internal._runnable import RunnableCallable, RunnableSeq
from langgraph.graph import START
from langgraph.pregel import Pregel

from lg_streaming.capture.graph import GraphTracker
from lg_streaming.capture.node import open_node
from lg_streaming.capture.place import place_of_run
from lg_streaming.capture.plan import GraphPlan, NodePlan, Selection
from lg_streaming.capture.run_follower import RunStart, end_with_task
from lg_streaming.capture.wrap import StreamedRunnable, get_plan
from lg_streaming.publisher import publishers

if TYPE_CHECKING:
    from langgraph.pregel._read import PregelNode

    from lg_streaming.capture.run import Run

__all__ = ["decorate_graph", "get_graph_plan", "get_node_options", "has_decorated_nodes", "is_graph", "shows_nodes"]

logger: logging.Logger = logging.getLogger(__name__)

AnyGraph: TypeAlias = "Pregel[Any, Any, Any, Any]"


class GraphFollower(GraphTracker):
    """Handler that finds the calls of a decorated graph, and captures the nodes that do not capture themselves.

    It is one of the callbacks in the graph's config, so that it is part of every copy and every call of the graph.
    """

    def __init__(self, plan: GraphPlan, original: AnyGraph) -> None:
        super().__init__()
        self.plan: GraphPlan = plan
        self.original: AnyGraph = original

    def on_chain_start(self, serialized: dict[str, Any], inputs: dict[str, Any], **kwargs: Any) -> None:
        """Register the run, if a module is in use."""
        if publishers.count:
            super().on_chain_start(serialized, inputs, **kwargs)

    def take_root(self, start: RunStart) -> None:
        """Give the graph's plan to its first run; capture a graph that is a node of another as a node."""
        run = start.run
        if self in run.root_handlers:
            return
        run.root_handlers = (*run.root_handlers, self)
        run.plan, run.has_own_plan, run.children_wrapped = self.plan, True, True
        if run.is_outermost and run.root_call is None:
            end_with_task(run, start.run_id)
        node = run.parent
        if node is not None and node.is_node and node.namespace == run.namespace and node.node is None:
            run.capture_graph = functools.partial(self._capture_subgraph, node, start)

    def _capture_subgraph(self, node: Run, start: RunStart) -> None:
        """Capture the node that the graph is, unless it captures itself, or calls the graph in its own execution."""
        place, options = place_of_run(node), self.plan.for_graph
        captured = node.frame is not None and node.frame.graph_namespace == node.namespace
        if place is not None and options.enabled and not captured and place.made_in_namespace != node.namespace:
            open_node(node, place, options, name=start.node_name, metadata=start.metadata, state=start.inputs)
            start.run.frame = node.frame


def is_graph(target: object) -> bool:
    """Return whether ``target`` is a compiled graph."""
    return isinstance(target, Pregel)


def has_decorated_nodes(graph: object) -> bool:
    """Return whether a compiled graph, or one of its nodes, is decorated."""
    if get_graph_plan(graph) is not None:
        return True
    return any(get_node_options(node.bound) is not None for node in cast("AnyGraph", graph).nodes.values())


def shows_nodes(graph: object) -> bool:
    """Return whether readers may see nodes of a graph: its decorators select some, or it has no decorators."""
    plan = get_graph_plan(graph)
    return plan is None or any(each.nodes is None or each.nodes for each in plan.selections)


def _get_follower(graph: object) -> GraphFollower | None:
    config = cast("AnyGraph", graph).config if isinstance(graph, Pregel) else None
    callbacks: object = (config or {}).get("callbacks")
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks
    found = [each for each in cast("list[object]", handlers or []) if isinstance(each, GraphFollower)]
    return found[-1] if found else None


def get_graph_plan(graph: object) -> GraphPlan | None:
    """Return the plan of the decorators on a graph; None for a graph without decorators."""
    follower = _get_follower(graph)
    return follower.plan if follower is not None else None


def decorate_graph(graph: object, selection: Selection) -> Any:
    """Return a copy of a compiled graph whose nodes are captured by ``selection`` and by earlier decorators.

    The copy has the same class, so that LangGraph and its tools treat both alike.
    """
    follower = _get_follower(graph)
    earlier = follower.plan.selections if follower is not None else ()
    original = follower.original if follower is not None else cast("AnyGraph", graph)
    _warn_of_unmatched(selection, original)
    plan = GraphPlan((*earlier, selection))
    nodes: dict[str, PregelNode] = {name: _capture_node(name, node, plan) for name, node in original.nodes.items()}
    config = merge_configs(original.config, {"callbacks": [GraphFollower(plan, original)]})
    return original.copy({"nodes": nodes, "config": config})


def _capture_node(name: str, node: PregelNode, plan: GraphPlan) -> PregelNode:
    options = plan.for_node(name, name)
    if options is None or name == START or get_node_options(node.bound) is not None:
        return node
    return node.copy({"bound": StreamedRunnable(node.bound, options, name)})


def get_node_options(node: object) -> NodePlan | None:
    """Return the options of a decorated node, in the form in which LangGraph keeps it; None for any other node."""
    found: Any = node
    if isinstance(node, RunnableSeq):
        found = found.steps[0]
    if isinstance(found, StreamedRunnable):
        return found.plan
    functions: list[Any] = [found.func, found.afunc] if isinstance(found, RunnableCallable) else []
    plans = [get_plan(each) for each in functions if each is not None]
    return next((plan for plan in plans if plan is not None), None)


def _warn_of_unmatched(selection: Selection, graph: AnyGraph) -> None:
    names = [name for name in graph.nodes if not name.startswith("__")]
    for pattern in (*(selection.nodes or ()), *selection.exclude):
        alone = Selection(selection.options, (pattern,))
        if "/" not in pattern and not any(alone.holds_for(name, name) for name in graph.nodes):
            logger.warning(
                "no node of graph %r is named %r: it has %s; nodes of subgraphs may match still",
                graph.get_name(),
                pattern,
                ", ".join(names) or "none",
            )
