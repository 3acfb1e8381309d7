"""Call of a model inside a captured node: publish its pieces, from its start to its end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration

from lg_streaming.capture.message_parts import EventReader, parse_late_parts, parse_message
from lg_streaming.capture.outcome import classify_ending
from lg_streaming.chunks import text_part
from lg_streaming.errors import describe_error

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from langchain_core.outputs import Generation, LLMResult

    from lg_streaming.capture.node_frame import NodeFrame
    from lg_streaming.chunks import ContentPart
    from lg_streaming.events import Scope

__all__ = ["METADATA_KEYS", "ModelCall", "must_not_stream", "whole_call_var"]

logger: logging.Logger = logging.getLogger(__name__)

METADATA_KEYS: Final = {
    "ls_provider": "provider",
    "ls_model_type": "model_type",
    "ls_temperature": "temperature",
    "ls_max_tokens": "max_tokens",
    "langgraph_node": "langgraph_node",
    "langgraph_step": "langgraph_step",
    "langgraph_checkpoint_ns": "langgraph_checkpoint_ns",
}
"""Metadata of a call that its tokens carry, by old and new name. User-defined keys, which may be secret, are not."""

# --- calls that must not stream -----------------------------------------------------------------------------

whole_call_var: ContextVar[bool] = ContextVar("lg_streaming_whole_call", default=False)
"""True if the model call or the chain that begins in this context must not be made to stream.

Each start sets it, before LangChain checks whether a streaming handler is attached.
"""

_ANSWER_COUNTS: Final = ("n", "candidate_count", "candidateCount", "num_generations", "num_return_sequences", "best_of")
"""Parameters with the number of answers to one prompt: OpenAI, Google (two spellings), Cohere, Hugging Face."""
_NESTED: Final = ("model_kwargs", "extra_body", "generation_config", "pipeline_kwargs")
"""Parameters that hold other parameters."""


def must_not_stream(serialized: Mapping[str, Any] | None, params: Mapping[str, Any]) -> bool:
    """Return whether a streamed answer to a call would differ from a whole one.

    Streaming joins several answers into one, and leaves out the audio of OpenAI's Chat Completions.

    Args:
        serialized: The model as LangChain serializes it, for parameters that it does not report.
        params: The call's ``invocation_params``.
    """
    if (answers := _number_of_answers(params)) is None:
        arguments = (serialized or {}).get("kwargs")
        answers = _number_of_answers(cast("Mapping[str, Any]", arguments)) if isinstance(arguments, Mapping) else None
    modalities: object = params.get("modalities")
    return (answers or 1) > 1 or (isinstance(modalities, (list, tuple)) and "audio" in modalities)


def _number_of_answers(params: Mapping[str, Any]) -> int | None:
    for name in _ANSWER_COUNTS:
        value: object = params.get(name)
        if isinstance(value, int):
            return value
    for name in _NESTED:
        inner: object = params.get(name)
        if isinstance(inner, Mapping) and (found := _number_of_answers(cast("Mapping[str, Any]", inner))) is not None:
            return found
    return None


# --- one call -----------------------------------------------------------------------------------------------

_LANGCHAIN: Final = "lc_"
_RUN: Final = "lc_run-"
_PROVIDER, _PINNED = 2, 3


def _rank(message_id: str) -> int:
    """Return how an id ranks when LangChain joins chunks: a provider's own, one of a run, another one."""
    return 1 if message_id.startswith(_RUN) else 0 if message_id.startswith(_LANGCHAIN) else _PROVIDER


