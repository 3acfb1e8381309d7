"""Kinds of graphs, and the places from which a run is started."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, TypedDict, cast

import pytest
from langchain import agents
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphRecursionError, NodeTimeoutError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from lg_streaming import StreamingModule, stream_all
from lg_streaming.context import current_block, current_frame
from lg_streaming.errors import BadRequestError
from lg_streaming.testing import ScriptedChatModel
from tests.runs.graphs import Gate, State, gated

create_agent: Any = cast("Any", agents).create_agent
TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("TENANT", default="nobody")


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module


def one_node(node: Any, **options: Any) -> Any:
    """Return a graph of one node."""
    builder = StateGraph(options.pop("state", State), context_schema=options.pop("context_schema", None))
    builder.add_node("work", node, **options)
    builder.add_edge(START, "work")
    builder.add_edge("work", END)
    return builder


async def types_of(streaming: StreamingModule, execution_id: str = "e") -> list[str]:
    return [update.type async for update in streaming.hub.subscribe(execution_id, timeout=5)]


# --- graphs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_checkpointer", [True, False])
async def test_a_functional_graph(streaming: StreamingModule, has_checkpointer: bool) -> None:
    @task
    async def double(number: int) -> int:
        return 2 * number

    @entrypoint(checkpointer=InMemorySaver() if has_checkpointer else None)
    async def work(number: int, *, previous: Any = None) -> Any:
        total = await double(number) + (previous or 0)
        return entrypoint.final(value={"total": total}, save=total)

    graph = cast("Any", work)
    assert await streaming.runs.run(graph, 2, execution_id="e") == {"total": 4}
    assert await streaming.runs.run(graph, 2, execution_id="e") == {"total": 8 if has_checkpointer else 4}
    assert {"node_start", "node_complete"} <= set(await types_of(streaming))


async def test_an_agent(streaming: StreamingModule) -> None:
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    call = {"name": "add", "args": {"a": 1, "b": 2}, "id": "c1", "type": "tool_call"}
    model = ScriptedChatModel(answers=[AIMessage("", tool_calls=[call]), "It is 3."])
    agent = create_agent(model, [add])
    result = await streaming.runs.run(agent, {"messages": [HumanMessage("1 + 2?")]}, execution_id="e")
    assert result["messages"][-1].text == "It is 3."
    types = await types_of(streaming)
    assert {"token", "tool_start", "tool_complete"} <= set(types)
    assert types.count("workflow_start") == 1


async def test_only_the_decorated_nodes_of_a_graph_are_captured(streaming: StreamingModule) -> None:
    @stream_all
    async def shown(state: State) -> State:
        return {"text": "shown"}

    async def hidden(state: State) -> State:
        return {}

    builder = StateGraph(State)
    builder.add_sequence([shown, hidden])
    builder.add_edge(START, "shown")
    await streaming.runs.run(builder.compile(), {}, execution_id="e")
    updates = [each async for each in streaming.hub.subscribe("e", types=["node_start"], timeout=5)]
    assert [each.metadata.node_id for each in updates] == ["shown"]


async def test_a_bound_config_is_kept(streaming: StreamingModule) -> None:
    seen: list[Any] = []

    async def node(state: State, config: RunnableConfig) -> State:
        configurable = config.get("configurable", {})
        seen.append((configurable["thread_id"], configurable["tone"], config.get("tags")))
        return {}

    graph = one_node(node).compile(checkpointer=InMemorySaver())
    bound = graph.with_config({"configurable": {"thread_id": "t", "tone": "dry"}, "tags": ["a"]})
    run = await streaming.runs.start(bound, {})
    await run
    assert (run.execution_id, run.thread_id) == ("t", "t")
    await streaming.runs.run(bound, {}, execution_id="e", thread_id="u", config={"configurable": {"tone": "kind"}})
    assert seen == [("t", "dry", ["a"]), ("u", "kind", ["a"])]


async def test_a_graph_that_makes_its_calls_executions(streaming: StreamingModule) -> None:
    async def node(state: State) -> State:
        return {"text": "done"}

    graph = one_node(node).compile().with_config(streaming.config())
    await streaming.runs.run(graph, {}, execution_id="e")
    types = await types_of(streaming)
    assert (types[0], types[-1], types.count("workflow_start")) == ("workflow_start", "workflow_complete", 1)
    assert len(streaming.hub.executions()) == 1


async def test_a_subgraph_with_its_own_checkpointer(streaming: StreamingModule) -> None:
    async def ask(state: State) -> State:
        return {"answer": interrupt("Approve?")}

    inner = one_node(ask).compile(checkpointer=True, name="inner")
    outer = one_node(inner).compile(checkpointer=InMemorySaver(), name="outer")
    run = await streaming.runs.start(outer, {}, execution_id="e")
    prompts = [each async for each in streaming.hub.subscribe("e", types=["human_prompt"], until="interrupted")]
    await streaming.hub.respond("e", prompts[0].data["prompt_id"], "yes")
    assert (await run)["answer"] == "yes"


@dataclass
class Tone:
    """Static context of a graph."""

    name: str


async def test_a_context(streaming: StreamingModule) -> None:
    async def node(state: State, runtime: Runtime[Tone]) -> State:
        return {"text": runtime.context.name}

    graph = one_node(node, context_schema=Tone).compile()
    assert (await streaming.runs.run(graph, {}, context=Tone("dry")))["text"] == "dry"


async def test_call_options(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    result = await streaming.runs.run(gated(gate), {"text": "a"}, call_options={"output_keys": "text"})
    assert result == "a!"
    with pytest.raises(BadRequestError, match="stream_mode"):
        await streaming.runs.start(gated(gate), {}, call_options={"stream_mode": "values"})


async def test_a_command_goes_on_from_the_state(streaming: StreamingModule) -> None:
    async def ask(state: State) -> State:
        return {"answer": interrupt("Approve?")}

    graph = one_node(ask).compile(checkpointer=InMemorySaver())
    await graph.ainvoke({}, {"configurable": {"thread_id": "e"}})
    assert (await streaming.runs.run(graph, Command(resume="yes"), execution_id="e"))["answer"] == "yes"


async def test_nodes_that_block_run_in_threads(streaming: StreamingModule) -> None:
    entered, leave = threading.Event(), threading.Event()

    def block(state: State) -> State:
        entered.set()
        leave.wait(10)
        return {"text": threading.current_thread().name}

    run = await streaming.runs.start(one_node(block).compile(), {}, execution_id="e")
    assert await asyncio.to_thread(entered.wait, 10)
    leave.set()
    assert (await run)["text"] != threading.current_thread().name


# --- failures ---------------------------------------------------------------------------------------------------


class SyncSaver(InMemorySaver):
    """Checkpointer without coroutines, like `SqliteSaver`."""

    async def aget_tuple(self, config: RunnableConfig) -> Any:
        raise NotImplementedError("The SqliteSaver does not support async methods: use AsyncSqliteSaver")


async def fail(state: State) -> State:
    raise ValueError("no luck")


async def fail_together(state: State) -> State:
    raise ExceptionGroup("two", [ValueError("one"), KeyError("other")])


async def wait_long(state: State) -> State:
    await asyncio.sleep(60)
    return {}


def again(state: State) -> Command[Any]:
    return Command(goto="work")


@pytest.mark.parametrize(
    ("graph", "input", "error", "message"),
    [
        pytest.param(one_node(fail).compile(), {}, ValueError, "no luck", id="node"),
        pytest.param(one_node(fail_together).compile(), {}, ExceptionGroup, "one", id="group"),
        pytest.param(one_node(fail).compile(), [1], Exception, "", id="input"),
        pytest.param(
            one_node(again).compile().with_config(recursion_limit=25), {}, GraphRecursionError, "limit", id="recursion"
        ),
        pytest.param(one_node(wait_long, timeout=0.01).compile(), {}, NodeTimeoutError, "work", id="timeout"),
        pytest.param(one_node(fail).compile(checkpointer=SyncSaver()), {}, NotImplementedError, "Async", id="saver"),
    ],
)
async def test_a_failure_is_the_end(
    streaming: StreamingModule, graph: Any, input: Any, error: type[Exception], message: str
) -> None:
    run = await streaming.runs.start(graph, input, execution_id="e")
    with pytest.raises(error):
        await run
    last = [update async for update in streaming.hub.subscribe("e", timeout=5)][-1]
    assert last.type == "workflow_error"
    assert message in str(last.data["error"])
    assert (run.status, streaming.runs.get("e")) == ("failed", None)
    assert streaming.hub.statistics().runs.running == 0


async def test_a_wrong_context_fails_the_run(streaming: StreamingModule) -> None:
    async def node(state: State, runtime: Runtime[Tone]) -> State:
        return {"text": runtime.context.name}

    run = await streaming.runs.start(one_node(node, context_schema=Tone).compile(), {}, context={"other": 1})
    with pytest.raises(TypeError):
        await run
    assert run.status == "failed"


# --- places -----------------------------------------------------------------------------------------------------


async def look(state: State, config: RunnableConfig) -> State:
    """Return what a node has around it."""
    around = [TENANT.get(), config.get("configurable", {}).get("secret"), current_block() is None]
    frame = current_frame()
    return {"answer": [*around, frame.context.execution_id if frame is not None else None]}


async def test_a_run_inherits_only_the_context_of_the_application(streaming: StreamingModule) -> None:
    inner = one_node(look).compile(name="inner")
    found: list[Any] = []

    async def outer_node(state: State, config: RunnableConfig) -> State:
        run = await streaming.runs.start(inner, {}, execution_id="inner")
        found.append((await run)["answer"])
        run = await streaming.runs.start(inner, {}, execution_id="explicit", config=config)
        found.append((await run)["answer"])
        return {}

    outer = one_node(outer_node).compile(checkpointer=InMemorySaver(), name="outer")
    TENANT.set("acme")
    async with streaming.execution("outer"):
        await outer.ainvoke({}, {"configurable": {"thread_id": "t", "secret": "s"}})
    assert found == [["acme", None, True, "inner"], ["acme", "s", True, "explicit"]]
    starts = [each async for each in streaming.hub.subscribe("inner", types=["workflow_start"], timeout=5)]
    assert starts[0].data["parent"]["execution_id"] == "outer"
    assert "inner" not in {each.metadata.node_id async for each in streaming.hub.subscribe("outer", timeout=5)}


async def test_a_run_outlives_the_place_that_started_it(streaming: StreamingModule) -> None:
    gate = Gate()

    async def starter(state: State) -> State:
        await streaming.runs.start(gated(gate), {"text": "hi"}, execution_id="inner")
        return {}

    await streaming.runs.run(one_node(starter).compile(), {}, execution_id="outer")
    run = streaming.runs.get("inner")
    assert run is not None
    await gate.entered.wait()
    gate.open.set()
    assert (await run)["text"] == "hi!"


async def test_a_tool_starts_a_run(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()

    @tool
    async def research(topic: str) -> str:
        """Research a topic."""
        return (await streaming.runs.run(gated(gate), {"text": topic}, execution_id="inner"))["text"]

    call = {"name": "research", "args": {"topic": "bees"}, "id": "c1", "type": "tool_call"}
    agent = create_agent(ScriptedChatModel(answers=[AIMessage("", tool_calls=[call]), "Done."]), [research])
    result = await streaming.runs.run(agent, {"messages": [HumanMessage("go")]}, execution_id="outer")
    assert result["messages"][-2].text == "bees!"
    starts = [each async for each in streaming.hub.subscribe("inner", types=["workflow_start"], timeout=5)]
    assert starts[0].data["parent"]["tool_call_id"] == "c1"


async def test_a_thread_with_its_own_event_loop(streaming: StreamingModule) -> None:
    def work() -> Any:
        return asyncio.run(streaming.runs.run(one_node(look).compile(), {}, execution_id="e"))

    result = await asyncio.to_thread(work)
    assert result["answer"][3] == "e"
    assert (await types_of(streaming))[-1] == "workflow_complete"


async def test_runs_on_two_event_loops_share_the_queue() -> None:
    async with StreamingModule({"runs": {"max_concurrent": 1}}) as streaming:
        gate = Gate()
        run = await streaming.runs.start(gated(gate), {}, execution_id="a")
        await gate.entered.wait()
        other = Gate()
        other.open.set()
        thread = asyncio.create_task(
            asyncio.to_thread(lambda: asyncio.run(streaming.runs.run(gated(other), {}, execution_id="b")))
        )
        deadline = time.monotonic() + 10
        while streaming.hub.statistics().runs.queued == 0:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.005)
        gate.open.set()
        await asyncio.gather(run, thread)


class Big(TypedDict, total=False):
    """State with a number."""

    number: int


async def test_runs_at_once_do_not_mix(streaming: StreamingModule) -> None:
    async def node(state: Big, config: RunnableConfig) -> Big:
        await asyncio.sleep(0)
        assert config.get("configurable", {})["thread_id"] == f"e{state.get('number')}"
        return {"number": state.get("number", 0) + 1000}

    graph = one_node(node, state=Big).compile(checkpointer=InMemorySaver())
    runs = [await streaming.runs.start(graph, {"number": n}, execution_id=f"e{n}") for n in range(100)]
    results = await asyncio.gather(*runs)
    assert [each["number"] for each in results] == [n + 1000 for n in range(100)]
    for n in (0, 50, 99):
        updates = [each async for each in streaming.hub.subscribe(f"e{n}", timeout=5)]
        assert {each.metadata.run_id for each in updates} == {runs[n].run_id}
