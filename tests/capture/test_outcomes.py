"""Ends of nodes and graphs: completed, failed, cancelled, interrupted, retried; capture changes none of them."""

import asyncio
import copy
import logging
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, RetryPolicy, interrupt

from lg_streaming import StreamUpdate, current_emitter, current_progress, stream_event, stream_progress, stream_token
from lg_streaming.module import StreamingModule
from tests.capture.graphs import TEXT, Graph, Input, Run, State, StateGraph, Update, graph_of, model, read

INPUT: Input = {"topic": "rivers"}


class OddError(Exception):
    pass


@pytest.mark.row("HIVE-36")
@pytest.mark.row("HIVE-44")
async def test_a_failing_node_raises_its_own_exception_and_says_so(streaming: StreamingModule) -> None:
    error = OddError("no luck")

    @stream_event
    @stream_progress
    async def node(state: State) -> Update:
        current_progress().update(3, 10)
        raise error

    with pytest.raises(OddError) as raised:
        await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert raised.value is error
    run = await read(streaming, "e")
    assert run.one("node_error").data["error"] == {"message": "no luck", "type": "OddError"}
    failed = run.of("progress")[-1]
    assert (failed.data["progress"], failed.data["status"]) == (30.0, "failed")
    assert run.final == "workflow_error"
    assert run.updates[-1].data["error"] == {"message": "no luck", "type": "OddError"}


@pytest.mark.row("HIVE-44")
@pytest.mark.row("HIVE-45")
async def test_progress_from_start_to_end(streaming: StreamingModule) -> None:
    @stream_progress(granularity="detailed")
    async def node(state: State) -> Update:
        for done in range(1, 5):
            current_progress().update(done, 4, {"item": f"item {done}"})
        return {}

    current_progress().update(1, 2)  # outside of a node: nothing
    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    reports = [update.data for update in (await read(streaming, "e")).of("progress")]
    assert [report["progress"] for report in reports] == [0.0, 25.0, 50.0, 75.0, 100.0, 100.0]
    assert (reports[0]["status"], reports[-1]["status"]) == ("started", "completed")
    assert "eta_s" not in reports[0]
    assert reports[1]["eta_s"] >= 0
    assert reports[4]["eta_s"] == 0
    assert reports[2]["metadata"] == {"item": "item 2"}
    assert "elapsed_s" in reports[-1]


@pytest.mark.row("HIVE-39")
@pytest.mark.row("HIVE-40")
async def test_progress_with_and_without_eta_and_metrics(streaming: StreamingModule) -> None:
    @stream_progress(interval=0, include_eta=False, include_metrics=True)
    async def node(state: State) -> Update:
        current_progress().update(1, 2)
        return {}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    report = (await read(streaming, "e")).of("progress")[1].data
    assert "eta_s" not in report
    assert {"rate", "elapsed_s"} <= report.keys()


@pytest.mark.parametrize("sync", [False, True])
async def test_a_retried_node_starts_afresh_with_a_higher_attempt(streaming: StreamingModule, *, sync: bool) -> None:
    flaky = model(fail_after=3, failures=2)

    @stream_token
    async def node(state: State) -> Update:
        return {"text": (await flaky.ainvoke("go")).text}

    @stream_token
    def node_sync(state: State) -> Update:
        return {"text": flaky.invoke("go").text}

    builder: Any = StateGraph(State)
    policy = RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=False, retry_on=Exception)
    builder.add_node("node", node_sync if sync else node, retry_policy=policy)
    builder.set_entry_point("node")
    result = await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    assert result["text"] == TEXT
    run = await read(streaming, "e")
    assert [start.metadata.attempt for start in run.of("node_start")] == [1, 2, 3]
    assert len({start.metadata.namespace for start in run.of("node_start")}) == 1
    texts = run.texts(by=lambda update: update.metadata.attempt)
    assert texts[3] == TEXT
    assert TEXT.startswith(texts[1])
    assert len(run.of("node_error")) == 2
    assert run.final == "workflow_complete"


def interrupted_graph() -> Graph:
    @stream_event
    @stream_token
    async def ask(state: State) -> Update:
        before = (await model("May I? ").ainvoke("go")).text
        answer = interrupt({"question": "may I?"})
        return {"text": before + answer}

    return graph_of(ask, checkpointer=InMemorySaver())


async def _assert_interrupted_then_resumed(streaming: StreamingModule, execution_id: str) -> None:
    run = await read(streaming, execution_id)
    assert run.one("node_interrupted").data["interrupts"][0]["value"] == {"question": "may I?"}
    assert run.types.index("node_interrupted") < run.types.index("workflow_interrupted")
    assert run.one("status").data == {"status": "resumed"}
    assert [start.metadata.attempt for start in run.of("node_start")] == [1, 2]
    assert len(run.of("workflow_start")) == 1
    assert run.final == "workflow_complete"


