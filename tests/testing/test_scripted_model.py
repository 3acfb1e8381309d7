"""``ScriptedChatModel`` behaves like a real streaming model, without a network."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import tool

from lg_streaming.testing import ScriptedChatModel, ScriptedError, split_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable

THINKING = AIMessage(
    [
        {"type": "reasoning", "reasoning": "They ask about the rain."},
        {"type": "text", "text": "It rains a lot."},
    ]
)
CALLING = AIMessage(
    "Let me look.",
    tool_calls=[
        {"name": "search", "args": {"query": "rain in Málaga", "limit": 3}, "id": "call-1"},
        {"name": "now", "args": {}, "id": "call-2"},
    ],
)


@tool
def search(query: str) -> str:
    """Search."""
    return query


def merge(chunks: Iterable[AIMessageChunk]) -> AIMessageChunk:
    return reduce(add, chunks)


def stream(model: ScriptedChatModel) -> list[AIMessageChunk]:
    return list(model.stream("go"))


async def astream(model: ScriptedChatModel) -> list[AIMessageChunk]:
    return [chunk async for chunk in model.astream("go")]


@given(st.text())
def test_tokens_join_to_the_text(text: str) -> None:
    tokens = split_tokens(text)
    assert "".join(tokens) == text
    assert all(tokens)


@given(st.text())
def test_the_streamed_text_is_the_answer(text: str) -> None:
    model = ScriptedChatModel(answers=[text])
    assert "".join(chunk.text for chunk in stream(model)) == text
    assert model.invoke("go").text == text


@pytest.mark.anyio
async def test_sync_and_async_streams_give_the_same_chunks() -> None:
    model = ScriptedChatModel(answers=[CALLING])
    slow = [(chunk.content, chunk.tool_call_chunks) for chunk in await astream(model)]
    assert slow == [(chunk.content, chunk.tool_call_chunks) for chunk in stream(model)]


def test_answers_are_given_in_turn_and_again() -> None:
    model = ScriptedChatModel(answers=["a", "b"])
    assert [model.invoke("go").text for _ in range(5)] == ["a", "b", "a", "b", "a"]


def test_a_script_sees_the_messages() -> None:
    model = ScriptedChatModel(answers=lambda messages: messages[-1].text.upper())
    assert model.invoke("hello").text == "HELLO"


def test_turns_are_shared_fairly_by_threads() -> None:
    model = ScriptedChatModel(answers=["a", "b"])

    def ask(prompt: str) -> str:
        return str(model.invoke(prompt).text)

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(ask, ["go"] * 100))
    assert said.count("a") == said.count("b") == 50


def test_tool_calls_arrive_in_several_chunks() -> None:
    chunks = stream(ScriptedChatModel(answers=[CALLING]))
    first = [c for chunk in chunks for c in chunk.tool_call_chunks if c.get("index") == 0]
    assert len(first) > 2
    assert first[0]["name"] == "search"
    assert not any(c["name"] for c in first[1:])
    whole = merge(chunks)
    assert whole.tool_calls == CALLING.tool_calls
    assert whole.text == "Let me look."


def test_bound_tools_reach_the_call_and_keep_the_script() -> None:
    model = ScriptedChatModel(answers=[CALLING])
    bound = model.bind_tools([search], tool_choice="any")
    assert isinstance(bound, RunnableBinding)
    assert bound.kwargs["tools"][0]["function"]["name"] == "search"
    assert bound.kwargs["tool_choice"] == "any"
    assert bound.invoke("go").tool_calls == CALLING.tool_calls


def test_reasoning_streams_before_the_text() -> None:
    chunks = stream(ScriptedChatModel(answers=[THINKING]))
    kinds = [block["type"] for chunk in chunks for block in chunk.content_blocks]
    assert kinds == sorted(kinds)
    whole = merge(chunks)
    assert [block["type"] for block in whole.content_blocks] == ["reasoning", "text"]
    assert whole.content_blocks[0].get("reasoning") == "They ask about the rain."
    assert whole.text == "It rains a lot."


def test_reasoning_in_additional_kwargs_streams_too() -> None:
    answer = AIMessage("Yes.", additional_kwargs={"reasoning_content": "Is it so? It is.", "a": 1})
    chunks = stream(ScriptedChatModel(answers=[answer]))
    assert len([c for c in chunks if "reasoning_content" in c.additional_kwargs]) > 2
    assert merge(chunks).additional_kwargs == answer.additional_kwargs


def test_blocks_without_text_come_whole() -> None:
    image = {"type": "image", "url": "https://example.org/a.png"}
    answer = AIMessage(["See: ", image, {"type": "thinking", "thinking": "Hm.", "signature": "s"}])
    content = merge(stream(ScriptedChatModel(answers=[answer]))).content
    assert content == [
        {"type": "text", "text": "See: ", "index": 0},
        {**image, "index": 1},
        {"type": "thinking", "thinking": "Hm.", "signature": "s", "index": 2},
    ]


def test_usage_is_counted_in_tokens_and_comes_last() -> None:
    chunks = stream(ScriptedChatModel(answers=["one two three"]))
    assert [chunk.usage_metadata for chunk in chunks[:-1]] == [None, None, None]
    assert chunks[-1].chunk_position == "last"
    assert chunks[-1].usage_metadata == UsageMetadata(input_tokens=1, output_tokens=3, total_tokens=4)


def test_a_message_may_bring_its_own_usage_and_metadata() -> None:
    usage = UsageMetadata(input_tokens=7, output_tokens=8, total_tokens=15)
    answer = AIMessage("Hi", usage_metadata=usage, response_metadata={"finish_reason": "stop"})
    message = ScriptedChatModel(answers=[answer]).invoke("go")
    assert message.usage_metadata == usage
    assert message.response_metadata["finish_reason"] == "stop"


def test_an_empty_answer_is_an_empty_message() -> None:
    chunks = stream(ScriptedChatModel(answers=[""]))
    assert [chunk.content for chunk in chunks] == [""]


@pytest.mark.parametrize("after", [0, 2, 99])
def test_failing_after_tokens(after: int) -> None:
    model = ScriptedChatModel(answers=["one two three"], fail_after=after)
    seen: list[str] = []
    with pytest.raises(ScriptedError):
        seen.extend(chunk.text for chunk in model.stream("go"))
    with pytest.raises(ScriptedError):
        model.invoke("go")


@pytest.mark.anyio
async def test_failing_a_number_of_times_with_an_error_of_ones_own() -> None:
    model = ScriptedChatModel(answers=["one two three"], fail_after=1, failures=2, error=ConnectionError("gone"))
    for _ in range(2):
        with pytest.raises(ConnectionError, match="gone"):
            await astream(model)
    assert merge(await astream(model)).text == "one two three"


def test_a_raising_script_fails_the_call() -> None:
    def script(messages: list[BaseMessage]) -> str:
        raise LookupError(messages[-1].text)

    with pytest.raises(LookupError, match="go"):
        ScriptedChatModel(answers=script).invoke("go")


def test_the_delay_is_kept_before_every_token() -> None:
    model = ScriptedChatModel(answers=["one two three"], delay=0.02, first_delay=0.05)
    started = time.perf_counter()
    model.invoke("go")
    assert time.perf_counter() - started >= 0.05 + 2 * 0.02


@pytest.mark.anyio
async def test_an_async_stream_without_delay_gives_way_to_other_tasks() -> None:
    order: list[str] = []

    async def speak(name: str) -> None:
        nonlocal order
        async for chunk in ScriptedChatModel(answers=["one two three"]).astream("go"):
            order += [name] if chunk.text else []

    await asyncio.gather(speak("x"), speak("y"))
    assert order == ["x", "y"] * 3


@pytest.mark.parametrize("bad", [{"delay": -1}, {"fail_after": -1}, {"failures": -1}])
def test_nonsense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        ScriptedChatModel(answers=["a"], **bad)


def test_an_empty_script_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one answer"):
        ScriptedChatModel(answers=[])


def test_a_cache_serves_the_second_call() -> None:
    model = ScriptedChatModel(answers=["first", "second"], cache=InMemoryCache())
    assert [model.invoke("go").text, model.invoke("go").text] == ["first", "first"]


@pytest.mark.anyio
async def test_event_streams_of_both_versions() -> None:
    model = ScriptedChatModel(answers=["one two three"])
    told = [
        event["data"]["chunk"].text
        async for event in model.astream_events("go", version="v2")
        if event["event"] == "on_chat_model_stream" and "chunk" in event["data"]
    ]
    assert "".join(told) == "one two three"
    assert model.stream_events("go", version="v3").output.text == "one two three"
