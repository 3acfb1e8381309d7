"""Cancelled runs: their connections to the provider close, and no call of a model begins after the cancel.

Each way to start a graph, with each kind of node.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from lg_streaming import stream_token
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.errors import GraphCancelledError, RunCancelledError
from lg_streaming.module import StreamingModule
from tests.capture.graphs import Graph, State, Update, graph_of, read
from tests.providers.endless import EndlessProvider, endless_provider
from tests.providers.models import CHAT

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")

INPUT = {"topic": ""}
Way = Callable[[Graph, StreamingModule], Awaitable[Any]]
Ask = Callable[[Any], Any]


@pytest.fixture
def provider() -> Generator[EndlessProvider]:
    with endless_provider() as running:
        yield running


# --- ways to start a graph ----------------------------------------------------------------------------------
def config(streaming: StreamingModule) -> Any:
    return streaming.config(execution_id="e")


def astream(mode: str) -> Way:
    async def way(graph: Graph, streaming: StreamingModule) -> None:
        async for _ in graph.astream(INPUT, config(streaming), stream_mode=mode):
            pass

    return way


async def events_v2(graph: Graph, streaming: StreamingModule) -> None:
    async for _ in graph.astream_events(INPUT, config(streaming), version="v2"):
        pass


async def events_v3(graph: Graph, streaming: StreamingModule) -> None:
    async for _ in await graph.astream_events(INPUT, config(streaming), version="v3"):
        pass


async def ablock(graph: Graph, streaming: StreamingModule) -> None:
    async with streaming.execution("e"):
        await graph.ainvoke(INPUT)


async def aactive(graph: Graph, streaming: StreamingModule) -> None:
    with streaming.activate():
        await graph.ainvoke(INPUT, {"configurable": {"thread_id": "e"}})


async def runs(graph: Graph, streaming: StreamingModule) -> None:
    await streaming.runs.run(graph, INPUT, execution_id="e")


def threaded(call: Callable[[Graph, StreamingModule], object]) -> Way:
    return lambda graph, streaming: asyncio.to_thread(call, graph, streaming)


def block(graph: Graph, streaming: StreamingModule) -> None:
    with streaming.execution("e"):
        graph.invoke(INPUT)


def active(graph: Graph, streaming: StreamingModule) -> None:
    with streaming.activate():
        graph.invoke(INPUT, {"configurable": {"thread_id": "e"}})


MODES = ("values", "updates", "messages", "custom", "debug", "checkpoints", "tasks")
ASYNC: dict[str, Way] = {
    "ainvoke": lambda graph, streaming: graph.ainvoke(INPUT, config(streaming)),
    **{f"astream {mode}": astream(mode) for mode in MODES},
    "astream_events v2": events_v2,
    "astream_events v3": events_v3,
    "abatch": lambda graph, streaming: graph.abatch([INPUT], config(streaming)),
    "ablock": ablock,
    "activated, ainvoke": aactive,
    "runs": runs,
}
SYNC: dict[str, Way] = {
    "invoke": threaded(lambda graph, streaming: graph.invoke(INPUT, config(streaming))),
    **{
        f"stream {mode}": threaded(
            lambda graph, streaming, mode=mode: list(graph.stream(INPUT, config(streaming), stream_mode=mode))
        )
        for mode in ("values", "messages")
    },
    "stream_events v3": threaded(
        lambda graph, streaming: list(graph.stream_events(INPUT, config(streaming), version="v3"))
    ),
    "batch": threaded(lambda graph, streaming: graph.batch([INPUT], config(streaming))),
    "block": threaded(block),
    "activated, invoke": threaded(active),
}
RAISES: dict[str, type[BaseException]] = {
    **dict.fromkeys(ASYNC, asyncio.CancelledError),
    **dict.fromkeys(SYNC, GraphCancelledError),
    "astream_events v2": GraphCancelledError,
    "runs": RunCancelledError,
}


# --- kinds of nodes -----------------------------------------------------------------------------------------
def awaits(model: Any) -> Any:
    async def node(state: State) -> Update:
        return {"messages": [await model.ainvoke("hi")]}

    return node


def iterates(model: Any) -> Any:
    async def node(state: State) -> Update:
        try:
            return {"text": "".join([chunk.text async for chunk in model.astream("hi")])}
        except Exception:  # noqa: BLE001 (a node that goes on after every error)
            return {"text": ""}

    return node


def streams(model: Any) -> Any:
    def node(state: State) -> Update:
        try:
            return {"text": "".join(chunk.text for chunk in model.stream("hi"))}
        except Exception:  # noqa: BLE001 (a node that goes on after every error)
            return {"text": ""}

    return node


def invokes(model: Any) -> Any:
    def node(state: State) -> Update:
        return {"messages": [model.with_retry(stop_after_attempt=3).invoke("hi")]}

    return stream_token(node)


NODES: dict[str, Ask] = {
    "awaits": lambda model: stream_token(awaits(model)),
    "iterates": lambda model: stream_token(iterates(model)),
    "streams": lambda model: stream_token(streams(model)),
    "invokes": invokes,
}
CASES = [
    *[(way, node) for way in ASYNC for node in ("awaits", "iterates", "streams")],
    *[(way, node) for way in SYNC for node in ("streams", "invokes")],
]


async def cancelled(streaming: StreamingModule, provider: EndlessProvider, graph: Graph, way: str) -> None:
    """Start a graph, cancel it while its model answers, and check what is left."""
    call = asyncio.ensure_future({**ASYNC, **SYNC}[way](graph, streaming))
    await asyncio.to_thread(provider.wait_for, lambda: provider.open == 1)
    assert await streaming.hub.cancel("e", "enough")
    with pytest.raises(RAISES[way]):
        await asyncio.wait_for(call, 10)
    run = await read(streaming, "e")
    assert run.final == "workflow_cancelled"
    assert run.updates[-1].data["reason"] == "enough"
    await asyncio.to_thread(provider.wait_for, lambda: provider.open == 0)
    assert provider.calls == 1
    async with asyncio.timeout(10):
        while RUNS.is_cancelling:
            await asyncio.sleep(0.005)
    assert len(RUNS) == 0


@pytest.mark.parametrize(("way", "node"), CASES)
async def test_a_cancelled_graph_calls_no_model(
    streaming: StreamingModule, provider: EndlessProvider, way: str, node: str
) -> None:
    made = NODES[node](CHAT.make(provider.url))
    await cancelled(streaming, provider, graph_of(made, made, names=("one", "two")), way)


@pytest.mark.parametrize("case", [("ainvoke", iterates), ("ainvoke", streams), ("invoke", streams)])
@pytest.mark.parametrize("capture", ["decorated", "all"])
async def test_nodes_without_decorators(
    streaming: StreamingModule,
    provider: EndlessProvider,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, Ask],
    capture: str,
) -> None:
    way, node = case

    def capturing(module: StreamingModule) -> Any:
        return module.config(execution_id="e", capture="all" if capture == "all" else "decorated")

    monkeypatch.setitem(globals(), "config", capturing)
    made = node(CHAT.make(provider.url))
    await cancelled(streaming, provider, graph_of(made, made, names=("one", "two")), way)
