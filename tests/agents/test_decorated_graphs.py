"""A decorated graph is the graph that it was, and each of its nodes is captured as its decorators ask."""

import asyncio
import copy
import functools
import pickle
from typing import Any, cast

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import NodeError
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.store.memory import InMemoryStore
from typing_extensions import TypedDict

from lg_streaming import stream_all, stream_event, stream_progress, stream_token
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.agents.reading import Seen, read
from tests.agents.teams import ASK, TEAMS, Graph, Messages, call, create_agent, forecaster, says


def stacked(graph: Graph) -> Graph:
    return stream_event(stream_token(graph), exclude=["tools"])


DECORATORS: dict[str, Any] = {
    "token": stream_token,
    "event": stream_event,
    "progress": stream_progress,
    "all": stream_all,
    "all with options": stream_all(token=True, event={}),
    "all, nodes": stream_all(nodes=["model"], exclude=["tools"], token=True),
    "nodes": stream_token(nodes=["model"]),
    "stacked": stacked,
}


def drawing(graph: Graph, **options: Any) -> tuple[str, Any]:
    drawn = graph.get_graph(**options)
    return drawn.draw_mermaid(), sorted(drawn.nodes)


def outside(graph: Graph) -> dict[str, Any]:
    """Queries of a graph that takes long to answer."""
    return {
        "drawing": drawing(graph),
        "drawing of all": drawing(graph, xray=True),
        "input": graph.get_input_jsonschema(),
        "output": graph.get_output_jsonschema(),
        "context": graph.get_context_jsonschema(),
    }


@functools.cache
def plain(team: str) -> tuple[Graph, dict[str, Any]]:
    """A team's graph, which the tests of all decorators share, and what it looked like before the first of them."""
    graph = TEAMS[team]().graph
    return graph, outside(graph)


@pytest.mark.parametrize("decorator", DECORATORS)
@pytest.mark.parametrize("team", TEAMS)
def test_what_a_graph_is(team: str, decorator: str) -> None:
    graph, expected = plain(team)
    decorated = DECORATORS[decorator](graph)
    assert decorated is not graph
    assert type(decorated) is type(graph)
    assert decorated.get_name() == graph.get_name() == decorated.name
    assert outside(decorated) == expected
    names = [name for name, _ in graph.get_subgraphs(recurse=True)]
    assert [name for name, _ in decorated.get_subgraphs(recurse=True)] == names
    assert decorated.stream_channels_list == graph.stream_channels_list
    assert getattr(decorated, "builder", None) is getattr(graph, "builder", None)


@pytest.mark.parametrize("team", TEAMS)
def test_no_decorator_changes_the_graph_that_it_is_given(team: str) -> None:
    graph, before = plain(team)
    for decorate in DECORATORS.values():
        decorate(graph)
    assert outside(graph) == before


class Context(TypedDict):
    who: str


def remembering(**options: Any) -> Graph:
    def greet(state: Messages, runtime: Runtime[Context]) -> dict[str, Any]:
        assert runtime.store is not None
        runtime.store.put(("seen",), runtime.context["who"], {"times": 1})
        return {"messages": [ScriptedChatModel(answers=[f"Hello {runtime.context['who']}."]).invoke("go")]}

    builder: Any = StateGraph(Messages, context_schema=Context)
    return builder.add_node(greet).add_edge(START, "greet").compile(**options)


async def test_checkpointer_store_and_context(streaming: StreamingModule) -> None:
    store, saver = InMemoryStore(), InMemorySaver()
    graph = stream_all(remembering(checkpointer=saver, store=store, name="greeter"))
    assert (graph.checkpointer, graph.store, graph.name) == (saver, store, "greeter")
    state = await graph.ainvoke(ASK, streaming.config(execution_id="e"), context={"who": "Ann"})
    assert store.get(("seen",), "Ann") is not None
    config = {"configurable": {"thread_id": "e"}}
    assert (await graph.aget_state(config)).values == graph.get_state(config).values == state
    graph.update_state(config, {"messages": [AIMessage("By hand.", id="hand")]}, as_node="greet")
    await graph.aupdate_state(config, {"messages": [AIMessage("By hand too.", id="hand-2")]})
    assert [message.text for message in graph.get_state(config).values["messages"]][-2:] == ["By hand.", "By hand too."]
    assert len([snapshot async for snapshot in graph.aget_state_history(config)]) == 5
    seen = await read(streaming, "e")
    seen.says(state["messages"])
    assert seen.paths == {"greet": 1}


