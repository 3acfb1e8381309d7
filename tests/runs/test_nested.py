"""Runs that nodes of other runs start and await."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from langgraph.graph import START, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.errors import TransitionError
from lg_streaming.runs import GraphRun
from tests.runs.graphs import Gate, State, gated


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule({"runs": {"max_concurrent": 1}}) as module:
        yield module


def one_node(node: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("work", node)
    builder.add_edge(START, "work")
    return builder.compile()


def leaf() -> Any:
    async def work(state: State) -> State:
        return {"text": f"{state.get('text', '')}."}

    return one_node(work)


async def test_a_node_may_await_a_run_although_the_queue_is_full(streaming: StreamingModule) -> None:
    async def outer(state: State) -> State:
        return await streaming.runs.run(leaf(), {"text": "inner"})

    assert (await asyncio.wait_for(streaming.runs.run(one_node(outer), {}), 5))["text"] == "inner."
    assert streaming.hub.statistics().runs.running == 0


async def test_runs_may_nest_and_fan_out(streaming: StreamingModule) -> None:
    async def outer(state: State) -> State:
        depth = int(state.get("text", "0"))
        if depth == 0:
            return {"text": "leaf"}
        both = [streaming.runs.run("outer", {"text": str(depth - 1)}) for _ in range(2)]
        return (await asyncio.gather(*both))[0]

    streaming.graphs["outer"] = one_node(outer)
    assert (await asyncio.wait_for(streaming.runs.run("outer", {"text": "3"}), 10))["text"] == "leaf"
    assert streaming.hub.statistics().runs.running == 0


async def test_a_sync_node_on_a_thread_awaits_a_run(streaming: StreamingModule) -> None:
    def outer(state: State) -> State:
        return asyncio.run(streaming.runs.run(leaf(), {"text": "inner"}))

    assert (await asyncio.wait_for(streaming.runs.run(one_node(outer), {}), 5))["text"] == "inner."


async def test_a_run_that_nothing_awaits_keeps_its_place(streaming: StreamingModule) -> None:
    gate, started = Gate(), list[GraphRun]()

    async def outer(state: State) -> State:
        started.append(await streaming.runs.start(leaf(), {"text": "inner"}))
        await gate({})
        return {}

    run = await streaming.runs.start(one_node(outer), {})
    await gate.entered.wait()
    await asyncio.sleep(0)
    assert started[0].status == "queued"
    gate.open.set()
    await run
    assert (await started[0])["text"] == "inner."


async def refused(streaming: StreamingModule, act: Callable[[], Any]) -> Any:
    """Return what ``act()`` raises in a node of the execution ``e``, and the node's result otherwise."""
    found: list[Any] = []

    async def outer(state: State) -> State:
        try:
            found.append(await act())
        except TransitionError as error:
            found.append(error)
        return {"text": "outer"}

    assert (await asyncio.wait_for(streaming.runs.run(one_node(outer), {}, execution_id="e"), 5))["text"] == "outer"
    return found[0]


async def test_a_node_cannot_wait_for_its_own_run(streaming: StreamingModule) -> None:
    async def await_own() -> Any:
        run = streaming.runs.get("e")
        assert run is not None
        return await run

    assert isinstance(await refused(streaming, await_own), TransitionError)


async def test_a_node_cannot_wait_for_a_run_that_follows_its_own(streaming: StreamingModule) -> None:
    async def enqueue() -> Any:
        return await streaming.runs.run(leaf(), {"text": "next"}, execution_id="e", if_running="enqueue")

    assert isinstance(await refused(streaming, enqueue), TransitionError)


async def test_a_node_starts_the_run_that_follows_its_own(streaming: StreamingModule) -> None:
    following = await refused(
        streaming, lambda: streaming.runs.start(leaf(), {"text": "next"}, execution_id="e", if_running="enqueue")
    )
    assert (await asyncio.wait_for(following, 5))["text"] == "next."


@pytest.mark.parametrize("mode", ["cancel", "rollback"])
async def test_a_node_does_not_replace_its_own_run(streaming: StreamingModule, mode: Any) -> None:
    done = Gate()
    done.open.set()
    error = await refused(streaming, lambda: streaming.runs.start(gated(done), {}, execution_id="e", if_running=mode))
    assert isinstance(error, TransitionError)
    assert done.starts == 0
