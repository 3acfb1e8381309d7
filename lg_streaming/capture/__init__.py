"""Capture: what a LangGraph node does, seen from outside it. The only part that knows LangGraph and LangChain."""

from langchain_core.runnables import RunnableConfig

from lg_streaming.capture.graph import activate_tracking, graph_config
from lg_streaming.capture.holders import change_held, held_by
from lg_streaming.capture.node import NodePlan, NodeStream
from lg_streaming.capture.wrap import StreamedRunnable, original_of, wrap_node

__all__ = [
    "NodePlan",
    "NodeStream",
    "RunnableConfig",
    "StreamedRunnable",
    "activate_tracking",
    "change_held",
    "graph_config",
    "held_by",
    "original_of",
    "wrap_node",
]
