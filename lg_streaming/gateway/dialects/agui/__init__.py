"""AG-UI's protocol, for `HttpAgent`, and the routes of CopilotKit's runtime.

- `wire`: the routes; `copilotkit`: those of CopilotKit's runtime; `runs`: runs and replays.
- `request`: the body of a run; `conversation`: new messages and open interrupts of a thread.
- `encoder`: updates as events; `messages`: messages in both forms; `patch`: changes of a state.
"""

from lg_streaming.gateway.dialects.agui.wire import AgUi

__all__ = ["AgUi"]