class ModelCall:
    """Call of a model, between its start and its end.

    Its ``message_id`` is that of the message in the result, as soon as it is known: the first id that the provider
    sends, else ``lc_run--<run id>``. If pieces were published before the id was known, the call's end lists their ids
    as ``replaces``.
    """

    __slots__ = (
        "_ended",
        "_finished",
        "_frame",
        "_has_content",
        "_indexes",
        "_kinds",
        "_last_id",
        "_message_id",
        "_metadata",
        "_protocol",
        "_rank",
        "_reader",
        "_record",
        "_replaced",
        "_scope",
        "_sent_under_id",
        "_streamed",
        "name",
        "type",
    )

    def __init__(
        self, frame: NodeFrame, scope: Scope, run_id: UUID, *, name: str, metadata: dict[str, Any], type: str
    ) -> None:
        self.name: str = name
        self.type: str = type
        """Class of the model."""
        self._metadata = metadata
        self._frame = frame
        self._record = frame.record
        self._message_id = f"{_RUN}-{run_id}"
        self._last_id: str | None = None
        self._rank = -1
        self._replaced: list[Scope] = []
        self._scope = scope.derive(request_id=str(run_id), message_id=self._message_id)
        frame.note_message(self._message_id, self._scope.namespace)
        self._ended = False
        self._finished = ""
        self._protocol = ""  # under v3 some models report each token twice: the first protocol with content counts
        self._indexes: dict[str, int] = {"token": 0}
        self._kinds: set[str] = set()
        self._reader: EventReader | None = None
        self._sent_under_id = False
        self._has_content = False
        self._streamed = False

    # --- pieces ---------------------------------------------------------------------------------------------

    def add_chunk(self, message: BaseMessage) -> None:
        """Publish the content of a chunk of the message."""
        # LangChain's own chunk keeps its fields there. As attributes they cost five times as much, for each token.
        fields = message.__dict__ if message.__class__ is AIMessageChunk else None
        message_id = message.id if fields is None else fields["id"]
        if message_id != self._last_id:
            self._note_id(message_id)
        if self._protocol != "chunks" and self._protocol:
            return
        if (
            fields is not None
            and (content := fields["content"]).__class__ is str
            and content
            and not (fields["tool_call_chunks"] or fields["additional_kwargs"])
        ):
            # it holds a text and nothing else, as nearly all chunks do
            if not self._sent_under_id:
                self._protocol = "chunks"
                self._streamed = self._sent_under_id = self._has_content = True
            indexes = self._indexes
            index = indexes["token"]
            indexes["token"] = index + 1
            data = {"content": content, "index": index, "role": "ai", "metadata": self._metadata}
            self._record("token", data, self._scope)
        elif parts := parse_message(message):
            self._protocol, self._streamed = "chunks", True
            self._publish(parts)

    def add_text(self, content: str) -> None:
        """Publish a token of a model that gives no chunks."""
        if self._protocol in {"", "texts"}:
            self._protocol, self._streamed = "texts", True
            self._publish((text_part(content),))

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Publish the content of an event of the content-block protocol."""
        if event.get("event") == "message-start" and isinstance(message_id := event.get("id"), str) and message_id:
            self._set_message_id(message_id)
            self._rank = _PINNED
        if event.get("event") == "content-block-finish" and event["content"].get("type") == "text":
            self._finished += event["content"].get("text") or ""
        if event.get("event") == "message-finish":
            self._finish_event(event)
        elif self._protocol in {"", "events"}:
            self._read_event(event)

    def _read_event(self, event: Mapping[str, Any]) -> None:
        if self._reader is None:
            self._reader = EventReader()
        if parts := list(self._reader.read(event)):
            self._protocol = "events"
            self._publish(parts)

    def _publish(self, parts: Iterable[ContentPart]) -> None:
        for kind, data in parts:
            if kind == "tool_args":
                self._has_content = self._has_content or "tool_call_id" in data
            else:
                self._has_content = True
                data["index"] = index = self._indexes.get(kind, 0)
                data["role"] = "ai"
                data["metadata"] = self._metadata
                self._indexes[kind] = index + 1
                if "blocks" in data:
                    self._kinds.update(map(_kind_of, data["blocks"]))
            self._sent_under_id = True
            self._record(kind, data, self._scope)

    # --- identity -------------------------------------------------------------------------------------------

    def _note_id(self, message_id: str | None) -> None:
        """Take the id of a chunk, by LangChain's own rule for the id of joined chunks."""
        self._last_id = message_id
        if message_id and (rank := _rank(message_id)) > self._rank:
            self._rank = rank
            self._set_message_id(message_id)

    def _set_message_id(self, message_id: str) -> None:
        if message_id == self._message_id:
            return
        if self._sent_under_id:
            self._replaced.append(self._scope)
        self._sent_under_id = False
        self._message_id = message_id
        self._frame.note_message(message_id, self._scope.namespace)
        self._scope = self._scope.derive(message_id=message_id)

    # --- the end --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Publish that the call begins."""
        self._record("llm_start", {"model": self.name}, self._scope)

    def complete(self, response: LLMResult) -> None:
        """Publish the content that no piece had, then the end. Of several answers only the first is published."""
        answers = response.generations[0] if response.generations else []
        if answers and answers[0].text:
            self._frame.texts.add(str(answers[0].text))
        if self._ended:
            return
        data = self._finish(answers[0], response) if answers else {}
        if len(answers) > 1:
            data["answers"] = len(answers)
        self._end(data)

    def _finish_event(self, event: Mapping[str, Any]) -> None:
        """Publish the end at the protocol's last event: the caller may have its message before `complete` is called."""
        if not self._has_content:
            return
        if self._finished:
            self._frame.texts.add(self._finished)
        metadata: dict[str, Any] = event.get("metadata") or {}
        self._publish(parse_late_parts(AIMessage("", response_metadata=metadata), self._sent_kinds()))
        data = {"finish_reason": get_finish_reason(metadata), "usage": event.get("usage")}
        self._end({key: value for key, value in data.items() if value is not None})

    def _end(self, data: dict[str, Any]) -> None:
        self._ended = True
        if self._replaced:
            data["replaces"] = [scope.message_id for scope in self._replaced]
        self._record("llm_complete", {"model": self.name, **data}, self._scope)

    def _sent_kinds(self) -> set[str]:
        return self._kinds | {"reasoning"} if "thinking" in self._indexes else self._kinds

    def _finish(self, answer: Generation, response: LLMResult) -> dict[str, Any]:
        usage: object = None
        info: Mapping[str, Any] = answer.generation_info or {}
        if isinstance(answer, ChatGeneration):
            message = answer.message
            if message.id:
                self._set_message_id(message.id)
            if not self._has_content:
                self._publish(parse_message(message))
            if isinstance(message, AIMessage):
                self._publish(parse_late_parts(message, self._sent_kinds()))
                usage = message.usage_metadata
                self._check_usage(message)
            info = {**info, **message.response_metadata}
        elif answer.text and not self._has_content:
            self._publish((text_part(answer.text),))
        found = {"finish_reason": get_finish_reason(info), "usage": usage or _parse_usage(response.llm_output)}
        return {key: value for key, value in found.items() if value is not None}

    def fail(self, error: BaseException) -> None:
        """Publish that the call failed, once for each id under which pieces were published: their text is void.

        A call that was cancelled, or whose reader stopped, has not failed: its text is valid.
        """
        if self._ended:
            return
        if classify_ending(error) != "failed":
            self._end({"cancelled": True})
            return
        described = describe_error(error)
        for scope in (*self._replaced, self._scope):
            self._record("llm_error", {"model": self.name, "error": described}, scope)

    def _check_usage(self, message: AIMessage) -> None:
        """Warn if the call has no usage only because capture made it stream."""
        if self._streamed and message.usage_metadata is None and not isinstance(message, AIMessageChunk):
            provider: object = message.response_metadata.get("model_provider") or self._metadata.get("provider")
            if provider in _OPENAI:
                _warn_of_usage(self.type, self.name)


