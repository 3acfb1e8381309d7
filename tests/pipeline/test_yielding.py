"""Nodes that yield or return iterators, and answers of other model clients."""

import asyncio
import gc
import inspect
import operator
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from types import SimpleNamespace as Thing
from typing import Annotated, Any, Self

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from langgraph.graph import END, START, StateGraph

from lg_streaming import current_emitter, stream_event, stream_token
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel, split_tokens
from tests.capture.graphs import TEXT, State, Update, graph_of, model, read
from tests.pipeline.streams import joined, seen, texts

WORDS = split_tokens(TEXT)


async def words() -> AsyncGenerator[str]:
    for word in WORDS:
        await asyncio.sleep(0)
        yield word


@stream_token
async def yields_words() -> AsyncIterator[str]:
    async for word in words():
        yield word


@stream_token
def yields_words_sync() -> Iterator[str]:
    yield from WORDS


@stream_token
async def yields_chunks() -> AsyncIterator[AIMessageChunk]:
    for word in WORDS:
        yield AIMessageChunk(content=word, id="m")


@stream_token
async def returns_words() -> AsyncIterator[str]:
    return words()


@stream_token
def returns_words_sync() -> Iterator[str]:
    return iter(WORDS)


@stream_token
def returns_generator() -> Generator[str]:
    return (word for word in WORDS)


@stream_token
def returns_async() -> AsyncIterator[str]:
    return words()


async def drained(result: Any) -> str:
    result = await result if inspect.iscoroutine(result) else result
    items: list[Any] = [item async for item in result] if hasattr(result, "__anext__") else list(result)
    return "".join(getattr(item, "text", item) for item in items)


@pytest.mark.parametrize(
    "node",
    [
        yields_words,
        yields_words_sync,
        yields_chunks,
        returns_words,
        returns_words_sync,
        returns_generator,
        returns_async,
    ],
)
@pytest.mark.row("HIVE-30")
@pytest.mark.row("HIVE-D8")
async def test_the_caller_gets_it_all_and_so_do_readers(streaming: StreamingModule, node: Any) -> None:
    async with streaming.execution("e"):
        assert await drained(node()) == TEXT
    run = await read(streaming, "e")
    assert run.texts() == {node.__name__: TEXT}
    assert run.types[-2:] == ["node_complete", "workflow_complete"]
    assert len(run.of("node_complete")) == 1


async def test_it_streams_while_it_is_read(streaming: StreamingModule) -> None:
    async with streaming.execution("e"):
        steps = await returns_words()
        assert [each.type for each in seen(streaming.hub)] == ["workflow_start", "node_start"]
        assert await anext(steps) == WORDS[0]
        assert texts(streaming.hub) == [WORDS[0]]
        await steps.aclose()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    assert (await read(streaming, "e")).one("node_error").data["error"]["code"] == "cancelled"


@pytest.mark.row("HIVE-D8")
async def test_a_graph_gets_what_it_would_have_got(streaming: StreamingModule) -> None:
    def build(node: Any) -> Any:
        builder: Any = StateGraph(Annotated[str, operator.add])  # pyright: ignore[reportArgumentType, reportUnknownVariableType]
        builder.add_node("node", node)
        builder.add_edge(START, "node")
        builder.add_edge("node", END)
        return builder.compile()

    async def plain(state: str) -> AsyncIterator[str]:
        for word in WORDS:
            yield word

    expected = await build(plain).ainvoke("So: ")
    assert expected == "So: " + TEXT
    assert await build(stream_token(plain)).ainvoke("So: ", streaming.config(execution_id="e")) == expected
    assert (await read(streaming, "e")).texts() == {"plain": TEXT} or (await read(streaming, "e")).texts() == {
        "node": TEXT
    }


async def test_state_updates_that_are_yielded_are_no_tokens(streaming: StreamingModule) -> None:
    @stream_token
    async def node(state: State) -> AsyncIterator[Update]:
        yield {"text": "a"}
        yield {"text": "ab"}

    result = await graph_of(node).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    assert result["text"] == "ab"
    assert (await read(streaming, "e")).of("token") == []


@pytest.mark.row("HIVE-D16")
async def test_what_a_model_was_heard_saying_is_not_said_again_when_it_is_yielded(  # noqa: C901 (five small nodes)
    streaming: StreamingModule,
) -> None:
    @stream_token
    async def chunks() -> AsyncIterator[Any]:
        async for chunk in model().astream("go"):
            yield chunk

    @stream_token
    async def plain_texts() -> AsyncIterator[str]:
        async for chunk in model().astream("go"):
            yield str(chunk.text)

    @stream_token
    async def whole() -> AsyncIterator[str]:
        yield str((await model().ainvoke("go")).text)

    @stream_token
    async def through_the_emitter() -> None:
        async for _ in current_emitter().tokens(model().astream("go")):
            pass

    @stream_token
    async def something_else() -> AsyncIterator[str]:
        plan = await model("A plan.").ainvoke("go")
        assert plan.text == "A plan."
        for word in ("An", " an", " an", "swer"):
            yield word

    async with streaming.execution("e"):
        for node in (chunks, plain_texts, whole, something_else):
            async for _ in node():
                pass
        await through_the_emitter()
    told = (await read(streaming, "e")).texts()
    assert told.pop("something_else") == "A plan.An an answer"
    assert told == dict.fromkeys(("chunks", "plain_texts", "whole", "through_the_emitter"), TEXT)


