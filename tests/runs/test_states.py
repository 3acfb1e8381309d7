"""Runs that publish the state of their graph after each step; threads as JSON."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError
from lg_streaming.runs import RemoteRunner, RemoteStart
from tests.runs.graphs import asking


def nested(**compile_options: Any) -> Any:
    """Return a graph of a subgraph and a node, each of which appends a message."""

    def inner(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("from inside", id="in")]}

    def outer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("from outside", id="out")]}

    child = StateGraph(MessagesState).add_node("inner", inner).add_edge(START, "inner").compile()
    graph = StateGraph(MessagesState).add_node("child", child).add_node("outer", outer)
    return graph.add_edge(START, "child").add_edge("child", "outer").compile(**compile_options)


async def updates_of(graph: Any, value: Any, settings: Any = None, **options: Any) -> list[Any]:
    runs: dict[str, Any] = {"publish_states": True, **(settings or {})}
    async with StreamingModule({"runs": runs}) as streaming:
        run = await streaming.runs.start(graph, value, execution_id="e", **options)
        seen = [each async for each in run.updates(timeout=5, until="interrupted")]
        assert all(
            each.data.keys() <= {"values", "next", "checkpoint_id", "parent_checkpoint_id", "source", "step"}
            for each in seen
            if each.type == "state"
        )
        return seen


def ids(update: Any) -> list[str]:
    return [each["id"] for each in update.data["values"]["messages"]]


INPUT = {"messages": [HumanMessage("hi", id="u")]}


async def test_a_state_follows_the_input_and_each_step() -> None:
    seen = await updates_of(nested(checkpointer=InMemorySaver()), INPUT)
    root = [each for each in seen if each.type == "state" and each.metadata.namespace is None]
    assert [(each.data["source"], each.data["step"], each.data["next"]) for each in root] == [
        ("input", -1, ["__start__"]),
        ("loop", 0, ["child"]),
        ("loop", 1, ["outer"]),
        ("loop", 2, []),
    ]
    assert [ids(each) for each in root[1:]] == [["u"], ["u", "in"], ["u", "in", "out"]]
    assert [each.data.get("parent_checkpoint_id") for each in root[1:]] == [
        each.data["checkpoint_id"] for each in root[:-1]
    ]
    assert root[1].data["values"]["messages"][0]["type"] == "human"
    below = [each for each in seen if each.type == "state" and each.metadata.namespace is not None]
    assert {each.metadata.namespace.partition(":")[0] for each in below} == {"child"}
    assert ids(below[-1]) == ["u", "in"]
    order = [each.type if each.type != "state" else ("state", each.metadata.namespace) for each in seen]
    outer = next(i for i, each in enumerate(seen) if each.type == "node_start" and each.metadata.node_id == "outer")
    assert order.index("node_start") > order.index(("state", None))
    assert seen.index(root[2]) < outer < seen.index(root[3])


async def test_a_graph_without_checkpointer_has_values_only() -> None:
    seen = await updates_of(nested(), INPUT)
    root = [each for each in seen if each.type == "state" and each.metadata.namespace is None]
    assert [ids(each) for each in root] == [["u"], ["u", "in"], ["u", "in", "out"]]
    assert all(each.data.keys() == {"values"} for each in root)


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_each_durability_publishes_the_same_states(durability: str) -> None:
    options = {"call_options": {"durability": durability}}
    seen = await updates_of(nested(checkpointer=InMemorySaver()), INPUT, **options)
    root = [each for each in seen if each.type == "state" and each.metadata.namespace is None]
    assert [ids(each) for each in root[1:]] == [["u"], ["u", "in"], ["u", "in", "out"]]


async def test_a_large_state_is_left_to_the_checkpointer() -> None:
    graph = nested(checkpointer=InMemorySaver())
    seen = await updates_of(graph, {"messages": [HumanMessage("x" * 2_000, id="u")]}, {"state_bytes": 1_000})
    states = [each for each in seen if each.type == "state" and each.metadata.namespace is None]
    assert "values" not in states[-1].data
    kept = await graph.aget_state(
        {"configurable": {"thread_id": "e", "checkpoint_ns": "", "checkpoint_id": states[-1].data["checkpoint_id"]}}
    )
    assert [each.id for each in kept.values["messages"]] == ["u", "in", "out"]
    assert seen[-1].type == "workflow_complete"


async def test_an_interrupt_adds_no_state_and_the_answer_goes_on() -> None:
    async with StreamingModule({"runs": {"publish_states": True}}) as streaming:
        run = await streaming.runs.start(asking(), {"text": "a"}, execution_id="e")
        first = [each async for each in run.updates(timeout=5, until="interrupted")]
        prompt = next(each.data["prompt_id"] for each in first if each.type == "human_prompt")
        assert [each.data["next"] for each in first if each.type == "state"] == [["__start__"], ["ask"]]
        await streaming.hub.respond("e", prompt, "yes")
        assert await run == {"text": "a yes", "answer": "yes"}
        seen = [each async for each in run.updates(timeout=5)]
        states = [each for each in seen if each.type == "state"]
        assert states[-1].data["values"] == {"text": "a yes", "answer": "yes"}
        assert states[-1].data["next"] == []


async def test_states_are_off_by_default() -> None:
    async with StreamingModule() as streaming:
        run = await streaming.runs.start(nested(), INPUT, execution_id="e")
        await run
        assert not [each async for each in run.updates(timeout=5) if each.type == "state"]


async def test_a_remote_start_begins_at_a_checkpoint() -> None:
    async with StreamingModule() as streaming:
        streaming.graphs["nested"] = graph = nested(checkpointer=InMemorySaver())
        runner = RemoteRunner(streaming.runs, streaming.graphs, None)
        await (await runner.start(RemoteStart(graph="nested", input=INPUT, execution_id="e"), "alice"))
        threads = runner.threads
        history = [each async for each in threads.history("nested", "e")]
        assert [each["next"] for each in history] == [[], ["outer"], ["child"], ["__start__"]]
        assert history[0]["parent_checkpoint"] == history[1]["checkpoint"]
        assert await threads.message_ids("nested", "e") == ["u", "in", "out"]
        before_out = await threads.checkpoint_before("nested", "e", "out")
        assert before_out == history[1]["checkpoint"]["checkpoint_id"]
        before_input = await threads.checkpoint_before("nested", "e", "u")
        assert before_input == history[3]["checkpoint"]["checkpoint_id"]
        run = await runner.start(
            RemoteStart(graph="nested", input=None, execution_id="e", checkpoint_id=before_out), "alice"
        )
        await run
        started = [each.data.get("node_id") async for each in run.updates(timeout=5) if each.type == "node_start"]
        assert started == ["outer"]
        newest = await threads.state("nested", "e")
        assert newest is not None
        assert [each["id"] for each in newest["values"]["messages"]] == ["u", "in", "out"]
        with pytest.raises(BadRequestError, match="no checkpoint"):
            await runner.start(RemoteStart(graph="nested", input=None, execution_id="e", checkpoint_id="x"), "alice")
        assert await threads.state("nested", "unknown") is None
        assert (await graph.aget_state({"configurable": {"thread_id": "e"}})).next == ()
