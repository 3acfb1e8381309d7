"""The capture handler (tap): one LangChain callback handler for the process, attached inside captured nodes.

At each start of a run LangChain asks the tap's hook for a handler. The hook returns the tap only inside a running node
that captures its models, so models elsewhere keep their non-streaming calls. Inside such a node LangChain treats the
tap as a streaming handler (the test is structural), so that ``model.invoke()`` streams.

For some calls the tap poses as a plain handler. Streaming would change some answers, such as one with ``n=2``; other
calls are not published, such as one with the tag ``nostream``. It does so for chains too. LangChain gives the chunks of
a chain to the first handler that can stream, and that must be the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tracers.context import register_configure_hook
from langgraph.constants import TAG_NOSTREAM

from lg_streaming.capture.model_call import METADATA_KEYS, ModelCall, must_not_stream, whole_call_var
from lg_streaming.capture.run_follower import RunFollower, scope_of_run
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.context import current_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from uuid import UUID

    from langchain_core.outputs import GenerationChunk, LLMResult

    from lg_streaming.capture.node_frame import NodeFrame

__all__ = ["TAP", "CaptureHandler", "ModelFollower"]

T = TypeVar("T")


class ModelFollower(RunFollower):
    """A follower of runs that publishes the answers of models in captured nodes."""

    def on_chat_model_start(self, serialized: dict[str, Any], messages: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Publish the start of a chat model."""
        self._model_start(serialized, **kwargs)

    def on_llm_start(self, serialized: dict[str, Any], prompts: object, **kwargs: Any) -> None:  # noqa: ARG002
        """Publish the start of a text model."""
        self._model_start(serialized, **kwargs)

    def _model_start(
        self,
        serialized: Mapping[str, Any] | None,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        metadata = {**(metadata or {}), **kwargs}
        run, _ = RUNS.start(self, run_id, parent_run_id, metadata)
        frame = run.frame if TAG_NOSTREAM not in (tags or ()) else None
        whole = frame is None or must_not_stream(serialized, metadata.get("invocation_params") or {})
        whole_call_var.set(whole)
        if frame is None or not run.claim_model(self):
            return
        made_of = str(((serialized or {}).get("id") or ["model"])[-1])
        name = metadata.get("ls_model_name") or metadata.get("name") or (serialized or {}).get("name") or "model"
        sent_metadata = {"model": str(name)} | {
            new: metadata[old] for old, new in METADATA_KEYS.items() if metadata.get(old) is not None
        }
        run.model = ModelCall(
            frame, scope_of_run(frame, metadata), run_id, name=str(name), metadata=sent_metadata, type=made_of
        )
        run.model.start()

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,  # noqa: ARG002
        tags: list[str] | None = None,  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Publish a piece of a model's answer."""
        run = RUNS.find(run_id)
        if (
            run is None
            or run.model is None
            or run.handler is not self
            or (run.copies and not run.is_published_by(self))
        ):
            return
        call = run.model
        if isinstance(chunk, ChatGenerationChunk):
            call.add_chunk(chunk.message)
        elif isinstance(token, str) and token:
            call.add_text(token)

    def on_stream_event(self, event: Any, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Publish a piece of a model's answer, which comes as an event of the content-block protocol."""
        run = RUNS.find(run_id)
        if run is not None and run.model is not None and run.is_published_by(self):
            run.model.add_event(event)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Publish the end of a model call, and before it the parts that did not come in pieces."""
        run = RUNS.end(run_id)
        if run is not None and run.model is not None:
            run.model.complete(response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:  # noqa: ARG002
        """Publish the failure of a model, or its stop by the caller."""
        run = RUNS.end(run_id)
        if run is not None and run.model is not None:
            run.model.fail(error)


class CaptureHandler(ModelFollower):
    """The handler that makes the models in captured nodes stream, and publishes their answers."""

    def on_chain_start(self, serialized: dict[str, Any], inputs: dict[str, Any], **kwargs: Any) -> None:
        """Register the run. The chain's chunks are for a handler of the caller's."""
        whole_call_var.set(True)
        super().on_chain_start(serialized, inputs, **kwargs)

    @property
    def __class__(self) -> type[CaptureHandler]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The class for LangChain's structural test: a streaming handler, for a model call that may stream."""
        return CaptureHandler if whole_call_var.get() else StreamingTap

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Give LangChain the two methods of a streaming handler, under the same condition."""
            if name in _STREAMING and not whole_call_var.get():
                return getattr(StreamingTap, name).__get__(self)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class StreamingTap(CaptureHandler):
    """The class that a `CaptureHandler` shows LangChain for models that have to stream. It has no instances."""

    def tap_output_iter(self, run_id: UUID, output: Iterator[T]) -> Iterator[T]:  # noqa: ARG002
        """Return ``output``: a part of LangChain's protocol of streaming handlers."""
        return output

    def tap_output_aiter(self, run_id: UUID, output: AsyncIterator[T]) -> AsyncIterator[T]:  # noqa: ARG002
        """Return ``output``: a part of LangChain's protocol of streaming handlers."""
        return output


_STREAMING: Final = frozenset({"tap_output_iter", "tap_output_aiter"})

TAP: Final = CaptureHandler()


class _TapHook:
    """A context variable for LangChain whose value follows the node that runs; LangChain only calls `get`."""

    def get(self) -> CaptureHandler | None:
        """Return the tap inside a captured node that runs and captures its models."""
        frame = cast("NodeFrame | None", current_frame())
        return TAP if frame is not None and frame.listens else None


register_configure_hook(cast("Any", _TapHook()), inheritable=True)
