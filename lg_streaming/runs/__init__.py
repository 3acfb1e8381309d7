"""Runs of graphs: start, queue, pause for people, cancel.

- `registry`: graphs by name; `runner`: starts runs and keeps their tasks.
- `request`: the checked arguments of a start; `start_keys`: idempotency keys.
- `run`: the handle of a run; `restored`: that of a run which another process drives, or which has ended.
- `driver`: one run from its start to its end; `call_config`: the config of its calls.
- `opening`: opens a run exclusively in the log; `rollback`: takes back what a run changed.
- `order`: the runs of an execution in this process; `tickets`: those that wait, in all processes.
- `queue`: bounded concurrency, fair by owner; `disconnect`: runs whose readers left; `shutdown`: stops all runs.
- `human`: prompts from the state of a paused graph, and the wait for their answers; `asking`: `human_prompt`.
- `steering`: one run between the steps of its graph; `commands`: pause, resume, inject, edit, fork, from any process.
- `recovery`: takes up runs whose process is gone; `takeover`: one such run; `records`, `recording`: their facts.
- `attempts`: attempts of nodes in other processes; `partial_answers`: answers that outlive the process.
- `progress`: progress of a whole run; `estimate`: its figures; `structure`: the graph; `history`: earlier runs.
- `recovery`: takes up runs whose process is gone; `takeover`: one such run; `attempts`: its attempts of nodes.
- `records`: the facts with which another process goes on with a run; `recording`: writes those of a run that begins.
- `partial_answers`: answers to some of the prompts of a pause.
- `remote`: starts for callers on the network; `schemas`: checks of what they send; `threads`: states of threads.
- `states`: publishes the state after each step.
- `execution_graphs`: the graph of an execution; `description`: its nodes and edges, for people; `branches`: the copied
  thread of a fork.
"""

from lg_streaming.runs.asking import human_prompt, human_prompt_sync
from lg_streaming.runs.description import describe_graph
from lg_streaming.runs.execution_graphs import ExecutionGraph
from lg_streaming.runs.registry import GraphRegistry
from lg_streaming.runs.remote import RemoteCommand, RemoteConfig, RemoteFork, RemoteRunner, RemoteStart
from lg_streaming.runs.run import GraphRun, RunStatus
from lg_streaming.runs.runner import GraphRunner

__all__ = [
    "ExecutionGraph",
    "GraphRegistry",
    "GraphRun",
    "GraphRunner",
    "RemoteCommand",
    "RemoteConfig",
    "RemoteFork",
    "RemoteRunner",
    "RemoteStart",
    "RunStatus",
    "describe_graph",
    "human_prompt",
    "human_prompt_sync",
]
