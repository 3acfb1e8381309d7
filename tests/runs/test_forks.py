"""Forks: a new execution that goes on from a checkpoint of another one, which stays as it is."""

import contextlib
import operator
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Send, interrupt

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError, GraphNotFoundError, TransitionError


class Steps(TypedDict, total=False):
    done: Annotated[list[str], operator.add]
    note: str


def graph_of(saver: Any, state: Any = Steps, **nodes: Any) -> Any:
    """Return a graph of nodes in a row."""
    builder = StateGraph(state)
    before = START
    for name, node in nodes.items():
        builder.add_node(name, node)
        builder.add_edge(before, name)
        before = name
    return builder.compile(checkpointer=saver, name="steps")


async def first(state: Steps) -> Steps:
    return {"done": ["first"]}


async def second(state: Steps) -> Steps:
    return {"done": [f"second {state.get('note', '')}".strip()]}


async def third(state: Steps) -> Steps:
    return {"done": ["third"]}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def saver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Any]:
    async with contextlib.AsyncExitStack() as stack:
        if request.param == "memory":
            yield InMemorySaver()
        elif request.param == "sqlite":
            path = str(tmp_path / "checkpoints.db")
            yield await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(path))
        else:
            url = request.getfixturevalue("shared_postgres").url
            found = await stack.enter_async_context(AsyncPostgresSaver.from_conn_string(url))
            await found.setup()
            yield found


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module


@pytest.fixture
def e() -> str:
    return f"e-{uuid4().hex[:8]}"


async def checkpoint_before(streaming: StreamingModule, e: str, node: str) -> str:
    async for each in streaming.runs.history(e):
        if node in each.next:
            return each.config.get("configurable", {})["checkpoint_id"]
    raise AssertionError(node)


async def ids_of(streaming: StreamingModule, e: str) -> list[str]:
    return [each.config.get("configurable", {})["checkpoint_id"] async for each in streaming.runs.history(e)]


async def start_of(streaming: StreamingModule, e: str) -> dict[str, Any]:
    async for update in streaming.hub.subscribe(e, timeout=10):
        return update.data
    raise AssertionError(e)


async def test_a_fork_goes_on_in_a_new_execution(streaming: StreamingModule, saver: Any, e: str) -> None:
    graph = graph_of(saver, first=first, second=second, third=third)
    assert (await streaming.runs.run(graph, {}, execution_id=e, owner="alice"))["done"] == ["first", "second", "third"]
    checkpoint_id, before = await checkpoint_before(streaming, e, "second"), await ids_of(streaming, e)
    fork = await streaming.runs.fork(e, checkpoint_id)
    assert (await fork)["done"] == ["first", "second", "third"]
    assert fork.execution_id == fork.thread_id != e
    assert fork.owner == "alice"
    start = await start_of(streaming, fork.execution_id)
    assert start["forked_from"] == {"execution_id": e, "checkpoint_id": checkpoint_id}
    again = await streaming.runs.fork(e, checkpoint_id, values={"note": "again"}, new_execution_id=f"{e}-2")
    assert (await again)["done"] == ["first", "second again", "third"]
    assert again.execution_id == f"{e}-2"
    assert await ids_of(streaming, e) == before
    assert "note" not in (await streaming.runs.state(e)).values
    assert (await ids_of(streaming, f"{e}-2"))[-2:] == before[-2:]  # the states before the fork come along


async def test_a_fork_of_the_input_and_behind_a_node(streaming: StreamingModule, saver: Any, e: str) -> None:
    graph = graph_of(saver, first=first, second=second, third=third)
    await streaming.runs.run(graph, {"done": ["input"]}, execution_id=e)
    beginning = await streaming.runs.fork(e, await checkpoint_before(streaming, e, START), values={"note": "x"})
    assert (await beginning)["done"] == ["input", "first", "second x", "third"]
    behind = await streaming.runs.fork(
        e, await checkpoint_before(streaming, e, "second"), values={"done": ["by hand"]}, as_node="second"
    )
    assert (await behind)["done"] == ["input", "first", "by hand", "third"]


class Question(TypedDict, total=False):
    question: str
    answer: str


