"""Two hundred executions of twenty owners at once, through everything that carries a context to others.

Forty of them call four more each.
"""

import asyncio
import contextvars
import gc
import queue
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.config import get_stream_writer

from lg_streaming import current_emitter, stream_all, stream_token
from lg_streaming.capture.graph_call import GraphCall
from lg_streaming.capture.node import NodeRun
from lg_streaming.capture.run import Run
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.capture.tool_call import ToolRun
from lg_streaming.context import Block
from lg_streaming.module import StreamingModule
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import State, Update, graph_of

pytestmark = pytest.mark.anyio

OWNERS = 20
Job = Callable[[], Awaitable[Any]]

echo = ScriptedChatModel(answers=lambda messages: f"<{messages[-1].text}>")


@stream_all
async def say(state: State) -> Update:
    who = state["topic"]
    current_emitter().event("own", {"of": who})
    await adispatch_custom_event("dispatched", {"of": who})
    return {"messages": [await echo.ainvoke(who)]}


@stream_all
async def answer(state: State) -> Update:
    who = state["topic"]
    current_emitter().event("own", {"of": who})
    await adispatch_custom_event("dispatched", {"of": who})
    get_stream_writer()({"of": who})
    return {"messages": [await echo.ainvoke(who)]}


ANSWERS = graph_of(answer)


class Tenants:
    """Graphs whose nodes share lazily started workers, threads, batches and background tasks."""

    def __init__(self, streaming: StreamingModule) -> None:
        self.streaming = streaming
        self.service = ANSWERS.with_config(streaming.config())
        self.lambda_: Any = RunnableLambda(say)
        self.jobs: asyncio.Queue[tuple[Job, asyncio.Future[Any]]] | None = None
        self.workers: list[asyncio.Task[None]] = []
        self.ended: dict[str, asyncio.Event] = {}
        self.background: set[asyncio.Task[Any]] = set()
        self.threads: list[threading.Thread] = []
        self.thread_jobs: queue.SimpleQueue[tuple[Any, Any, Callable[[Any], None]] | None] = queue.SimpleQueue()
        self.batch: list[tuple[str, RunnableConfig, asyncio.Future[Any]]] = []
        self.nested = graph_of(
            stream_all(self.by_a_worker),
            self.undecorated,
            stream_token(self.by_a_thread),
            stream_token(self.in_a_batch),
            stream_all(self.leaves_a_task_behind),
            stream_all(self.calls_others),
            names=("worker", "undecorated", "thread", "batch", "background", "others"),
        )

    async def work(self) -> None:
        assert self.jobs is not None
        while True:
            job, done = await self.jobs.get()
            try:
                done.set_result(await job())
            except Exception as error:  # noqa: BLE001 (goes to the caller)
                done.set_exception(error)

    async def enqueue(self, job: Job) -> Any:
        if self.jobs is None:
            self.jobs = asyncio.Queue()
        if len(self.workers) < 4:
            self.workers.append(asyncio.create_task(self.work()))
        done = asyncio.get_running_loop().create_future()
        await self.jobs.put((job, done))
        return await done

    async def by_a_worker(self, state: State, config: RunnableConfig) -> Update:
        message = await self.enqueue(lambda: echo.ainvoke(f"worker {state['topic']}", config))
        await self.enqueue(lambda: ANSWERS.ainvoke({"topic": f"graph {state['topic']}"}, config))
        return {"messages": [message]}

    async def undecorated(self, state: State, config: RunnableConfig) -> Update:
        await self.enqueue(lambda: ANSWERS.ainvoke({"topic": f"plain {state['topic']}"}, config))
        return {}

    def work_in_a_thread(self) -> None:
        while (job := self.thread_jobs.get()) is not None:
            text, config, done = job
            done(echo.invoke(text, config))

    async def by_a_thread(self, state: State, config: RunnableConfig) -> Update:
        if len(self.threads) < 2:
            context = contextvars.copy_context()
            self.threads.append(threading.Thread(target=context.run, args=(self.work_in_a_thread,), daemon=True))
            self.threads[-1].start()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def finish(message: Any) -> None:
            loop.call_soon_threadsafe(done.set_result, message)

        self.thread_jobs.put((f"thread {state['topic']}", config, finish))
        return {"messages": [await done]}

    async def in_a_batch(self, state: State, config: RunnableConfig) -> Update:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.batch.append((f"batch {state['topic']}", config, done))
        if len(self.batch) == 10:
            items, self.batch = self.batch, []
            texts: Any = [each[0] for each in items]
            configs = [each[1] for each in items]
            for (_, _, waits), result in zip(items, await echo.abatch(texts, configs), strict=True):
                waits.set_result(result)
        return {"messages": [await done]}

    async def leaves_a_task_behind(self, state: State) -> Update:
        ended = self.ended[state["topic"]] = asyncio.Event()

        async def later() -> None:
            await ended.wait()
            current_emitter().token("LATE")
            await echo.ainvoke(f"LATE {state['topic']}")
            await ANSWERS.ainvoke({"topic": f"LATE {state['topic']}"})

        task = asyncio.create_task(later())
        self.background.add(task)
        return {"messages": [await echo.ainvoke(f"node {state['topic']}")]}

    async def calls_others(self, state: State) -> Update:
        who = state["topic"]
        self.ended[who].set()  # of the node before
        await asyncio.gather(
            ANSWERS.ainvoke({"topic": f"child {who}"}, self.streaming.config(f"child-{who}", owner=f"owner of {who}")),
            self.service.ainvoke({"topic": f"service {who}"}, {"configurable": {"thread_id": f"service-{who}"}}),
            self.lambda_.ainvoke({"topic": f"lambda {who}"}, self.streaming.config(f"lambda-{who}")),
            ANSWERS.ainvoke({"topic": f"inner {who}"}),
        )
        async with self.streaming.execution(f"block-{who}"):
            await ANSWERS.ainvoke({"topic": f"block {who}"})
        return {}

    async def run(self, who: str, owner: str) -> None:
        await self.nested.ainvoke({"topic": who}, self.streaming.config(f"main-{who}", owner=owner))

    async def close(self) -> None:
        await asyncio.gather(*self.background)
        for worker in self.workers:
            worker.cancel()
        await asyncio.gather(*self.workers, return_exceptions=True)
        for _ in self.threads:
            self.thread_jobs.put(None)
        for thread in self.threads:
            await asyncio.to_thread(thread.join)


