"""What a token costs: a decorated node under `ainvoke`, with the memory log and one observer, beside LangGraph's own
`astream(stream_mode="messages")` of the same undecorated graph. The two take turns in one process.
"""

import asyncio
import gc
import json
import statistics
import time
from typing import Any

from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule, StreamUpdate, stream_token
from lg_streaming.testing import ScriptedChatModel
from tests.bench.graphs import State

TOKENS = 4_000
ROUNDS = 11
TARGET = 1.0


def build(node: Any) -> Any:
    builder: Any = StateGraph(State)
    builder.add_node("write", node)
    builder.add_edge(START, "write")
    builder.add_edge("write", END)
    return builder.compile()


async def native(graph: Any) -> int:
    """Tokens a reader of LangGraph's own stream got."""
    return sum([1 async for message, _ in graph.astream({"topic": "go"}, stream_mode="messages") if message.content])


async def ours(graph: Any, streaming: StreamingModule, execution_id: str) -> int:
    """Tokens an observer got."""
    done = asyncio.get_running_loop().create_future()
    got: list[StreamUpdate] = []
    streaming.hub.observe(execution_id, types=["token"]).subscribe(
        on_next=got.append, on_completed=lambda: done.set_result(None)
    )
    await graph.ainvoke({"topic": "go"}, streaming.config(execution_id=execution_id))
    async with asyncio.timeout(30):
        await done
    return len(got)


async def measure() -> dict[str, Any]:
    words = [f"word{n} " for n in range(TOKENS)]
    model = ScriptedChatModel(answers=["".join(words)], split=lambda _: words)

    async def write(state: State) -> dict[str, Any]:
        return {"text": (await model.ainvoke(state["topic"])).text}

    plain, decorated = build(write), build(stream_token(write))
    times: dict[str, list[float]] = {"native": [], "ours": []}
    async with StreamingModule() as streaming:
        for round_number in range(ROUNDS + 1):  # the first warms up
            for name, run in (("native", native(plain)), ("ours", ours(decorated, streaming, f"e{round_number}"))):
                gc.collect()
                started = time.perf_counter()
                count = await run
                elapsed = time.perf_counter() - started
                if count != TOKENS:
                    raise SystemExit(f"{name}: {count} tokens of {TOKENS}")
                if round_number:
                    times[name].append(elapsed)
    per_token = {name: statistics.median(taken) / TOKENS * 1e6 for name, taken in times.items()}
    # of the two runs of one round: what else the machine did meanwhile met both
    ratio = statistics.median(mine / theirs for mine, theirs in zip(times["ours"], times["native"], strict=True))
    return {
        "name": "capture",
        "ratio": round(ratio, 3),
        "target": f"<= {TARGET}",
        "ok": ratio <= TARGET,
        "ours_us_per_token": round(per_token["ours"], 1),
        "native_us_per_token": round(per_token["native"], 1),
        "tokens": TOKENS,
        "rounds": ROUNDS,
    }


def main() -> None:
    print(json.dumps(asyncio.run(measure())))
