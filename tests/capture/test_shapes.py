"""Subgraphs, parallel branches, agents and the functional API: whose token it is."""

import asyncio
from typing import Any, cast

import pytest
from langchain import agents
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send

from lg_streaming import stream_all, stream_event, stream_token
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import TEXT, Input, State, Update, graph_of, model, read

INPUT: Input = {"topic": "rivers"}


async def plain(state: State) -> Update:
    return {"text": (await model("inner text ").ainvoke("go")).text}


@stream_token
async def inner(state: State) -> Update:
    return {"text": (await model("inner text ").ainvoke("go")).text}


@stream_token
def inner_sync(state: State) -> Update:
    return {"text": model("inner text ").invoke("go").text}


async def test_an_undecorated_subgraph_inside_a_decorated_node(streaming: StreamingModule) -> None:
    @stream_token
    async def outer(state: State) -> Update:
        before = (await model("before ").ainvoke("go")).text
        return {"text": before + (await graph_of(plain).ainvoke(state))["text"]}

    await graph_of(outer).ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert run.texts() == {"outer": "before inner text "}
    assert len(run.of("node_start")) == 1


async def test_a_decorated_subgraph_inside_a_decorated_node(streaming: StreamingModule) -> None:
    @stream_token
    async def outer(state: State) -> Update:
        before = (await model("before ").ainvoke("go")).text
        result = await graph_of(inner).ainvoke(state, {"configurable": {"thread_id": "another"}})
        return {"text": before + result["text"] + (await model(" after").ainvoke("go")).text}

    await graph_of(outer).ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert run.texts() == {"outer": "before  after", "inner": "inner text "}
    assert run.final == "workflow_complete"
    assert await streaming.hub.log.executions() == ("e",)


@pytest.mark.parametrize("node", [inner, inner_sync])
async def test_a_subgraph_with_decorated_nodes_as_a_plain_node(streaming: StreamingModule, node: Any) -> None:
    graph = graph_of(graph_of(node), names=("child",))
    with streaming.activate():
        await graph.ainvoke(INPUT, {"configurable": {"thread_id": "e"}})
    run = await read(streaming, "e")
    assert run.texts() == {node.__name__: "inner text "}
    namespace = run.one("node_start").metadata.namespace
    assert namespace is not None
    assert namespace.startswith("child:")


@pytest.mark.parametrize(("child", "expected"), [(plain, "plain"), (inner, "inner")])
async def test_a_subgraph_as_a_decorated_node(streaming: StreamingModule, child: Any, expected: str) -> None:
    sub = stream_token(graph_of(child))
    result = await graph_of(sub, names=("sub",)).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert result["text"] == "inner text "
    run = await read(streaming, "e")
    assert run.texts() == {expected: "inner text "}
    assert run.of("node_start")[0].metadata.node_id == "sub"


async def test_langgraph_still_finds_the_subgraph_inside_a_decorated_runnable() -> None:
    graph = graph_of(stream_token(graph_of(plain)), names=("sub",), checkpointer=InMemorySaver())
    assert [name for name, _ in graph.get_subgraphs()] == ["sub"]


async def test_a_helper_called_inside_a_node_is_a_part_of_its_own(streaming: StreamingModule) -> None:
    @stream_token
    async def helper(word: str) -> str:
        return (await model(word).ainvoke("go")).text

    @stream_token
    async def node(state: State) -> Update:
        return {"text": await helper("one ") + await helper("two ") + (await model("three").ainvoke("go")).text}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert run.texts() == {"helper": "one two ", "node": "three"}
    namespaces = [start.metadata.namespace for start in run.of("node_start")]
    assert len(set(namespaces)) == 3
    assert {start.metadata.attempt for start in run.of("node_start")} == {1}


@pytest.mark.parametrize("threaded", [False, True])
async def test_send_tells_its_branches_apart(streaming: StreamingModule, *, threaded: bool) -> None:
    @stream_token
    async def branch(state: State) -> Update:
        return {"messages": [await model(f"about {state['topic']}").ainvoke("go")]}

    @stream_token
    def branch_sync(state: State) -> Update:
        return {"messages": [model(f"about {state['topic']}", delay=0.001).invoke("go")]}

    topics = ["ice", "salt", "wind"]
    node = branch_sync if threaded else branch
    builder: Any = StateGraph(State)
    builder.add_node("branch", node)

    def fan_out(state: State) -> list[Send]:
        return [Send("branch", {"topic": topic}) for topic in topics]

    builder.add_conditional_edges(START, fan_out, ["branch"])
    builder.add_edge("branch", END)
    graph = builder.compile()
    config = streaming.config(execution_id="e")
    await (asyncio.to_thread(graph.invoke, INPUT, config) if threaded else graph.ainvoke(INPUT, config))
    run = await read(streaming, "e")
    texts = run.texts(by=lambda update: update.metadata.namespace)
    assert sorted(texts.values()) == [f"about {topic}" for topic in topics]
    assert {update.metadata.node_id for update in run.of("token")} == {"branch"}


create_agent: Any = cast("Any", agents).create_agent  # its types are unknown in part


@tool
def weather(city: str) -> str:
    """The weather."""
    return f"fog in {city}"


def agent_model() -> ScriptedChatModel:
    call = {"name": "weather", "args": {"city": "Ulm"}, "id": "call-1"}
    return ScriptedChatModel(answers=[AIMessage("", tool_calls=[call]), "Foggy, I am told."])


