"""Pause, resume, inject, edit and fork."""

from __future__ import annotations

import gc
import operator
import weakref
from collections.abc import AsyncGenerator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from lg_streaming import StreamingModule
from lg_streaming.errors import (
    BadRequestError,
    ExecutionNotFoundError,
    GraphNotFoundError,
    RunCancelledError,
    TransitionError,
)
from tests.runs.graphs import Gate, asking


class Steps(TypedDict, total=False):
    done: Annotated[list[str], operator.add]
    note: str


def stepping(gate: Gate, *, checkpointer: Any = None) -> Any:
    """Return a graph of three steps; the first waits for its gate."""

    async def first(state: Steps) -> Steps:
        await gate({})
        return {"done": ["first"]}

    async def second(state: Steps) -> Steps:
        return {"done": [f"second {state.get('note', '')}".strip()]}

    async def third(state: Steps) -> Steps:
        return {"done": ["third"]}

    builder = StateGraph(Steps)
    for name, node in (("first", first), ("second", second), ("third", third)):
        builder.add_node(name, node)
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    builder.add_edge("second", "third")
    builder.add_edge("third", END)
    return builder.compile(checkpointer=checkpointer or InMemorySaver(), name="stepping")


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module


async def seen_until(streaming: StreamingModule, type: str, **data: Any) -> list[str]:
    """Return the types of the updates until one of ``type`` whose data has ``data``."""
    types: list[str] = []
    async for update in streaming.hub.subscribe("e", follow=True, timeout=5):
        types.append(update.type)
        if update.type == type and all(update.data.get(name) == value for name, value in data.items()):
            return types
    raise AssertionError(types)


