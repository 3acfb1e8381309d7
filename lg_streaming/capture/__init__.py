"""Capture: what a LangGraph node does, seen from outside it. The only part that knows LangGraph and LangChain."""

from langchain_core.runnables import RunnableConfig

from lg_streaming.capture.decorated_graph import decorate_graph, get_graph_plan, is_graph
from lg_streaming.capture.graph import current_call, graph_config, options_in
from lg_streaming.capture.graph_call import CallOptions
from lg_streaming.capture.held_functions import get_held_function, replace_held_function
from lg_streaming.capture.idle_timeout import install_idle_hooks
from lg_streaming.capture.plan import GraphPlan, NodePlan, NodeSink, Selection
from lg_streaming.capture.pregel_hooks import install_hooks
from lg_streaming.capture.run_registry import surrounding_namespace
from lg_streaming.capture.wrap import StreamedRunnable, unwrap_node, wrap_node

__all__ = [
    "CallOptions",
    "GraphPlan",
    "NodePlan",
    "NodeSink",
    "RunnableConfig",
    "Selection",
    "StreamedRunnable",
    "current_call",
    "decorate_graph",
    "get_graph_plan",
    "get_held_function",
    "graph_config",
    "is_graph",
    "options_in",
    "replace_held_function",
    "surrounding_namespace",
    "unwrap_node",
    "wrap_node",
]

install_hooks()
install_idle_hooks()