async def test_create_agent_as_a_decorated_node(streaming: StreamingModule) -> None:
    agent = stream_all(token=True, event=True)(create_agent(agent_model(), [weather]))
    graph = graph_of(agent, names=("agent",))
    result = await graph.ainvoke({"messages": [("user", "how is it?")]}, streaming.config(execution_id="e"))
    assert result["messages"][-1].text == "Foggy, I am told."
    run = await read(streaming, "e")
    assert run.texts() == {"model": "Foggy, I am told."}
    assert [start.metadata.node_id for start in run.of("node_start")] == ["agent", "model", "tools", "model"]
    assert "".join(part.data.get("args", "") for part in run.of("tool_args")) == '{"city": "Ulm"}'
    assert run.one("tool_start").data == {"tool": "weather", "tool_call_id": "call-1", "input": {"city": "Ulm"}}
    assert run.one("tool_complete").data["output"] == "fog in Ulm"
    assert run.one("tool_complete").metadata.tool_call_id == "call-1"


async def test_an_agent_called_in_a_decorated_node(streaming: StreamingModule) -> None:
    @stream_event
    @stream_token
    async def node(state: State) -> Update:
        return await create_agent(agent_model(), [weather]).ainvoke({"messages": [("user", "how is it?")]})

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert run.texts() == {"node": "Foggy, I am told."}
    assert len(run.of("tool_start")) == len(run.of("tool_complete")) == 1


async def test_entrypoint_and_tasks(streaming: StreamingModule) -> None:
    @task
    @stream_token
    async def one(word: str) -> str:
        return (await model(word).ainvoke("go")).text

    @task
    @stream_token
    def two(word: str) -> str:
        return model(word).invoke("go").text

    @entrypoint()
    @stream_token
    async def flow(words: str) -> str:
        first = await asyncio.gather(one(words + " a "), one(words + " b "))
        return "".join(first) + await two("c ") + (await model("and d").ainvoke("go")).text

    result = await flow.ainvoke("x", streaming.config(execution_id="e"))
    assert result == "x a x b c and d"
    run = await read(streaming, "e")
    by_branch = run.texts(by=lambda update: (update.metadata.node_id, update.metadata.namespace))
    assert sorted((node, text) for (node, _), text in by_branch.items()) == [
        ("flow", "and d"),
        ("one", "x a "),
        ("one", "x b "),
        ("two", "c "),
    ]


async def test_a_command_to_the_parent_is_a_normal_end(streaming: StreamingModule) -> None:
    @stream_token
    async def child(state: State) -> Command[Any]:
        text = (await model("to the parent").ainvoke("go")).text
        return Command(graph=Command.PARENT, goto="last", update={"text": text})

    async def last(state: State) -> Update:
        return {"text": state.get("text", "") + "!"}

    builder: Any = StateGraph(State)
    builder.add_node("sub", graph_of(child), destinations=("last",))
    builder.add_node("last", last)
    builder.add_edge(START, "sub")
    builder.add_edge("last", END)
    result = await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    assert result["text"] == "to the parent!"
    run = await read(streaming, "e")
    assert run.types[0] == "workflow_start"
    assert run.types[1] == "node_start"
    assert run.types[-2:] == ["node_complete", "workflow_complete"]


async def test_a_decorated_subgraph_that_sends_a_command_to_the_parent(streaming: StreamingModule) -> None:
    async def child(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="last", update={"text": "up"})

    async def last(state: State) -> Update:
        return {"text": state.get("text", "") + "!"}

    builder: Any = StateGraph(State)
    builder.add_node("sub", stream_event(graph_of(child)), destinations=("last",))
    builder.add_node("last", last)
    builder.add_edge(START, "sub")
    builder.add_edge("last", END)
    assert (await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e")))["text"] == "up!"
    run = await read(streaming, "e")
    assert run.types == ["workflow_start", *["node_start"] * 2, *["node_complete"] * 2, "workflow_complete"]
    assert [end.metadata.node_id for end in run.of("node_complete")] == ["child", "sub"]


async def test_a_loop_runs_a_node_again_as_a_first_try(streaming: StreamingModule) -> None:
    @stream_token
    async def step(state: State) -> Update:
        return {"text": state.get("text", "") + (await model("again ").ainvoke("go")).text}

    def more(state: State) -> str:
        return END if len(state["text"]) > 15 else "step"

    builder: Any = StateGraph(State)
    builder.add_node("step", step)
    builder.add_edge(START, "step")
    builder.add_conditional_edges("step", more)
    await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert [start.data["attempt"] for start in run.of("node_start")] == [1, 1, 1]
    assert list(run.texts(by=lambda update: update.metadata.namespace).values()) == ["again "] * 3


async def test_text_round_trips_whatever_it_is(streaming: StreamingModule) -> None:
    text = '  leading\n\n\ttabs  and 日本語 🎉 and \u0000 nul, "quotes" \\ and trailing  '

    @stream_token
    async def node(state: State) -> Update:
        return {"text": (await model(text).ainvoke("go")).text}

    result = await graph_of(node).ainvoke({"topic": TEXT}, streaming.config(execution_id="e"))
    assert result["text"] == text
    assert (await read(streaming, "e")).texts() == {"node": text}
