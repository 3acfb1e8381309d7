"""Content of a message in any provider's shape is parsed through LangChain's standard content blocks."""

import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from lg_streaming import stream_event, stream_token
from lg_streaming.capture.message_parts import parse_message
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import Run, State, Update, graph_of, read

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")

Content = str | list[Any]


class Chunks(BaseChatModel):
    """Streams the chunks it was given; called without a stream, gives them joined."""

    chunks: Sequence[AIMessageChunk]

    @property
    def _llm_type(self) -> str:
        return "chunks"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        whole = functools.reduce(operator.add, self.chunks)
        fields = {"id", "content", "additional_kwargs", "response_metadata", "usage_metadata", "tool_calls"}
        made = AIMessage.model_validate(whole.model_dump(include=fields))
        return ChatResult(generations=[ChatGeneration(message=made)])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for chunk in self.chunks:
            yield ChatGenerationChunk(message=chunk.model_copy(deep=True))


def chunk(content: Content = "", **fields: Any) -> AIMessageChunk:
    return AIMessageChunk(content=content, **fields)


async def run_of(streaming: StreamingModule, chat: Any, *, way: str = "ainvoke") -> tuple[AIMessage, Run]:
    @stream_event
    @stream_token
    async def node(state: State) -> Update:
        if way == "v3":
            stream = await chat.astream_events("go", version="v3")
            return {"messages": [await stream.output]}
        return {"messages": [await chat.ainvoke("go")]}

    result = await graph_of(node).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    return result["messages"][-1], await read(streaming, "e")


def blocks_of(run: Run) -> list[dict[str, Any]]:
    return [block for update in run.of("token") for block in update.data.get("blocks", ())]


THINKING: dict[str, tuple[list[AIMessageChunk], str]] = {
    "deepseek, qwen": (
        [
            chunk(additional_kwargs={"reasoning_content": "Let me "}),
            chunk(additional_kwargs={"reasoning_content": "think."}),
            chunk("It rains."),
        ],
        "",
    ),
    "anthropic": (
        [
            chunk([{"type": "thinking", "thinking": "Let me ", "index": 0}]),
            chunk([{"type": "thinking", "thinking": "think.", "index": 0}]),
            chunk([{"type": "thinking", "signature": "c2ln", "index": 0}]),
            chunk([{"type": "text", "text": "It rains.", "index": 1}]),
        ],
        "anthropic",
    ),
    "mistral without its package": (
        [
            chunk([{"type": "thinking", "thinking": [{"type": "text", "text": "Let me ", "index": 0}], "index": 0}]),
            chunk([{"type": "thinking", "thinking": [{"type": "text", "text": "think.", "index": 0}], "index": 0}]),
            chunk([{"type": "text", "text": "It rains.", "index": 1}]),
        ],
        "",
    ),
    "responses without a provider": (
        [
            chunk(
                [
                    {
                        "type": "reasoning",
                        "summary": [{"type": "summary_text", "text": "Let me ", "index": 0}],
                        "index": 0,
                    }
                ]
            ),
            chunk(
                [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "think.", "index": 0}], "index": 0}]
            ),
            chunk([{"type": "text", "text": "It rains.", "index": 1}]),
        ],
        "",
    ),
    "bedrock": (
        [
            chunk([{"type": "reasoning_content", "reasoning_content": {"text": "Let me "}, "index": 0}]),
            chunk([{"type": "reasoning_content", "reasoning_content": {"text": "think."}, "index": 0}]),
            chunk([{"type": "text", "text": "It rains.", "index": 1}]),
        ],
        "bedrock_converse",
    ),
    "gemini": (
        [
            chunk([{"type": "thinking", "thinking": "Let me think."}]),
            chunk([{"type": "text", "text": "It rains."}]),
        ],
        "google_genai",
    ),
}


NOT_STANDARD = {"mistral without its package", "responses without a provider"}
"""Under v3 LangChain's own message loses pieces of these."""


