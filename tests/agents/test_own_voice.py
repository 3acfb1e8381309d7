"""Updates of LangGraph itself: stream writers, custom events, returned messages, caches and breakpoints."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.runtime import Runtime
from langgraph.types import CachePolicy, Command, StreamWriter, interrupt

from lg_streaming import stream_all, stream_event
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.agents.calling import CAPTURES, SYNC, WAYS, Capture, rotated
from tests.agents.reading import read, state_of
from tests.agents.teams import ASK, Graph, Messages, call, create_agent, says


def write(state: Messages) -> dict[str, Any]:
    get_stream_writer()({"step": 1})
    return {"messages": [AIMessage("ok")]}


async def write_async(state: Messages, writer: StreamWriter) -> dict[str, Any]:
    await asyncio.sleep(0)
    writer({"step": 1})
    return {"messages": [AIMessage("ok")]}


async def write_by_runtime(state: Messages, runtime: Runtime[None]) -> dict[str, Any]:
    runtime.stream_writer({"step": 1})
    return {"messages": [AIMessage("ok")]}


def dispatch(state: Messages, config: RunnableConfig) -> dict[str, Any]:
    dispatch_custom_event("loaded", {"step": 1}, config=config)
    return {"messages": [AIMessage("ok")]}


async def dispatch_async(state: Messages, config: RunnableConfig) -> dict[str, Any]:
    await adispatch_custom_event("loaded", {"step": 1}, config=config)
    return {"messages": [AIMessage("ok")]}


NODES: dict[str, tuple[Any, str, bool]] = {
    "writer": (write, "stream_writer", False),
    "async writer": (write_async, "stream_writer", True),
    "writer of the runtime": (write_by_runtime, "stream_writer", True),
    "dispatch": (dispatch, "loaded", False),
    "async dispatch": (dispatch_async, "loaded", True),
}


def single(node: Any, **options: Any) -> Graph:
    builder: Any = StateGraph(Messages)
    return builder.add_node("work", node, **options).add_edge(START, "work").compile()


def nested(node: Any) -> Graph:
    return single(single(node))


def in_an_agents_tool(node: Any) -> Graph:
    inner = single(node)

    @tool
    async def ask() -> str:
        """Ask."""
        return (await inner.ainvoke(ASK))["messages"][-1].text

    return create_agent(says("lead", AIMessage("", tool_calls=[call("ask", "call-1")]), "So."), [ask], name="lead")


SHAPES: dict[str, Callable[[Any], Graph]] = {"node": single, "subgraph": nested, "agent's tool": in_an_agents_tool}
FEW = {
    name: WAYS[name] for name in ("invoke", "ainvoke", "updates", "custom", "all, subgraphs", "events v2", "events v3")
}


CASES = [
    (node, shape, capture, way)
    for (node, shape), capture, way in rotated(product(NODES, SHAPES), [*CAPTURES, "function"], FEW, each=1)
    if not (way in SYNC and (NODES[node][2] or "tool" in shape))
]


@pytest.mark.parametrize(("node", "shape", "capture", "way"), CASES)
async def test_what_a_node_writes(node: str, shape: str, capture: str, way: str) -> None:
    function, name, _ = NODES[node]
    if capture == "function":
        function = stream_event(function)
    how = CAPTURES["decorated, config" if capture == "function" else capture]
    graph = SHAPES[shape](function)
    graph = graph if capture == "function" else how.graph(graph)
    async with how.module() as streaming:
        with how.around(streaming, "e"):
            await FEW[way](graph, ASK, how.config(streaming, "e"))
        seen = await read(streaming, "e")
    (custom,) = seen.of("custom")
    assert custom.data == {"name": name, "data": {"step": 1}}
    assert custom.node_id == "work"
    assert custom.tool_call_id == ("call-1" if "tool" in shape else None)
    assert custom.namespace in {start.namespace for start in seen.of("node_start")}


@tool
def load() -> str:
    """Load."""
    get_stream_writer()({"rows": 3})
    return "loaded"


@tool
async def load_async(config: RunnableConfig) -> str:
    """Load."""
    get_stream_writer()({"rows": 3})
    await adispatch_custom_event("loaded", {"rows": 3}, config=config)
    return "loaded"


@pytest.mark.parametrize("capture", [*CAPTURES, "function"])
@pytest.mark.parametrize("used", [load, load_async], ids=["sync", "async"])
async def test_what_a_tool_writes(used: Any, capture: str) -> None:
    how = CAPTURES["decorated, config" if capture == "function" else capture]
    if capture == "function":
        said = AIMessage("", tool_calls=[call(used.name, "call-1")])
        graph, inputs = single(stream_event(ToolNode([used]))), {"messages": [said]}
    else:
        model = says("lead", AIMessage("", tool_calls=[call(used.name, "call-1")]), "So.")
        graph, inputs = how.graph(create_agent(model, [used], name="lead")), ASK
    async with how.module() as streaming:
        with how.around(streaming, "e"):
            await graph.ainvoke(inputs, how.config(streaming, "e"))
        seen = await read(streaming, "e")
    assert {update.data["name"] for update in seen.of("custom")} == (
        {"stream_writer"} if used is load else {"stream_writer", "loaded"}
    )
    assert {update.tool_call_id for update in seen.of("custom")} == {"call-1"}


@pytest.mark.parametrize("by", ["config", "activate", "block"])
@pytest.mark.parametrize("is_graph", [True, False], ids=["graph", "function"])
async def test_a_decorated_node_in_a_tool_of_an_agent_that_is_not_captured(by: str, *, is_graph: bool) -> None:
    node: Any = stream_event(write_async if is_graph else _work)
    inner: Graph = single(node) if is_graph else None

    @tool
    async def ask() -> str:
        """Ask."""
        return str((await inner.ainvoke(ASK))["messages"][-1].text) if is_graph else await node()

    model = says("lead", AIMessage("", tool_calls=[call("ask", "call-1")]), "So.")
    how = Capture(decorated=True, by=by)
    async with how.module() as streaming:
        with how.around(streaming, "e"):
            await create_agent(model, [ask], name="lead").ainvoke(ASK, how.config(streaming, "e"))
        seen = await read(streaming, "e")
    inside = seen.of("node_start", "node_complete", "custom")
    assert len(inside) == 2 + is_graph
    assert {update.tool_call_id for update in inside} == {"call-1"}


async def _work() -> str:
    return "done"


@pytest.mark.parametrize("own", ["config", "block"])
async def test_an_execution_of_its_own_in_a_tool_has_no_tool_call(streaming: StreamingModule, own: str) -> None:
    inner = single(stream_event(write_async))

    @tool
    async def ask() -> str:
        """Ask."""
        if own == "config":
            return (await inner.ainvoke(ASK, streaming.config("own")))["messages"][-1].text
        with streaming.execution("own"):
            return (await inner.ainvoke(ASK))["messages"][-1].text

    model = says("lead", AIMessage("", tool_calls=[call("ask", "call-1")]), "So.")
    await create_agent(model, [ask], name="lead").ainvoke(ASK, streaming.config("e"))
    seen = await read(streaming, "own")
    assert [start.node_id for start in seen.of("node_start")] == ["work"]
    assert {update.tool_call_id for update in seen.updates} == {None}


def speak(state: Messages) -> dict[str, Any]:
    return {"messages": [AIMessage("Not from a model.", id="m-1")]}


def speak_by_command(state: Messages) -> Command[Any]:
    return Command(update={"messages": [AIMessage("Not from a model.", id="m-1")]})


@pytest.mark.parametrize("where", ["function", "graph", "graph around"])
@pytest.mark.parametrize("node", [speak, speak_by_command])
async def test_a_message_that_no_model_said(streaming: StreamingModule, node: Any, where: str) -> None:
    def heard(target: Any) -> Any:
        return stream_event(target, events=["messages"])

    graph = single(heard(node)) if where == "function" else single(node)
    graph = single(graph) if where == "graph around" else graph
    await (graph if where == "function" else heard(graph)).ainvoke(ASK, streaming.config(execution_id="e"))
    seen = await read(streaming, "e")
    messages = [
        update for update in seen.of("messages") if (update.namespace or "").count("|") == (where == "graph around")
    ]
    (said,) = messages
    assert [message["content"] for message in said.data["messages"]] == ["Not from a model."]


@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("node", [speak, speak_by_command])
async def test_a_message_that_no_model_said_is_in_the_nodes_result(node: Any, capture: str) -> None:
    how = CAPTURES[capture]
    async with how.module() as streaming:
        with how.around(streaming, "e"):
            await how.graph(single(node)).ainvoke(ASK, how.config(streaming, "e"))
        seen = await read(streaming, "e")
    (complete,) = seen.of("node_complete")
    assert "Not from a model." in repr(complete.data["result"])
    assert seen.assembled == {"m-1": "Not from a model."}


# --- caches --------------------------------------------------------------------------------------------------


def one_key(*_: Any) -> str:
    return "key"


def cached(node: Any) -> Graph:
    builder: Any = StateGraph(Messages)
    builder.add_node("work", node, cache_policy=CachePolicy(key_func=one_key))
    builder.add_node("after", speak)
    builder.add_edge(START, "work").add_edge("work", "after")
    return builder.compile(cache=InMemoryCache(), checkpointer=InMemorySaver())


def below(node: Any) -> Graph:
    inner: Any = StateGraph(Messages)
    inner.add_node("work", node, cache_policy=CachePolicy(key_func=one_key)).add_edge(START, "work")
    builder: Any = StateGraph(Messages)
    builder.add_node("sub", inner.compile(cache=InMemoryCache())).add_edge(START, "sub")
    return builder.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "updates", "events v2"])
@pytest.mark.parametrize("capture", [*CAPTURES, "function"])
@pytest.mark.parametrize("shape", [cached, below])
async def test_an_answer_from_a_cache(shape: Any, capture: str, way: str) -> None:
    how = CAPTURES["decorated, config" if capture == "function" else capture]
    node = stream_all(speak) if capture == "function" else speak
    graph = shape(node) if capture == "function" else how.graph(shape(node))
    async with how.module() as streaming:
        for execution_id in ("first", "second"):
            with how.around(streaming, execution_id):
                await WAYS[way](graph, ASK, how.config(streaming, execution_id))
        first, second = await read(streaming, "first"), await read(streaming, "second")
    assert not first.of("node_cached")
    (update,) = second.of("node_cached")
    assert (update.node_id, update.data["node_name"]) == ("work", "work")
    assert "work" not in {start.node_id for start in second.of("node_start")}
    assert second.outcome == "workflow_complete"


@pytest.mark.parametrize("capture", ["decorated, config", "all, config", "all, setting, block"])
async def test_a_resumed_graph_answers_nothing_from_a_cache(capture: str) -> None:
    def ask(state: Messages) -> dict[str, Any]:
        return {"messages": [interrupt("sure?")]}

    builder: Any = StateGraph(Messages)
    builder.add_node("work", speak, cache_policy=CachePolicy()).add_node("ask", ask)
    builder.add_edge(START, "work").add_edge(START, "ask")
    how = CAPTURES[capture]
    graph = how.graph(builder.compile(cache=InMemoryCache(), checkpointer=InMemorySaver()))
    async with how.module() as streaming:
        for inputs in (ASK, Command(resume="yes")):
            with how.around(streaming, "e"):
                await graph.ainvoke(inputs, how.config(streaming, "e"))
        seen = await read(streaming, "e")
    assert not seen.of("node_cached")
    assert seen.paths == {"work": 1, "ask": 2}


# --- breakpoints ---------------------------------------------------------------------------------------------

BREAKS: list[dict[str, Any]] = [
    {"interrupt_before": ["work"]},
    {"interrupt_after": ["greet"]},
    {"interrupt_before": "*"},
]


def two_nodes(**options: Any) -> Graph:
    def greet(state: Messages) -> dict[str, Any]:
        return {"messages": [ScriptedChatModel(answers=["Good day."]).invoke("go")]}

    def work(state: Messages) -> dict[str, Any]:
        return {"messages": [ScriptedChatModel(answers=["Work."]).invoke("go")]}

    builder: Any = StateGraph(Messages)
    builder.add_node(greet).add_node(work).add_edge(START, "greet").add_edge("greet", "work")
    return builder.compile(checkpointer=InMemorySaver(), **options)


def pauses(breaks: dict[str, Any]) -> Iterator[int]:
    return itertools.repeat(1, 2 if breaks == {"interrupt_before": "*"} else 1)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "updates", "events v2"])
@pytest.mark.parametrize("capture", CAPTURES)
@pytest.mark.parametrize("breaks", BREAKS, ids=["before", "after", "before all"])
async def test_breakpoints(breaks: dict[str, Any], capture: str, way: str) -> None:
    how = CAPTURES[capture]
    graph = how.graph(two_nodes(**breaks))
    inputs: Any = ASK
    async with how.module() as streaming:
        for _ in pauses(breaks):
            with how.around(streaming, "e"):
                await WAYS[way](graph, inputs, how.config(streaming, "e"))
            if await streaming.hub.log.executions():
                assert await state_of(streaming, "e") == "interrupted"
            inputs = None
        with how.around(streaming, "e"):
            state = await WAYS[way](graph, None, how.config(streaming, "e"))
        seen = await read(streaming, "e")
    assert seen.outcome == "workflow_complete"
    assert seen.types.count("workflow_complete") == 1
    assert seen.paths == {"greet": 1, "work": 1}
    seen.says(state["messages"])


@pytest.mark.parametrize("pause", ["interrupt_before", "interrupt"])
@pytest.mark.parametrize("by", ["config", "activate", "block"])
async def test_a_pause_in_a_node_that_is_not_captured(by: str, pause: str) -> None:
    async def greet(state: Messages) -> dict[str, Any]:
        return {"messages": [await ScriptedChatModel(answers=["Good day."]).ainvoke("go")]}

    async def work(state: Messages) -> dict[str, Any]:
        return {"messages": [AIMessage(interrupt("sure?") if pause == "interrupt" else "done")]}

    builder: Any = StateGraph(Messages)
    builder.add_node("greet", stream_all(greet)).add_node("work", work)
    builder.add_edge(START, "greet").add_edge("greet", "work")
    breaks = {"interrupt_before": ["work"]} if pause == "interrupt_before" else {}
    graph = builder.compile(checkpointer=InMemorySaver(), **breaks)
    how = Capture(decorated=True, by=by)
    async with how.module() as streaming:
        for inputs, state in ((ASK, "interrupted"), (None if breaks else Command(resume="yes"), "completed")):
            with how.around(streaming, "e"):
                await graph.ainvoke(inputs, how.config(streaming, "e"))
            assert await state_of(streaming, "e") == state
        seen = await read(streaming, "e")
    assert seen.types.count("workflow_start") == 1
    assert seen.paths == {"greet": 1}