class Stream:
    """A client's own kind of stream: an async iterator with more to it."""

    status = 200

    def __init__(self) -> None:
        self._words = words()
        self.closed = False

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        return await anext(self._words)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.closed = True
        await self._words.aclose()


@pytest.mark.row("HIVE-D8")
async def test_a_returned_stream_keeps_what_it_has(streaming: StreamingModule) -> None:
    stream = Stream()

    @stream_token
    async def node() -> Stream:
        return stream

    async with streaming.execution("e"):
        got = await node()
        assert got.status == 200
        async with got as inside:
            assert [word async for word in inside] == WORDS
    assert stream.closed
    assert (await read(streaming, "e")).texts() == {"node": TEXT}


async def test_an_iterator_that_nobody_reads(streaming: StreamingModule) -> None:
    async with streaming.execution("e"):
        result = await returns_words()
        del result
        gc.collect()
        while "node_complete" not in [each.type for each in seen(streaming.hub)]:
            await asyncio.sleep(0.001)
    assert (await read(streaming, "e")).final == "workflow_complete"


async def test_what_is_no_text_just_passes(streaming: StreamingModule) -> None:
    class Odd:
        @property
        def choices(self) -> object:
            raise RuntimeError("no choice")

    odd = Odd()

    @stream_token
    def node() -> Iterator[Any]:
        yield from (1, None, odd, [2])

    with streaming.execution("e"):
        assert list(node()) == [1, None, odd, [2]]
        assert list(current_emitter().tokens([odd, 1])) == [odd, 1]
    assert (await read(streaming, "e")).of("token") == []


@pytest.mark.parametrize(
    ("result", "text"), [("whole", "whole"), ({"content": "c", "role": "ai"}, "c"), ({"content": "c", "x": 1}, None)]
)
@pytest.mark.row("HIVE-30")
async def test_a_text_that_is_returned(streaming: StreamingModule, result: Any, text: str | None) -> None:
    @stream_token
    def node() -> Any:
        return result

    with streaming.execution("e"):
        assert node() == result
    assert (await read(streaming, "e")).texts() == ({"node": text} if text else {})


def openai(content: str | None, **delta: Any) -> Thing:
    return Thing(id="chatcmpl-1", choices=[Thing(index=0, delta=Thing(content=content, **delta))])


def tool_call(**call: Any) -> list[Thing]:
    function = Thing(name=call.pop("name", None), arguments=call.pop("arguments", None))
    return [Thing(index=0, id=call.get("id"), function=function)]


def anthropic(type: str, **fields: Any) -> Thing:
    return Thing(type=type, **fields)


ANSWERS: dict[str, tuple[list[Any], str, str]] = {
    "strings": (["Hel", "lo", ""], "Hello", ""),
    "openai": (
        [openai(None, reasoning_content="hm"), openai("Hel"), openai("lo"), Thing(id="chatcmpl-1", choices=[])],
        "Hello",
        "hm",
    ),
    "openai as mappings": (
        [{"id": "x", "choices": [{"delta": {"content": word}}]} for word in ("Hel", "lo")],
        "Hello",
        "",
    ),
    "openai responses": (
        [
            Thing(type="response.created"),
            Thing(type="response.reasoning_summary_text.delta", delta="hm"),
            Thing(type="response.output_text.delta", delta="Hel"),
            Thing(type="response.output_text.delta", delta="lo"),
        ],
        "Hello",
        "hm",
    ),
    "anthropic": (
        [
            anthropic("message_start", message=Thing(id="msg-1", content=[])),
            anthropic("content_block_delta", index=0, delta=Thing(type="thinking_delta", thinking="hm")),
            anthropic("content_block_delta", index=1, delta=Thing(type="text_delta", text="Hel")),
            anthropic("text", text="Hel", snapshot="Hel"),
            anthropic("content_block_delta", index=1, delta=Thing(type="text_delta", text="lo")),
            anthropic("content_block_stop", index=1),
            anthropic("message_stop"),
        ],
        "Hello",
        "hm",
    ),
    "langchain": (
        [AIMessageChunk(content="Hel", id="1"), AIMessageChunk(content=[{"type": "text", "text": "lo"}], id="1")],
        "Hello",
        "",
    ),
    "ollama": ([{"message": {"role": "assistant", "content": word}} for word in ("Hel", "lo")], "Hello", ""),
    "something else": ([1, None, {"a": 1}, Thing()], "", ""),
}


