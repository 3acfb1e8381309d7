"""A context that points to a node, a block or a run that has ended counts as none."""

import asyncio
import contextvars
import gc
import queue
import threading
import weakref
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.callbacks import adispatch_custom_event
from langchain_core.runnables import RunnableConfig, RunnableLambda

from lg_streaming import current_emitter, stream_all, stream_token
from lg_streaming.capture.node import NodeRun
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.context import current_block, current_frame
from lg_streaming.module import StreamingModule
from tests.capture.graphs import Run, State, Update, graph_of, model, read
from tests.support.heap import young_heap

pytestmark = pytest.mark.anyio

Job = Callable[[], Awaitable[None]]


@pytest.fixture(scope="module", autouse=True)
def heap() -> Generator[None]:
    """Guard against objects left in memory by earlier tests."""
    with young_heap():
        yield


class Workers:
    """A worker that the first caller started does all work, in the context of that caller."""

    def __init__(self) -> None:
        self.stopped: list[Job] = []

    async def do(self, kind: str, job: Job) -> None:
        await getattr(self, kind)(job)

    async def task(self, job: Job) -> None:
        if not hasattr(self, "_jobs"):
            self._jobs: asyncio.Queue[tuple[Job, asyncio.Future[None]]] = asyncio.Queue()
            worker = asyncio.create_task(self._work())

            async def stop() -> None:
                worker.cancel()
                await asyncio.gather(worker, return_exceptions=True)

            self.stopped.append(stop)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._jobs.put((job, done))
        await done

    async def _work(self) -> None:
        while True:
            job, done = await self._jobs.get()
            try:
                await job()
                done.set_result(None)
            except Exception as error:  # noqa: BLE001 (goes to the caller)
                done.set_exception(error)

    async def thread(self, job: Job) -> None:
        if not hasattr(self, "_thread_jobs"):
            self._thread_jobs: queue.Queue[tuple[Job, Callable[[], None]] | None] = queue.Queue()
            worker = threading.Thread(target=contextvars.copy_context().run, args=(self._work_in_a_thread,))
            worker.start()

            async def stop() -> None:
                self._thread_jobs.put(None)
                await asyncio.to_thread(worker.join)

            self.stopped.append(stop)
        done, loop = asyncio.Event(), asyncio.get_running_loop()
        self._thread_jobs.put((job, lambda: loop.call_soon_threadsafe(done.set) and None))
        await done.wait()

    def _work_in_a_thread(self) -> None:
        while (taken := self._thread_jobs.get()) is not None:
            job, done = taken
            try:
                asyncio.run(_awaited(job))
            finally:
                done()

    async def pool(self, job: Job) -> None:
        if not hasattr(self, "_pool"):
            context = contextvars.copy_context()
            self._pool = ThreadPoolExecutor(1, initializer=lambda: [each.set(context[each]) for each in context])

            async def stop() -> None:
                await asyncio.to_thread(self._pool.shutdown)

            self.stopped.append(stop)
        await asyncio.get_running_loop().run_in_executor(self._pool, lambda: asyncio.run(_awaited(job)))

    async def timer(self, job: Job) -> None:
        """A context that the first made, in which timers run."""
        if not hasattr(self, "_context"):
            self._context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        started: asyncio.Future[asyncio.Future[None]] = loop.create_future()
        loop.call_later(0, lambda: started.set_result(asyncio.ensure_future(_awaited(job))), context=self._context)
        await (await started)

    async def stop(self) -> None:
        for each in self.stopped:
            await each()


async def _awaited(job: Job) -> None:
    await job()


KINDS = ["task", "thread", "pool", "timer"]


@pytest.fixture
async def workers() -> Any:
    found = Workers()
    yield found
    await found.stop()


def says(name: str) -> Any:
    return model(f"text of {name}")


async def work(name: str, config: RunnableConfig | None) -> None:
    """Do the work of one tenant: a model, a chain, a graph, an event."""
    await says(name).ainvoke("x", config)
    await (RunnableLambda(lambda x: x) | says(name)).ainvoke("x", config)
    await graph_of(stream_token(inner)).ainvoke({"topic": name}, config)


