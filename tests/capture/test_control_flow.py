"""Control flow is no failure, for nodes, tools and models alike."""

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp, GraphInterrupt, NodeTimeoutError, ParentCommand
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, Interrupt, TimeoutPolicy, interrupt

from lg_streaming import stream_all, stream_event
from lg_streaming.capture.outcome import classify_ending
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import Run, State, Update, graph_of, model, read, says

pytestmark = pytest.mark.anyio

PAUSE = GraphInterrupt((Interrupt(value="go on?", id="q1"),))
HANDOVER = ParentCommand(Command(goto="x", graph=Command.PARENT))
STOP = asyncio.CancelledError()


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (PAUSE, "interrupted"),
        (HANDOVER, "complete"),
        (STOP, "cancelled"),
        (GeneratorExit(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (GraphBubbleUp(), "cancelled"),
        (ValueError(), "failed"),
        (BaseExceptionGroup("", [PAUSE]), "interrupted"),
        (BaseExceptionGroup("", [STOP, GeneratorExit()]), "cancelled"),
        (BaseExceptionGroup("", [HANDOVER]), "complete"),
        (BaseExceptionGroup("", [PAUSE, STOP]), "interrupted"),
        (BaseExceptionGroup("", [PAUSE, ValueError()]), "failed"),
        (ExceptionGroup("", [ExceptionGroup("", [HANDOVER])]), "complete"),
        (BaseExceptionGroup("", [HANDOVER, BaseExceptionGroup("", [STOP, ValueError()])]), "failed"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else each,
)
def test_one_function_decides(error: BaseException, ending: str) -> None:
    assert classify_ending(error) == ending


RAISED = {
    "interrupt": (lambda: PAUSE, "interrupted"),
    "cancel": (asyncio.CancelledError, "cancelled"),
    "group of interrupts": (lambda: ExceptionGroup("", [PAUSE]), "interrupted"),
    "group of cancels": (lambda: BaseExceptionGroup("", [asyncio.CancelledError()]), "cancelled"),
    "failure": (lambda: ValueError("x"), "failed"),
}


def kinds(run: Run, prefix: str) -> list[str]:
    found = [each for each in run.updates if each.type.startswith(prefix) and each.type != f"{prefix}_start"]
    return [f"{each.type} {(each.data.get('error') or {}).get('code', '')}".strip() for each in found]


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    ("where", "name"),
    [
        (where, name)
        for where in ("node", "tool", "model")
        for name in RAISED
        if where != "model" or "cancel" not in name  # LangChain makes an AttributeError of a model's
    ],
)
async def test_what_readers_see(  # noqa: C901 (a table)
    streaming: StreamingModule, where: str, name: str, *, sync: bool
) -> None:
    make, ending = RAISED[name]

    def answer(_: Any) -> str:
        raise make()

    @tool
    def look(what: str) -> str:
        "Look."
        raise make()

    @tool("look")
    async def alook(what: str) -> str:
        "Look."
        raise make()

    call = says()
    call.tool_calls = [{"name": "look", "args": {"what": "x"}, "id": "c1", "type": "tool_call"}]
    broken = ScriptedChatModel(answers=answer)

    def node(_: State) -> Update:
        if where == "node":
            raise make()
        broken.invoke("x") if where == "model" else look.invoke(call.tool_calls[0])
        return {}

    async def anode(_: State) -> Update:
        if where == "node":
            raise make()
        await (broken.ainvoke("x") if where == "model" else alook.ainvoke(call.tool_calls[0]))
        return {}

    graph = graph_of(stream_all(node if sync else anode), names=("n",))
    try:
        if sync:
            await asyncio.to_thread(graph.invoke, {"messages": [call]}, streaming.config("e"))
        else:
            await graph.ainvoke({"messages": [call]}, streaming.config("e"))
    except BaseException:  # noqa: BLE001 (LangGraph's matter)
        pass
    run = await read(streaming, "e", follow=True)
    expected = {"interrupted": "node_interrupted", "cancelled": "node_error cancelled", "failed": "node_error"}
    assert kinds(run, "node") == [expected[ending]]
    if where == "tool":
        tools = {"interrupted": "tool_interrupted", "cancelled": "tool_error cancelled", "failed": "tool_error"}
        assert kinds(run, "tool") == [tools[ending]]
    if where == "model":
        errors = [each for each in kinds(run, "llm") if "error" in each]
        assert errors == (["llm_error"] if ending == "failed" else [])
    if ending == "interrupted":
        await streaming.hub.cancel("e")


@pytest.mark.parametrize(
    "policy", [0.05, TimeoutPolicy(run_timeout=0.05), TimeoutPolicy(idle_timeout=0.05)], ids=["number", "run", "idle"]
)
@pytest.mark.parametrize("where", ["node", "tool", "model", "subgraph"])
async def test_a_node_that_langgraph_timed_out(streaming: StreamingModule, policy: Any, where: str) -> None:
    @tool
    async def look(what: str) -> str:
        "Look."
        await asyncio.sleep(10)
        return what

    @stream_all
    async def inner(_: State) -> Update:
        await asyncio.sleep(10)
        return {}

    @stream_all
    async def slow(_: State) -> Update:
        if where == "tool":
            await look.ainvoke({"name": "look", "args": {"what": "x"}, "id": "c1", "type": "tool_call"})
        elif where == "model":
            await model("one two three", delay=5).ainvoke("x")
        elif where == "subgraph":
            await graph_of(inner).ainvoke({"topic": "x"})
        await asyncio.sleep(10)
        return {}

    builder: Any = StateGraph(State)
    graph = builder.add_node("slow", slow, timeout=policy).add_edge(START, "slow").compile()
    with pytest.raises(NodeTimeoutError):
        await graph.ainvoke({"topic": "x"}, streaming.config("e"))
    run = await read(streaming, "e")
    error = next(each for each in run.of("node_error") if each.metadata.node_id == "slow").data["error"]
    assert error["code"] == "timed_out"
    assert "timed out" in error["message"]
    inside = {"tool": ("tool_error",), "model": ("llm_complete",), "subgraph": ("node_error",)}
    if where != "node":
        first = run.of(*inside[where])[0]
        assert first.metadata.sequence_number < run.updates[-2].metadata.sequence_number
    assert run.final == "workflow_error"
    await asyncio.sleep(0)
    assert not sum(streaming.hub.statistics().dropped.values())


async def test_a_node_timed_out_while_its_tool_ran_a_graph_that_is_not_captured(streaming: StreamingModule) -> None:
    async def plain(_: State) -> Update:
        await asyncio.sleep(10)
        return {}

    @tool
    async def run_graph(what: str) -> str:
        "Run a graph."
        await graph_of(plain).ainvoke({"topic": what})
        return what

    @stream_all
    async def slow(_: State) -> Update:
        await run_graph.ainvoke({"name": "run_graph", "args": {"what": "x"}, "id": "c1", "type": "tool_call"})
        return {}

    builder: Any = StateGraph(State)
    graph = builder.add_node("slow", slow, timeout=0.05).add_edge(START, "slow").compile()
    with pytest.raises(NodeTimeoutError):
        await graph.ainvoke({"topic": "x"}, streaming.config("e"))
    run = await read(streaming, "e")
    assert run.one("tool_error").data["error"]["code"] == "cancelled"
    assert run.one("node_error").data["error"]["code"] == "timed_out"
    assert run.final == "workflow_error"


async def test_a_cancelled_node_did_not_time_out(streaming: StreamingModule) -> None:
    started = asyncio.Event()

    @stream_all
    async def slow(_: State) -> Update:
        started.set()
        await asyncio.sleep(10)
        return {}

    builder: Any = StateGraph(State)
    graph = builder.add_node("slow", slow, timeout=30).add_edge(START, "slow").compile()
    call = asyncio.create_task(graph.ainvoke({"topic": "x"}, streaming.config("e")))
    await started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    run = await read(streaming, "e")
    assert run.one("node_error").data["error"]["code"] == "cancelled"
    assert run.final == "workflow_cancelled"


async def test_a_paused_tool_in_a_tool_node_resumes(streaming: StreamingModule) -> None:
    @tool
    def pay(amount: int) -> str:
        "Pay."
        return f"paid {interrupt({'pay': amount})}"

    call = AIMessage("", tool_calls=[{"name": "pay", "args": {"amount": n}, "id": f"c{n}"} for n in (1, 2)])
    graph = graph_of(stream_event(ToolNode([pay])), names=("tools",), checkpointer=InMemorySaver())
    config = streaming.config("t")
    result = await graph.ainvoke({"messages": [call]}, config)
    first = await read(streaming, "t", follow=True)
    assert len(first.of("tool_interrupted")) >= len(result["__interrupt__"]) > 0
    assert not first.of("tool_error", "node_error")
    answers = {each.id: "yes" for each in result["__interrupt__"]}
    result = await graph.ainvoke(Command(resume=answers), config)
    while "__interrupt__" in result:
        result = await graph.ainvoke(Command(resume={each.id: "yes" for each in result["__interrupt__"]}), config)
    run = await read(streaming, "t")
    assert len(run.of("tool_complete")) >= 2
    assert run.final == "workflow_complete"