@pytest.mark.parametrize("decorated", [True, False])
@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("name", ANSWERS)
async def test_other_clients(streaming: StreamingModule, name: str, *, asynchronous: bool, decorated: bool) -> None:
    chunks, text, thinking = ANSWERS[name]

    async def answer() -> AsyncIterator[Any]:
        for chunk in chunks:
            yield chunk

    async def node() -> list[Any]:
        emitter = current_emitter() if decorated else streaming.hub.emitter("e", node_id="node")
        if asynchronous:
            return [chunk async for chunk in emitter.tokens(answer())]
        return list(emitter.tokens(chunks))

    async with streaming.execution("e"):
        got = await (stream_token(node)() if decorated else node())
    assert [id(chunk) for chunk in got] == [id(chunk) for chunk in chunks]
    run = await read(streaming, "e")
    told = {(each.metadata.node_id, each.type) for each in run.of("token", "thinking")}
    assert told <= {("node", "token"), ("node", "thinking")}
    assert ["".join(run.texts(type=kind).values()) for kind in ("token", "thinking")] == [text, thinking]


async def test_tool_calls_of_other_clients(streaming: StreamingModule) -> None:
    pieces = [
        openai(None, tool_calls=tool_call(id="call-1", name="search", arguments="")),
        openai(None, tool_calls=tool_call(arguments='{"q":')),
        openai(None, tool_calls=tool_call(arguments='"ice"}')),
    ]

    @stream_token
    def node() -> None:
        assert list(current_emitter().tokens(pieces)) == pieces

    with streaming.execution("e"):
        node()
    data = (await read(streaming, "e")).one("tool_args").data
    assert data == {"tool_call_id": "call-1", "tool": "search", "args": '{"q":"ice"}', "index": 0, "batch_size": 3}


async def test_messages_of_other_clients_are_told_apart(streaming: StreamingModule) -> None:
    @stream_token
    def node() -> None:
        for answer in ("1", "2"):
            chunks = [{"id": answer, "choices": [{"delta": {"content": word}}]} for word in ("a", "b", "c")]
            assert list(current_emitter().tokens(chunks)) == chunks

    with streaming.execution("e"):
        node()
    assert joined(seen(streaming.hub)) == {("token", "1"): "abc", ("token", "2"): "abc"}
    assert texts(streaming.hub) == ["a", "bc", "a", "bc"]


async def test_outside_of_any_node_it_only_passes() -> None:
    assert list(current_emitter().tokens(["a", "b"])) == ["a", "b"]
    assert [word async for word in current_emitter().tokens(words())] == WORDS


async def test_what_else_a_node_says_keeps_its_place_among_the_text(streaming: StreamingModule) -> None:
    @stream_event
    @stream_token(flush_interval=60.0)
    async def node() -> None:
        emitter = current_emitter()
        emitter.token("a")
        emitter.token("b")
        emitter.custom("note")
        emitter.token("c")
        await ScriptedChatModel(answers=[AIMessage("one two three four five six")]).ainvoke("go")
        emitter.token("d")

    async with streaming.execution("e"):
        await node()
    run = await read(streaming, "e")
    told = [
        each.data["content"] if each.type == "token" else each.type
        for each in run.updates
        if each.type != "usage" and each.metadata.node_id
    ]
    assert told == [
        *("node_start", "a", "b", "custom", "c", "llm_start", "one", " two three four five six"),
        *("llm_complete", "d", "node_complete"),
    ]


async def test_parts_in_between_keep_their_place(streaming: StreamingModule) -> None:
    call = {"name": "look", "args": {"at": "it"}, "id": "call-1", "type": "tool_call"}
    picture = {"type": "image", "url": "https://example.com/a.png"}
    message = AIMessage(["See this ", picture, "and that"], tool_calls=[call])  # pyright: ignore[reportArgumentType]

    @stream_token(filter={"min_length": 1}, processor=lambda token, _: token.upper(), first_token_immediately=False)
    async def node() -> None:
        await ScriptedChatModel(answers=[message]).ainvoke("go")

    async with streaming.execution("e"):
        await node()
    run = await read(streaming, "e")
    first, second, third, args = run.of("token", "tool_args")
    assert (first.data["content"], third.data["content"]) == ("SEE THIS ", "AND THAT")
    assert (second.data["content"], second.data["blocks"][0]["url"]) == ("", picture["url"])
    assert args.data["args"] == '{"at": "it"}'
    assert args.data["tool"] == "look"


async def test_models_side_by_side_have_whole_batches(streaming: StreamingModule) -> None:
    @stream_token(first_token_immediately=False, buffer_size=1000, batch_size=1000)
    async def node() -> None:
        await asyncio.gather(*(model(f"{name}: {TEXT}").ainvoke("go") for name in "abc"))

    async with streaming.execution("e"):
        await node()
    told = (await read(streaming, "e")).of("token")
    assert sorted(joined(told).values()) == [f"{name}: {TEXT}" for name in "abc"]
    assert len(told) <= 6
