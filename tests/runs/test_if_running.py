"""A start while the execution has an open run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError, ExecutionExistsError, RunCancelledError
from lg_streaming.runs import GraphRun
from tests.runs.graphs import Gate, asking, gated


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module


async def start_types(streaming: StreamingModule, execution_id: str = "e") -> list[tuple[str, str | None]]:
    kept = ["workflow_*"]
    updates = streaming.hub.subscribe(execution_id, types=kept, follow=True, timeout=5)
    found: list[tuple[str, str | None]] = []
    state = await streaming.hub.describe(execution_id)
    assert state is not None
    async for update in updates:
        found.append((update.type, update.metadata.run_id))
        if update.metadata.sequence_number == state.head:
            break
    return found


async def test_enqueued_runs_follow_in_order(streaming: StreamingModule) -> None:
    gates = [Gate() for _ in range(3)]
    runs = [await streaming.runs.start(gated(gate), {}, execution_id="e", if_running="enqueue") for gate in gates]
    await gates[0].entered.wait()
    assert [run.status for run in runs] == ["running", "queued", "queued"]
    assert streaming.hub.statistics().runs.queued == 2
    with pytest.raises(ExecutionExistsError):
        await streaming.runs.start(gated(gates[0]), {}, execution_id="e")
    for gate, run in zip(gates, runs, strict=True):
        await gate.entered.wait()
        assert streaming.runs.get("e") is run
        gate.open.set()
        await run
    ids = [run.run_id for run in runs]
    expected = [(name, run_id) for run_id in ids for name in ("workflow_start", "workflow_complete")]
    assert await start_types(streaming) == expected


async def test_a_cancelled_one_that_waits_leaves_the_open_run_alone(streaming: StreamingModule) -> None:
    gate = Gate()
    first = await streaming.runs.start(gated(gate), {}, execution_id="e")
    second = await streaming.runs.start(gated(gate), {}, execution_id="e", if_running="enqueue")
    third = await streaming.runs.start(gated(gate), {}, execution_id="e", if_running="enqueue")
    assert await second.cancel("not needed")
    with pytest.raises(RunCancelledError, match="not needed"):
        await second
    gate.open.set()
    await asyncio.gather(first, third)
    assert gate.starts == 2
    assert not await second.cancel()


async def test_one_waits_for_a_run_that_the_application_started(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    async with streaming.execution("e"):
        with pytest.raises(ExecutionExistsError):
            await streaming.runs.start(gated(gate), {}, execution_id="e")
        run = await streaming.runs.start(gated(gate), {}, execution_id="e", if_running="enqueue")
        await asyncio.sleep(0)
        assert run.status == "queued"
    await run
    assert run.status == "completed"


async def test_a_start_is_rejected_while_another_waits_for_a_human(streaming: StreamingModule) -> None:
    await streaming.runs.start(asking(), {}, execution_id="e")
    async for _ in streaming.hub.subscribe("e", until="interrupted", timeout=5):
        pass
    with pytest.raises(ExecutionExistsError):
        await streaming.runs.start(asking(), {}, execution_id="e")


async def test_of_starts_at_once_one_is_accepted(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    starts = [streaming.runs.start(gated(gate), {}, execution_id="e") for _ in range(8)]
    results = await asyncio.gather(*starts, return_exceptions=True)
    run, *refused = sorted(results, key=lambda each: isinstance(each, Exception))
    assert [type(each) for each in refused] == [ExecutionExistsError] * 7
    assert isinstance(run, GraphRun)
    await run
    assert gate.starts == 1


@pytest.mark.parametrize("state", ["running", "interrupted", "queued"])
async def test_cancel_replaces_the_earlier_runs(streaming: StreamingModule, state: str) -> None:
    gate = Gate()
    earlier = [await streaming.runs.start(asking() if state == "interrupted" else gated(gate), {}, execution_id="e")]
    if state == "queued":
        earlier.append(await streaming.runs.start(gated(gate), {}, execution_id="e", if_running="enqueue"))
    if state == "interrupted":
        async for _ in streaming.hub.subscribe("e", until="interrupted", timeout=5):
            pass
    else:
        await gate.entered.wait()
    done = Gate()
    done.open.set()
    run = await streaming.runs.start(gated(done), {"text": "new"}, execution_id="e", if_running="cancel")
    for each in earlier:
        with pytest.raises(RunCancelledError, match="replaced"):
            await each
    assert (await run)["text"] == "new!"
    types = [name for name, _ in await start_types(streaming) if name != "workflow_interrupted"]
    assert types == ["workflow_start", "workflow_cancelled", "workflow_start", "workflow_complete"]
    assert gate.starts == (state != "interrupted")


async def test_cancels_at_once_leave_one_run(streaming: StreamingModule) -> None:
    gate, last = Gate(), Gate()
    await streaming.runs.start(gated(gate), {}, execution_id="e")
    starts = [streaming.runs.start(gated(last), {}, execution_id="e", if_running="cancel") for _ in range(4)]
    runs = await asyncio.gather(*starts)
    await last.entered.wait()
    last.open.set()
    results = await asyncio.gather(*runs, return_exceptions=True)
    assert [isinstance(each, RunCancelledError) for each in results] == [True, True, True, False]


def add(one: list[str], other: list[str]) -> list[str]:
    return [*one, *other]


class Notes(TypedDict, total=False):
    """State that grows with each run."""

    notes: Annotated[list[str], add]


def noting(gate: Gate) -> Any:
    """Return a graph that adds a note, and then one more after its gate."""

    async def wait(state: Notes) -> Notes:
        await gate({})
        return {"notes": ["after"]}

    builder = StateGraph(Notes)
    builder.add_node("note", lambda state: {"notes": ["before"]})
    builder.add_node("wait", wait)
    builder.add_edge(START, "note")
    builder.add_edge("note", "wait")
    builder.add_edge("wait", END)
    return builder.compile(checkpointer=InMemorySaver(), name="noting")


@pytest.mark.parametrize("is_new", [True, False])
async def test_rollback_takes_back_the_changes_of_the_cancelled_run(streaming: StreamingModule, is_new: bool) -> None:
    gate = Gate()
    graph = noting(gate)
    if not is_new:
        gate.open.set()
        await streaming.runs.run(graph, {"notes": ["first"]}, execution_id="e")
        gate.open.clear()
        gate.entered.clear()
    await streaming.runs.start(graph, {"notes": ["cancelled"]}, execution_id="e")
    await gate.entered.wait()
    run = await streaming.runs.start(graph, {"notes": ["last"]}, execution_id="e", if_running="rollback")
    gate.open.set()
    earlier = [] if is_new else ["first", "before", "after"]
    assert (await run)["notes"] == [*earlier, "last", "before", "after"]
    state = await graph.aget_state({"configurable": {"thread_id": "e"}})
    assert state.values["notes"] == [*earlier, "last", "before", "after"]


async def test_rollback_needs_a_checkpointer(streaming: StreamingModule) -> None:
    with pytest.raises(BadRequestError, match="checkpointer"):
        await streaming.runs.start(asking(checkpointer=None), {}, execution_id="e", if_running="rollback")


async def test_without_an_open_run_all_begin_at_once(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    for mode in ("enqueue", "cancel", "rollback", "reject"):
        await streaming.runs.run(gated(gate), {}, execution_id="e", if_running=mode)
    assert gate.starts == 4
