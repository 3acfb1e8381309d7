"""Cancelled graph calls: what they stop, what they leave alone, and what cannot be stopped."""

import asyncio
import operator
import threading
from collections.abc import Callable
from typing import Annotated, Any, TypedDict, cast

import pytest
from blockbuster import BlockBuster
from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import NodeCancelledError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, RetryPolicy, Send, interrupt

from lg_streaming import stream_all, stream_progress, stream_token
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.errors import GraphCancelledError, RunCancelledError, RunRefusedError
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import Graph, State, graph_of, read

INPUT: dict[str, Any] = {"topic": "", "messages": []}
LIMIT = 10


class Work:
    """Nodes and tools that wait until they are released, and a model that counts its calls."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.model_calls = 0
        self.releases = threading.Event()
        self._started = threading.Semaphore(0)
        self.model = ScriptedChatModel(answers=self._answer)

    def _answer(self, _: object) -> str:
        self.model_calls += 1
        return "some words"

    def _begin(self, name: str) -> None:
        self.begun.append(name)
        self._started.release()

    async def started(self, count: int = 1) -> None:
        """Wait until ``count`` pieces of work have begun."""
        for _ in range(count):
            assert await asyncio.to_thread(self._started.acquire, timeout=LIMIT)

    async def asks(self, name: str) -> None:
        """Wait, then call the model."""
        self._begin(name)
        await asyncio.Event().wait()
        await self.model.ainvoke("hi")

    def blocks(self, name: str) -> None:
        """Block the thread until released, then call the model."""
        self._begin(name)
        assert self.releases.wait(LIMIT)
        try:
            self.model.invoke("hi")
        finally:
            self.ended.append(name)

    def node(self, name: str, *, sync: bool = False) -> Any:
        async def waits(_: Any) -> dict[str, Any]:
            await self.asks(name)
            return {}

        def blocks(_: Any) -> dict[str, Any]:
            self.blocks(name)
            return {}

        made = blocks if sync else waits
        made.__name__ = name
        return cast("Graph", made)

    def graph(self, *names: str, sync: bool = False, **options: Any) -> Graph:
        return graph_of(*(self.node(name, sync=sync) for name in names), names=names, **options)


@pytest.fixture
def work() -> Work:
    return Work()


async def nothing_left() -> None:
    async with asyncio.timeout(LIMIT):
        while RUNS.is_cancelling:
            await asyncio.sleep(0.002)
    assert len(RUNS) == 0


async def cancelled(streaming: StreamingModule, call: asyncio.Future[Any], work: Work, *, begun: int = 1) -> Any:
    """Cancel execution "e" once its work has begun; return the data of its end."""
    await work.started(begun)
    assert await streaming.hub.cancel("e", "enough")
    with pytest.raises((asyncio.CancelledError, GraphCancelledError)):
        await asyncio.wait_for(call, LIMIT)
    run = await read(streaming, "e")
    assert run.final == "workflow_cancelled"
    assert run.updates[-1].data["reason"] == "enough"
    assert work.model_calls == 0
    return run.updates[-1].data


def nothing(_: Any) -> dict[str, Any]:
    return {}


def plain(node: Any) -> Any:
    return node


# --- shapes of graphs ---------------------------------------------------------------------------------------
class Items(TypedDict, total=False):
    items: Annotated[list[str], operator.add]


def subgraph(work: Work, *, sync: bool) -> Graph:
    return graph_of(work.graph("inner", "after", sync=sync), names=("outer",))


def thrice(_: Any) -> list[Send]:
    return [Send("one", {})] * 3


def fan_out(work: Work, *, sync: bool) -> Graph:
    builder: Any = StateGraph(Items)
    builder.add_node("one", work.node("one", sync=sync)).add_node("after", work.node("after", sync=sync))
    builder.add_conditional_edges(START, thrice, ["one"])
    builder.add_edge("one", "after").add_edge("after", END)
    return builder.compile()


def tool_node(work: Work, *, sync: bool) -> Graph:
    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}])
    return graph_of(
        RunnableLambda(lambda _: {"messages": [call]}), ToolNode([looking(work, sync=sync)]), names=("ask", "tools")
    )


def looking(work: Work, *, sync: bool) -> Any:
    @tool
    async def look() -> str:
        """Look."""
        await work.asks("look")
        return "seen"

    @tool("look")
    def look_in_thread() -> str:
        """Look."""
        work.blocks("look")
        return "seen"

    return look_in_thread if sync else look


def agent(work: Work, *, sync: bool) -> Graph:
    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}])
    return cast("Graph", create_agent(ScriptedChatModel(answers=[call, "done"]), [looking(work, sync=sync)]))


def functional(work: Work, *, sync: bool) -> Graph:
    if sync:

        @task
        def step(name: str) -> None:
            work.blocks(name)

        @entrypoint()
        def flow(_: Any) -> None:
            step("one").result()
            step("two").result()

        return cast("Graph", flow)

    @task
    async def astep(name: str) -> None:
        await work.asks(name)

    @entrypoint()
    async def aflow(_: Any) -> None:
        await astep("one")
        await astep("two")

    return cast("Graph", aflow)


SHAPES: dict[str, tuple[Callable[..., Graph], int, list[str]]] = {
    "subgraph": (subgraph, 1, ["inner"]),
    "fan-out": (fan_out, 3, ["one"]),
    "tool node": (tool_node, 1, ["tools"]),
    "agent": (agent, 1, ["tools"]),
    "functional": (functional, 1, ["step"]),
}


@pytest.mark.parametrize("capture", ["decorated", "all"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_async_shapes(streaming: StreamingModule, work: Work, shape: str, way: str, capture: Any) -> None:
    make, begun, _ = SHAPES[shape]
    graph, config = make(work, sync=False), streaming.config(execution_id="e", capture=capture)
    call = graph.ainvoke(INPUT, config) if way == "ainvoke" else anext(graph.astream(INPUT, config), None)
    if way == "astream" and shape in {"tool node", "agent"}:

        async def whole() -> None:
            async for _ in graph.astream(INPUT, config):
                pass

        call.close()
        call = whole()
    data = await cancelled(streaming, asyncio.ensure_future(call), work, begun=begun)
    assert "still_running" not in data
    assert len(work.begun) == begun
    await nothing_left()


@pytest.mark.parametrize("capture", ["decorated", "all"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_sync_shapes(work: Work, shape: str, capture: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A sync graph whose nodes block: the run ends after the grace, and the graph when they are released."""
    make, begun, nodes = SHAPES[shape]
    async with StreamingModule({"limits": {"cancel_grace": 0.05}}) as streaming:
        graph, config = make(work, sync=True), streaming.config(execution_id="e", capture=capture)
        call = asyncio.ensure_future(asyncio.to_thread(graph.invoke, INPUT, config))
        await work.started(begun)
        await streaming.hub.cancel("e", "enough")
        run = await read(streaming, "e")
        assert (run.final, run.updates[-1].data) == (
            "workflow_cancelled",
            {"reason": "enough", "still_running": nodes},
        )
        work.releases.set()
        with pytest.raises(GraphCancelledError, match="enough"):
            await asyncio.wait_for(call, LIMIT)
        assert (work.model_calls, len(work.begun), len(work.ended)) == (0, begun, begun)
        await nothing_left()
    async with asyncio.timeout(LIMIT):
        while not (warnings := [each for each in caplog.records if "goes on until it returns" in each.message]):
            await asyncio.sleep(0.002)
    assert [each.levelname for each in warnings] == ["WARNING"]