async def inner(state: State) -> Update:
    current_emitter().event("own", {"of": state["topic"]})
    await adispatch_custom_event("dispatched", {"of": state["topic"]})
    return {"messages": [await says(state["topic"]).ainvoke("x")]}


def check(run: Run, name: str, times: int = 3) -> None:
    text = "".join(each.data["content"] for each in run.of("token"))
    assert text == f"text of {name}" * times
    assert all(each.data["of"] == name for each in run.of("own"))
    assert run.final == "workflow_complete"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["while_the_first_runs", "after_the_first"])
async def test_a_worker_serves_whom_the_call_names(
    streaming: StreamingModule, workers: Workers, kind: str, order: str
) -> None:
    others_done = asyncio.Event()

    @stream_all
    async def serve(state: State, config: RunnableConfig) -> Update:
        await workers.do(kind, lambda: work(state["topic"], config))
        if state["topic"] == "a" and order == "while_the_first_runs":
            await others_done.wait()
        return {}

    graph = graph_of(serve)
    first = asyncio.create_task(graph.ainvoke({"topic": "a"}, streaming.config("a", owner="alice")))
    if order == "after_the_first":
        await first
    else:
        while not workers.__dict__:
            await asyncio.sleep(0)
    for name in ("b", "c", "d"):
        await graph.ainvoke({"topic": name}, streaming.config(name, owner=f"owner of {name}"))
    others_done.set()
    await first
    for name in ("a", "b", "c", "d"):
        check(await read(streaming, name), name)
    assert len(RUNS) == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_that_serves_without_a_config(streaming: StreamingModule, workers: Workers, kind: str) -> None:
    """Work without a named execution is not published once the node that started the worker has ended."""

    @stream_all
    async def serve(state: State) -> Update:
        await workers.do(kind, lambda: says(state["topic"]).ainvoke("x"))
        return {}

    graph = graph_of(serve)
    for name in ("a", "b", "c"):
        await graph.ainvoke({"topic": name}, streaming.config(name, owner=f"owner of {name}"))
    run = await read(streaming, "a")
    assert "".join(run.texts().values()) in {"text of a", ""}
    for name in ("b", "c"):
        assert not (await read(streaming, name)).texts()
    assert len(RUNS) == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_that_names_executions_itself(streaming: StreamingModule, workers: Workers, kind: str) -> None:
    async def job(name: str) -> None:
        await graph_of(stream_token(inner)).ainvoke({"topic": name}, streaming.config(f"job-{name}"))
        async with streaming.execution(f"block-{name}"):
            await graph_of(stream_token(inner)).ainvoke({"topic": name})

    @stream_all
    async def serve(state: State) -> Update:
        await workers.do(kind, lambda: job(state["topic"]))
        return {}

    graph = graph_of(serve)
    for name in ("a", "b", "c"):
        await graph.ainvoke({"topic": name}, streaming.config(name))
    for name in ("a", "b", "c"):
        assert not (await read(streaming, name)).texts()
        check(await read(streaming, f"job-{name}"), name, 1)
        check(await read(streaming, f"block-{name}"), name, 1)
        parent = (await read(streaming, f"job-{name}")).updates[0].data.get("parent")
        assert parent is None or parent["execution_id"] == "a" == name


async def test_batches_with_a_config_for_each_item(streaming: StreamingModule) -> None:
    batcher: Any = RunnableLambda(stream_all(inner))
    waiting: list[tuple[str, RunnableConfig, asyncio.Future[Any]]] = []

    async def flush() -> None:
        items = list(waiting)
        waiting.clear()
        results = await batcher.abatch([{"topic": name} for name, _, _ in items], [config for _, config, _ in items])
        for (_, _, done), result in zip(items, results, strict=True):
            done.set_result(result)

    @stream_token
    async def serve(state: State, config: RunnableConfig) -> Update:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        waiting.append((state["topic"], config, done))
        if len(waiting) == 10:
            await flush()
        return await done

    graph = graph_of(serve)
    names = [f"e{n}" for n in range(30)]
    await asyncio.gather(*(graph.ainvoke({"topic": name}, streaming.config(name, owner=name)) for name in names))
    for name in names:
        check(await read(streaming, name), name, 1)
    assert len(RUNS) == 0


