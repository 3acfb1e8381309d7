"""What the table of `test_same` cannot show: caches and models shared with plain graphs, tracers, timeouts, cancels."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_core.tracers.base import BaseTracer
from langgraph.cache.memory import InMemoryCache
from langgraph.constants import TAG_NOSTREAM
from langgraph.errors import NodeTimeoutError
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import CachePolicy, TimeoutPolicy

from lg_streaming import stream_all
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import State, Update, graph_of
from tests.capture.same.observing import DECORATIONS, PLAIN, captured
from tests.capture.same.views import View, first_difference

Wrap = Callable[[Any], Any]


def as_it_is(target: Any) -> Any:
    return target


# --- caches -------------------------------------------------------------------------------------------------


@tool
def look() -> str:
    """Look out of the window."""
    return "Rain."


def write(state: State) -> Update:
    return {"text": "written"}


async def awrite(state: State) -> Update:
    return {"text": "written"}


CACHED: dict[str, Any] = {"function": write, "coroutine": awrite, "ToolNode": ToolNode([look])}


@pytest.mark.parametrize("node", CACHED)
async def test_decorated_and_plain_graphs_share_cached_results(streaming: StreamingModule, node: str) -> None:
    cache = InMemoryCache[Any]()

    def made(decorate_node: Wrap, decorate_graph: Wrap) -> Any:
        builder: Any = StateGraph(State)
        builder.add_node("step", decorate_node(CACHED[node]), cache_policy=CachePolicy(key_func=lambda _: "one"))
        return decorate_graph(builder.add_edge(START, "step").compile(cache=cache))

    call = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "call-1"}], id="m")
    hits = list[bool]()
    for decorate in ((as_it_is, as_it_is), (stream_all, as_it_is), (as_it_is, stream_all), (stream_all, stream_all)):
        graph, config = made(*decorate), streaming.config(execution_id=f"e{len(hits)}")
        chunks = [each async for each in graph.astream({"messages": [call]}, config, stream_mode="updates")]
        hits.append(any("__metadata__" in each for each in chunks))
    assert hits == [False, True, True, True]


# --- calls of which nothing is published --------------------------------------------------------------------


class Listed(ScriptedChatModel):
    """A model that notes how it is asked."""

    asked: list[str] = []

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append("stream")
        return super()._stream(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.append("stream")
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.asked.append("whole")
        return await super()._agenerate(messages, stop)


@pytest.mark.parametrize("decoration", [each for each in DECORATIONS if each != PLAIN])
async def test_a_call_that_is_not_published_is_not_made_to_stream(decoration: str) -> None:
    chosen = DECORATIONS[decoration]
    model = Listed(answers=["Hello there."], asked=[])
    quiet: Any = model.with_config(tags=[TAG_NOSTREAM])

    async def ask(state: State) -> Update:
        return {"messages": [await quiet.ainvoke("Hi")]}

    graph = graph_of(stream_all(ask) if chosen.nodes else ask, names=("ask",))
    async with captured(chosen, {"configurable": {"thread_id": "t"}}) as config:
        await (stream_all(graph) if chosen.graph else graph).ainvoke({"topic": ""}, config)
    assert model.asked[0] == "whole"


@pytest.mark.parametrize("tags", [[TAG_NOSTREAM], []])
async def test_a_call_after_its_node_is_not_made_to_stream(streaming: StreamingModule, tags: list[str]) -> None:
    """A task that outlives its node calls a model with the node's config."""
    model, done = Listed(answers=["Hello there."], asked=[]), asyncio.Event()
    tasks = list[asyncio.Task[Any]]()

    @stream_all
    async def ask(state: State) -> Update:
        async def later() -> None:
            await done.wait()
            await model.with_config(tags=tags).ainvoke("Hi")

        tasks.append(asyncio.create_task(later()))
        return {"text": "done"}

    await graph_of(ask).ainvoke({"topic": ""}, streaming.config(execution_id="e"))
    done.set()
    await tasks[0]
    assert model.asked[0] == "whole"
