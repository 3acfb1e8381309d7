"""One call of a model inside a decorated node, from its start to its end: what it says becomes updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from lg_streaming.capture.tap import Listening
    from lg_streaming.chunks import Part

__all__ = ["ABOUT", "ModelCall"]

ABOUT: Final = {
    "ls_provider": "provider",
    "ls_model_type": "model_type",
    "ls_temperature": "temperature",
    "ls_max_tokens": "max_tokens",
    "langgraph_node": "langgraph_node",
    "langgraph_step": "langgraph_step",
    "langgraph_checkpoint_ns": "langgraph_checkpoint_ns",
}
"""What of a call's metadata goes along with its tokens: not the user's own keys, which may be secret."""


class ModelCall:
    """One call of a model, between its start and its end."""

    __slots__ = ("_about", "_dialect", "_indexes", "_listening", "_message_id", "_scope", "_spoke", "name")

    def __init__(self, listening: Listening, run_id: UUID, name: str, about: dict[str, Any]) -> None:
        self.name: str = name
        self._about = about
        self._listening = listening
        self._message_id = f"lc_run--{run_id}"
        self._scope = listening.scope.derive(request_id=str(run_id), message_id=self._message_id)
        listening.message_ids.add(self._message_id)
        self._dialect = ""  # under v3 some models report each token twice: the first dialect heard is the one
        self._indexes: dict[str, int] = {}
        self._spoke = False

    def say(self, parts: Iterable[Part], *, dialect: str, message_id: str | None = None) -> None:
        """Passes on a piece of the message."""
        if self._dialect != dialect:
            if self._dialect:
                return
            self._dialect = dialect
        if message_id is not None and message_id != self._message_id:
            self._message_id = message_id
            self._listening.message_ids.add(message_id)
            self._scope = self._scope.derive(message_id=message_id)
        for kind, data in parts:
            if kind == "tool_args":
                self._spoke = self._spoke or "tool_call_id" in data
            else:
                self._spoke = True
                data["index"] = index = self._indexes.get(kind, 0)
                data["role"] = "ai"
                data["metadata"] = self._about
                self._indexes[kind] = index + 1
            self._listening.hear(kind, data, self._scope)

    def say_once(self, parts: Iterable[Part], message_id: str | None) -> None:
        """Says the whole message, unless it came in pieces before."""
        if not self._spoke:
            self._dialect = ""
            self.say(parts, dialect="whole", message_id=message_id)

    def report(self, type: str, data: dict[str, Any]) -> None:
        self._listening.hear(type, {"model": self.name, **data}, self._scope)
