"""Parallel runs of one node: each has its own progress, and all have a combined one."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from lg_streaming import StreamingModule, current_progress, stream_progress
from lg_streaming.pipeline.branches import ParallelBranches
from tests.capture.graphs import Input, Run, State, Update, read
from tests.pipeline.progress_kit import reports

INPUT: Input = {"topic": "rivers"}


def fan_out(node: Any, topics: list[str]) -> Any:
    def send(state: State) -> list[Send]:
        return [Send("branch", {"topic": topic}) for topic in topics]

    builder: Any = StateGraph(State)
    builder.add_node("branch", node)
    builder.add_conditional_edges(START, send, ["branch"])
    builder.add_edge("branch", END)
    return builder.compile()


def assert_branches_add_up(run: Run, count: int) -> None:
    ends = [update for update in run.of("progress") if update.data["status"] == "completed"]
    assert len({update.metadata.namespace for update in ends}) == count
    combined = [update.data["combined"] for update in run.of("progress") if "combined" in update.data]
    assert [figures["progress"] for figures in combined] == sorted(figures["progress"] for figures in combined)
    assert combined[-1] == {"progress": 100.0, "branches": count, "completed": count}
    branches: dict[str | None, float] = {}
    joined: set[str | None] = set()
    for update in run.of("progress"):
        joined.add(update.metadata.namespace)
        branches[update.metadata.namespace] = update.data["progress"]
        if len(joined) == count:
            mean = sum(branches.values()) / count
            assert update.data["combined"]["progress"] == pytest.approx(mean, abs=0.06)


async def test_parallel_branches_add_up_to_the_node(streaming: StreamingModule) -> None:
    everyone = asyncio.Barrier(3)

    @stream_progress(granularity="detailed")
    async def branch(state: State) -> Update:
        await everyone.wait()
        async for _ in current_progress().track(pauses(), total=5):
            pass
        return {}

    async def pauses() -> AsyncIterator[None]:
        for _ in range(5):
            await asyncio.sleep(0)
            yield

    await fan_out(branch, ["ice", "salt", "wind"]).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert_branches_add_up(await read(streaming, "e"), 3)


async def test_parallel_branches_in_threads(streaming: StreamingModule) -> None:
    everyone = threading.Barrier(3)

    @stream_progress(granularity="detailed")
    def branch(state: State) -> Update:
        everyone.wait(10)
        for _ in current_progress().track(range(20)):
            pass
        everyone.wait(10)
        return {}

    graph = fan_out(branch, ["ice", "salt", "wind"])
    await asyncio.to_thread(graph.invoke, INPUT, streaming.config(execution_id="e"))
    assert_branches_add_up(await read(streaming, "e"), 3)


def test_a_branch_that_joins_late_does_not_move_the_node_back() -> None:
    branches = ParallelBranches()
    branches.join("a")
    branches.note("a", 80)
    assert branches.combined() == 80
    branches.join("b")
    assert branches.combined() == 80
    branches.note("b", 100)
    assert branches.combined() == 90


async def test_a_branch_that_fails_keeps_its_part(streaming: StreamingModule) -> None:
    both = asyncio.Barrier(2)

    @stream_progress(granularity="detailed")
    async def branch(state: State) -> Update:
        await both.wait()
        current_progress().update(1, 2)
        if state["topic"] == "ice":
            raise LookupError
        await asyncio.sleep(0.02)
        return {}

    with pytest.raises(LookupError):
        await fan_out(branch, ["ice", "salt"]).ainvoke(INPUT, streaming.config(execution_id="e"))
    combined = reports(await read(streaming, "e"))[-1]["combined"]
    assert (combined["progress"], combined["branches"], combined["completed"]) == (50.0, 2, 0)


async def test_the_rounds_of_a_loop_are_not_branches(streaming: StreamingModule) -> None:
    @stream_progress
    async def step(state: State) -> Update:
        return {"text": state.get("text", "") + "again "}

    def more(state: State) -> str:
        return END if len(state["text"]) > 15 else "step"

    builder: Any = StateGraph(State)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", more)
    await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    assert not any("combined" in data for data in reports(await read(streaming, "e")))