def with_config(graph: Graph) -> Graph:
    return graph.with_config({"tags": ["mine"], "metadata": {"mine": 1}})


def own_copy(graph: Graph) -> Graph:
    return graph.copy()


def with_config_of_a_copy(graph: Graph) -> Graph:
    return with_config(copy.copy(graph))


COPIES: dict[str, Any] = {
    "with_config": with_config,
    "copy": copy.copy,
    "graph.copy": own_copy,
    "with_config of a copy": with_config_of_a_copy,
    "bound to the module": None,
}


@pytest.mark.parametrize("way", COPIES)
async def test_what_is_made_of_a_decorated_graph_is_decorated(streaming: StreamingModule, way: str) -> None:
    decorated = stream_all(forecaster())
    config = None if way == "bound to the module" else streaming.config(execution_id="e")
    graph = decorated.with_config(streaming.config()) if config is None else COPIES[way](decorated)
    assert type(graph) is type(decorated)
    state = await graph.ainvoke(ASK, config or {"configurable": {"thread_id": "e"}})
    seen = await read(streaming, "e")
    seen.says(state["messages"])
    assert seen.paths == {"model": 2, "tools": 1}


@pytest.mark.parametrize("decorated", [True, False])
async def test_a_service_binds_the_module_once(streaming: StreamingModule, *, decorated: bool) -> None:
    """Twenty chats at once through one graph: each has its own execution, with all of its text and nothing else."""
    graph = stream_all(TEAMS["nested"]().graph) if decorated else TEAMS["nested"]().graph
    served = graph.with_config(streaming.config(capture=None if decorated else "all"))
    chats = [f"chat-{number}" for number in range(20)]
    states = await asyncio.gather(*(served.ainvoke(ASK, {"configurable": {"thread_id": chat}}) for chat in chats))
    assert sorted(await streaming.hub.log.executions()) == sorted(chats)
    for chat, state in zip(chats, states, strict=True):
        seen = await read(streaming, chat)
        assert seen.outcome == "workflow_complete"
        said = {message.id: message.text for message in state["messages"] if message.type == "ai"}
        assert said.items() <= seen.assembled.items()
        assert set(seen.by_agent()) == {"forecaster", "lead", "middle"}
        assert len(seen.assembled) == 6


def _fails_to_pickle(graph: Graph) -> str | None:
    try:
        pickle.dumps(graph)
    except Exception as error:  # noqa: BLE001 (what it is does not matter)
        return type(error).__name__
    return None


def greet(state: Messages) -> dict[str, Any]:
    return {"messages": [AIMessage("Hello.")]}


def test_pickle_does_what_it_did() -> None:
    builder: Any = StateGraph(Messages)
    plain = builder.add_node(greet).add_edge(START, "greet").compile()
    for graph in (plain, forecaster()):
        assert _fails_to_pickle(stream_all(graph)) == _fails_to_pickle(graph)
    if _fails_to_pickle(plain) is None:
        again = pickle.loads(pickle.dumps(stream_all(plain)))
        assert again.invoke(ASK)["messages"][-1].text == "Hello."


# --- nodes= and exclude= -------------------------------------------------------------------------------------


def tree(inner: Graph | None = None) -> Graph:
    """A graph in a graph in a graph, an agent at the bottom."""
    middle: Any = StateGraph(Messages).add_node("ask", inner or forecaster()).add_edge(START, "ask")
    outer: Any = StateGraph(Messages).add_node("desk", middle.compile()).add_edge(START, "desk")
    return outer.compile()


