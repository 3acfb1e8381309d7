"""A node that cannot be captured is logged once, with advice; ordinary use logs nothing."""

import asyncio
import logging
from typing import Any

import pytest
from langchain_core.callbacks import adispatch_custom_event
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from lg_streaming import current_emitter, stream_all, stream_token
from lg_streaming.capture import enter_node, wrap_node
from lg_streaming.context import frame_var
from lg_streaming.emitter import emitter as emitters
from lg_streaming.module import StreamingModule
from lg_streaming.pipeline import EventOptions, NodeOptions, TokenOptions
from tests.capture.graphs import State, Update, graph_of, model, read

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def nothing_warned_yet(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.WARNING, "lg_streaming")
    monkeypatch.setattr(enter_node, "_warned", set[str]())
    emitters._no_node.clear()  # pyright: ignore[reportPrivateUsage]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.name.startswith("lg_streaming")]


async def plain(_: State) -> Update:
    return {"messages": [await model().ainvoke("x")]}


@stream_token
async def write(_: State) -> Update:
    return {"messages": [await model().ainvoke("x")]}


@pytest.mark.parametrize("way", ["ainvoke", "invoke", "astream", "batch"])
async def test_a_run_without_a_captured_node(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    def sync(_: State) -> Update:
        return {}

    graph, config = graph_of(sync), streaming.config("e")
    match way:
        case "ainvoke":
            await graph.ainvoke({"topic": "x"}, config)
        case "invoke":
            await asyncio.to_thread(graph.invoke, {"topic": "x"}, config)
        case "astream":
            _ = [each async for each in graph.astream({"topic": "x"}, config)]
        case _:
            await graph.abatch([{"topic": "x"}], [config])
    (warning,) = warnings(caplog)
    assert "'e' ends without a captured node" in warning
    assert "capture='all'" in warning


@pytest.mark.parametrize("way", ["in a graph", "by itself", "in a task", "many times"])
async def test_a_decorated_node_without_an_execution(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    for _ in range(5 if way == "many times" else 1):
        if way == "by itself":
            await write({})  # type: ignore[typeddict-item]
        elif way == "in a task":
            await asyncio.create_task(graph_of(write).ainvoke({"topic": "x"}))
        else:
            await graph_of(write).ainvoke({"topic": "x"})
    (warning,) = warnings(caplog)
    assert "'write' runs without an execution" in warning
    assert "streaming.config(execution_id=…)" in warning
    assert streaming.hub.statistics().executions == 0


async def test_an_interrupt_that_no_execution_shows(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(_: State) -> Update:
        return {"text": interrupt("go on?")}

    with streaming.activate():
        graph = graph_of(ask, checkpointer=InMemorySaver())
        await graph.ainvoke({"topic": "x"}, {"configurable": {"thread_id": "t"}})
    (warning,) = warnings(caplog)
    assert "waits for a human, and no execution shows the question" in warning
    assert "streaming.config(execution_id=…)" in warning


@pytest.mark.parametrize("times", [1, 5])
async def test_an_emitter_after_its_node(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, times: int
) -> None:
    late = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        await late.wait()
        for _ in range(times):
            current_emitter().token("late")

    @stream_token
    async def starts(_: State) -> Update:
        tasks.append(asyncio.create_task(later()))
        return {}

    await graph_of(starts).ainvoke({"topic": "x"}, streaming.config("e"))
    late.set()
    await tasks[0]
    (warning,) = warnings(caplog)
    assert "current_emitter() was called after the node had returned" in warning
    assert "Take the emitter inside the node" in warning


def by_node(streaming: StreamingModule, node: Any) -> tuple[Any, Any]:
    return graph_of(stream_all(node)), streaming.config("e")


def by_graph(streaming: StreamingModule, node: Any) -> tuple[Any, Any]:
    return stream_all(graph_of(node)), streaming.config("e")


def by_call(streaming: StreamingModule, node: Any) -> tuple[Any, Any]:
    return graph_of(node), streaming.config("e", capture="all")


CAPTURED = [by_node, by_graph, by_call]


@pytest.mark.parametrize("captured", CAPTURED)
async def test_an_emitter_after_a_node_however_it_is_captured(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, captured: Any
) -> None:
    late = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def later() -> None:
        await late.wait()
        current_emitter().token("late")

    async def starts(_: State) -> Update:
        tasks.append(asyncio.create_task(later()))
        return {}

    graph, config = captured(streaming, starts)
    await graph.ainvoke({"topic": "x"}, config)
    current_emitter().token("the caller's")
    assert warnings(caplog) == []
    late.set()
    await tasks[0]
    (warning,) = warnings(caplog)
    assert "current_emitter() was called after the node had returned" in warning


@pytest.mark.parametrize("captured", CAPTURED)
@pytest.mark.parametrize("way", ["ainvoke", "astream", "left", "invoke", "stream", "in a plain node"])
async def test_an_emitter_of_the_graphs_caller(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, captured: Any, way: str
) -> None:
    """The caller's own context is none of the node's, which leaves nothing there."""

    def node(_: State) -> Update:
        return {"messages": [model().invoke("x")]}

    graph, config = captured(streaming, node)
    inputs: Any = {"topic": "x"}
    match way:
        case "ainvoke":
            await graph.ainvoke(inputs, config)
        case "astream":
            async for _ in graph.astream(inputs, config):
                current_emitter().token("between")
        case "left":
            chunks = graph.astream(inputs, config)
            await anext(chunks)
            await chunks.aclose()
        case "in a plain node":

            async def outer(_: State) -> Update:
                await graph.ainvoke(inputs, config)
                current_emitter().token("outer")
                return {}

            await graph_of(outer).ainvoke(inputs)
        case _:
            list(graph.stream(inputs, config)) if way == "stream" else graph.invoke(inputs, config)
            assert frame_var.get() is None
    current_emitter().token("nowhere")
    assert warnings(caplog) == []


# --- ordinary use -----------------------------------------------------------------------------------------------------


async def chat_turns(streaming: StreamingModule) -> None:
    def ask(_: State) -> Update:
        return {"text": interrupt("go on?")}

    graph = graph_of(write, ask, plain, checkpointer=InMemorySaver())
    config = streaming.config(thread_id="chat")
    for _ in range(3):
        await graph.ainvoke({"topic": "x"}, config)
        await graph.ainvoke(Command(resume="yes"), config)


async def a_resumed_turn_without_a_captured_node(streaming: StreamingModule) -> None:
    @stream_token
    def ask(_: State) -> Update:
        return {}

    graph = graph_of(ask, plain, checkpointer=InMemorySaver(), interrupt_before=["plain"])
    config = streaming.config(thread_id="chat")
    await graph.ainvoke({"topic": "x"}, config)
    await graph.ainvoke(None, config)


async def a_service(streaming: StreamingModule) -> None:
    service = graph_of(write).with_config(streaming.config())
    for n in range(3):
        await service.ainvoke({"topic": "x"}, {"configurable": {"thread_id": f"t{n}"}})
    await service.ainvoke({"topic": "x"})
    await service.ainvoke({"topic": "x"}, streaming.config("named"))


async def an_emitter_by_hand(streaming: StreamingModule) -> None:
    async def by_hand(_: State) -> Update:
        streaming.hub.emitter("e").token("by hand")
        return {}

    await graph_of(by_hand).ainvoke({"topic": "x"}, streaming.config("e"))
    async with streaming.execution("block") as block:
        await graph_of(plain).ainvoke({"topic": "x"})
        block.emitter.token("by hand")


async def a_child(streaming: StreamingModule) -> None:
    @stream_all
    async def lead(_: State) -> Update:
        await graph_of(write).ainvoke({"topic": "x"}, streaming.config("child"))
        await graph_of(plain).ainvoke({"topic": "x"})
        return {}

    await graph_of(lead).ainvoke({"topic": "x"}, streaming.config("lead"))


async def an_activated_module_and_plain_graphs(streaming: StreamingModule) -> None:
    with streaming.activate():
        await graph_of(plain).ainvoke({"topic": "x"})
        await graph_of(write).ainvoke({"topic": "x"})


async def a_graph_that_fails_early(streaming: StreamingModule) -> None:
    def fails(_: State) -> Update:
        raise ValueError("early")

    with pytest.raises(ValueError, match="early"):
        await graph_of(fails, write).ainvoke({"topic": "x"}, streaming.config("e"))


async def current_emitter_in_plain_code(_: StreamingModule) -> None:
    current_emitter().token("nowhere")

    async def node(_: State) -> Update:
        current_emitter().token("nowhere")
        return {}

    await graph_of(node).ainvoke({"topic": "x"})


ORDINARY = [
    chat_turns,
    a_resumed_turn_without_a_captured_node,
    a_service,
    an_emitter_by_hand,
    a_child,
    an_activated_module_and_plain_graphs,
    a_graph_that_fails_early,
    current_emitter_in_plain_code,
]


@pytest.mark.parametrize("use", ORDINARY, ids=lambda use: use.__name__)
async def test_ordinary_use_warns_of_nothing(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture, use: Any
) -> None:
    await use(streaming)
    assert warnings(caplog) == []


class BrokenPlan:
    """Options of a node whose stream takes nothing."""

    def __init__(self, plan: Any) -> None:
        self._plan = plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plan, name)

    def open(self, output: Any) -> Any:
        stream = self._plan.open(output)

        class Broken:
            progress = stream.progress

            def put(self, type: str, data: Any, scope: Any) -> bool:
                if type == "custom":
                    raise ValueError("this stream is broken")
                return stream.put(type, data, scope)

            def release(self) -> None:
                raise ValueError("this stream is broken")

        return Broken()


async def test_what_a_stream_cannot_take_is_counted(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is logged once for each execution, and the node continues."""

    async def node(_: State) -> Update:
        for number in range(3):
            await adispatch_custom_event("mine", {"number": number})
        return {"text": "done"}

    options = NodeOptions(token=TokenOptions(), event=EventOptions())
    broken = wrap_node(node, BrokenPlan(options))  # type: ignore[arg-type]
    for name in ("a", "b"):
        result = await graph_of(broken).ainvoke({"topic": "x"}, streaming.config(name))
        assert result["text"] == "done"
        assert (await read(streaming, name)).final == "workflow_complete"
    assert streaming.hub.statistics().dropped["invalid"] == 6
    assert [each for each in warnings(caplog) if "this stream is broken" in each] == warnings(caplog)
    assert len(warnings(caplog)) == 2
