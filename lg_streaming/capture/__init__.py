"""Capture: what a LangGraph node does, seen from outside it. The only part that knows LangGraph and LangChain."""

from lg_streaming.capture.graph import RunTracker, activate_tracking
from lg_streaming.capture.node import NodePlan, NodeStream, StreamedRunnable, original_of, wrap_node

__all__ = ["NodePlan", "NodeStream", "RunTracker", "StreamedRunnable", "activate_tracking", "original_of", "wrap_node"]