ALL = {"desk", "desk/ask", "desk/ask/model", "desk/ask/tools"}
SELECTIONS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, ALL),
    ({"nodes": ["model"]}, {"desk/ask/model"}),
    ({"nodes": ["mod*"]}, {"desk/ask/model"}),
    ({"nodes": ["ask/model"]}, {"desk/ask/model"}),
    ({"nodes": ["desk/ask/*"]}, {"desk/ask/model", "desk/ask/tools"}),
    ({"nodes": ["desk"]}, {"desk"}),
    ({"nodes": ["desk", "tools"]}, {"desk", "desk/ask/tools"}),
    ({"exclude": ["model"]}, ALL - {"desk/ask/model"}),
    ({"exclude": ["desk"]}, ALL - {"desk"}),
    ({"exclude": ["desk/**"]}, {"desk"}),
    ({"exclude": ["ask/*"]}, {"desk", "desk/ask"}),
    ({"nodes": ["desk/**"], "exclude": ["tools"]}, {"desk/ask", "desk/ask/model"}),
]


@pytest.mark.parametrize("place", ["direct", "as node", "agent in tool"])
@pytest.mark.parametrize(("selection", "expected"), SELECTIONS)
async def test_selections_at_any_depth(
    streaming: StreamingModule, selection: dict[str, Any], expected: set[str], place: str
) -> None:
    graph = stream_all(tree(), **selection)
    before = ""
    if place == "as node":
        outer: Any = StateGraph(Messages).add_node("top", graph).add_edge(START, "top")
        graph, before = outer.compile(), "top/"
    elif place == "agent in tool":
        graph, before = in_tool(graph), "tools/"
    await graph.ainvoke(ASK, streaming.config(execution_id="e"))
    seen = await read(streaming, "e")
    found = {path for path in seen.paths if path != "top"}
    assert found == {f"{before}{path}" for path in expected}


def in_tool(graph: Graph) -> Graph:
    @tool
    async def ask() -> str:
        """Ask."""
        return (await graph.ainvoke(ASK))["messages"][-1].text

    return create_agent(says("boss", AIMessage("", tool_calls=[call("ask", "call-1")]), "So."), [ask])


async def test_stacked_decorators_hold_for_different_nodes(streaming: StreamingModule) -> None:
    graph = stream_token(tree(), nodes=["model"])
    graph = stream_progress(graph, nodes=["desk"])
    graph = stream_event(graph, nodes=["tools"])
    await graph.ainvoke(ASK, streaming.config(execution_id="e"))
    seen = await read(streaming, "e")
    by_type = {(update.type, update.node_id) for update in seen.updates if update.node_id}
    assert ("token", "model") in by_type
    assert ("tool_complete", "tools") in by_type
    assert ("progress", "desk") in by_type
    assert not {("progress", "model"), ("llm_start", "model"), ("progress", "tools"), ("tool_start", "desk")} & by_type


async def test_a_decorator_inside_wins_over_one_outside(streaming: StreamingModule) -> None:
    graph = stream_all(tree(stream_token(forecaster(), nodes=["model"])))
    await graph.ainvoke(ASK, streaming.config(execution_id="e"))
    seen = await read(streaming, "e")
    assert set(seen.paths) == ALL - {"desk/ask/tools"}
    assert not [update for update in seen.of("llm_start") if update.node_id == "model"]


# --- nodes with decorators of their own ----------------------------------------------------------------------


def _write(state: Messages) -> dict[str, Any]:
    return {"messages": [ScriptedChatModel(answers=["Own words."]).invoke("go")]}


OWN: dict[str, Any] = {
    "node_id": (stream_token(node_id="mine")(_write), {"node_start", "token", "node_complete"}, "mine"),
    "off": (stream_token(enabled=False)(_write), set(), None),
    "events": (stream_event(events=["node_start"])(_write), {"node_start", "node_complete"}, "write"),
    "progress": (stream_progress(_write), {"node_start", "node_complete", "progress"}, "write"),
}


def _plain(node: Any) -> Graph:
    builder: Any = StateGraph(Messages)
    return builder.add_node("write", node).add_edge(START, "write").compile()


