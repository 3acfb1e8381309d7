"""Runs that something else than their graph ends: the program, a deadline, another start."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.errors import DeadlineError, ExecutionNotFoundError, PromptError, RunCancelledError
from tests.runs.graphs import Gate, State, asking, gated
from tests.runs.people import asked, types_of
from tests.runs.test_steering import stepping


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule({"limits": {"cancel_grace": 0.2}}) as module:
        yield module


def one_node(node: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("work", node)
    builder.add_edge(START, "work")
    return builder.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("end", ["close", "fail"])
async def test_a_graph_stops_when_the_program_ends_its_run(streaming: StreamingModule, end: str) -> None:
    stopped = asyncio.Event()
    entered = asyncio.Event()

    async def work(state: State) -> State:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return {}

    run = await streaming.runs.start(one_node(work), {}, execution_id="e")
    await entered.wait()
    await (streaming.hub.close("e", "by hand") if end == "close" else streaming.hub.fail("e", "by hand"))
    with pytest.raises(RunCancelledError, match="has ended"):
        await asyncio.wait_for(run, 5)
    assert stopped.is_set()
    assert streaming.runs.get("e") is None
    final = "workflow_complete" if end == "close" else "workflow_error"
    assert [name for name in await types_of(streaming) if name.startswith("workflow_")] == ["workflow_start", final]
    again = await streaming.runs.start(asking(), {}, execution_id="e")
    await again.cancel()


async def test_nothing_waits_for_people_after_the_program_has_ended_the_run(streaming: StreamingModule) -> None:
    run = await streaming.runs.start(asking(), {}, execution_id="e")
    prompt = (await asked(streaming))[0]
    await streaming.hub.close("e")
    with pytest.raises(RunCancelledError, match="has ended"):
        await asyncio.wait_for(run, 5)
    with pytest.raises(PromptError):
        await streaming.hub.respond("e", prompt.data["prompt_id"], "yes")


async def test_a_paused_run_that_the_program_ends_is_not_resumed(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(stepping(gate), {}, execution_id="e")
    await gate.entered.wait()
    await streaming.runs.pause("e")
    gate.open.set()
    async for _ in streaming.hub.subscribe("e", until="interrupted", timeout=5):
        pass
    await streaming.hub.fail("e", "by hand")
    with contextlib.suppress(ExecutionNotFoundError):  # at the same moment
        await streaming.runs.resume("e")
    with pytest.raises(RunCancelledError):
        await asyncio.wait_for(run, 5)
    assert streaming.hub.runs.current_run_id("e") is None  # no other run has begun
    with pytest.raises(ExecutionNotFoundError):
        await streaming.runs.resume("e")


async def test_a_deadline_ends_a_graph_that_swallows_its_cancellation(streaming: StreamingModule) -> None:
    leave = asyncio.Event()

    async def stubborn(state: State) -> State:
        while not leave.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await leave.wait()
        return {}

    run = await streaming.runs.start(one_node(stubborn), {}, execution_id="e", deadline=0.05)
    with pytest.raises(DeadlineError):
        await asyncio.wait_for(run, 5)
    assert (await types_of(streaming))[-1] == "workflow_error"
    assert streaming.runs.get("e") is None
    leave.set()


async def test_a_second_cancel_leaves_the_cleanup_alone(streaming: StreamingModule) -> None:
    entered, cleaning, leave, clean = asyncio.Event(), asyncio.Event(), asyncio.Event(), list[str]()

    async def work(state: State) -> State:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await leave.wait()
            clean.append("done")
        return {}

    run = await streaming.runs.start(one_node(work), {}, execution_id="e")
    await entered.wait()
    driver = streaming.runs._order.first("e")  # pyright: ignore[reportPrivateUsage]
    assert driver is not None
    await run.cancel("enough")
    await cleaning.wait()
    driver.request_cancel("again")
    await asyncio.sleep(0)
    leave.set()
    with pytest.raises(RunCancelledError, match="enough"):
        await run
    assert clean == ["done"]


async def test_a_start_that_is_cancelled_does_not_cancel_the_others_that_wait() -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(state: State) -> State:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            await leave.wait()
        return {}

    async with StreamingModule() as streaming:
        done = Gate()
        done.open.set()
        first = await streaming.runs.start(one_node(slow), {}, execution_id="e")
        await entered.wait()
        starts = [
            asyncio.create_task(streaming.runs.start(gated(done), {}, execution_id="e", if_running="cancel"))
            for _ in range(2)
        ]
        while len(streaming.runs._order.all()) < 3:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0)
        starts[0].cancel()
        await asyncio.wait([starts[0]])
        leave.set()
        last = await asyncio.wait_for(starts[1], 5)
        assert await last == {"text": "!"}
        with pytest.raises(RunCancelledError):
            await first


async def test_a_late_handle_does_not_cancel_a_later_run(streaming: StreamingModule) -> None:
    done, gate = Gate(), Gate()
    done.open.set()
    graph = gated(done)
    await streaming.runs.run(graph, {}, execution_id="e", idempotency_key="k")
    early = await streaming.runs.start(graph, {}, execution_id="e", idempotency_key="k")  # its end was not read yet
    later = await streaming.runs.start(gated(gate), {}, execution_id="e")
    await gate.entered.wait()
    assert not await early.cancel("too late")
    assert not await streaming.hub.cancel("e", run_id=early.run_id)
    gate.open.set()
    assert (await later)["text"] == "!"


async def test_a_wait_that_was_cancelled_leaves_no_unseen_error(streaming: StreamingModule) -> None:
    unseen: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    try:
        run = await streaming.runs.start(gated(Gate()), {}, execution_id="e")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run, 0.01)
        await run.cancel()
        async for _ in streaming.hub.subscribe("e", timeout=5):
            pass
        while not run.done:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert unseen == []


async def test_the_reason_of_a_cancel_holds_although_the_graph_stops_first(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(gated(gate), {}, execution_id="e")
    await gate.entered.wait()
    driver = streaming.runs._order.first("e")  # pyright: ignore[reportPrivateUsage]
    assert driver is not None
    driver.cancel = lambda reason: None  # it is called too late
    driver._opening._cancel = driver.cancel  # pyright: ignore[reportPrivateUsage]
    await run.cancel("enough")
    with pytest.raises(RunCancelledError, match="enough"):
        await run
    ends = [update async for update in streaming.hub.subscribe("e", types=["workflow_cancelled"], timeout=5)]
    assert [each.data.get("reason") for each in ends] == ["enough"]
