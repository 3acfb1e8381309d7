"""State of a run, folded from its updates, for terminals and notebooks. It imports no part of a server.

- `run_view`: the run; `node_view`: its nodes, with texts and tool calls; `prompt_view`: its questions to people.
- `fitted`: data whose fields have other types than on the wire.
- `formatting`: labels, durations and other texts about them.
"""
