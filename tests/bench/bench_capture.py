"""What a token costs: a decorated node under `ainvoke`, with the memory log and one observer, beside LangGraph's own
`astream(stream_mode="messages")` of the same undecorated graph. They take turns in one process, and what counts is
the processor's time: that of waiting for others is not ours.
"""

import asyncio
import gc
import json
import statistics
import time
from typing import Any

from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule, StreamUpdate, stream_all, stream_token
from lg_streaming.testing import ScriptedChatModel
from tests.bench.graphs import State

TOKENS = 2_000
ROUNDS = 7
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
    """Tokens an observer of the whole run got."""
    done = asyncio.get_running_loop().create_future()
    got: list[StreamUpdate] = []
    streaming.hub.observe(execution_id).subscribe(on_next=got.append, on_completed=lambda: done.set_result(None))
    await graph.ainvoke({"topic": "go"}, streaming.config(execution_id=execution_id))
    await done
    return sum(update.data.get("batch_size", 1) for update in got if update.type == "token")


async def measure() -> list[dict[str, Any]]:
    words = [f"word{n} " for n in range(TOKENS)]
    model = ScriptedChatModel(answers=["".join(words)], split=lambda _: words)

    async def write(state: State) -> dict[str, Any]:
        return {"text": (await model.ainvoke(state["topic"])).text}

    plain, token, everything = build(write), build(stream_token(write)), build(stream_all(write))
    times: dict[str, list[float]] = {"native": [], "token": [], "all": []}
    async with StreamingModule() as streaming:
        for round_number in range(ROUNDS + 1):  # the first warms up
            for name, run in (
                ("native", native(plain)),
                ("token", ours(token, streaming, f"token{round_number}")),
                ("all", ours(everything, streaming, f"all{round_number}")),
            ):
                gc.collect()
                started = time.process_time()
                count = await run
                elapsed = time.process_time() - started
                if count != TOKENS:
                    raise SystemExit(f"{name}: {count} tokens of {TOKENS}")
                if round_number:
                    times[name].append(elapsed)
    per_token = {name: statistics.median(taken) / TOKENS * 1e6 for name, taken in times.items()}
    return [
        result("capture", per_token["token"], per_token["native"]),
        result("capture with all three decorators", per_token["all"], per_token["native"]),
    ]


def result(name: str, ours_us: float, native_us: float) -> dict[str, Any]:
    ratio = ours_us / native_us
    return {
        "name": name,
        "ratio": round(ratio, 3),
        "target": f"<= {TARGET}",
        "ok": ratio <= TARGET,
        "ours_us_per_token": round(ours_us, 1),
        "native_us_per_token": round(native_us, 1),
        "tokens": TOKENS,
        "rounds": ROUNDS,
    }


def main() -> None:
    for line in asyncio.run(measure()):
        print(json.dumps(line))
