"""The tap: one LangChain callback handler for the whole process, attached to what runs inside captured nodes.

LangChain asks the tap's hook, whenever something starts, whether to attach it. The hook says yes only inside a node that
is running and listens, so models elsewhere keep their non-streaming calls. Inside, the tap's two ``tap_output`` methods
make LangChain treat it as a streaming handler (the test is structural), so that ``model.invoke()`` streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.tracers.context import register_configure_hook
from langgraph.constants import TAG_NOSTREAM

from lg_streaming.capture.content import parts_of_event, parts_of_message
from lg_streaming.capture.follow import RunFollower
from lg_streaming.capture.model_call import ABOUT, ModelCall
from lg_streaming.capture.runs import RUNS
from lg_streaming.chunks import text
from lg_streaming.errors import describe_error
from lg_streaming.scope import current_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from uuid import UUID

    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import GenerationChunk

    from lg_streaming.capture.node import NodeFrame

__all__ = ["TAP", "ModelEars", "Tap"]

T = TypeVar("T")


class ModelEars(RunFollower):
    """Follows runs, and hears the models in captured nodes."""

    def __init__(self) -> None:
        self._calls: dict[UUID, ModelCall] = {}

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
        run, _ = RUNS.start(self, run_id, parent_run_id, about)
        listening = run.frame
        if listening is None or not run.is_heard_by(self):
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


class Tap(ModelEars):
    """Makes the models in captured nodes stream, and hears them."""

    def tap_output_iter(self, run_id: UUID, output: Iterator[T]) -> Iterator[T]:  # noqa: ARG002
        """Part of LangChain's protocol of streaming handlers; lets everything through."""
        return output

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[T]) -> AsyncIterator[T]:  # noqa: ARG002
        """Part of LangChain's protocol of streaming handlers; lets everything through."""
        return output


TAP: Final = Tap()


class _TapHook:
    """Answers like a context variable whose value follows the node that runs; LangChain only ever asks for `get`."""

    def get(self) -> Tap | None:
        """The tap inside a captured node that is running and listens."""
        frame: NodeFrame | None = cast("Any", current_frame())
        return TAP if frame is not None and frame.listens else None


register_configure_hook(cast("Any", _TapHook()), inheritable=True)