async def test_interrupt_and_resume_is_one_run(streaming: StreamingModule) -> None:
    graph = interrupted_graph()
    config = streaming.config({"configurable": {"thread_id": "e"}})
    await graph.ainvoke(INPUT, config)
    page = await streaming.hub.subscribe("e").next_page()
    assert page.records[-1].type == "workflow_interrupted"
    assert not page.ended
    result = await graph.ainvoke(Command(resume="yes"), config)
    assert result["text"] == "May I? yes"
    await _assert_interrupted_then_resumed(streaming, "e")


async def test_interrupt_and_resume_with_the_activated_module(streaming: StreamingModule) -> None:
    graph = interrupted_graph()
    with streaming.activate():
        await graph.ainvoke(INPUT, {"configurable": {"thread_id": "e"}})
        await graph.ainvoke(Command(resume="yes"), {"configurable": {"thread_id": "e"}})
    await _assert_interrupted_then_resumed(streaming, "e")


async def test_interrupt_and_resume_in_execution_blocks(streaming: StreamingModule) -> None:
    graph = interrupted_graph()
    async with streaming.execution("e"):
        await graph.ainvoke(INPUT, {"configurable": {"thread_id": "t"}})
    state = await streaming.hub.describe("e")
    assert state is not None
    assert state.state == "interrupted"
    async with streaming.execution("e"):
        await graph.ainvoke(Command(resume="yes"), {"configurable": {"thread_id": "t"}})
    await _assert_interrupted_then_resumed(streaming, "e")


async def test_an_interrupt_resumed_inside_one_block_completes(streaming: StreamingModule) -> None:
    graph = interrupted_graph()
    async with streaming.execution("e"):
        await graph.ainvoke(INPUT, {"configurable": {"thread_id": "t"}})
        await graph.ainvoke(Command(resume="yes"), {"configurable": {"thread_id": "t"}})
    run = await read(streaming, "e")
    assert run.final == "workflow_complete"
    assert run.of("workflow_interrupted") == []


async def test_an_interrupt_in_an_undecorated_node(streaming: StreamingModule) -> None:
    async def ask(state: State) -> Update:
        return {"text": interrupt("ok?")}

    @stream_token
    async def before(state: State) -> Update:
        return {"text": (await model().ainvoke("go")).text}

    graph = graph_of(before, ask, checkpointer=InMemorySaver())
    config = streaming.config({"configurable": {"thread_id": "e"}})
    await graph.ainvoke(INPUT, config)
    state = await streaming.hub.describe("e")
    assert state is not None
    assert state.state == "interrupted"
    await streaming.hub.cancel("e")


@pytest.mark.parametrize("activated", [False, True])
async def test_a_resumed_call_without_a_decorated_node_ends_the_run(
    streaming: StreamingModule, *, activated: bool
) -> None:
    async def ask(state: State) -> Update:
        return {"text": interrupt("ok?")}

    @stream_token
    async def before(state: State) -> Update:
        return {"text": (await model().ainvoke("go")).text}

    graph = graph_of(before, ask, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "e"}}
    with streaming.activate():
        if not activated:
            config = streaming.config(config)
        await graph.ainvoke(INPUT, config)
        await graph.ainvoke(Command(resume="yes"), config)
    run = await read(streaming, "e")
    assert run.types[-3:] == ["workflow_interrupted", "status", "workflow_complete"]


async def test_a_result_too_large_to_send_does_not_hide_the_nodes_end(streaming: StreamingModule) -> None:
    @stream_event
    async def node(state: State) -> Update:
        return {"text": "x" * 1_000_000}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    data = (await read(streaming, "e")).one("node_complete").data
    assert data["truncated"] == {"result": 1_000_011}
    assert 200_000 < len(data["result"]["text"]) < 262_144


async def test_a_breakpoint_interrupts_too(streaming: StreamingModule) -> None:
    @stream_token
    async def one(state: State) -> Update:
        return {"text": (await model("one").ainvoke("go")).text}

    @stream_token
    async def two(state: State) -> Update:
        return {"text": (await model("two").ainvoke("go")).text}

    graph = graph_of(one, two, checkpointer=InMemorySaver(), interrupt_before=["two"])
    config = streaming.config({"configurable": {"thread_id": "e"}})
    await graph.ainvoke(INPUT, config)
    await graph.ainvoke(None, config)
    run = await read(streaming, "e")
    assert len(run.of("workflow_interrupted")) == 1
    assert (run.texts(), run.final) == ({"one": "one", "two": "two"}, "workflow_complete")