@pytest.mark.parametrize(
    ("provider", "way"),
    [(name, way) for name in THINKING for way in ("ainvoke", "v3", "whole") if way != "v3" or name not in NOT_STANDARD],
)
async def test_reasoning_of_every_provider_is_thinking(streaming: StreamingModule, provider: str, way: str) -> None:
    chunks, name = THINKING[provider]
    metadata = {"model_provider": name} if name else {}
    chunks = [each.model_copy(update={"response_metadata": dict(metadata)}) for each in chunks]
    message, run = await run_of(streaming, Chunks(chunks=chunks, disable_streaming=way == "whole"), way=way)
    assert "".join(run.texts(type="thinking").values()) == "Let me think."
    assert run.texts(by=lambda update: update.metadata.message_id) == {message.id: "It rains."}
    assert blocks_of(run) == []


BLOCKS: dict[str, tuple[str, dict[str, Any]]] = {
    "image": ("", {"type": "image", "url": "https://example.com/a.png"}),
    "audio": ("", {"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}),
    "citation": ("", {"type": "text", "text": "", "annotations": [{"type": "citation", "url": "https://a.example"}]}),
    "refusal": ("", {"type": "refusal", "refusal": "No."}),
    "call of the provider's tool": (
        "",
        {"type": "server_tool_call", "name": "web_search", "args": {"q": "rain"}, "id": "1"},
    ),
    "its result": ("", {"type": "server_tool_result", "tool_call_id": "1", "status": "success", "output": ["wet"]}),
    "anthropic's tool result": (
        "anthropic",
        {"type": "web_search_tool_result", "tool_use_id": "1", "content": [{"url": "https://a.example"}]},
    ),
    "unknown": ("", {"type": "hologram", "beam": "blue"}),
    "unknown to anthropic": ("anthropic", {"type": "redacted_thinking", "data": "eA=="}),
}


@pytest.mark.parametrize("way", ["ainvoke", "v3", "whole"])
@pytest.mark.parametrize("kind", BLOCKS)
async def test_other_blocks_pass_once_as_langchain_reads_them(streaming: StreamingModule, kind: str, way: str) -> None:
    provider, block = BLOCKS[kind]
    metadata = {"model_provider": provider} if provider else {}
    chunks = [
        chunk([{"type": "text", "text": "See:", "index": 0}], response_metadata=dict(metadata)),
        chunk([{**block, "index": 1}], response_metadata=dict(metadata)),
    ]
    message, run = await run_of(streaming, Chunks(chunks=chunks, disable_streaming=way == "whole"), way=way)
    assert run.texts() == {"node": "See:"} == {"node": message.text}
    (expected,) = AIMessage([{**block, "index": 1}], response_metadata=metadata).content_blocks
    (found,) = blocks_of(run)
    assert {**found, "index": 1} == {**expected, "index": 1}


async def test_what_is_only_in_the_metadata_comes_at_the_end(streaming: StreamingModule) -> None:
    """Gemini's sources and Anthropic's refusals are in no piece of the content."""
    grounding = {
        "grounding_chunks": [{"web": {"uri": "https://example.com/rain", "title": "Rain"}}],
        "grounding_supports": [
            {"segment": {"start_index": 0, "end_index": 5, "text": "It ra"}, "grounding_chunk_indices": [0]}
        ],
    }
    chunks = [
        chunk("It ", response_metadata={"model_provider": "google_genai"}),
        chunk("rains.", response_metadata={}),
        chunk("", response_metadata={"grounding_metadata": grounding, "finish_reason": "STOP"}),
    ]
    _, run = await run_of(streaming, Chunks(chunks=chunks))
    assert run.texts() == {"node": "It rains."}
    (block,) = blocks_of(run)
    assert block["annotations"][0]["url"] == "https://example.com/rain"
    assert run.types[-4:] == ["token", "llm_complete", "node_complete", "workflow_complete"]


async def test_audio_of_chat_completions(streaming: StreamingModule) -> None:
    audio = {"id": "audio_1", "data": "AAAA", "transcript": "It rains.", "expires_at": 1}
    _, run = await run_of(
        streaming, Chunks(chunks=[chunk("", additional_kwargs={"audio": audio})], disable_streaming=True)
    )
    (block,) = blocks_of(run)
    assert (block["type"], block["base64"], block["extras"]["transcript"]) == ("audio", "AAAA", "It rains.")


TEXTS = st.text(max_size=8)
PIECES = st.one_of(
    TEXTS,
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}, optional={"index": st.integers(0, 3)}),
    st.fixed_dictionaries({"type": st.just("text"), "annotations": st.just([{"type": "citation", "url": "u"}])}),
    st.fixed_dictionaries({"type": st.just("reasoning"), "reasoning": TEXTS}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXTS}),
    st.fixed_dictionaries({"type": st.just("text_delta"), "text": TEXTS}),
    st.just({"index": 1}),
    st.just({"type": "refusal", "refusal": "No."}),
    st.just({"type": "image", "url": "u"}),
)
PROVIDERS = st.sampled_from(
    ["", "openai", "anthropic", "google_genai", "groq", "bedrock", "bedrock_converse", "nobody"]
)


