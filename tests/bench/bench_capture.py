"""Cost of a token, with a model that costs next to nothing: its chunks are made before the clock starts.

These take turns in one process: the bare `model.astream`, LangGraph's own `astream(stream_mode="messages")` of an
undecorated graph, and our ways to capture the same graph. The hub has the memory log and one observer. The processor's
time counts: that of waiting for others is not ours. Each figure is the median over many short rounds, and each
comparison the median over comparisons inside one round. The garbage collector is on, and then off.
"""

import asyncio
import gc
import itertools
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule, StreamUpdate, stream_all, stream_token
from tests.bench.graphs import State

TOKENS = 2_000
ROUNDS = 15
WARM_UP = 2
RATIO = 1.0
OVER_BARE_US = 18.0
BARE, NATIVE = "bare model.astream", "native astream"

Run = Callable[[str], Awaitable[int]]


class ReadyModel(BaseChatModel):
    """Yields chunks that were made before."""

    ready: list[ChatGenerationChunk]

    @property
    def _llm_type(self) -> str:
        return "ready"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(content="".join([each.text for each in self.ready])))]
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from self.ready

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self.ready:
            yield chunk


def model_of(tokens: int) -> ReadyModel:
    """A model that answers with so many chunks."""
    chunks = [ChatGenerationChunk(message=AIMessageChunk(content=f"word{n} ")) for n in range(tokens)]
    return ReadyModel(ready=[*chunks, ChatGenerationChunk(message=AIMessageChunk(content="", chunk_position="last"))])


def build(node: Any) -> Any:
    """A graph of one node."""
    builder: Any = StateGraph(State)
    builder.add_node("write", node)
    builder.add_edge(START, "write")
    builder.add_edge("write", END)
    return builder.compile()


def ways(model: ReadyModel, streaming: StreamingModule, *, sync: bool) -> dict[str, Run]:
    """Return the ways to get a model's tokens; each is called with a new id and returns the number of tokens."""

    async def write(state: State) -> dict[str, Any]:
        return {"text": (await model.ainvoke(state["topic"])).text}

    def write_sync(state: State) -> dict[str, Any]:
        return {"text": model.invoke(state["topic"]).text}

    node = write_sync if sync else write
    plain = build(node)

    async def bare(_: str) -> int:
        if sync:
            return sum([1 for chunk in model.stream("go") if chunk.content])
        return sum([1 async for chunk in model.astream("go") if chunk.content])

    async def native(_: str) -> int:
        if sync:
            return sum([1 for message, _ in plain.stream({"topic": "go"}, stream_mode="messages") if message.content])
        found = plain.astream({"topic": "go"}, stream_mode="messages")
        return sum([1 async for message, _ in found if message.content])

    def ours(graph: Any, **options: Any) -> Run:
        async def run(execution_id: str) -> int:
            done = asyncio.get_running_loop().create_future()
            got: list[StreamUpdate] = []
            observed = streaming.hub.observe(execution_id)
            observed.subscribe(on_next=got.append, on_completed=lambda: done.set_result(None))
            config = streaming.config(execution_id=execution_id, **options)
            if sync:
                graph.invoke({"topic": "go"}, config)
            else:
                await graph.ainvoke({"topic": "go"}, config)
            await done
            return sum(update.data.get("batch_size", 1) for update in got if update.type == "token")

        return run

    return {
        BARE: bare,
        NATIVE: native,
        "@stream_token": ours(build(stream_token(node))),
        "three decorators": ours(build(stream_all(node))),
        "decorated graph": ours(stream_token(plain)),
        "capture=all": ours(plain, capture="all"),
    }


async def measure(*, sync: bool, collecting: bool) -> list[dict[str, Any]]:
    """One line for each of our ways."""
    model = model_of(TOKENS)
    async with StreamingModule() as streaming:
        runs = ways(model, streaming, sync=sync)
        ids = itertools.count()
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(ROUNDS + WARM_UP):
            for name, run in runs.items():
                taken = await timed(run, f"{next(ids)}", collecting=collecting)
                if number >= WARM_UP:
                    times[name].append(taken / TOKENS * 1e6)
    mode = f"{'sync' if sync else 'async'}, gc {'on' if collecting else 'off'}"
    return [result(f"capture {name} ({mode})", times, name) for name in runs if name not in {BARE, NATIVE}]


async def timed(run: Run, execution_id: str, *, collecting: bool) -> float:
    """Seconds of the processor that a run takes."""
    gc.collect()
    if not collecting:
        gc.disable()
    try:
        started = time.process_time()
        count = await run(execution_id)
        taken = time.process_time() - started
    finally:
        gc.enable()
    if count != TOKENS:
        raise SystemExit(f"{execution_id}: {count} tokens of {TOKENS}")
    return taken


def result(label: str, times: dict[str, list[float]], name: str) -> dict[str, Any]:
    """A line of output: medians of comparisons inside a round, and the quartiles of the time."""
    ratio = statistics.median([ours / native for ours, native in zip(times[name], times[NATIVE], strict=True)])
    over = statistics.median([ours - bare for ours, bare in zip(times[name], times[BARE], strict=True)])
    low, middle, high = statistics.quantiles(times[name], n=4)
    return {
        "name": label,
        "ratio": round(ratio, 3),
        "target": f"<= {RATIO} of native, <= {OVER_BARE_US} us a token over bare",
        "ok": ratio <= RATIO and over <= OVER_BARE_US,
        "over_bare_us_per_token": round(over, 1),
        "ours_us_per_token": round(middle, 1),
        "quartiles_us": [round(low, 1), round(high, 1)],
        "native_us_per_token": round(statistics.median(times[NATIVE]), 1),
        "bare_us_per_token": round(statistics.median(times[BARE]), 1),
        "tokens": TOKENS,
        "rounds": ROUNDS,
    }


def main() -> None:
    """Measure and print."""
    for sync in (False, True):
        for collecting in (True, False):
            for line in asyncio.run(measure(sync=sync, collecting=collecting)):
                print(json.dumps(line), flush=True)
