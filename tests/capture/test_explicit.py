"""A call whose config names an execution is that execution's run, wherever it is made."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.prebuilt import ToolNode

from lg_streaming import current_emitter, stream_all
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import Run, State, Update, graph_of, model, read
from tests.capture.places import PLACES

pytestmark = pytest.mark.anyio

SECRET = "what only the child's readers may see"


@tool
async def whisper(text: str) -> str:
    "Whisper."
    await adispatch_custom_event("whispered", {"text": SECRET})
    current_emitter().event("from_the_tool", {"text": SECRET})
    await model(SECRET).ainvoke("x")
    return SECRET


async def write(_: State) -> Update:
    current_emitter().event("from_the_node", {"text": SECRET})
    get_stream_writer()({"text": SECRET})
    await adispatch_custom_event("dispatched", {"text": SECRET})
    return {"messages": [await model(SECRET).ainvoke("x")]}


def ask_tool(_: State) -> Update:
    message = AIMessage("", tool_calls=[{"name": "whisper", "args": {"text": SECRET}, "id": "child-call"}])
    return {"messages": [message]}


def decorated() -> Any:
    return graph_of(
        stream_all(write), ask_tool, stream_all(ToolNode([whisper])), names=("write", "ask_tool", "whisperer")
    )


def undecorated() -> Any:
    return graph_of(write, ask_tool, ToolNode([whisper]), names=("write", "ask_tool", "whisperer"))


def agent() -> Any:
    answers = [
        AIMessage(SECRET, tool_calls=[{"name": "whisper", "args": {"text": SECRET}, "id": "child-call"}]),
        SECRET,
    ]
    return stream_all(create_agent(ScriptedChatModel(answers=answers), [whisper], name="child"))


def flow() -> Any:
    @task
    async def part() -> str:
        await whisper.ainvoke({"name": "whisper", "args": {"text": "x"}, "id": "child-call", "type": "tool_call"})
        return (await write({}))["messages"][0].text  # type: ignore[typeddict-item]

    @entrypoint()
    async def whole(_: object) -> str:
        return await stream_all(part)()

    return whole


CHILDREN = {"decorated": decorated, "agent": agent, "flow": flow}


def check(parent: Run, child: Run | None, *, tool_call_id: str | None = None) -> None:
    """Nothing of the child is in the parent; the child knows where it came from."""
    foreign = [each.type for each in parent.updates if SECRET in repr(each) or "child-call" in repr(each)]
    assert not foreign
    assert parent.final == "workflow_complete"
    if child is not None:
        assert SECRET in child.texts().values() or SECRET * 2 in child.texts().values()
        assert child.final == "workflow_complete"
        start = child.one("workflow_start").data
        told = {"execution_id": "parent", "run_id": parent.updates[0].metadata.run_id, "node_id": "lead"}
        if tool_call_id is not None:
            told["tool_call_id"] = tool_call_id
        assert start["parent"] == told


async def run_in(streaming: StreamingModule, place: Any, call: Any) -> None:
    @stream_all
    async def lead(_: State) -> Update:
        await place(call)
        return {"text": "done"}

    await graph_of(lead).ainvoke({"topic": "x"}, streaming.config(execution_id="parent", owner="alice"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", CHILDREN)
async def test_a_child_with_its_own_execution(streaming: StreamingModule, kind: str, place: str) -> None:
    child = CHILDREN[kind]()

    async def call() -> None:
        await child.ainvoke({"messages": [HumanMessage("x")]}, streaming.config(execution_id="child", owner="ops"))

    await run_in(streaming, PLACES[place], call)
    parent, got = await read(streaming, "parent"), await read(streaming, "child")
    if place in {"in_a_bare_pool"}:
        assert "parent" not in got.one("workflow_start").data
        check(parent, None)
        return
    calls = {"in_a_plain_tool": "call-1", "in_a_decorated_tool_node": "call-1"}
    expected = calls.get(place)
    if place == "in_a_decorated_tool_node":
        assert got.one("workflow_start").data["parent"]["node_id"] == "tools"
        assert got.one("workflow_start").data["parent"]["tool_call_id"] == "call-1"
        check(parent, None)
        return
    check(parent, got, tool_call_id=expected)


@pytest.mark.parametrize("place", PLACES)
async def test_undecorated_nodes_of_such_a_child_are_heard_nowhere(streaming: StreamingModule, place: str) -> None:
    child = undecorated()

    async def call() -> None:
        await child.ainvoke({"messages": [HumanMessage("x")]}, streaming.config(execution_id="child", owner="ops"))

    await run_in(streaming, PLACES[place], call)
    got = await read(streaming, "child")
    assert got.types == ["workflow_start", "workflow_complete"]
    check(await read(streaming, "parent"), None)


@pytest.mark.parametrize("place", PLACES)
async def test_capture_all_for_such_a_child(streaming: StreamingModule, place: str) -> None:
    child = undecorated()

    async def call() -> None:
        await child.ainvoke(
            {"messages": [HumanMessage("x")]}, streaming.config(execution_id="child", owner="ops", capture="all")
        )

    await run_in(streaming, PLACES[place], call)
    got = await read(streaming, "child")
    assert {"write", "whisperer", "ask_tool"} <= {each.metadata.node_id for each in got.updates}
    assert got.texts()["write"] == SECRET
    check(await read(streaming, "parent"), None)