def write(_state: Question) -> Question:
    return {"answer": "Water."}


async def test_a_fork_has_the_last_question_as_its_title(streaming: StreamingModule, e: str) -> None:
    graph = graph_of(InMemorySaver(), Question, write=write)
    await streaming.runs.run(graph, {"question": "What is rain?"}, execution_id=e)
    checkpoint_id = await checkpoint_before(streaming, e, "write")
    same = await streaming.runs.fork(e, checkpoint_id)
    other = await streaming.runs.fork(e, checkpoint_id, values={"question": "What is snow?"})
    named = await streaming.runs.fork(e, checkpoint_id, metadata={"title": "Mine"})
    titles = [(await start_of(streaming, each.execution_id))["title"] for each in (same, other, named)]
    assert titles == ["What is rain?", "What is snow?", "Mine"]


class Asked(TypedDict, total=False):
    answers: Annotated[list[str], operator.add]


async def test_a_run_that_waits_is_forked_and_goes_on(streaming: StreamingModule, saver: Any, e: str) -> None:
    async def ask(state: Asked) -> Asked:
        return {"answers": [interrupt("?")]}

    run = await streaming.runs.start(graph_of(saver, Asked, ask=ask), {"answers": []}, execution_id=e)
    prompts: dict[str, str] = {}

    async def wait(execution_id: str) -> None:
        async for update in streaming.hub.subscribe(execution_id, until="interrupted", timeout=10):
            if update.type == "human_prompt":
                prompts[execution_id] = update.data["prompt_id"]

    await wait(e)
    fork = await streaming.runs.fork(e, await checkpoint_before(streaming, e, "ask"))
    await wait(fork.execution_id)
    await streaming.hub.respond(fork.execution_id, prompts[fork.execution_id], "fork")
    assert (await fork)["answers"] == ["fork"]
    await streaming.hub.respond(e, prompts[e], "original")
    assert (await run)["answers"] == ["original"]
    again = await streaming.runs.fork(e, await checkpoint_before(streaming, e, "ask"))
    await wait(again.execution_id)  # it asks again, also where the original has its answer
    await again.cancel()


class Delta(TypedDict, total=False):
    done: Annotated[
        list[str], DeltaChannel(lambda state, writes: [*state, *(item for each in writes for item in each)])
    ]


def noting(name: str) -> Any:
    async def note(state: Delta) -> Delta:
        return {"done": [name]}

    return note


async def test_channels_that_keep_only_changes(streaming: StreamingModule, saver: Any, e: str) -> None:
    graph = graph_of(saver, Delta, **{name: noting(name) for name in ("n0", "n1", "n2", "n3", "n4")})
    whole = (await streaming.runs.run(graph, {"done": ["input"]}, execution_id=e))["done"]
    fork = await streaming.runs.fork(e, await checkpoint_before(streaming, e, "n3"))
    assert (await fork)["done"] == whole == ["input", "n0", "n1", "n2", "n3", "n4"]


async def test_subgraphs_with_a_memory_and_sends(streaming: StreamingModule, saver: Any, e: str) -> None:
    class Count(TypedDict, total=False):
        calls: Annotated[int, operator.add]

    async def count(state: Count) -> Count:
        return {"calls": 1}

    async def send(state: Steps) -> Any:
        return [Send("part", {"note": note}) for note in "ab"] if len(state.get("done", [])) == 1 else END

    counting = StateGraph(Count).add_node("count", count).add_edge(START, "count")
    counter = counting.compile(checkpointer=True)

    async def remember(state: Steps) -> Steps:
        return {"done": [f"call {(await counter.ainvoke({}))['calls']}"]}

    async def part(state: Steps) -> Steps:
        return {"done": [f"part {state.get('note')}"]}

    builder = StateGraph(Steps)
    builder.add_node("remember", remember)
    builder.add_node("part", part)
    builder.add_edge(START, "remember")
    builder.add_conditional_edges("remember", send, ["part", END])
    builder.add_edge("part", "remember")
    graph = builder.compile(checkpointer=saver)
    whole = (await streaming.runs.run(graph, {}, execution_id=e))["done"]
    fork = await streaming.runs.fork(e, await checkpoint_before(streaming, e, "part"))
    assert (await fork)["done"] == whole == ["call 1", "part a", "part b", "call 2"]
    fork = await streaming.runs.fork(e, await checkpoint_before(streaming, e, "remember"))
    assert (await fork)["done"] == whole


