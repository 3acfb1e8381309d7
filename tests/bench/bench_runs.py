"""Runs of `streaming.runs`: time to the first token, memory of a run, fairness of the queue.

The first token is compared with a plain `graph.astream(stream_mode="messages")` of the same graph in the same process.
The two take turns, and the fastest tenth of each counts: other work of the machine is not measured. Memory is that of
1,000 runs whose node waits, above that of 1,000 plain calls that wait.
"""

import asyncio
import gc
import json
import statistics
import time
import tracemalloc
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.testing import ScriptedChatModel

ROUNDS = 60
TARGET_MS = 5.0
RUNS = 1_000
TARGET_KIB = 64.0
OWNERS = 10


class State(TypedDict, total=False):
    text: str


def graph_of(node: Any) -> Any:
    return StateGraph(State).add_node("work", node).add_edge(START, "work").compile()


def talking() -> Any:
    model = ScriptedChatModel(answers=["one two three"])

    async def work(state: State) -> State:
        return {"text": (await model.ainvoke("hi")).text}

    return graph_of(work)


async def first_plain(graph: Any) -> float:
    began = time.perf_counter()
    found = 0.0
    async for message, _ in graph.astream({}, stream_mode="messages"):
        if message.text and not found:
            found = time.perf_counter() - began
    return found


async def first_of_run(streaming: StreamingModule, graph: Any) -> float:
    began = time.perf_counter()
    run = await streaming.runs.start(graph, {})
    async for update in run.updates(types=["token"]):
        found = time.perf_counter() - began
        await run
        return found if update.data else 0.0
    raise AssertionError("no token")


async def to_first_token() -> dict[str, Any]:
    graph, plain, ours = talking(), list[float](), list[float]()
    async with StreamingModule() as streaming:
        for _ in range(ROUNDS):
            plain.append(await first_plain(graph))
            ours.append(await first_of_run(streaming, graph))
    fastest_plain, fastest = fastest_tenth(plain) * 1000, fastest_tenth(ours) * 1000
    more = fastest - fastest_plain
    return {
        "name": "runs: start to first token, more than graph.astream (ms)",
        "plain_ms": round(fastest_plain, 2),
        "run_ms": round(fastest, 2),
        "ratio": round(more, 2),
        "target": TARGET_MS,
        "ok": more <= TARGET_MS,
    }


def fastest_tenth(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=10)[0]


def traced_kib() -> float:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] / 1024


async def memory() -> dict[str, Any]:
    """Measure runs in flight, and plain calls in flight."""
    leave, entered = asyncio.Event(), 0

    async def wait(state: State) -> State:
        nonlocal entered
        entered += 1
        await leave.wait()
        return {}

    async def all_wait(count: int) -> None:
        while entered < count:
            await asyncio.sleep(0.01)

    graph = graph_of(wait)
    tracemalloc.start()
    async with StreamingModule({"runs": {"max_concurrent": None}}) as streaming:
        runs = [await streaming.runs.start(graph, {})]
        await all_wait(1)
        before = traced_kib()
        runs += [await streaming.runs.start(graph, {}) for _ in range(RUNS)]
        await all_wait(1 + RUNS)
        ours = (traced_kib() - before) / RUNS
        before = traced_kib()
        calls = [asyncio.create_task(graph.ainvoke({})) for _ in range(RUNS)]
        await all_wait(1 + 2 * RUNS)
        plain = (traced_kib() - before) / RUNS
        leave.set()
        await asyncio.gather(*runs, *calls)
    tracemalloc.stop()
    return {
        "name": f"runs: memory of a run of {RUNS:,} in flight, more than graph.ainvoke (KiB)",
        "plain_kib": round(plain, 1),
        "run_kib": round(ours, 1),
        "ratio": round(ours - plain, 1),
        "target": TARGET_KIB,
        "ok": ours - plain <= TARGET_KIB,
    }


async def fairness() -> dict[str, Any]:
    """One owner starts 900 runs, then ten others start ten each: all of theirs begin within their share."""
    order: list[str] = []

    async def note(state: State) -> State:
        order.append(state.get("text", ""))
        await asyncio.sleep(0)
        return {}

    graph = graph_of(note)
    async with StreamingModule({"runs": {"max_concurrent": 4}}) as streaming:
        runs = [await streaming.runs.start(graph, {"text": "greedy"}, owner="greedy") for _ in range(900)]
        begun = len(order)
        others = [f"other {n}" for n in range(OWNERS)]
        for _ in range(10):
            runs += [await streaming.runs.start(graph, {"text": each}, owner=each) for each in others]
        await asyncio.gather(*runs)
    last = max(at for at, owner in enumerate(order) if owner != "greedy")
    greedy = sum(owner == "greedy" for owner in order[begun:last])
    share = greedy / (10 + 4)  # one turn of it for each of theirs, and what was at work
    return {
        "name": "runs: turns of a greedy owner before the last of ten others, of its share",
        "greedy": greedy,
        "begun_before": begun,
        "ratio": round(share, 2),
        "target": 10.0,
        "ok": share <= 10.0,
    }


def main() -> None:
    for part in (to_first_token, memory, fairness):
        print(json.dumps(asyncio.run(part())))