def _as_subgraph(node: Any) -> Graph:
    builder: Any = StateGraph(Messages)
    return builder.add_node("sub", _plain(node)).add_edge(START, "sub").compile()


def _called(node: Any) -> Graph:
    inner = _plain(node)

    def sub(state: Messages) -> dict[str, Any]:
        return inner.invoke({"messages": "go"})

    builder: Any = StateGraph(Messages)
    return builder.add_node("sub", sub).add_edge(START, "sub").compile()


def _called_deeper(node: Any) -> Graph:
    inner = _called(node)

    async def top(state: Messages) -> dict[str, Any]:
        return await inner.ainvoke({"messages": "go"})

    builder: Any = StateGraph(Messages)
    return builder.add_node("top", top).add_edge(START, "top").compile()


SHAPES = {"plain": _plain, "subgraph": _as_subgraph, "called": _called, "called deeper": _called_deeper}
BY = ["decorated", "all", "both", "all by setting and activate"]


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("own", OWN)
async def test_a_nodes_own_decorator_wins(own: str, shape: str, by: str) -> None:
    node, types, node_id = OWN[own]
    graph = SHAPES[shape](node)
    graph = stream_all(graph) if by in {"decorated", "both"} else graph
    async with StreamingModule({"capture": "all"} if "setting" in by else None) as streaming:
        if "activate" in by:
            with streaming.activate():
                await graph.ainvoke(ASK, {"configurable": {"thread_id": "e"}})
            if shape == "plain" and own == "off":
                assert await streaming.hub.log.executions() == ()
                return
        else:
            await graph.ainvoke(
                ASK, streaming.config(execution_id="e", capture="all" if by in {"all", "both"} else None)
            )
        seen: Seen = await read(streaming, "e")
    mine = [update for update in seen.updates if update.node_id in {"write", "mine"}]
    assert {update.type for update in mine} == types
    assert {update.node_id for update in mine} == ({node_id} if node_id else set())


async def test_an_entrypoint_is_decorated_like_a_graph(streaming: StreamingModule) -> None:
    @entrypoint(checkpointer=InMemorySaver())
    def work(inputs: str, *, previous: Any = None) -> Any:
        text = ScriptedChatModel(answers=["Done."]).invoke(inputs).text
        return entrypoint.final(value=text, save=(previous or 0) + 1)

    graph: Graph = stream_all(cast("Any", work))
    for _ in range(2):
        assert await graph.ainvoke("go", streaming.config(execution_id="e")) == "Done."
    assert graph.get_state({"configurable": {"thread_id": "e"}}).values == "Done."
    page = await streaming.hub.subscribe("e", follow=True).next_page(1_000)
    assert [update.type for update in page.updates("e")].count("workflow_complete") == 2


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("by", ["graph", "nodes", "call", "outer graph"])
async def test_an_error_handler_is_a_node(streaming: StreamingModule, by: str, *, is_async: bool) -> None:
    """LangGraph's fallback for a failed node is captured too."""

    def fail(_: Messages) -> dict[str, Any]:
        raise ValueError("not today")

    def handle(_: Messages, error: NodeError) -> dict[str, Any]:
        return {"messages": [ScriptedChatModel(answers=[f"It went wrong: {error.error}."]).invoke("x")]}

    builder: Any = StateGraph(Messages)
    graph = builder.add_node("fail", fail, error_handler=handle).add_edge(START, "fail").compile()
    config = streaming.config("e", capture="all" if by == "call" else None)
    if by == "graph":
        graph = stream_all(graph)
    elif by == "nodes":
        graph = stream_all(graph, nodes=["__error_handler__*"])
    elif by == "outer graph":
        outer: Any = StateGraph(Messages)
        graph = stream_all(outer.add_node("inner", graph).add_edge(START, "inner").compile())
    state = await graph.ainvoke(ASK, config) if is_async else await asyncio.to_thread(graph.invoke, ASK, config)
    page = await streaming.hub.subscribe("e", follow=True).next_page(1_000)
    said = "".join(each.data["content"] for each in page.updates("e") if each.type == "token")
    assert said == state["messages"][-1].text == "It went wrong: not today."
