"""`@stream_event(delivery=…)`, in a graph."""

from typing import Any

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import RetryPolicy

from lg_streaming import current_emitter, stream_event
from lg_streaming.module import StreamingModule
from lg_streaming.settings import EventDefaults, LimitSettings, StreamingSettings
from tests.capture.graphs import Input, Run, State, Update, graph_of, model, read

pytestmark = [pytest.mark.row("HIVE-33"), pytest.mark.row("HIVE-D6")]

INPUT: Input = {"topic": "rivers"}


def retried_graph(**options: Any) -> Any:
    """A node that publishes events, fails at its first try, and is tried again."""
    tries: list[int] = []

    @stream_event(flush_interval=0, **options)
    async def node(state: State) -> Update:
        tries.append(1)
        emitter = current_emitter()
        emitter.event("note", f"one of try {len(tries)}")
        await model("x").ainvoke("go")
        if len(tries) == 1:
            raise ConnectionError
        emitter.event("note", f"two of try {len(tries)}")
        emitter.event("note", "by hand", delivery="at-least-once")
        emitter.event("note", "with a key", key="mine")
        emitter.event("note", "with a key", key="mine")
        return {"text": "done"}

    builder: Any = StateGraph(State)
    builder.add_node("node", node, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))
    return builder.add_edge(START, "node").add_edge("node", END).compile()


async def run_of(streaming: StreamingModule, graph: Any) -> Run:
    await graph.ainvoke(INPUT, streaming.config(execution_id="e"))
    return await read(streaming, "e")


async def test_exactly_once_a_retried_node_does_not_repeat_what_it_said(streaming: StreamingModule) -> None:
    run = await run_of(streaming, retried_graph(delivery="exactly-once"))
    notes = [update.data for update in run.of("note")]
    assert notes == ["one of try 1", "two of try 2", "by hand", "with a key"]
    assert len(run.of("llm_start")) == len(run.of("llm_complete")) == 1
    assert [update.metadata.attempt for update in run.of("node_start")] == [1, 2]
    assert run.one("node_complete").data["result"] == {"text": "done"}
    assert streaming.hub.statistics().repeated == 4


async def test_at_least_once_it_does(streaming: StreamingModule) -> None:
    run = await run_of(streaming, retried_graph())
    notes = [update.data for update in run.of("note")]
    assert notes == ["one of try 1", "one of try 2", "two of try 2", "by hand", "with a key"]
    assert len(run.of("llm_start")) == 2


async def test_exactly_once_is_for_a_piece_of_work_not_for_the_nodes_name(streaming: StreamingModule) -> None:
    @stream_event(delivery="exactly-once")
    def node(state: State) -> Update:
        current_emitter().event("note", state["topic"])
        return {}

    graph = graph_of(node)
    async with streaming.execution("e"):
        for topic in ("a", "b"):
            await graph.ainvoke({"topic": topic})
            node({"topic": topic, "text": "", "messages": []})
    await graph.ainvoke({"topic": "c"}, streaming.config(execution_id="e"))
    run = await read(streaming, "e", follow=True)
    assert [update.data for update in run.of("note")] == ["a", "a", "b", "b", "c"]


async def test_at_most_once_gives_way_to_the_rate_limit_and_the_start_and_end_do_not() -> None:
    settings = StreamingSettings(limits=LimitSettings(updates_per_second=3))
    async with StreamingModule(settings) as streaming:

        @stream_event(delivery="at-most-once", flush_interval=0)
        def node(state: State) -> Update:
            for number in range(50):
                current_emitter().event("note", number)
            current_emitter().event("note", "must", delivery="at-least-once")
            return {}

        run = await run_of(streaming, graph_of(node))
        assert [update.data for update in run.of("note")][-1] == "must"
        assert len(run.of("note")) < 10
        assert len(run.of("note")) - 1 + streaming.hub.statistics().dropped_over_rate == 50
        assert (run.types[1], run.types[-2:]) == ("node_start", ["node_complete", "workflow_complete"])


async def test_at_least_once_does_not() -> None:
    settings = StreamingSettings(
        limits=LimitSettings(updates_per_second=3), event_defaults=EventDefaults(delivery="at-least-once")
    )
    async with StreamingModule(settings) as streaming:

        @stream_event
        def node(state: State) -> Update:
            for number in range(50):
                current_emitter().event("note", number)
            return {}

        run = await run_of(streaming, graph_of(node))
        assert [update.data for update in run.of("note")] == list(range(50))


async def test_the_level_can_be_the_modules() -> None:
    settings = StreamingSettings(event_defaults=EventDefaults(delivery="exactly-once"))
    async with StreamingModule(settings) as streaming:
        run = await run_of(streaming, retried_graph())
        assert len(run.of("llm_start")) == 1