@pytest.mark.parametrize("decorate", [plain, stream_token, stream_progress, stream_all])
@pytest.mark.parametrize("shape", ["node", "subgraph", "fan-out", "tool node", "agent"])
async def test_sync_code_of_an_async_call(
    streaming: StreamingModule, work: Work, shape: str, decorate: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The call ends at once; the thread is named, and calls no model when it goes on."""
    if shape == "node":
        graph, begun, nodes = graph_of(decorate(work.node("one", sync=True)), names=("one",)), 1, ["one"]
    else:
        make, begun, nodes = SHAPES[shape]
        graph = (
            make(work, sync=True) if decorate in {stream_token, stream_progress} else decorate(make(work, sync=True))
        )
    call = asyncio.ensure_future(graph.ainvoke(INPUT, streaming.config(execution_id="e")))
    data = await cancelled(streaming, call, work, begun=begun)
    assert data["still_running"] == nodes
    assert sum("goes on until it returns" in record.message for record in caplog.records) == 1
    assert RUNS.is_cancelling
    work.releases.set()
    await nothing_left()
    assert (work.model_calls, len(work.ended)) == (0, begun)


# --- moments ------------------------------------------------------------------------------------------------
async def test_before_the_first_node(streaming: StreamingModule, work: Work) -> None:
    streaming.hub.open("e")
    keep = streaming.hub.on_cancel("e", lambda reason: None)
    await streaming.hub.cancel("e", "enough")
    graph = work.graph("one")
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(graph.ainvoke(INPUT, streaming.config(execution_id="e")), LIMIT)
    keep()
    assert work.begun == []
    assert (await read(streaming, "e")).updates[-1].data == {"reason": "enough"}
    await nothing_left()


async def test_during_an_interrupt_it_ends_at_once(streaming: StreamingModule) -> None:
    def ask(_: Any) -> dict[str, Any]:
        interrupt("sure?")
        return {}

    graph = graph_of(stream_token(ask), checkpointer=InMemorySaver())
    await graph.ainvoke(INPUT, streaming.config(execution_id="e"))
    assert await streaming.hub.cancel("e", "enough")
    assert (await read(streaming, "e")).updates[-1].data == {"reason": "enough"}
    assert not await streaming.hub.cancel("e")
    assert "__interrupt__" not in await graph.ainvoke(Command(resume=1), streaming.config(execution_id="e"))


async def test_a_graph_that_pauses_although_it_is_cancelled(streaming: StreamingModule) -> None:
    async def ask(_: Any) -> dict[str, Any]:
        try:
            await streaming.hub.cancel("e", "enough")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            interrupt("sure?")
        return {}

    graph = graph_of(stream_token(ask), checkpointer=InMemorySaver())
    await asyncio.wait([asyncio.ensure_future(graph.ainvoke(INPUT, streaming.config(execution_id="e")))])
    assert (await read(streaming, "e")).final == "workflow_cancelled"
    await nothing_left()


async def test_twice(streaming: StreamingModule, work: Work) -> None:
    call = asyncio.ensure_future(work.graph("one").ainvoke(INPUT, streaming.config(execution_id="e")))
    await work.started()
    assert await asyncio.gather(streaming.hub.cancel("e", "enough"), streaming.hub.cancel("e", "enough")) == [
        True,
        True,
    ]
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not await streaming.hub.cancel("e")
    assert (await read(streaming, "e")).final == "workflow_cancelled"
    await nothing_left()


async def test_a_call_that_has_ended_is_not_cancelled(streaming: StreamingModule) -> None:
    graph = graph_of(stream_token(nothing), names=("one",))
    await graph.ainvoke(INPUT, streaming.config(execution_id="e"))
    assert not await streaming.hub.cancel("e")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert (await read(streaming, "e")).final == "workflow_complete"


async def test_all_calls_of_a_run(streaming: StreamingModule, work: Work) -> None:
    config = streaming.config(execution_id="e")
    calls = [
        asyncio.ensure_future(work.graph("one").ainvoke(INPUT, config)),
        asyncio.ensure_future(asyncio.to_thread(work.graph("two", "three", sync=True).invoke, INPUT, config)),
    ]
    await work.started(2)
    assert await streaming.hub.cancel("e", "enough")
    work.releases.set()
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    with pytest.raises(GraphCancelledError):
        await calls[1]
    assert (await read(streaming, "e")).updates[-1].data["reason"] == "enough"
    assert work.model_calls == 0
    await nothing_left()


# --- nothing else is cancelled ------------------------------------------------------------------------------
async def test_the_caller_goes_on(streaming: StreamingModule, work: Work) -> None:
    """A cancel ends one call of a task; the task is as before, and its next call works."""

    async def caller() -> str:
        with pytest.raises(asyncio.CancelledError):
            await work.graph("one").ainvoke(INPUT, streaming.config(execution_id="e"))
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        await graph_of(RunnableLambda(nothing), names=("two",)).ainvoke(INPUT, streaming.config(execution_id="f"))
        return "done"

    call = asyncio.create_task(caller())
    await work.started()
    await streaming.hub.cancel("e")
    assert await asyncio.wait_for(call, LIMIT) == "done"
    assert (await read(streaming, "f")).final == "workflow_complete"


async def test_an_inner_execution(streaming: StreamingModule, work: Work) -> None:
    """The outer graph goes on, if its node handles the cancel; else the node has failed."""

    async def careful(_: Any) -> dict[str, Any]:
        with pytest.raises(asyncio.CancelledError):
            await work.graph("one").ainvoke(INPUT, streaming.config(execution_id="e"))
        return {"text": "went on"}

    async def careless(_: Any) -> dict[str, Any]:
        await work.graph("one").ainvoke(INPUT, streaming.config(execution_id="e2"))
        return {}

    outer = asyncio.ensure_future(graph_of(careful).ainvoke(INPUT, streaming.config(execution_id="outer")))
    await work.started()
    await streaming.hub.cancel("e")
    assert (await asyncio.wait_for(outer, LIMIT))["text"] == "went on"
    assert (await read(streaming, "outer")).final == "workflow_complete"
    outer = asyncio.ensure_future(graph_of(careless).ainvoke(INPUT, streaming.config(execution_id="outer2")))
    await work.started()
    await streaming.hub.cancel("e2")
    with pytest.raises(NodeCancelledError):
        await asyncio.wait_for(outer, LIMIT)
    assert (await read(streaming, "outer2")).final == "workflow_error"
    await nothing_left()


async def test_two_streams_in_one_task(streaming: StreamingModule, work: Work) -> None:
    """A task that reads two graphs by turns: the cancel of one does not disturb the other."""

    def quick(_: Any) -> dict[str, Any]:
        return {}

    first = graph_of(quick, work.node("one"), names=("quick", "one"))
    streams = [
        first.astream(INPUT, streaming.config(execution_id="e"), stream_mode="messages"),
        graph_of(quick, names=("quick",)).astream(INPUT, streaming.config(execution_id="f"), stream_mode="updates"),
    ]
    begins = asyncio.ensure_future(anext(streams[0], None))
    await work.started()
    await streaming.hub.cancel("e", "enough")
    assert [chunk async for chunk in streams[1]] == [{"quick": None}]
    with pytest.raises(asyncio.CancelledError):
        await begins
    assert (await read(streaming, "f")).final == "workflow_complete"
    assert (await read(streaming, "e")).final == "workflow_cancelled"
    await nothing_left()


async def test_one_execution_of_a_batch(streaming: StreamingModule, work: Work) -> None:
    async def node(state: State) -> Any:
        return await work.node("one")(state) if state["topic"] == "slow" else {}

    graph = graph_of(node, names=("one",))
    configs = [streaming.config(execution_id="e"), streaming.config(execution_id="f")]
    results = asyncio.ensure_future(graph.abatch([{"topic": "slow"}, {"topic": "quick"}], configs))
    await work.started()
    await streaming.hub.cancel("e")
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(results, LIMIT)
    assert [(await read(streaming, each)).final for each in "ef"] == ["workflow_cancelled", "workflow_complete"]
    await nothing_left()


# --- nothing tries again ------------------------------------------------------------------------------------
@pytest.mark.parametrize("swallow", ["retry policy", "with_retry", "with_fallbacks", "error handler"])
async def test_nothing_swallows_a_cancel(streaming: StreamingModule, work: Work, swallow: str) -> None:
    node: Any = work.node("one", sync=True)
    options: dict[str, Any] = {}
    match swallow:
        case "retry policy":
            options["retry_policy"] = RetryPolicy(retry_on=Exception, initial_interval=0.001)
        case "with_retry":
            node = RunnableLambda(node).with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
        case "with_fallbacks":
            node = RunnableLambda(node).with_fallbacks([RunnableLambda(work.node("fallback", sync=True))])
        case _:
            options["error_handler"] = work.node("handler", sync=True)
    builder: Any = StateGraph(State)
    builder.add_node("one", node, **options).add_edge(START, "one")
    builder.add_node("beside", RunnableLambda(nothing)).add_edge(START, "beside")
    call = asyncio.ensure_future(asyncio.to_thread(builder.compile().invoke, INPUT, streaming.config(execution_id="e")))
    await work.started()
    assert await streaming.hub.cancel("e", "enough")
    work.releases.set()
    with pytest.raises(GraphCancelledError):
        await asyncio.wait_for(call, LIMIT)
    assert (work.begun, work.model_calls) == (["one"], 0)
    assert (await read(streaming, "e")).final == "workflow_cancelled"
    await nothing_left()


async def test_a_node_that_ignores_its_cancel(work: Work) -> None:
    async def stubborn(_: Any) -> dict[str, Any]:
        while not work.releases.is_set():
            try:
                await work.asks("one")
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                work.begun.append("ignored")
                await asyncio.shield(released)
        await work.model.ainvoke("hi")
        return {}

    released = asyncio.get_running_loop().create_future()
    async with StreamingModule({"limits": {"cancel_grace": 0.05}}) as streaming:
        call = asyncio.ensure_future(
            graph_of(stubborn, names=("one",)).ainvoke(INPUT, streaming.config(execution_id="e"))
        )
        await work.started()
        await streaming.hub.cancel("e", "enough")
        assert (await read(streaming, "e")).updates[-1].data == {"reason": "enough", "still_running": ["one"]}
        work.releases.set()
        released.set_result(None)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, LIMIT)
        assert (work.begun, work.model_calls) == (["one", "ignored"], 0)
        await nothing_left()


# --- blocks, loops, threads ---------------------------------------------------------------------------------
async def test_a_sync_block(streaming: StreamingModule, work: Work) -> None:
    """A node that is called as a function, in a block without a task."""
    node = stream_token(work.node("one", sync=True))

    def run() -> None:
        with streaming.execution("e"):
            node({})
            node({})

    call = asyncio.ensure_future(asyncio.to_thread(run))
    await work.started()
    assert await streaming.hub.cancel("e", "enough")
    work.releases.set()
    with pytest.raises(GraphCancelledError):
        await asyncio.wait_for(call, LIMIT)
    assert (work.begun, work.model_calls) == (["one"], 0)
    assert (await read(streaming, "e")).updates[-1].data == {"reason": "enough"}
    await nothing_left()


async def test_a_sync_graph_that_holds_up_its_loop(
    streaming: StreamingModule, work: Work, blocking_calls: BlockBuster
) -> None:
    """The cancel comes on another thread; the coroutine that called the graph is not cancelled."""
    blocking_calls.functions["threading.Lock.acquire"].deactivate()  # the node waits on the thread of a running loop
    graph = work.graph("one", "two", sync=True)

    async def caller() -> str:
        with pytest.raises(GraphCancelledError):
            graph.invoke(INPUT, streaming.config(execution_id="e"))
        await asyncio.sleep(0)
        return "done"

    call = asyncio.ensure_future(asyncio.to_thread(asyncio.run, caller()))
    await work.started()
    await streaming.hub.cancel("e")
    work.releases.set()
    assert await asyncio.wait_for(call, LIMIT) == "done"
    assert work.model_calls == 0
    await nothing_left()


async def test_a_graph_on_another_event_loop(streaming: StreamingModule, work: Work) -> None:
    async def caller() -> int:
        with pytest.raises(asyncio.CancelledError):
            await work.graph("one").ainvoke(INPUT, streaming.config(execution_id="e"))
        current = asyncio.current_task()
        assert current is not None
        return current.cancelling()

    call = asyncio.ensure_future(asyncio.to_thread(asyncio.run, caller()))
    await work.started()
    await streaming.hub.cancel("e")
    assert await asyncio.wait_for(call, LIMIT) == 0
    assert (await read(streaming, "e")).final == "workflow_cancelled"
    await nothing_left()


async def test_a_run_of_the_runner_names_its_threads(streaming: StreamingModule, work: Work) -> None:
    call = await streaming.runs.start(work.graph("one", sync=True), INPUT, execution_id="e")
    await work.started()
    await call.cancel("enough")
    with pytest.raises(RunCancelledError):
        await call
    assert (await read(streaming, "e")).updates[-1].data == {"reason": "enough", "still_running": ["one"]}
    work.releases.set()
    await nothing_left()
    assert work.model_calls == 0


async def test_a_run_that_the_log_refuses(streaming: StreamingModule) -> None:
    """Its graph goes on: trouble of the log stops no graph."""
    ends = asyncio.Event()

    async def waits(_: Any) -> dict[str, Any]:
        await ends.wait()
        return {"text": "done"}

    call = asyncio.ensure_future(graph_of(waits).ainvoke(INPUT, streaming.config(execution_id="e")))
    while (run_id := streaming.hub.runs.current_run_id("e")) is None:
        await asyncio.sleep(0)
    refuse = streaming.hub.writer.on_refused
    assert refuse is not None
    refuse(streaming.hub.registry.executions["e"], run_id, RunRefusedError("another caller's", execution_id="e"))
    ends.set()
    assert (await asyncio.wait_for(call, LIMIT))["text"] == "done"
    await nothing_left()


@pytest.mark.parametrize("mode", ["values", "messages"])
async def test_the_thread_can_be_resumed(streaming: StreamingModule, work: Work, mode: str) -> None:
    """A step that was stopped is not recorded as done: the thread goes on with the nodes that were cancelled."""
    graph = graph_of(
        RunnableLambda(lambda _: {"text": "kept"}),
        work.node("one"),
        names=("first", "one"),
        checkpointer=InMemorySaver(),
    )

    async def reader() -> None:
        async for _ in graph.astream(INPUT, streaming.config(execution_id="e"), stream_mode=mode):
            pass

    await cancelled(streaming, asyncio.ensure_future(reader()), work)
    state = await graph.aget_state({"configurable": {"thread_id": "e"}})
    assert (state.next, state.values["text"]) == (("one",), "kept")
    await nothing_left()


async def test_other_graphs_are_not_disturbed(streaming: StreamingModule, work: Work) -> None:
    """While the thread of a cancelled call goes on, other executions run as always."""
    call = asyncio.ensure_future(work.graph("one", sync=True).ainvoke(INPUT, streaming.config(execution_id="e")))
    await cancelled(streaming, call, work)
    assert RUNS.is_cancelling

    @stream_token
    async def write(_: Any) -> dict[str, Any]:
        return {"messages": [await ScriptedChatModel(answers=["some words"]).ainvoke([HumanMessage("hi")])]}

    await graph_of(write).ainvoke(INPUT, streaming.config(execution_id="f"))
    run = await read(streaming, "f")
    assert (run.final, run.texts()) == ("workflow_complete", {"write": "some words"})
    work.releases.set()
    await nothing_left()