@given(content=st.one_of(TEXTS, st.lists(PIECES, max_size=4)), provider=PROVIDERS, whole=st.booleans())
def test_the_texts_joined_are_the_messages_text(content: Content, provider: str, *, whole: bool) -> None:
    kind: Any = AIMessage if whole else AIMessageChunk
    message: AIMessage = kind(content, response_metadata={"model_provider": provider} if provider else {})
    before = message.model_copy(deep=True)
    parts = list(parse_message(message))
    assert "".join(part.data["content"] for part in parts if part.type == "token") == message.text
    assert message == before


# --- tool calls ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["ainvoke", "v3"])
async def test_calls_without_an_id_in_later_pieces(streaming: StreamingModule, way: str) -> None:
    """Some endpoints send an empty id and name with each later piece."""
    pieces = [("call_1", "look", '{"a"'), ("", "", ": 1"), ("", "", "}")]
    chunks = [
        chunk(tool_call_chunks=[{"type": "tool_call_chunk", "id": key, "name": name, "args": args, "index": 0}])
        for key, name, args in pieces
    ]
    _, run = await run_of(streaming, Chunks(chunks=chunks), way=way)
    found = [update.data for update in run.of("tool_args")]
    assert "".join(data.get("args", "") for data in found) == '{"a": 1}'
    assert [data["tool_call_id"] for data in found if "tool_call_id" in data] == ["call_1"]
    assert [data["tool"] for data in found if "tool" in data] == ["look"]


async def test_whole_calls_have_their_arguments_as_json_and_their_place(streaming: StreamingModule) -> None:
    calls: Any = [{"name": "a", "args": {"x": "ä"}, "id": "1"}, {"name": "b", "args": {}, "id": "2"}]
    invalid: Any = [{"name": "c", "args": "{broken", "id": "3", "error": None}]
    message = AIMessage("", tool_calls=calls, invalid_tool_calls=invalid)
    _, run = await run_of(streaming, ScriptedChatModel(answers=[message], disable_streaming=True))
    found = [(data["index"], data["tool"], data["args"]) for data in (each.data for each in run.of("tool_args"))]
    assert found[:2] == [(0, "a", '{"x": "ä"}'), (1, "b", "{}")]


# --- identity -----------------------------------------------------------------------------------------------


async def test_the_first_id_of_the_provider_counts(streaming: StreamingModule) -> None:
    chunks = [chunk("a", id="msg_1"), chunk("b"), chunk("c", id="msg_2")]
    message, run = await run_of(streaming, Chunks(chunks=chunks))
    assert message.id == "msg_1"
    assert run.texts(by=lambda update: update.metadata.message_id) == {"msg_1": "abc"}


async def test_text_that_leaves_before_the_id_is_known_is_mapped(streaming: StreamingModule) -> None:
    message, run = await run_of(streaming, Chunks(chunks=[chunk("a"), chunk("b", id="msg_1"), chunk("c")]))
    texts = run.texts(by=lambda update: update.metadata.message_id)
    (early, late) = texts
    assert (texts[early], late, texts[late]) == ("a", message.id, "bc")
    assert run.one("llm_complete").data["replaces"] == [early]


async def test_the_mapping_leaves_a_node_that_streams_text_alone(streaming: StreamingModule) -> None:
    @stream_token
    async def node(state: State) -> Update:
        return {"messages": [await Chunks(chunks=[chunk("a"), chunk("b", id="msg_1")]).ainvoke("go")]}

    await graph_of(node).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert run.one("llm_complete").metadata.message_id == "msg_1"
    assert len(run.one("llm_complete").data["replaces"]) == 1


