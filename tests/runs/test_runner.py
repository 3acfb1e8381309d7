"""Start, await, cancel and answer runs in one process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.errors import (
    BadRequestError,
    DeadlineError,
    ExecutionExistsError,
    GraphNotFoundError,
    RunCancelledError,
    StreamingConfigError,
)
from lg_streaming.testing import ScriptedChatModel
from tests.runs.graphs import Gate, State, asking, gated


async def types_of(streaming: StreamingModule, execution_id: str, **options: Any) -> list[str]:
    return [update.type async for update in streaming.hub.subscribe(execution_id, timeout=5, **options)]


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module


@pytest.mark.row("FLOW-34")
async def test_a_run_returns_the_result_of_its_graph(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(gated(gate), {"text": "hi"}, execution_id="e", owner="alice")
    assert (run.execution_id, run.thread_id, run.graph) == ("e", "e", "gated")
    await gate.entered.wait()
    assert (run.status, streaming.runs.get("e")) == ("running", run)
    gate.open.set()
    assert (await run)["text"] == "hi!"
    assert (run.status, streaming.runs.get("e")) == ("completed", None)
    updates = [update async for update in run.updates(timeout=5)]
    types = [update.type for update in updates]
    assert types[0] == "workflow_start"
    assert types[-1] == "workflow_complete"
    assert {"status", "node_start", "node_complete"} <= set(types)
    assert {update.metadata.run_id for update in updates} == {run.run_id}
    assert updates[-1].data["result"] == {"text": "hi!"}


@pytest.mark.row("PYEV-22")
async def test_the_flow_of_a_run(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    await streaming.runs.run(gated(gate), {"text": "hi"}, execution_id="e")
    types = await types_of(streaming, "e", types=["status", "node_complete", "workflow_complete"])
    assert types == ["status", "node_complete", "workflow_complete"]


async def test_a_graph_by_name(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    streaming.graphs["work"] = gated(gate)
    assert (await streaming.runs.run("work", {"text": "hi"}))["text"] == "hi!"
    with pytest.raises(GraphNotFoundError, match="'other'"):
        await streaming.runs.start("other", {})
    with pytest.raises(StreamingConfigError, match="compile"):
        streaming.graphs["x"] = object()  # pyright: ignore[reportArgumentType]


async def test_an_answer_resumes_the_graph(streaming: StreamingModule) -> None:
    run = await streaming.runs.start(asking(), {"text": "ok:"}, execution_id="e")
    updates = streaming.hub.subscribe("e", until="interrupted", timeout=5)
    seen = [update async for update in updates]
    prompt = next(update for update in seen if update.type == "human_prompt")
    assert prompt.metadata.node_id == "ask"
    assert seen[-1].type == "workflow_interrupted"
    assert run.status == "interrupted"
    await streaming.hub.respond("e", prompt.data["prompt_id"], "yes")
    assert (await run)["text"] == "ok: yes"
    types = await types_of(streaming, "e")
    assert types.count("workflow_start") == 1
    assert types[-1] == "workflow_complete"


async def test_an_interrupt_without_a_checkpointer_fails_the_run(streaming: StreamingModule) -> None:
    run = await streaming.runs.start(asking(checkpointer=None), {}, execution_id="e")
    with pytest.raises(StreamingConfigError, match="checkpointer"):
        await run
    assert (await types_of(streaming, "e"))[-1] == "workflow_error"


@pytest.mark.parametrize("waits", ["running", "interrupted"])
async def test_cancel_ends_a_run(streaming: StreamingModule, waits: str) -> None:
    gate = Gate()
    graph = gated(gate) if waits == "running" else asking()
    run = await streaming.runs.start(graph, {}, execution_id="e")
    async for update in streaming.hub.subscribe("e", follow=True, timeout=5):
        if update.type == ("node_start" if waits == "running" else "workflow_interrupted"):
            break
    assert await run.cancel("enough")
    with pytest.raises(RunCancelledError, match="enough"):
        await run
    last = [update async for update in streaming.hub.subscribe("e", timeout=5)][-1]
    assert (last.type, last.data["reason"]) == ("workflow_cancelled", "enough")
    assert not await run.cancel()


async def test_a_run_is_cancelled_before_its_first_step(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(gated(gate), {}, execution_id="e")
    assert await run.cancel("at once")
    with pytest.raises(RunCancelledError, match="at once"):
        await run
    assert (gate.starts, (await types_of(streaming, "e"))[-1]) == (0, "workflow_cancelled")
    assert streaming.hub.statistics().runs.running == 0


async def test_a_second_run_is_rejected_while_one_is_open(streaming: StreamingModule) -> None:
    gate = Gate()
    graph = gated(gate)
    run = await streaming.runs.start(graph, {}, execution_id="e")
    with pytest.raises(ExecutionExistsError):
        await streaming.runs.start(graph, {}, execution_id="e")
    gate.open.set()
    await run
    again = await streaming.runs.start(graph, {}, execution_id="e")
    await again
    assert again.run_id != run.run_id
    assert [update.metadata.run_id async for update in again.updates(types=["workflow_start"], timeout=5)] == [
        again.run_id
    ]


async def test_a_deadline_fails_a_run(streaming: StreamingModule) -> None:
    run = await streaming.runs.start(gated(Gate()), {}, execution_id="e", deadline=0.05)
    with pytest.raises(DeadlineError):
        await run
    assert (await types_of(streaming, "e"))[-1] == "workflow_error"


async def test_bad_arguments(streaming: StreamingModule) -> None:
    graph = gated(Gate())
    wrong: list[dict[str, Any]] = [
        {"if_running": "x"},
        {"on_disconnect": "x"},
        {"deadline": -1},
        {"execution_id": "a b"},
    ]
    for options in wrong:
        with pytest.raises(BadRequestError):
            await streaming.runs.start(graph, {}, **options)
    with pytest.raises(BadRequestError, match="compile"):
        await streaming.runs.start(object(), {})  # pyright: ignore[reportArgumentType]


@pytest.mark.row("HIVE-77")
async def test_runs_at_work_can_be_found_and_counted(streaming: StreamingModule) -> None:
    gates = [Gate(), Gate()]
    runs = [await streaming.runs.start(gated(gate), {}, execution_id=f"e{n}") for n, gate in enumerate(gates)]
    for gate in gates:
        await gate.entered.wait()
    assert [streaming.runs.get(f"e{n}") for n in range(3)] == [*runs, None]
    assert streaming.hub.statistics().runs.running == 2
    for gate, run in zip(gates, runs, strict=True):
        gate.open.set()
        await run
    assert streaming.hub.statistics().runs.running == 0
    assert [streaming.runs.get(f"e{n}") for n in range(2)] == [None, None]


@pytest.mark.row("HIVE-81")
async def test_a_run_in_the_background_is_described_listed_and_cancelled(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(gated(gate), {}, metadata={"user": "alice"})
    await gate.entered.wait()
    state = await streaming.hub.describe(run.execution_id)
    assert state is not None
    assert (state.state, state.metadata) == ("running", {"user": "alice"})
    assert [info.execution_id for info in streaming.hub.executions("running")] == [run.execution_id]
    assert await run.cancel("enough")
    with pytest.raises(RunCancelledError):
        await run
    assert streaming.hub.executions("running") == []
    assert [info.state for info in streaming.hub.executions()] == ["cancelled"]


@pytest.mark.row("HIVE-79")
async def test_a_run_has_what_the_modes_of_the_graphs_own_stream_have(streaming: StreamingModule) -> None:
    """Updates and values of nodes, messages, tasks and custom events, in one pass over the graph."""

    async def work(state: State) -> State:
        get_stream_writer()({"custom": 1})
        answer = await ScriptedChatModel(answers=["one two"]).ainvoke("hi")
        return {"text": answer.text}

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    await streaming.runs.run(builder.compile(), {}, execution_id="e")
    updates = [update async for update in streaming.hub.subscribe("e", timeout=5)]
    by_type = {update.type: update for update in updates}
    assert {"node_start", "node_complete", "token", "llm_start", "llm_complete"} <= set(by_type)
    assert by_type["workflow_complete"].data["result"] == {"text": "one two"}
    assert any("custom" in str(update.data) for update in updates)