async def test_batches_of_named_executions_in_somebodys_node(streaming: StreamingModule) -> None:
    """The batcher runs in the node that comes last; its items are separate executions."""
    batcher: Any = RunnableLambda(stream_all(inner))

    @stream_token
    async def serve(_: State) -> Update:
        names = [f"e{n}" for n in range(10)]
        await batcher.abatch([{"topic": name} for name in names], [streaming.config(name) for name in names])
        return {}

    await graph_of(serve).ainvoke({"topic": "x"}, streaming.config("serving"))
    assert not (await read(streaming, "serving")).texts()
    for n in range(10):
        run = await read(streaming, f"e{n}")
        check(run, f"e{n}", 1)
        assert {each.metadata.node_id for each in run.of("token")} == {"inner"}
        assert run.updates[0].data["parent"]["node_id"] == "serve"


@pytest.mark.parametrize("outlives", ["node", "run", "module"])
async def test_background_tasks(outlives: str) -> None:
    go_on, done = asyncio.Event(), asyncio.Event()
    seen: list[Any] = []

    async def background() -> None:
        await go_on.wait()
        seen.extend((current_frame(), current_block()))
        current_emitter().token("too late")
        await says("too late").ainvoke("x")
        await graph_of(stream_all(inner)).ainvoke({"topic": "too late"})
        done.set()

    tasks: list[asyncio.Task[None]] = []

    @stream_all
    async def start(_: State) -> Update:
        tasks.append(asyncio.create_task(background()))
        return {}

    async def after(_: State) -> Update:
        if outlives == "node":
            go_on.set()
            await done.wait()
        return {}

    async with StreamingModule() as streaming:
        await graph_of(start, after).ainvoke({"topic": "x"}, streaming.config("e"))
        if outlives == "run":
            go_on.set()
            await done.wait()
        run = await read(streaming, "e")
        assert streaming.hub.statistics().running == 0
    go_on.set()
    await tasks[0]
    assert "too late" not in repr(run.updates)
    assert seen == [None, None]
    assert len(RUNS) == 0


@pytest.mark.parametrize("kind", ["named", "block"])
async def test_what_a_childs_undecorated_node_leaves_behind(streaming: StreamingModule, kind: str) -> None:
    """A task of the child that goes on after it, while the caller's node still runs."""
    go_on = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    async def background() -> None:
        await go_on.wait()
        current_emitter().token("of the child")
        await model("of the child").ainvoke("x")

    async def plain(_: State) -> Update:
        tasks.append(asyncio.create_task(background()))
        return {}

    @stream_all
    async def lead(_: State) -> Update:
        if kind == "named":
            await graph_of(plain).ainvoke({"topic": "x"}, streaming.config("child"))
        else:
            async with streaming.execution("child"):
                await graph_of(plain).ainvoke({"topic": "x"})
        go_on.set()
        await tasks[0]
        return {}

    await graph_of(lead).ainvoke({"topic": "x"}, streaming.config("lead"))
    assert not (await read(streaming, "lead")).of("token")


def alive_now() -> int:
    """Return the number of nodes in memory; earlier tests may have left some in their tracebacks."""
    gc.collect()
    return sum(isinstance(each, NodeRun) for each in gc.get_objects())


async def test_a_context_keeps_nothing(streaming: StreamingModule) -> None:
    """Contexts that outlive nodes, blocks and calls keep a mark, and not the object of the mark."""
    contexts: list[contextvars.Context] = []
    alive: list[weakref.ref[Any]] = []

    class Large:
        """Something in the state."""

    @stream_all
    async def lead(_: State) -> Update:
        contexts.append(contextvars.copy_context())
        large = Large()
        alive.append(weakref.ref(large))

        async def nested(_: Any) -> None:
            contexts.append(contextvars.copy_context())

        async with streaming.execution():
            await stream_all(nested)(large)
        return {}

    before = alive_now()
    for n in range(20):
        await graph_of(lead).ainvoke({"topic": "x"}, streaming.config(f"e{n}"))
    assert len(RUNS) == 0
    assert alive_now() <= before
    assert not [each() for each in alive if each() is not None]
    assert [each.run(current_frame) for each in contexts] == [None] * 40
    assert [each.run(current_block) for each in contexts] == [None] * 40