def _kind_of(found: Mapping[str, Any]) -> str:
    if found.get("annotations") or found.get("citations"):
        return "annotations"
    return str(found.get("type")).removesuffix("_chunk")


# --- finish reasons and usage -------------------------------------------------------------------------------

_REASONS: Final = ("finish_reason", "stop_reason", "done_reason", "stopReason", "finishReason")


def get_finish_reason(metadata: Mapping[str, Any]) -> str | None:
    """Return the provider's reason for the end of an answer; None if there is no reason.

    OpenAI's Responses API gives a status, and a reason only if the answer is incomplete.
    """
    incomplete: object = metadata.get("incomplete_details")
    reasons = [metadata.get(name) for name in _REASONS]
    if isinstance(incomplete, Mapping):
        reasons.append(cast("Mapping[str, Any]", incomplete).get("reason"))
    reasons.append(metadata.get("status"))
    for reason in reasons:
        word = getattr(reason, "name", reason)  # some packages give members of an enumeration
        if isinstance(word, str) and word:
            return word
    return None


_COUNTS: Final = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens", "total_tokens": "total_tokens"}


def _parse_usage(output: Mapping[str, Any] | None) -> dict[str, int] | None:
    """Return the usage that a text model reports with its answers, under LangChain's names."""
    usage: object = (output or {}).get("token_usage") or (output or {}).get("usage")
    if not isinstance(usage, Mapping):
        return None
    counts = cast("Mapping[str, Any]", usage)
    found = {ours: counts[theirs] for theirs, ours in _COUNTS.items() if isinstance(counts.get(theirs), int)}
    return found or None


_OPENAI: Final = frozenset({"openai", "azure", "azure_openai"})
_MOST_WARNED: Final = 256
_warned: set[tuple[str, str]] = set()
_warning = threading.Lock()


def _warn_of_usage(type: str, name: str) -> None:
    with _warning:
        if (type, name) in _warned or len(_warned) >= _MOST_WARNED:
            return
        _warned.add((type, name))
    logger.warning(
        "model %r (%s) reports no usage when it streams, and a decorated node makes it stream: "
        "create it with stream_usage=True, %s(..., stream_usage=True)",
        name,
        type,
        type,
    )
