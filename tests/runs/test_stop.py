"""Runs while their process stops."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.errors import HubClosedError, RunCancelledError, ServerRestartError
from lg_streaming.runs.shutdown import RunShutdown
from tests.runs.graphs import Gate, State, asking, gated


class LastingSaver(InMemorySaver):
    """Stand-in for a checkpointer that outlives the process."""


def two_steps(gate: Gate, after: list[str], **options: Any) -> Any:
    """Return a graph whose first node waits for its gate, and whose second node notes that it ran."""

    async def last(state: State) -> State:
        after.append("last")
        return {}

    builder = StateGraph(State)
    builder.add_node("work", gate)
    builder.add_node("last", last)
    builder.add_edge(START, "work")
    builder.add_edge("work", "last")
    builder.add_edge("last", END)
    return builder.compile(name="two steps", **options)


def module(**runs: Any) -> StreamingModule:
    return StreamingModule({"runs": runs, "limits": {"cancel_grace": 0.5}})


async def last_update(streaming: StreamingModule, execution_id: str = "e") -> tuple[str, Any]:
    update = [update async for update in streaming.hub.subscribe(execution_id, timeout=5)][-1]
    return update.type, update.data.get("reason")


async def interrupted(streaming: StreamingModule, execution_id: str) -> None:
    async for _ in streaming.hub.subscribe(execution_id, until="interrupted", timeout=5):
        pass


async def test_a_run_may_end_within_the_grace() -> None:
    streaming, gate = module(), Gate()
    run = await streaming.runs.start(gated(gate), {"text": "hi"}, execution_id="e")
    await gate.entered.wait()
    closing = asyncio.create_task(streaming.runs.aclose(grace=30))
    await asyncio.sleep(0)
    with pytest.raises(ServerRestartError):
        await streaming.runs.start(gated(gate), {})
    gate.open.set()
    await closing
    assert (await run)["text"] == "hi!"
    await streaming.aclose()
    with pytest.raises(HubClosedError):
        await streaming.runs.start(gated(gate), {})


async def test_a_queued_run_is_cancelled_at_once() -> None:
    streaming, gate = module(max_concurrent=1), Gate()
    run = await streaming.runs.start(gated(gate), {}, execution_id="e")
    queued = await streaming.runs.start(gated(gate), {}, execution_id="f")
    enqueued = await streaming.runs.start(gated(gate), {}, execution_id="e", if_running="enqueue")
    await gate.entered.wait()
    closing = asyncio.create_task(streaming.runs.aclose(grace=30))
    for each in (queued, enqueued):
        with pytest.raises(RunCancelledError, match="shutdown"):
            await each
    assert not closing.done()
    gate.open.set()
    await closing
    await run
    assert gate.starts == 1
    assert await last_update(streaming, "f") == ("workflow_cancelled", "shutdown")
    await streaming.aclose()


async def test_a_run_with_a_checkpointer_stops_after_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    streaming, gate, after = module(), Gate(), list[str]()
    graph = two_steps(gate, after, checkpointer=InMemorySaver())
    run = await streaming.runs.start(graph, {"text": "hi"}, execution_id="e")
    await gate.entered.wait()
    driver = streaming.runs._order.first("e")
    assert driver is not None
    wait = RunShutdown._wait_for_ends

    async def wait_long_for_the_step(self: RunShutdown, seconds: float) -> None:
        await wait(self, 30 if driver.steps.drained else seconds)

    monkeypatch.setattr(RunShutdown, "_wait_for_ends", wait_long_for_the_step)
    closing = asyncio.create_task(streaming.runs.aclose(grace=0.05))
    while not driver.steps.drained:
        await asyncio.sleep(0.005)
    gate.open.set()
    await closing
    with pytest.raises(RunCancelledError, match="shutdown"):
        await run
    assert after == []
    state = await graph.aget_state({"configurable": {"thread_id": "e"}})
    assert (state.values["text"], state.next) == ("hi!", ("last",))
    assert await last_update(streaming) == ("workflow_cancelled", "shutdown")
    await streaming.aclose()


async def test_a_run_that_does_not_end_is_cancelled() -> None:
    streaming = module()
    run = await streaming.runs.start(gated(Gate()), {}, execution_id="e")
    await streaming.runs.aclose(grace=0.05)
    with pytest.raises(RunCancelledError, match="shutdown"):
        await run
    assert await last_update(streaming) == ("workflow_cancelled", "shutdown")
    await streaming.aclose()


@pytest.mark.parametrize("lasts", [True, False])
async def test_a_run_that_waits_for_a_human_is_left(lasts: bool) -> None:
    streaming = module()
    saver = LastingSaver() if lasts else InMemorySaver()
    run = await streaming.runs.start(asking(checkpointer=saver), {}, execution_id="e")
    await interrupted(streaming, "e")
    await streaming.runs.aclose(grace=30)
    state = await streaming.hub.describe("e")
    assert state is not None
    if lasts:
        with pytest.raises(ServerRestartError, match="elsewhere"):
            await run
        assert (state.state, run.status) == ("interrupted", "interrupted")
    else:
        with pytest.raises(RunCancelledError, match="shutdown"):
            await run
        assert (state.state, run.status) == ("cancelled", "cancelled")
    await streaming.aclose()


async def test_a_run_that_swallows_its_cancellation_ends_after_the_grace() -> None:
    streaming = StreamingModule({"limits": {"cancel_grace": 0.1}})
    entered, leave = asyncio.Event(), asyncio.Event()

    async def stubborn(state: State) -> State:
        entered.set()
        while not leave.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await leave.wait()
        return {}

    builder = StateGraph(State)
    builder.add_node("stubborn", stubborn)
    builder.add_edge(START, "stubborn")
    run = await streaming.runs.start(builder.compile(), {}, execution_id="e")
    await entered.wait()
    await run.cancel("enough")
    with pytest.raises(RunCancelledError, match="enough"):
        await run
    assert await last_update(streaming) == ("workflow_cancelled", "enough")
    assert streaming.hub.statistics().runs.running == 1  # it still works
    leave.set()
    await streaming.aclose()
    assert streaming.hub.statistics().runs.running == 0


async def test_runs_of_other_event_loops_end_too() -> None:
    streaming, gate = module(), Gate()
    started, ended = threading.Event(), list[str]()

    async def work() -> None:
        run = await streaming.runs.start(gated(gate), {}, execution_id="e")
        await gate.entered.wait()
        started.set()
        try:
            await run
        except RunCancelledError as error:
            ended.append(error.message)

    thread = threading.Thread(target=lambda: asyncio.run(work()))
    thread.start()
    await asyncio.to_thread(started.wait)
    await streaming.aclose()
    await asyncio.to_thread(thread.join)
    assert ended == ["shutdown"]


async def test_runs_end_with_their_event_loop() -> None:
    streaming, gate = module(), Gate()

    async def work() -> None:
        await streaming.runs.start(gated(gate), {}, execution_id="e")
        await gate.entered.wait()

    await asyncio.to_thread(lambda: asyncio.run(work()))
    assert streaming.runs.get("e") is None
    assert await last_update(streaming) == ("workflow_cancelled", None)
    await streaming.aclose()


async def test_an_application_stops_its_runs_before_its_own_resources_close() -> None:
    streaming, gate, order = module(shutdown_grace=0.05), Gate(), list[str]()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        order.append("application")

    async def note(run: Any) -> None:
        with pytest.raises(RunCancelledError):
            await run
        order.append("run")

    app = FastAPI(lifespan=lifespan)
    streaming.install(app)
    async with app.router.lifespan_context(app):
        run = await streaming.runs.start(gated(gate), {}, execution_id="e")
        noting = asyncio.create_task(note(run))
        await gate.entered.wait()
    await noting
    assert order == ["run", "application"]
    assert streaming.runs.get("e") is None