async def test_a_cancelled_graph(streaming: StreamingModule) -> None:
    started = asyncio.Event()

    @stream_token
    async def node(state: State) -> Update:
        await model("half").ainvoke("go")
        started.set()
        await asyncio.Event().wait()
        return {}

    running = asyncio.create_task(graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e")))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    run = await read(streaming, "e")
    assert run.one("node_error").data["error"]["code"] == "cancelled"
    assert run.final == "workflow_cancelled"


async def test_a_stream_that_is_left_early_is_cancelled(streaming: StreamingModule) -> None:
    @stream_token
    async def node(state: State) -> Update:
        return {"text": (await model(delay=0.001).ainvoke("go")).text}

    stream = graph_of(node).astream(INPUT, streaming.config(execution_id="e"), stream_mode="messages")
    async for _ in stream:
        break
    await stream.aclose()
    assert (await read(streaming, "e")).final == "workflow_cancelled"


async def test_an_execution_block_ends_as_it_is_left(streaming: StreamingModule) -> None:
    with pytest.raises(OddError):
        async with streaming.execution("failed"):
            raise OddError("oh")
    assert (await read(streaming, "failed")).final == "workflow_error"
    with pytest.raises(asyncio.CancelledError):
        async with streaming.execution("cancelled"):
            raise asyncio.CancelledError
    assert (await read(streaming, "cancelled")).final == "workflow_cancelled"
    with streaming.execution("sync"):
        current_emitter().token("ignored: no node is running")
    assert (await read(streaming, "sync")).types == ["workflow_start", "workflow_complete"]


@pytest.mark.row("HIVE-85", "PYEV-21")
async def test_streaming_that_breaks_does_not_break_the_node(
    streaming: StreamingModule, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @stream_event
    @stream_progress
    @stream_token
    async def node(state: State) -> Update:
        current_progress().update(1, 2)
        current_emitter().custom("big", "x" * 1_000_000)
        return {"text": (await model().ainvoke("go")).text}

    assert (await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e")))["text"] == TEXT
    assert (streaming.hub.statistics().shortened, streaming.hub.statistics().dropped_too_large) == (1, 0)

    def explode(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the log is on fire")

    monkeypatch.setattr(streaming.hub.log, "append", explode)
    with caplog.at_level(logging.CRITICAL):
        assert (await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="f")))["text"] == TEXT
    monkeypatch.undo()
    await streaming.hub.cancel("f")


@pytest.mark.row("PYEV-21")
async def test_a_closed_hub_does_not_break_the_node(streaming: StreamingModule) -> None:
    closing = StreamingModule()

    @stream_token
    async def node(state: State) -> Update:
        await closing.aclose()
        return {"text": (await model().ainvoke("go")).text}

    assert (await graph_of(node).ainvoke(INPUT, closing.config(execution_id="e")))["text"] == TEXT


async def test_a_hostile_thread_id_turns_streaming_off_and_nothing_else(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture
) -> None:
    @stream_token
    async def node(state: State) -> Update:
        return {"text": (await model().ainvoke("go")).text}

    with streaming.activate(), caplog.at_level(logging.WARNING):
        result = await graph_of(node).ainvoke(INPUT, {"configurable": {"thread_id": "a b\n"}})
    assert result["text"] == TEXT
    assert "runs without streaming" in caplog.text
    assert await streaming.hub.log.executions() == ()


@pytest.mark.row("HIVE-16", "HIVE-D3")
async def test_state_and_result_are_never_touched(streaming: StreamingModule) -> None:
    seen: list[Any] = []

    @stream_event
    @stream_progress
    @stream_token
    async def node(state: dict[str, Any]) -> dict[str, Any]:
        seen.append(copy.deepcopy(state))
        return {"text": object()}

    state: Input = {"topic": {"deep": [1, 2]}, "messages": []}
    before = copy.deepcopy(state)
    async with streaming.execution("e"):
        result = await node(state)
    assert state == before == seen[0]
    assert type(result["text"]) is object
    shown = (await read(streaming, "e")).one("node_complete").data["result"]["text"]
    assert shown.startswith("<object object at")


async def test_a_result_json_cannot_hold_never_fails_the_node(streaming: StreamingModule) -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    cycle: list[Any] = []
    cycle.append(cycle)
    odd = {
        "set": {1},
        "rude": Rude(),
        "cycle": cycle,
        3: b"\xff",
        "big": 1 << 80,
        "half": "\ud800",
        "nan": float("nan"),
    }

    @stream_event
    def node(state: Update) -> dict[Any, Any]:
        return odd

    with streaming.execution("e"):
        assert node({}) is odd
    result = (await read(streaming, "e")).one("node_complete").data["result"]
    assert result["set"] == [1]
    assert result["3"] == "/w=="
    assert result["rude"] == "<Rude>"
    assert streaming.hub.statistics().encode_fallbacks > 0


async def test_a_late_token_of_an_ended_run_is_dropped(streaming: StreamingModule) -> None:
    kept: list[Any] = []

    @stream_token
    async def node(state: State) -> Update:
        kept.append(current_emitter())
        return {}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    kept[0].token("too late")
    assert (await read(streaming, "e")).final == "workflow_complete"
    assert streaming.hub.statistics().dropped_late == 1


async def test_several_runs_of_one_execution_follow_each_other(streaming: StreamingModule) -> None:
    @stream_token
    async def node(state: State) -> Update:
        return {"text": (await model("hi").ainvoke("go")).text}

    config = streaming.config(execution_id="chat")
    for _ in range(3):
        await graph_of(node).ainvoke(INPUT, config)
    page = await streaming.hub.subscribe("chat", follow=True).next_page()
    updates: list[StreamUpdate] = page.updates("chat")
    assert Run(updates).types.count("workflow_complete") == 3
    assert len({update.metadata.run_id for update in updates}) == 3
