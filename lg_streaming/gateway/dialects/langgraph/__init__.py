"""The wire of LangGraph's server: threads, runs and assistants, for its SDKs and hooks.

- `routes`: the class of the wire, and the table of its routes; `runs`, `thread_routes`, `search`: what they do.
- `services`: what the routes share; `store`: values that outlive a run; `records`: runs; `threads`: threads.
- `segments`: our run stays open while it waits for people; here each request is another run.
- `starting`: starts, answers, cancellations; `pending`: streams of runs that wait for their turn.
- `lookup`: looks up runs; `view`: what a reader sees; `reader`: the updates of a segment.
- `encoder`: frames of a run; `thread_stream`: of all runs; `final`: the values at the end of one.
- `chunks`: messages; `shapes`: tasks, checkpoints, tools.
- `tape`: the events of a thread, for event streaming; `message_events`: those of messages; `event_shapes`: their parts.
- `channels`: filters of events; `event_states`: states too large for an update.
- `events`: routes of event streaming; `event_stream`: Server-Sent Events; `event_socket`: WebSocket;
  `event_commands`: commands.
- `states`, `assistants`, `bodies`, `refusals`: objects, requests and errors.
"""

from __future__ import annotations

from lg_streaming.gateway.dialects.langgraph.routes import LangGraph

__all__ = ["LangGraph"]
