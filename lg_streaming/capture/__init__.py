"""Capture LangGraph nodes from outside. Only this package imports LangGraph and LangChain.

- `wrap`: wrappers of functions, generators and Runnables; `held_functions`: tools, tasks and methods.
- `enter_node`: entry of a decorated node; `chain_steps`: chains as nodes.
- `decorated_graph`: decorators on a compiled graph; `plan`: the options of its nodes.
- `node`: one attempt of a node; `node_frame`: the frame to which its events belong, a node or a tool call;
  `node_observer`: an observer of the nodes of a call.
- `node_result`: messages and text in a node's result; `outcome`: the meaning of an error that ends it.
- `yields`: items that a generator node yields; `tool_call`: one call of a tool.
- `model_call`: one call of a model; `message_parts`: the content of its messages and chunks.
- `graph_call`: one call of a graph, and its run; `graph`: the trackers that find such calls; `called_graphs`: the
  graphs that were called, by execution.
- `run_registry`: LangChain's runs, each a `run`; `place`: the node or call that each belongs to.
- `run_follower`, `callbacks`: callback handlers for runs, tools and models.
- `canceller`, `cancel_gate`, `cancelled`, `thread_work`: cancels of graph calls and blocks.
- `pregel_hooks`: hooks into LangGraph's loop; `idle_timeout`: its idle clock; `retries`: its retry policies.
"""

from langchain_core.runnables import RunnableConfig

from lg_streaming.capture.called_graphs import CALLED_GRAPHS
from lg_streaming.capture.cancel_gate import install_gate
from lg_streaming.capture.canceller import BlockCanceller
from lg_streaming.capture.decorated_graph import (
    decorate_graph,
    get_graph_plan,
    has_decorated_nodes,
    is_graph,
    shows_nodes,
)
from lg_streaming.capture.graph import configured_execution_id, current_call, graph_config, options_in
from lg_streaming.capture.graph_call import CallOptions
from lg_streaming.capture.held_functions import get_held_function, replace_held_function
from lg_streaming.capture.idle_timeout import install_idle_hooks
from lg_streaming.capture.node_observer import NodeObserver
from lg_streaming.capture.outcome import Ending, describe_failure
from lg_streaming.capture.place import surrounding_namespace
from lg_streaming.capture.plan import GraphPlan, NodePlan, NodeSink, Selection, configured_plan
from lg_streaming.capture.pregel_hooks import install_hooks
from lg_streaming.capture.retries import install_retry_hooks
from lg_streaming.capture.run_registry import running_node
from lg_streaming.capture.wrap import StreamedRunnable, unwrap_node, wrap_node

__all__ = [
    "CALLED_GRAPHS",
    "BlockCanceller",
    "CallOptions",
    "Ending",
    "GraphPlan",
    "NodeObserver",
    "NodePlan",
    "NodeSink",
    "RunnableConfig",
    "Selection",
    "StreamedRunnable",
    "configured_execution_id",
    "configured_plan",
    "current_call",
    "decorate_graph",
    "describe_failure",
    "get_graph_plan",
    "get_held_function",
    "graph_config",
    "has_decorated_nodes",
    "is_graph",
    "options_in",
    "replace_held_function",
    "running_node",
    "shows_nodes",
    "surrounding_namespace",
    "unwrap_node",
    "wrap_node",
]

install_gate()
install_hooks()
install_idle_hooks()
install_retry_hooks()
