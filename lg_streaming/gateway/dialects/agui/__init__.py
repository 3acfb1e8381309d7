"""AG-UI's protocol, for its own client, and the routes of CopilotKit's runtime.

- `wire`: the routes; `copilotkit`: those of CopilotKit's runtime; `runs`: runs and replays.
- `request`: the body of a run; `conversation`: new messages and open interrupts of a thread.
- `reading`: the subject of a stream; `encoder`: updates as events.
- `text_events`, `tool_events`, `state_events`, `interrupts`: parts of the encoder; `events`: one event.
- `messages`: messages in both forms; `patch`: changes of a state; `responses`: answers without events.
"""

from lg_streaming.gateway.dialects.agui.wire import AgUi

__all__ = ["AgUi"]
