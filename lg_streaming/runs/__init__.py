"""Runs of graphs: start, queue, pause for people, cancel.

- `registry`: graphs by name; `runner`: starts runs and keeps their tasks; `run`: the handle of a run.
- `driver`: one run from its start to its end; `queue`: bounded concurrency, fair by owner.
- `human`: prompts from interrupts, and their answers.
- `steering`: one run between the steps of its graph; `commands`: pause, resume, inject, edit, fork, from any process.
- `remote`: starts for callers on the network; `schemas`: checks of what they send.
"""

from lg_streaming.runs.registry import GraphRegistry
from lg_streaming.runs.remote import RemoteConfig, RemoteRunner, RemoteStart
from lg_streaming.runs.run import GraphRun, RunStatus
from lg_streaming.runs.runner import GraphRunner

__all__ = ["GraphRegistry", "GraphRun", "GraphRunner", "RemoteConfig", "RemoteRunner", "RemoteStart", "RunStatus"]
