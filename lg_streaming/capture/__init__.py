"""Capture: what a LangGraph node does, seen from outside it. The only part that knows LangGraph and LangChain."""

from langchain_core.runnables import RunnableConfig

from lg_streaming.capture.calls import CallOptions
from lg_streaming.capture.graph import current_call, graph_config, options_in
from lg_streaming.capture.graphs import decorate_graph, is_graph, plan_of
from lg_streaming.capture.holders import change_held, held_by
from lg_streaming.capture.idle import install_idle_hooks
from lg_streaming.capture.plan import GraphPlan, NodePlan, NodeSink, Selection
from lg_streaming.capture.pregel import install_hooks
from lg_streaming.capture.runs import surrounding_namespace
from lg_streaming.capture.wrap import StreamedRunnable, original_of, wrap_node

__all__ = [
    "CallOptions",
    "GraphPlan",
    "NodePlan",
    "NodeSink",
    "RunnableConfig",
    "Selection",
    "StreamedRunnable",
    "change_held",
    "current_call",
    "decorate_graph",
    "graph_config",
    "held_by",
    "is_graph",
    "options_in",
    "original_of",
    "plan_of",
    "surrounding_namespace",
    "wrap_node",
]

install_hooks()
install_idle_hooks()