async def test_context_and_values_of_the_original_are_kept(streaming: StreamingModule, e: str) -> None:
    class Context(TypedDict, total=False):
        tone: str

    async def speak(state: Steps, config: RunnableConfig, runtime: Runtime[Any]) -> Steps:
        return {"done": [f"{(runtime.context or {}).get('tone')} {config.get('configurable', {}).get('model')}"]}

    builder = StateGraph(Steps, context_schema=Context)
    builder.add_node("speak", cast("Any", speak))
    builder.add_edge(START, "speak")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"model": "m1"}}
    await streaming.runs.run(graph, {}, execution_id=e, context={"tone": "dry"}, config=config)
    checkpoint_id = await checkpoint_before(streaming, e, "speak")
    assert (await (await streaming.runs.fork(e, checkpoint_id)))["done"] == ["dry m1"]
    other = await streaming.runs.fork(
        e, checkpoint_id, context={"tone": "warm"}, config={"configurable": {"model": "m2"}}
    )
    assert (await other)["done"] == ["warm m2"]


async def test_after_a_restart_another_program_forks(tmp_path: Path, e: str) -> None:
    path = str(tmp_path / "checkpoints.db")
    async with AsyncSqliteSaver.from_conn_string(path) as saver, StreamingModule() as streaming:
        graph = graph_of(saver, first=first, second=second, third=third)
        await streaming.runs.run(graph, {"note": "kept"}, execution_id=e)
    async with AsyncSqliteSaver.from_conn_string(path) as saver, StreamingModule() as streaming:
        graph = graph_of(saver, first=first, second=second, third=third)
        states = [each async for each in streaming.runs.history(e, graph=graph)]
        checkpoint_id = next(each for each in states if each.next == ("third",)).config.get("configurable", {})[
            "checkpoint_id"
        ]
        fork = await streaming.runs.fork(e, checkpoint_id, graph=graph)
        assert (await fork)["done"] == ["first", "second kept", "third"]


@pytest.mark.parametrize(
    ("checkpoint_id", "options", "error", "text"),
    [
        ("nope", {}, BadRequestError, "no checkpoint 'nope'"),
        ("", {}, BadRequestError, "no checkpoint"),
        (None, {"values": {"nope": 1}}, BadRequestError, "no field 'nope'"),
        (None, {"as_node": "nope"}, BadRequestError, "no node 'nope'"),
        (None, {"new_execution_id": "e"}, TransitionError, "exists"),
        (None, {"new_execution_id": "with a space"}, BadRequestError, "id"),
        (None, {"idempotency_key": "k"}, BadRequestError, "idempotency_key"),
        (None, {"thread_id": "t"}, BadRequestError, "thread_id"),
        (None, {"if_running": "nope"}, BadRequestError, "if_running"),
    ],
    ids=["checkpoint", "empty", "field", "node", "taken", "id", "key", "thread", "option"],
)
async def test_a_refused_fork_leaves_nothing(
    streaming: StreamingModule, checkpoint_id: str | None, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    saver = InMemorySaver()
    await streaming.runs.run(graph_of(saver, first=first), {}, execution_id="e")
    if checkpoint_id is None:
        checkpoint_id = await checkpoint_before(streaming, "e", "first")
    with pytest.raises(error, match=text):
        await streaming.runs.fork("e", checkpoint_id, **options)
    assert {name for name, each in saver.storage.items() if any(each.values())} == {"e"}


async def test_a_fork_needs_a_graph_with_a_checkpointer(streaming: StreamingModule) -> None:
    with pytest.raises(GraphNotFoundError, match="graph="):
        await streaming.runs.fork("e", "c")
    await streaming.runs.run(graph_of(None, first=first), {}, execution_id="e")
    with pytest.raises(TransitionError, match="checkpointer"):
        await streaming.runs.fork("e", "c")