async def test_an_answer_from_the_cache_has_the_id_of_the_message_in_the_cache(streaming: StreamingModule) -> None:
    chat = Chunks(chunks=[chunk("It rains.")], cache=InMemoryCache())
    await chat.ainvoke("go")
    message, run = await run_of(streaming, chat)
    assert run.texts(by=lambda update: update.metadata.message_id) == {message.id: "It rains."}


async def test_a_stream_of_events_has_the_id_of_its_own_message(streaming: StreamingModule) -> None:
    """Under v3 the result's id is that of the run, for any ids of the chunks."""
    message, run = await run_of(streaming, Chunks(chunks=[chunk("a", id="msg_1"), chunk("b")]), way="v3")
    assert run.texts(by=lambda update: update.metadata.message_id) == {message.id: "ab"}


# --- void text ----------------------------------------------------------------------------------------------


async def test_text_under_two_ids_is_void_under_both(streaming: StreamingModule) -> None:
    class Failing(Chunks):
        def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
            yield from super()._stream(messages)
            raise ConnectionError("gone")

    @stream_token
    async def node(state: State) -> Update:
        chat = Failing(chunks=[chunk("a"), chunk("b", id="msg_1")])
        robust = chat.with_fallbacks([Chunks(chunks=[chunk("c")])])
        return {"messages": [await robust.ainvoke("go")]}

    await graph_of(node).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    ids = list(run.texts(by=lambda update: update.metadata.message_id))
    assert ids[1] == "msg_1"
    assert [update.metadata.message_id for update in run.of("llm_error")] == ids[:2]
    assert run.updates[-3].data["content"] == "c"


KEPT_BACK: list[dict[str, Any]] = [
    {"events": ["node_complete"]},
    {"filter": {"min_priority": "critical"}},
    {"filter": {"exclude_types": ["llm_*"]}},
    {"transformer": lambda event: None},  # pyright: ignore[reportUnknownLambdaType]
    {"enabled": False},
]


@pytest.mark.parametrize(
    "options",
    KEPT_BACK,
    ids=["events", "priority", "types", "transformer", "disabled"],
)
async def test_nothing_keeps_the_end_of_void_text_back(streaming: StreamingModule, options: dict[str, Any]) -> None:
    robust = ScriptedChatModel(answers=["It rains."], fail_after=1, failures=1).with_retry(
        stop_after_attempt=2, wait_exponential_jitter=False
    )

    @stream_event(**options)
    @stream_token
    async def node(state: State) -> Update:
        return {"messages": [await robust.ainvoke("go")]}

    await graph_of(node).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    texts = run.texts(by=lambda update: update.metadata.message_id)
    assert len(texts) == 2
    void, kept = texts
    assert run.one("llm_error").metadata.message_id == void
    assert texts[kept] == "It rains."
    order = [update.type for update in run.updates if update.metadata.message_id == void or update.type == "token"]
    assert order.index("llm_error") < len(order) - 1, "before the text of the second try"


async def test_a_call_that_fails_before_any_text_is_told_only_to_those_who_ask(streaming: StreamingModule) -> None:
    robust = ScriptedChatModel(answers=["It rains."], fail_after=0, failures=1).with_retry(
        stop_after_attempt=2, wait_exponential_jitter=False
    )

    async def node(state: State) -> Update:
        return {"messages": [await robust.ainvoke("go")]}

    await graph_of(stream_token(node), names=("node",)).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert run.of("llm_error") == []
    assert run.texts() == {"node": "It rains."}


class OwnChunk(AIMessageChunk):
    """A provider's own class of chunks."""


class OwnText(str):
    __slots__ = ()


def own_class(words: str) -> AIMessageChunk:
    return OwnChunk(content=words)


def not_validated(words: str) -> AIMessageChunk:
    return AIMessageChunk.model_construct(content=words)


def own_text(words: str) -> AIMessageChunk:
    return AIMessageChunk.model_construct(content=OwnText(words))


@pytest.mark.parametrize("made", [own_class, not_validated, own_text])
async def test_chunks_of_any_class_are_streamed(
    streaming: StreamingModule, made: Callable[[str], AIMessageChunk]
) -> None:
    _, run = await run_of(streaming, Chunks.model_construct(chunks=[made("It "), made("rains.")]))
    assert "".join(run.texts().values()) == "It rains."
    assert run.one("llm_complete").data["model"]