async def test_no_table_grows(streaming: StreamingModule) -> None:
    async def once(n: int) -> None:
        name = f"e{n}"
        await graph_of(stream_all(inner)).ainvoke({"topic": name}, streaming.config(name))

    before = alive_now()
    await asyncio.gather(*(once(n) for n in range(20)))
    assert len(RUNS) == 0
    assert alive_now() <= before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["while_the_first_runs", "after_the_first"])
@pytest.mark.parametrize("way", ["config_of_the_node", "service", "named", "nothing"])
async def test_a_worker_that_was_started_in_an_undecorated_node(  # noqa: C901 (a table)
    streaming: StreamingModule, workers: Workers, kind: str, order: str, way: str
) -> None:
    """Its context has the first call's config, which is no sign that a later call was given it."""
    others_done = asyncio.Event()
    graph = graph_of(stream_all(inner))
    service = graph.with_config(streaming.config())

    async def job(name: str, config: RunnableConfig) -> None:
        inputs = {"topic": name}
        match way:
            case "config_of_the_node":
                await graph.ainvoke(inputs, config)
            case "service":
                await service.ainvoke(inputs, {"configurable": {"thread_id": f"job-{name}"}})
            case "named":
                await graph.ainvoke(inputs, streaming.config(f"job-{name}"))
            case _:
                await graph.ainvoke(inputs)

    async def serve(state: State, config: RunnableConfig) -> Update:
        name = state["topic"]
        await workers.do(kind, lambda: job(name, config))
        if name == "a" and order == "while_the_first_runs":
            await others_done.wait()
        return {}

    outer = graph_of(serve).with_config(streaming.config())

    async def call(name: str) -> None:
        await outer.ainvoke({"topic": name}, {"configurable": {"thread_id": name}})

    first = asyncio.create_task(call("a"))
    if order == "after_the_first":
        await first
    else:
        while len(workers.__dict__) == 1:
            await asyncio.sleep(0)
    for name in ("b", "c"):
        await call(name)
    others_done.set()
    await first
    for name in ("a", "b", "c"):
        if way == "config_of_the_node":
            check(await read(streaming, name), name, 1)
        elif way != "nothing":
            check(await read(streaming, f"job-{name}"), name, 1)
        elif streaming.hub.info(name) is not None and not (name == "a" and order == "while_the_first_runs"):
            run = await read(streaming, name)
            assert not any(each.data["content"] != f"text of {name}" for each in run.of("token") if name != "a")
    known = {each.execution_id for each in streaming.hub.executions()}
    assert known <= {"a", "b", "c", "job-a", "job-b", "job-c"}
    assert len(RUNS) == 0


async def test_a_service_in_a_node_is_its_threads_execution(streaming: StreamingModule) -> None:
    service = graph_of(stream_all(inner)).with_config(streaming.config())

    @stream_all
    async def lead(_: State) -> Update:
        await service.ainvoke({"topic": "other"}, {"configurable": {"thread_id": "other"}})
        await service.ainvoke({"topic": "lead"})
        return {}

    await graph_of(lead).ainvoke({"topic": "x"}, streaming.config("lead", thread_id="t"))
    check(await read(streaming, "lead"), "lead", 1)
    check(await read(streaming, "other"), "other", 1)
    assert (await read(streaming, "other")).updates[0].data["parent"]["execution_id"] == "lead"
    async with streaming.execution("block"):
        await service.ainvoke({"topic": "named"}, {"configurable": {"thread_id": "named"}})
        await graph_of(stream_all(inner)).ainvoke({"topic": "block"})
    check(await read(streaming, "named"), "named", 1)
    check(await read(streaming, "block"), "block", 1)
