"""The ways to call a graph. Each gives everything that it gives its caller."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Call = Callable[[Any, Any, Any, dict[str, Any]], Any]
"""``call(graph, inputs, config, options)``; the options are those of the graph."""


@dataclass(frozen=True)
class Way:
    """One way to call a graph."""

    call: Callable[..., Awaitable[Any]]
    sync: bool = False


def _keep(chunks: list[Any], error: BaseException | None = None) -> Any:
    return {"chunks": chunks, "error": error}


async def _ainvoke(graph: Any, inputs: Any, config: Any, **options: Any) -> Any:
    return await graph.ainvoke(inputs, config, **options)


async def _invoke(graph: Any, inputs: Any, config: Any, **options: Any) -> Any:
    return await asyncio.to_thread(graph.invoke, inputs, config, **options)


async def _astream(graph: Any, inputs: Any, config: Any, **options: Any) -> Any:
    chunks = list[Any]()
    try:
        async for chunk in graph.astream(inputs, config, **options):
            chunks.append(chunk)
    except Exception as error:  # noqa: BLE001 (any error must be the same)
        return _keep(chunks, error)
    return _keep(chunks)


def _read(graph: Any, inputs: Any, config: Any, options: dict[str, Any]) -> Any:
    chunks = list[Any]()
    try:
        for chunk in graph.stream(inputs, config, **options):
            chunks.append(chunk)
    except Exception as error:  # noqa: BLE001 (the same)
        return _keep(chunks, error)
    return _keep(chunks)


async def _stream(graph: Any, inputs: Any, config: Any, **options: Any) -> Any:
    return await asyncio.to_thread(_read, graph, inputs, config, options)


async def _events_v2(graph: Any, inputs: Any, config: Any, **options: Any) -> Any:
    events = list[Any]()
    try:
        async for event in graph.astream_events(inputs, config, version="v2", **options):
            events.append(event)
    except Exception as error:  # noqa: BLE001 (the same)
        return _keep(events, error)
    return _keep(events)


async def _events_v3(graph: Any, inputs: Any, config: Any, **options: Any) -> Any:
    events = list[Any]()
    try:
        run = await graph.astream_events(inputs, config, version="v3", **options)
        async for event in run:
            events.append(event)
        return {**_keep(events), "output": await run.output(), "interrupts": await run.interrupts()}
    except Exception as error:  # noqa: BLE001 (the same)
        return _keep(events, error)


def _read_v3(graph: Any, inputs: Any, config: Any, options: dict[str, Any]) -> Any:
    events = list[Any]()
    try:
        run = graph.stream_events(inputs, config, version="v3", **options)
        events += list(run)
        return {**_keep(events), "output": run.output, "interrupts": run.interrupts}
    except Exception as error:  # noqa: BLE001 (the same)
        return _keep(events, error)


async def _sync_events_v3(graph: Any, inputs: Any, config: Any, **options: Any) -> Any:
    return await asyncio.to_thread(_read_v3, graph, inputs, config, options)


async def _abatch(graph: Any, inputs: Any, config: Any, **options: Any) -> Any:
    return await graph.abatch([inputs], [config], return_exceptions=True, **options)


async def _batch(graph: Any, inputs: Any, config: Any, **options: Any) -> Any:
    return await asyncio.to_thread(graph.batch, [inputs], [config], return_exceptions=True, **options)


def _ways() -> dict[str, Way]:
    ways = {
        "ainvoke": Way(_ainvoke),
        "invoke": Way(_invoke, sync=True),
        "ainvoke v2": Way(functools.partial(_ainvoke, version="v2")),
        "ainvoke updates": Way(functools.partial(_ainvoke, stream_mode="updates")),
        "astream_events v2": Way(_events_v2),
        "astream_events v3": Way(_events_v3),
        "stream_events v3": Way(_sync_events_v3, sync=True),
        "abatch": Way(_abatch),
        "batch": Way(_batch, sync=True),
    }
    modes: list[Any] = ["values", "updates", "messages", "custom", "tasks", "checkpoints", "debug", "tools"]
    for mode in (*modes, ["values", "messages", "custom"], ["updates", "tasks"]):
        for subgraphs in (False, True):
            for version in ("v1", "v2"):
                options = {"stream_mode": mode, "subgraphs": subgraphs, "version": version}
                name = f"{mode if isinstance(mode, str) else '+'.join(mode)}"
                name += f"{' subgraphs' if subgraphs else ''} {version}"
                ways[f"astream {name}"] = Way(functools.partial(_astream, **options))
                ways[f"stream {name}"] = Way(functools.partial(_stream, **options), sync=True)
    return ways


WAYS = _ways()
