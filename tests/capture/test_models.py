"""Output of models, in every form."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models.fake import FakeListLLM, FakeStreamingListLLM
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk

from lg_streaming import stream_event, stream_progress, stream_token
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel, ScriptedError
from tests.capture.graphs import TEXT, Run, State, Update, graph_of, model, read


async def run_with(streaming: StreamingModule, chat: Any, *, sync: bool = False, execution_id: str = "e") -> Run:
    @stream_event
    @stream_token
    async def node(state: State) -> Update:
        chat.invoke("go") if sync else await chat.ainvoke("go")
        return {}

    await graph_of(node).ainvoke({"topic": ""}, streaming.config(execution_id=execution_id))
    return await read(streaming, execution_id)


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    "chat",
    [
        pytest.param(lambda: ScriptedChatModel(answers=[TEXT]), id="ours"),
        pytest.param(lambda: GenericFakeChatModel(messages=iter([AIMessage(TEXT)])), id="generic"),
        pytest.param(lambda: FakeListChatModel(responses=[TEXT]), id="by character"),
        pytest.param(lambda: FakeStreamingListLLM(responses=[TEXT]), id="text model"),
        pytest.param(lambda: FakeListLLM(responses=[TEXT]), id="text model that cannot stream"),
        pytest.param(lambda: ScriptedChatModel(answers=[TEXT], disable_streaming=True), id="streaming disabled"),
    ],
)
async def test_the_joined_tokens_are_the_text(streaming: StreamingModule, chat: Any, *, sync: bool) -> None:
    run = await run_with(streaming, chat(), sync=sync)
    assert run.texts() == {"node": TEXT}
    assert len(run.of("llm_start")) == len(run.of("llm_complete")) == 1


async def test_a_cache_hit_comes_whole_and_once(streaming: StreamingModule) -> None:
    chat = model(cache=InMemoryCache())
    first = await run_with(streaming, chat, execution_id="first")
    second = await run_with(streaming, chat, execution_id="second")
    assert first.texts() == second.texts() == {"node": TEXT}
    assert len(second.of("token")) == 1


async def test_a_model_tagged_nostream_is_not_heard(streaming: StreamingModule) -> None:
    run = await run_with(streaming, model(tags=["nostream"]))
    assert run.of("token", "llm_start") == []


async def test_reasoning_is_thinking(streaming: StreamingModule) -> None:
    blocks: list[str | dict[Any, Any]] = [
        {"type": "reasoning", "reasoning": "Let me think about it."},
        {"type": "text", "text": "It is so."},
    ]
    run = await run_with(streaming, ScriptedChatModel(answers=[AIMessage(blocks)]))
    assert run.texts() == {"node": "It is so."}
    assert run.texts(type="thinking") == {"node": "Let me think about it."}


async def test_other_content_is_passed_as_data(streaming: StreamingModule) -> None:
    picture = {"type": "image", "url": "https://example.com/a.png"}
    chat = ScriptedChatModel(answers=[AIMessage(["See: ", picture])], disable_streaming=True)
    tokens = [update.data for update in (await run_with(streaming, chat)).of("token")]
    assert tokens[0]["content"] == "See: "
    assert tokens[1]["content"] == ""
    assert [block["url"] for block in tokens[1]["blocks"]] == [picture["url"]]


async def test_a_turn_that_only_calls_tools(streaming: StreamingModule) -> None:
    call = {"name": "search", "args": {"query": "ice", "limit": 3}, "id": "call-7"}
    run = await run_with(streaming, ScriptedChatModel(answers=[AIMessage("", tool_calls=[call])]))
    assert run.of("token") == []
    parts = [update.data for update in run.of("tool_args")]
    assert "".join(part["args"] for part in parts) == '{"query": "ice", "limit": 3}'
    assert parts[0]["tool"] == "search"
    assert parts[0]["tool_call_id"] == "call-7"


async def test_usage_comes_with_the_end(streaming: StreamingModule) -> None:
    usage = {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8}
    run = await run_with(streaming, ScriptedChatModel(answers=[AIMessage("hi", usage_metadata=usage)]))  # pyright: ignore[reportArgumentType]
    assert run.one("llm_complete").data["usage"] == usage


async def test_a_failing_model(streaming: StreamingModule) -> None:
    with pytest.raises(ScriptedError):
        await run_with(streaming, model(fail_after=2))
    run = await read(streaming, "e")
    assert run.types[-3:] == [
        "llm_error",
        "node_error",
        "workflow_error",
    ]


async def test_undecorated_nodes_keep_their_calls_as_they_are(streaming: StreamingModule) -> None:
    """Only what runs inside a decorated node that listens is made to stream."""
    streamed: list[str] = []

    class Watched(ScriptedChatModel):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
            streamed.append("yes")
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk

        async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
            return self._generate(*args, **kwargs)

    async def plain(state: State) -> Update:
        return {"text": (await Watched(answers=[TEXT]).ainvoke("go")).text}

    decorated = stream_progress(plain)
    with streaming.activate():
        await graph_of(plain).ainvoke({"topic": ""}, streaming.config(execution_id="a"))
        await graph_of(decorated).ainvoke({"topic": ""}, streaming.config(execution_id="b"))
    assert streamed == []
    await graph_of(stream_token(plain)).ainvoke({"topic": ""}, streaming.config(execution_id="c"))
    assert streamed == ["yes"]


async def test_the_message_is_what_it_is_without_us(streaming: StreamingModule) -> None:
    got: list[AIMessage] = []

    async def node(state: State) -> Update:
        got.append(await model(delay=0).ainvoke("go", {"run_id": "0199d7a2-0000-7000-8000-000000000000"}))  # pyright: ignore[reportArgumentType]
        return {}

    await graph_of(node).ainvoke({"topic": ""}, stream_mode="messages")
    await graph_of(stream_token(node), names=("node",)).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    assert got[0].content == got[1].content
    assert type(got[0]) is type(got[1])