OWN = {"child": ["child"], "service": ["service"], "lambda": ["lambda"], "block": ["block"]}
MAIN = ["worker", "graph", "plain", "thread", "batch", "node", "inner"]
SAYING = {"graph", "plain", "inner", "child", "service", "lambda", "block"}
"""Text of a node that also sends custom events."""


async def check(streaming: StreamingModule, execution_id: str, who: str, expected: list[str]) -> None:
    updates = [each async for each in streaming.hub.subscribe(execution_id)]
    texts: dict[Any, str] = {}
    for each in updates:
        if each.type == "token":
            key = (each.metadata.namespace, each.metadata.message_id)
            texts[key] = texts.get(key, "") + each.data["content"]
    assert sorted(texts.values()) == sorted(f"<{each} {who}>" for each in expected)
    own = [each.data["of"] for each in updates if each.type == "own"]
    custom = [each.data["data"]["of"] for each in updates if each.type == "custom"]
    saying = sorted(f"{each} {who}" for each in expected if each in SAYING)
    assert sorted(own) == saying
    assert sorted(custom) == sorted(saying * (1 if execution_id.startswith("lambda") else 2))
    assert [each.type for each in updates if each.is_final] == ["workflow_complete"]
    assert len([each for each in updates if each.type == "workflow_start"]) == 1
    assert "LATE" not in repr(updates)
    assert len({each.metadata.run_id for each in updates}) == 1


async def serve(rounds: int, at_once: int) -> None:
    kinds = (NodeRun, ToolRun, GraphCall, Run, Block)

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, kinds) for each in gc.get_objects())

    counts = [alive()]
    for number in range(rounds):
        async with StreamingModule({"limits": {"max_executions": None}}) as streaming:
            tenants = Tenants(streaming)
            names = [f"{number}-{each}" for each in range(at_once)]
            await asyncio.gather(*(tenants.run(who, f"owner {n % OWNERS}") for n, who in enumerate(names)))
            await tenants.close()
            for n, who in enumerate(names):
                await check(streaming, f"main-{who}", who, MAIN)
                for kind, expected in OWN.items():
                    await check(streaming, f"{kind}-{who}", who, expected)
                described = await streaming.hub.describe(f"main-{who}")
                assert described is not None
                assert described.owner == f"owner {n % OWNERS}"
            statistics = streaming.hub.statistics()
            assert statistics.running == 0
            assert not sum(statistics.dropped.values())
            assert len(streaming.hub.executions()) == at_once * (1 + len(OWN))
        assert len(RUNS) == 0
        del streaming, tenants
        counts.append(alive())
    assert max(counts) == counts[0], counts


async def test_two_hundred_executions_of_twenty_owners() -> None:
    await serve(1, 40)


@pytest.mark.soak
async def test_many_executions_one_after_another() -> None:
    await serve(4, 100)