@pytest.mark.row("HIVE-75")
async def test_a_paused_run_stops_between_two_steps_and_goes_on(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(stepping(gate), {}, execution_id="e")
    await gate.entered.wait()
    await streaming.runs.pause("e", "a look first")
    gate.open.set()
    types = await seen_until(streaming, "workflow_interrupted", paused=True, reason="a look first")
    assert types.count("node_complete") == 1
    assert run.status == "interrupted"
    assert (await streaming.runs.state("e")).next == ("second",)
    assert await streaming.runs.resume("e")
    assert (await run)["done"] == ["first", "second", "third"]
    types = await seen_until(streaming, "workflow_complete")
    assert types.count("workflow_start") == 1


@pytest.mark.row("HIVE-75")
async def test_injected_values_reach_the_next_node(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(stepping(gate), {}, execution_id="e")
    await gate.entered.wait()
    await streaming.runs.inject("e", {"note": "with care"})
    gate.open.set()
    assert (await run)["done"] == ["first", "second with care", "third"]
    assert "input_injected" in await seen_until(streaming, "workflow_complete")


async def test_an_injection_behind_a_node_skips_it(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(stepping(gate), {}, execution_id="e")
    await gate.entered.wait()
    await streaming.runs.inject("e", {"done": ["by hand"]}, as_node="second")
    gate.open.set()
    assert (await run)["done"] == ["first", "by hand", "third"]


async def test_an_injection_joins_the_answer_of_a_prompt(streaming: StreamingModule) -> None:
    run = await streaming.runs.start(asking(), {"text": "a"}, execution_id="e")
    prompt_id = ""
    async for update in streaming.hub.subscribe("e", until="interrupted", timeout=5):
        if update.type == "human_prompt":
            prompt_id = update.data["prompt_id"]
    with pytest.raises(TransitionError, match="answer"):
        await streaming.runs.inject("e", {"text": "b"}, as_node="ask")
    with pytest.raises(TransitionError, match="pause"):
        await streaming.runs.edit("e", {"text": "b"})
    await streaming.runs.inject("e", {"text": "b"})
    await streaming.hub.respond("e", prompt_id, "yes")
    assert (await run)["text"] == "b yes"


async def test_an_update_before_the_first_step_keeps_the_input(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    graph = stepping(gate)
    run = await streaming.runs.start(graph, {"done": ["input"]}, execution_id="e")
    await streaming.runs.inject("e", {"done": ["injected"], "note": "now"})
    assert (await run)["done"] == ["input", "injected", "first", "second now", "third"]
    run = await streaming.runs.start(graph, {"done": ["next"]}, execution_id="e")  # the thread has a state by now
    await streaming.runs.pause("e")
    await seen_until(streaming, "workflow_interrupted", paused=True)
    await streaming.runs.edit("e", {"note": "later"})
    await streaming.runs.resume("e")
    assert (await run)["done"][5:] == ["next", "first", "second later", "third"]
    starts = [each async for each in streaming.runs.history("e") if each.next == (START,)]
    forked = await streaming.runs.fork(
        "e", starts[0].config.get("configurable", {})["checkpoint_id"], values={"note": "x"}
    )
    assert (await forked)["done"][5:] == ["next", "first", "second x", "third"]


async def test_the_state_of_a_paused_run_is_edited(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(stepping(gate), {}, execution_id="e")
    await gate.entered.wait()
    await streaming.runs.pause("e")
    gate.open.set()
    await seen_until(streaming, "workflow_interrupted")
    await streaming.runs.edit("e", {"note": "edited"})
    await streaming.runs.resume("e")
    assert (await run)["done"] == ["first", "second edited", "third"]


async def test_a_paused_run_is_cancelled(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(stepping(gate), {}, execution_id="e")
    await streaming.runs.pause("e")
    gate.open.set()
    await seen_until(streaming, "workflow_interrupted")
    assert await run.cancel("enough")
    with pytest.raises(RunCancelledError):
        await run
    await seen_until(streaming, "workflow_cancelled")


async def test_errors_of_steering(streaming: StreamingModule) -> None:
    with pytest.raises(ExecutionNotFoundError):
        await streaming.runs.pause("e")
    with pytest.raises(GraphNotFoundError, match="graph="):
        await streaming.runs.state("e")
    gate = Gate()
    run = await streaming.runs.start(stepping(gate), {}, execution_id="e")
    with pytest.raises(BadRequestError, match="no field 'nope'"):
        await streaming.runs.inject("e", {"nope": 1})
    with pytest.raises(BadRequestError, match="no node 'nope'"):
        await streaming.runs.inject("e", {"note": ""}, as_node="nope")
    assert not await streaming.runs.resume("e")
    await run.cancel()
    with pytest.raises(RunCancelledError):
        await run
    plain = await streaming.runs.start(asking(checkpointer=None), {}, execution_id="e2")
    with pytest.raises(TransitionError, match="checkpointer"):
        await streaming.runs.pause("e2")
    await plain.cancel()


async def test_an_update_that_the_graph_refuses_does_not_end_the_run(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await streaming.runs.start(stepping(gate), {}, execution_id="e")
    await gate.entered.wait()
    await streaming.runs.inject("e", {"done": 7})
    gate.open.set()
    assert (await run)["done"] == ["first", "second", "third"]
    assert "error" in await seen_until(streaming, "workflow_complete")


def summing(left: list[str], right: list[str]) -> list[str]:
    if "refused" in right:
        raise ZeroDivisionError("an error of the reducer")
    return [*left, *right]


class Notes(TypedDict, total=False):
    notes: Annotated[list[str], summing]
    tone: str
    answer: Any


async def prompt_of(streaming: StreamingModule) -> str:
    found = [update async for update in streaming.hub.subscribe("e", until="interrupted", timeout=5)]
    return next(update.data["prompt_id"] for update in found if update.type == "human_prompt")


async def test_injections_while_people_are_asked_all_count(streaming: StreamingModule) -> None:
    async def ask(state: Notes) -> Notes:
        return {"answer": interrupt("?")}

    builder = StateGraph(Notes)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    run = await streaming.runs.start(builder.compile(checkpointer=InMemorySaver()), {}, execution_id="e")
    prompt_id = await prompt_of(streaming)
    await streaming.runs.inject("e", {"notes": ["a"], "tone": "short"})
    await streaming.runs.inject("e", {"notes": ["b"], "tone": "long"})
    await streaming.hub.respond("e", prompt_id, "yes")
    assert await run == {"notes": ["a", "b"], "tone": "long", "answer": "yes"}


async def test_a_functional_graph_refuses_an_injection_with_answers_and_goes_on(streaming: StreamingModule) -> None:
    async def ask(value: int) -> Any:
        return interrupt("?")

    make: Any = entrypoint
    flow = make(checkpointer=InMemorySaver())(ask)
    run = await streaming.runs.start(flow, 1, execution_id="e")
    prompt_id = await prompt_of(streaming)
    await streaming.runs.inject("e", [1, 2])
    await streaming.hub.respond("e", prompt_id, "yes")
    assert await run == "yes"
    assert "error" in await seen_until(streaming, "workflow_complete")


async def test_an_error_of_a_reducer_does_not_end_the_run(streaming: StreamingModule) -> None:
    gate = Gate()

    async def first(state: Notes) -> Notes:
        await gate({})
        return {"tone": "short"}

    builder = StateGraph(Notes)
    builder.add_node("first", first)
    builder.add_node("second", lambda state: {"notes": ["second"]})
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    run = await streaming.runs.start(builder.compile(checkpointer=InMemorySaver()), {}, execution_id="e")
    await gate.entered.wait()
    await streaming.runs.inject("e", {"notes": ["refused"]})
    gate.open.set()
    assert (await run)["notes"] == ["second"]
    assert "error" in await seen_until(streaming, "workflow_complete")


async def test_the_state_of_a_run_that_something_else_drives_is_not_edited(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    graph = stepping(gate)
    await streaming.runs.run(graph, {}, execution_id="e")
    async with streaming.execution("e"):
        with pytest.raises(TransitionError):
            await streaming.runs.edit("e", {"note": "edited"})
    await streaming.runs.edit("e", {"note": "edited"})
    assert (await streaming.runs.state("e")).values["note"] == "edited"


async def test_a_graph_that_was_made_for_one_run_is_not_kept(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    graph = stepping(gate)
    await streaming.runs.run(graph, {}, execution_id="e")
    kept = weakref.ref(graph)
    del graph
    gc.collect()
    assert kept() is None
    with pytest.raises(GraphNotFoundError, match="graph="):
        await streaming.runs.state("e")
