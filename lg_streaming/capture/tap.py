"""The tap: one LangChain callback handler for the whole process, attached to what runs inside decorated nodes.

It is registered through a context variable that is set only while a decorated node runs, so models outside of
decorated nodes keep their non-streaming calls. Inside, its two ``tap_output`` methods make LangChain treat it
as a streaming handler (the test is structural), so that ``model.invoke()`` streams.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.tracers.context import register_configure_hook
from langgraph.constants import TAG_NOSTREAM

from lg_streaming.capture.content import parts_of_event, parts_of_message
from lg_streaming.capture.model_call import ABOUT, ModelCall
from lg_streaming.chunks import text
from lg_streaming.errors import describe_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from uuid import UUID

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import GenerationChunk

    from lg_streaming.scope import Scope

__all__ = ["TAP", "Listening", "listening_var", "tap_var"]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")


class Listening(Protocol):
    """A decorated node that is running: where what the tap hears goes."""

    @property
    def scope(self) -> Scope:
        """What the node's updates are about."""
        ...

    @property
    def run_ids(self) -> set[UUID]:
        """The LangChain runs known to belong to the node; forgotten when it ends."""
        ...

    @property
    def message_ids(self) -> set[str]:
        """The messages that models inside the node said."""
        ...

    def hear(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """One thing that happened. Never raises."""
        ...


listening_var: ContextVar[Listening | None] = ContextVar("lg_streaming_listening", default=None)
"""The innermost decorated node that is running."""


class Tap(BaseCallbackHandler):
    """Hears models and tools inside decorated nodes and tells the node."""

    run_inline = True
    raise_error = False

    def __init__(self) -> None:
        self._nodes: dict[UUID, Listening] = {}
        self._calls: dict[UUID, ModelCall] = {}
        self._tools: dict[UUID, tuple[Listening, Scope, dict[str, Any]]] = {}

    @property
    def ignore_retriever(self) -> bool:
        """Not heard."""
        return True

    @property
    def ignore_custom_event(self) -> bool:
        """Not heard."""
        return True

    # --- these two make models stream -----------------------------------------------------------------------

    def tap_output_iter(self, run_id: UUID, output: Iterator[T]) -> Iterator[T]:  # noqa: ARG002
        """Part of LangChain's protocol of streaming handlers; lets everything through."""
        return output

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[T]) -> AsyncIterator[T]:  # noqa: ARG002
        """Part of LangChain's protocol of streaming handlers; lets everything through."""
        return output

    # --- whose run is it ------------------------------------------------------------------------------------

    def adopt(self, run_id: UUID, listening: Listening) -> None:
        """Makes the runs below ``run_id`` belong to a node, also where no context variable reaches."""
        self._nodes[run_id] = listening
        listening.run_ids.add(run_id)

    def forget(self, listening: Listening) -> None:
        """Frees what is known of a node that has ended."""
        for run_id in listening.run_ids:
            self._nodes.pop(run_id, None)
            self._calls.pop(run_id, None)
            self._tools.pop(run_id, None)
        listening.run_ids.clear()

    def _listening(self, run_id: UUID, parent_run_id: UUID | None) -> Listening | None:
        listening = listening_var.get()
        if listening is None and parent_run_id is not None:
            listening = self._nodes.get(parent_run_id)
        if listening is not None:
            self.adopt(run_id, listening)
        return listening

    def on_chain_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002
        inputs: dict[str, Any],  # noqa: ARG002
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Remembers whose chain it is."""
        self._listening(run_id, parent_run_id)

    # --- models ---------------------------------------------------------------------------------------------

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: Sequence[Sequence[BaseMessage]],  # noqa: ARG002
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A chat model begins."""
        self._model_start(serialized, run_id, parent_run_id, tags, {**(metadata or {}), **kwargs})

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],  # noqa: ARG002
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A text model begins."""
        self._model_start(serialized, run_id, parent_run_id, tags, {**(metadata or {}), **kwargs})

    def _model_start(
        self,
        serialized: dict[str, Any] | None,
        run_id: UUID,
        parent_run_id: UUID | None,
        tags: Sequence[str] | None,
        about: dict[str, Any],
    ) -> None:
        if tags and TAG_NOSTREAM in tags:
            return
        listening = self._listening(run_id, parent_run_id)
        if listening is None:
            return
        name = about.get("ls_model_name") or about.get("name") or (serialized or {}).get("name") or "model"
        known = {"model": str(name)} | {new: about[old] for old, new in ABOUT.items() if about.get(old) is not None}
        call = self._calls[run_id] = ModelCall(listening, run_id, str(name), known)
        call.report("llm_start", {})

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """A model gave a piece."""
        call = self._calls.get(run_id)
        if call is None:
            return
        if isinstance(chunk, ChatGenerationChunk):
            call.say(parts_of_message(chunk.message), dialect="chunks", message_id=chunk.message.id)
        elif isinstance(token, str) and token:
            call.say((text(token),), dialect="chunks")

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """A model gave a piece, as an event of the content-block protocol."""
        call = self._calls.get(run_id)
        if call is not None:
            call.say(parts_of_event(event), dialect="events", message_id=event.get("id"))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """A model is done; what did not come in pieces comes now, whole."""
        call = self._calls.pop(run_id, None)
        if call is None:
            return
        data: dict[str, Any] = {}
        for generation in response.generations[0][:1] if response.generations else ():
            if isinstance(generation, ChatGeneration):
                message = generation.message
                call.say_once(parts_of_message(message), message.id)
                data["finish_reason"] = message.response_metadata.get("finish_reason")
                data["usage"] = getattr(message, "usage_metadata", None)
            elif generation.text:
                call.say_once((text(generation.text),), None)
        call.report("llm_complete", {key: value for key, value in data.items() if value is not None})

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """A model failed."""
        call = self._calls.pop(run_id, None)
        if call is not None:
            call.report("llm_error", {"error": describe_error(error)})

    # --- tools ----------------------------------------------------------------------------------------------

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        inputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """A tool begins."""
        listening = self._listening(run_id, parent_run_id)
        if listening is None:
            return
        call_id = kwargs.get("tool_call_id")
        scope = listening.scope.derive(tool_call_id=call_id) if isinstance(call_id, str) else listening.scope
        data = {"tool": kwargs.get("name") or (serialized or {}).get("name") or "tool", "tool_call_id": call_id}
        about = {key: value for key, value in data.items() if value is not None}
        self._tools[run_id] = (listening, scope, about)
        listening.hear("tool_start", {**about, "input": inputs if inputs is not None else input_str}, scope)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """A tool is done. A tool that answered with an error message has failed too."""
        if (known := self._tools.pop(run_id, None)) is not None:
            listening, scope, about = known
            content = getattr(output, "content", output)
            if getattr(output, "status", None) == "error":
                listening.hear("tool_error", {**about, "error": describe_error(str(content))}, scope)
            else:
                listening.hear("tool_complete", {**about, "output": content}, scope)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """A tool failed."""
        if (known := self._tools.pop(run_id, None)) is not None:
            listening, scope, about = known
            listening.hear("tool_error", {**about, "error": describe_error(error)}, scope)


TAP: Final = Tap()

tap_var: ContextVar[Tap | None] = ContextVar("lg_streaming_tap", default=None)
"""Set to `TAP` while a decorated node runs; LangChain attaches it to whatever runs then."""

register_configure_hook(tap_var, inheritable=True)
