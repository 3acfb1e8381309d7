"""The ways to call a graph, and to have it captured."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any, TypeVar

from langchain_core._api import LangChainBetaWarning

from lg_streaming import stream_all
from lg_streaming.module import StreamingModule
from tests.agents.teams import Graph

T = TypeVar("T")
Config = Any


async def _sync(graph: Graph, inputs: Any, config: Config) -> Any:
    return await asyncio.to_thread(graph.invoke, inputs, config)


async def _ainvoke(graph: Graph, inputs: Any, config: Config) -> Any:
    return await graph.ainvoke(inputs, config)


def _sync_stream(mode: Any) -> Any:
    async def way(graph: Graph, inputs: Any, config: Config) -> Any:
        def last() -> Any:
            items = list(graph.stream(inputs, config, stream_mode=[*mode, "values"]))
            return [item for kind, item in items if kind == "values"][-1]

        return await asyncio.to_thread(last)

    return way


def _astream(*modes: str, subgraphs: bool = False) -> Any:
    async def way(graph: Graph, inputs: Any, config: Config) -> Any:
        last = None
        async for item in graph.astream(inputs, config, stream_mode=[*modes, "values"], subgraphs=subgraphs):
            place, kind, value = item if subgraphs else ((), *item)
            if kind == "values" and place == ():
                last = value
        return last

    return way


async def _events_v2(graph: Graph, inputs: Any, config: Config) -> Any:
    last = None
    async for event in graph.astream_events(inputs, config, version="v2"):
        if event["event"] == "on_chain_end" and not event["parent_ids"]:
            last = event["data"]["output"]
    return last


async def _events_v3(graph: Graph, inputs: Any, config: Config) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        stream = await graph.astream_events(inputs, config, version="v3")
        return await stream.output()


WAYS: dict[str, Callable[[Graph, Any, Config], Awaitable[Any]]] = {
    "invoke": _sync,
    "ainvoke": _ainvoke,
    "stream": _sync_stream(["updates", "messages"]),
    "values": _astream(),
    "updates": _astream("updates"),
    "messages": _astream("messages"),
    "custom": _astream("custom"),
    "debug": _astream("debug"),
    "tasks": _astream("tasks", "checkpoints"),
    "all, subgraphs": _astream("updates", "messages", "custom", "debug", subgraphs=True),
    "events v2": _events_v2,
    "events v3": _events_v3,
}

SYNC = {"invoke", "stream"}


def rotated(
    things: Iterable[T], captures: Iterable[str], ways: Iterable[str], *, each: int
) -> list[tuple[T, str, str]]:
    """Every thing in every capture in `each` of the ways, which change from one to the next."""
    ways = list(ways)
    pairs = enumerate(product(things, captures))
    return [
        (thing, capture, ways[(number * each + step) % len(ways)])
        for number, (thing, capture) in pairs
        for step in range(each)
    ]


class Capture:
    """A way to have a graph captured: what becomes of the graph, of the config, and around the call."""

    def __init__(
        self,
        *,
        decorated: bool = False,
        setting: bool = False,
        by: str = "config",
    ) -> None:
        self.decorated = decorated
        self.setting = setting
        self.by = by

    def graph(self, graph: Graph) -> Graph:
        return stream_all(graph) if self.decorated else graph

    def module(self) -> StreamingModule:
        return StreamingModule({"capture": "all"}) if self.setting else StreamingModule()

    def config(self, streaming: StreamingModule, execution_id: str) -> Config:
        if self.by != "config":
            return {"configurable": {"thread_id": execution_id}}
        return streaming.config(execution_id=execution_id, capture=None if self.decorated or self.setting else "all")

    def around(self, streaming: StreamingModule, execution_id: str) -> AbstractContextManager[Any]:
        if self.by == "activate":
            return streaming.activate()
        return streaming.execution(execution_id) if self.by == "block" else nullcontext()


CAPTURES: dict[str, Capture] = {
    "decorated, config": Capture(decorated=True),
    "decorated, activate": Capture(decorated=True, by="activate"),
    "decorated, block": Capture(decorated=True, by="block"),
    "all, config": Capture(),
    "all, setting, config": Capture(setting=True),
    "all, setting, activate": Capture(setting=True, by="activate"),
    "all, setting, block": Capture(setting=True, by="block"),
}
