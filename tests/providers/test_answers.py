"""Several answers to one prompt, and usage that streaming takes away: the node gets what it gets without decorators."""

import asyncio
import logging
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import LLMResult

from lg_streaming.module import StreamingModule
from tests.capture.graphs import State, Update, graph_of
from tests.providers.models import CHAT, RESPONSES
from tests.providers.runs import decorated, run_node
from tests.providers.server import serving
from tests.providers.turns import RAIN, Turn

TWO = Turn(text=("Yes, ", "it does."), others=("No, it does not.",))

Results = list[LLMResult]


def node_for(model: Any, results: Results, *, sync: bool) -> Any:
    def take(result: LLMResult) -> Update:
        results.append(result)
        return {"messages": [result.generations[0][0].message]}  # pyright: ignore[reportAttributeAccessIssue]

    async def node(state: State) -> Update:
        return take(await model.agenerate([[HumanMessage("go")]]))

    def sync_node(state: State) -> Update:
        return take(model.generate([[HumanMessage("go")]]))

    return sync_node if sync else node


def answers_of(result: LLMResult) -> list[tuple[Any, ...]]:
    messages: list[AIMessage] = [cast("Any", each).message for each in result.generations[0]]
    return [(message.text, message.usage_metadata, message.response_metadata) for message in messages]


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("options", [{"n": 2}, {"extra_body": {"n": 2}}], ids=lambda each: next(iter(each)))
async def test_a_call_for_several_answers_is_left_as_it_is(
    streaming: StreamingModule, options: dict[str, Any], *, sync: bool
) -> None:
    results: Results = []
    with serving(CHAT.dialect, TWO) as provider:
        chat = CHAT.make(provider.url, **options)
        await graph_of(node_for(chat, results, sync=sync), names=("node",)).ainvoke({"topic": ""})
        found = await run_node(streaming, provider, decorated(node_for(chat, results, sync=sync)))
    assert answers_of(results[0]) == answers_of(results[1])
    assert [text for text, *_ in answers_of(results[1])] == ["Yes, it does.", "No, it does not."]
    assert not any(request.get("stream") for request in provider.requests)
    assert found.texts() == {found.message.id: "Yes, it does."}
    assert len(found.run.of("token")) == 1
    complete = found.run.one("llm_complete").data
    assert complete["answers"] == 2
    assert complete["finish_reason"] == "stop"


@pytest.mark.parametrize("bound", [True, False])
async def test_the_number_of_answers_given_with_the_call(streaming: StreamingModule, *, bound: bool) -> None:
    with serving(CHAT.dialect, TWO) as provider:
        chat: Any = CHAT.make(provider.url)

        async def node(state: State) -> Update:
            two = await chat.bind(n=2).ainvoke("go") if bound else await chat.ainvoke("go", n=2)
            one = await chat.ainvoke("go", n=1)
            return {"messages": [two, one]}

        found = await run_node(streaming, provider, decorated(node))
    assert [bool(request.get("stream")) for request in provider.requests] == [False, True]
    assert found.texts() == {message.id: "Yes, it does." for message in found.messages}


async def test_calls_at_the_same_time_stream_each_as_it_may(streaming: StreamingModule) -> None:
    with serving(CHAT.dialect, TWO) as provider:
        chat: Any = CHAT.make(provider.url)

        async def node(state: State) -> Update:
            calls = [chat.bind(n=2), chat] * 4
            return {"messages": [await call.ainvoke("go") for call in calls[:2]] + await _together(calls[2:])}

        found = await run_node(streaming, provider, decorated(node))
    streamed = [(request.get("n"), bool(request.get("stream"))) for request in provider.requests]
    assert sorted(streamed, key=str) == sorted([(2, False), (None, True)] * 4, key=str)
    assert found.texts() == {message.id: "Yes, it does." for message in found.messages}


async def _together(calls: list[Any]) -> list[Any]:
    return list(await asyncio.gather(*(call.ainvoke("go") for call in calls)))


async def test_an_answer_with_audio_is_not_made_to_stream(streaming: StreamingModule) -> None:
    with serving(CHAT.dialect, RAIN) as provider:
        chat: Any = CHAT.make(provider.url, model_kwargs={"modalities": ["text", "audio"]})

        async def node(state: State) -> Update:
            return {"messages": [await chat.ainvoke("go")]}

        await run_node(streaming, provider, decorated(node))
    assert not provider.requests[0].get("stream")


# --- usage --------------------------------------------------------------------------------------------------


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "stream_usage" in record.getMessage()]


async def test_usage_that_streaming_takes_away_is_told_once_for_each_model(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.capture.model_call._warned", set[tuple[str, str]]())
    with serving(CHAT.dialect, RAIN) as provider:
        silent: dict[str, Any] = {"stream_usage": None}  # langchain-openai's default with a base_url
        chats: list[Any] = [CHAT.make(provider.url, **silent), CHAT.make(provider.url, **silent)]

        async def node(state: State) -> Update:
            messages = [await chat.ainvoke("go") for chat in chats]
            chunks = [chunk async for chunk in chats[0].astream("go")]
            return {"messages": [*messages, chunks[-1]]}

        with caplog.at_level(logging.WARNING, logger="lg_streaming"):
            found = await run_node(streaming, provider, decorated(node))
    (message,) = warnings_of(caplog)
    assert "ChatOpenAI" in message
    assert "gpt-stand-in" in message
    assert "stream_usage=True" in message
    assert [message.usage_metadata for message in found.messages] == [None, None, None]
    assert all("usage" not in update.data for update in found.run.of("llm_complete"))


@pytest.mark.parametrize("way", ["asked for", "responses", "undecorated stream"])
async def test_no_warning_where_nothing_is_taken_away(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("lg_streaming.capture.model_call._warned", set[tuple[str, str]]())
    package = RESPONSES["v1"] if way == "responses" else CHAT
    with serving(package.dialect, RAIN) as provider:
        chat: Any = package.make(provider.url, **({} if way == "asked for" else {"stream_usage": None}))

        async def node(state: State) -> Update:
            if way == "undecorated stream":  # the node itself asked for a stream
                return {"messages": [chunk async for chunk in chat.astream("go")][:1]}
            return {"messages": [await chat.ainvoke("go")]}

        with caplog.at_level(logging.WARNING, logger="lg_streaming"):
            await run_node(streaming, provider, decorated(node))
    assert warnings_of(caplog) == []
