"""A run ends with its block or its call, in any task, thread or context."""

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing, asynccontextmanager
from typing import Annotated, Any

import anyio
import httpx
import pytest
from anyio.from_thread import start_blocking_portal
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.runnables import RunnableGenerator, RunnableLambda, RunnableParallel
from langchain_core.tools import tool

from lg_streaming import current_emitter, stream_all, stream_token
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.context import current_block, current_frame
from lg_streaming.module import StreamingModule
from tests.capture.graphs import State, Update, graph_of, model, read

pytestmark = pytest.mark.anyio


@stream_all
async def write(_: State) -> Update:
    return {"messages": [await model("one two three").ainvoke("x")]}


GRAPH = graph_of(write)


async def ended(streaming: StreamingModule, execution_id: str, state: str) -> None:
    """The run of this execution ends so, soon."""
    with anyio.fail_after(5):
        while (info := streaming.hub.info(execution_id)) is None or info.state in {None, "running"} or len(RUNS):
            gc.collect()
            await asyncio.sleep(0.005)
    assert info.state == state
    assert current_block() is None
    assert current_frame() is None


@pytest.fixture(params=[False, True], ids=["plain", "activated"])
def module(streaming: StreamingModule, request: pytest.FixtureRequest) -> Generator[StreamingModule]:
    with ExitStack() as stack:
        if request.param:
            stack.enter_context(streaming.activate())
        yield streaming


async def pieces(streaming: StreamingModule, *, node: bool = False) -> AsyncGenerator[int]:
    async with streaming.execution("e") as block:
        for number in range(5):
            block.emitter.token(f"{number} ")
            if node:
                await GRAPH.ainvoke({"topic": "x"})
            yield number


@pytest.mark.parametrize("way", ["forgotten", "closed", "aclosing", "other_task", "thrown", "read_to_the_end"])
async def test_a_generator_with_a_block(module: StreamingModule, way: str) -> None:
    generator = pieces(module, node=True)
    state = "cancelled"
    if way == "read_to_the_end":
        async for _ in generator:
            pass
        state = "completed"
    else:
        await anext(generator)
    if way == "closed":
        await generator.aclose()
    elif way == "aclosing":
        async with aclosing(generator):
            pass
    elif way == "other_task":
        await asyncio.create_task(generator.aclose())  # type: ignore[arg-type]
    elif way == "thrown":
        with pytest.raises(ValueError, match="by hand"):
            await generator.athrow(ValueError("by hand"))
        state = "failed"
    del generator
    await ended(module, "e", state)
    await GRAPH.ainvoke({"topic": "x"}, module.config("after"))
    assert (await read(module, "after")).texts() == {"write": "one two three"}


@pytest.mark.parametrize("kind", ["astream", "stream", "events"])
@pytest.mark.parametrize("way", ["forgotten", "closed", "other_task"])
async def test_a_stream_of_a_graph_that_is_left(module: StreamingModule, kind: str, way: str) -> None:
    if kind == "stream":

        @stream_all
        def slow(_: State) -> Update:
            return {"messages": [model("one two three").invoke("x")]}

        steps: Any = graph_of(slow).stream({"topic": "x"}, module.config("e"), stream_mode="messages")
        next(steps)
        if way == "closed":
            steps.close()
        elif way == "other_task":
            await asyncio.to_thread(contextvars.Context().run, steps.close)
    else:
        if kind == "astream":
            steps = GRAPH.astream({"topic": "x"}, module.config("e"), stream_mode="messages")
        else:
            steps = GRAPH.astream_events({"topic": "x"}, module.config("e"), version="v2")
        await anext(steps)
        if way == "closed":
            await steps.aclose()
        elif way == "other_task":
            await asyncio.create_task(steps.aclose())
    del steps
    await ended(module, "e", "cancelled")


@pytest.mark.parametrize("enter", ["here", "task", "thread", "context"])
@pytest.mark.parametrize("leave", ["here", "task", "thread", "context"])
async def test_a_block_is_left_elsewhere(module: StreamingModule, enter: str, leave: str) -> None:
    async def there(place: str, call: Callable[[], Any]) -> None:
        if place == "here":
            call()
        elif place == "task":

            async def run() -> None:
                call()

            await asyncio.create_task(run())
        elif place == "thread":
            await asyncio.to_thread(contextvars.Context().run, call)
        else:
            contextvars.copy_context().run(call)

    block = module.execution("e")
    await there(enter, block.__enter__)
    block.emitter.token("x")
    await there(leave, lambda: block.__exit__(None, None, None))
    await ended(module, "e", "completed")
    block.__exit__(None, None, None)


async def test_a_block_in_a_task_group_that_fails(module: StreamingModule) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("one of them")

    with pytest.raises(ExceptionGroup):  # noqa: PT012
        async with module.execution("e"), anyio.create_task_group() as group:
            group.start_soon(fails)
            await anyio.sleep_forever()
    await ended(module, "e", "failed")


async def test_a_block_whose_scope_is_cancelled(module: StreamingModule) -> None:
    with anyio.move_on_after(0.01):
        async with module.execution("e"):
            await GRAPH.ainvoke({"topic": "x"})
            await anyio.sleep_forever()
    await ended(module, "e", "cancelled")


async def test_blocks_in_a_pool_and_a_portal(module: StreamingModule) -> None:
    def work(name: str) -> None:
        with module.execution(name) as block:
            block.emitter.token(name)

    pool = ThreadPoolExecutor(2)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(pool, work, f"e{n}") for n in range(10)))
    pool.shutdown(wait=False)
    for n in range(10):
        await ended(module, f"e{n}", "completed")

    async def in_the_portal() -> None:
        async with module.execution("portal"):
            await GRAPH.ainvoke({"topic": "x"})

    def portal() -> None:
        with start_blocking_portal() as started:
            started.call(in_the_portal)

    await asyncio.to_thread(portal)
    await ended(module, "portal", "completed")


async def test_dependencies_and_responses(module: StreamingModule) -> None:  # noqa: C901 (one application)
    app = FastAPI()

    def sync_block() -> Generator[str]:
        with module.execution("sync"):
            yield "sync"

    async def async_block() -> AsyncGenerator[str]:
        async with module.execution("async"):
            yield "async"

    @asynccontextmanager
    async def managed() -> AsyncGenerator[str]:
        async with module.execution("managed"):
            yield "managed"

    async def managed_block() -> AsyncGenerator[str]:
        async with managed() as found:
            yield found

    @app.get("/work")
    async def work(
        _: Annotated[str, Depends(sync_block)],
        __: Annotated[str, Depends(async_block)],
        ___: Annotated[str, Depends(managed_block)],
    ) -> str:
        await GRAPH.ainvoke({"topic": "x"})
        return "done"

    @app.get("/fail")
    def fail(_: Annotated[str, Depends(sync_block)], __: Annotated[str, Depends(async_block)]) -> str:
        raise ValueError("the work fails")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def body() -> AsyncGenerator[str]:
            async with module.execution("body") as block:
                for number in range(3):
                    block.emitter.token(str(number))
                    yield str(number)

        return StreamingResponse(body())

    @app.get("/sync-stream")
    def sync_stream() -> StreamingResponse:
        def body() -> Generator[str]:
            with module.execution("sync-body") as block:
                for number in range(3):
                    block.emitter.token(str(number))
                    yield str(number)

        return StreamingResponse(body())

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get("/work")).json() == "done"
        for name in ("sync", "async", "managed"):
            await ended(module, name, "completed")
        assert (await client.get("/fail")).status_code == 500
        for name in ("sync", "async"):
            await ended(module, name, "failed")
        assert (await client.get("/stream")).text == "012"
        await ended(module, "body", "completed")
        assert (await client.get("/sync-stream")).text == "012"
        await ended(module, "sync-body", "completed")


async def test_a_client_that_leaves_a_streaming_response(module: StreamingModule) -> None:
    sent = asyncio.Event()

    async def body() -> AsyncGenerator[str]:
        async with module.execution("e") as block:
            block.emitter.token("first")
            yield "first"
            await anyio.sleep_forever()

    async def receive() -> dict[str, Any]:
        await sent.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and message["body"]:
            sent.set()

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "method": "GET",
        "path": "/",
        "headers": [],
    }
    await StreamingResponse(body())(scope, receive, send)
    await ended(module, "e", "cancelled")


async def test_a_block_entered_in_a_node_and_left_after_it(module: StreamingModule) -> None:
    stack = ExitStack()

    @stream_all
    async def enters(_: State) -> Update:
        stack.enter_context(module.execution("block"))
        return {}

    await graph_of(enters, write).ainvoke({"topic": "x"}, module.config("e"))
    assert (await read(module, "e")).texts() == {"write": "one two three"}
    stack.close()
    await ended(module, "block", "completed")


@pytest.mark.parametrize("act", ["cancel", "close", "aclose"])
async def test_the_run_ends_in_the_middle(act: str) -> None:
    streaming = StreamingModule()
    inside, go_on = asyncio.Event(), asyncio.Event()

    @stream_all
    async def waits(_: State) -> Update:
        current_emitter().token("before")
        inside.set()
        await go_on.wait()
        current_emitter().token("after")
        await model("after").ainvoke("x")
        return {"text": "done"}

    graph = graph_of(waits, write)
    call = asyncio.create_task(graph.ainvoke({"topic": "x"}, streaming.config("e")))
    await inside.wait()
    if act == "cancel":
        await streaming.hub.cancel("e", "enough")
    elif act == "close":
        await streaming.hub.close("e")
    else:
        await streaming.aclose()
    go_on.set()
    try:
        result = await call
    except asyncio.CancelledError:
        assert act == "cancel"
    else:
        assert result["text"] == "done"
    if act != "aclose":
        updates = [each async for each in streaming.hub.subscribe("e")]
        assert [each.type for each in updates if each.is_final] == [
            "workflow_cancelled" if act == "cancel" else "workflow_complete"
        ]
        assert "after" not in [each.data["content"] for each in updates if each.type == "token"]
        dropped = streaming.hub.statistics().dropped
        assert act == "cancel" or dropped["late"] > 0
    await streaming.aclose()
    assert len(RUNS) == 0


async def test_a_thread_that_outlives_everything() -> None:
    go_on, seen = threading.Event(), []

    def late() -> None:
        go_on.wait(10)
        seen.append((current_frame(), current_block()))
        current_emitter().token("late")
        model("late").invoke("x")

    streaming = StreamingModule()
    threads: list[threading.Thread] = []

    @stream_token
    async def starts(_: State) -> Update:
        threads.append(threading.Thread(target=contextvars.copy_context().run, args=(late,)))
        threads[-1].start()
        return {}

    async with streaming.execution("e"):
        await graph_of(starts).ainvoke({"topic": "x"})
    await streaming.aclose()
    go_on.set()
    await asyncio.to_thread(threads[0].join)
    assert seen == [(None, None)]
    assert len(RUNS) == 0


# --- streams that are read in several tasks -----------------------------------------------------------------


class SlowHandler(AsyncCallbackHandler):
    """Takes its time when a graph starts."""

    async def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        await asyncio.Event().wait()


async def _twice(inputs: AsyncIterator[Any]) -> AsyncGenerator[str]:
    async for item in inputs:
        yield str(item)
        yield (await GRAPH.ainvoke({"topic": "x"}))["messages"][-1].text


READ: dict[str, tuple[Any, Any]] = {
    "generator": (RunnableGenerator(_twice), "x"),
    "lambda": (RunnableLambda(lambda _: RunnableGenerator(_twice)), "x"),
    "parallel": (RunnableParallel(one=RunnableGenerator(_twice)), "x"),
    "sequence": (RunnableLambda(str) | RunnableGenerator(_twice), "x"),
    "graph": (GRAPH, {"topic": "x"}),
    "decorated graph": (stream_all(GRAPH), {"topic": "x"}),
}


@pytest.mark.parametrize("kind", READ)
async def test_each_chunk_is_read_in_a_task_of_its_own(module: StreamingModule, kind: str) -> None:
    """As ``asyncio.wait_for(anext(stream), …)`` does, or a handler that looks at the first chunk before it answers."""
    graph, inputs = READ[kind]
    chunks = graph.astream(inputs, module.config("e"))

    async def next_chunk() -> Any:
        return await anext(chunks, None)

    while await asyncio.create_task(next_chunk()) is not None:
        pass
    run = await read(module, "e")
    assert run.texts() == {"write": "one two three"}
    assert run.final == "workflow_complete"


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("way", ["cancel", "timeout"])
async def test_a_stream_whose_start_is_cancelled(module: StreamingModule, kind: str, way: str) -> None:
    graph, inputs = READ[kind]
    chunks = graph.astream(inputs, module.config({"callbacks": [SlowHandler()]}, execution_id="e"))

    async def next_chunk() -> Any:
        return await anext(chunks, None)

    task = asyncio.create_task(next_chunk() if way == "cancel" else asyncio.wait_for(next_chunk(), 0.05))
    await asyncio.sleep(0.01)
    if way == "cancel":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await ended(module, "e", "cancelled")


# --- what a node leaves behind ------------------------------------------------------------------------------


def _waiting(go_on: asyncio.Event, begun: asyncio.Event, kind: str) -> Any:
    async def waits(_: State) -> Update:
        chunks = model("one two three").astream("x")
        await anext(chunks)
        begun.set()
        await go_on.wait()
        return {"text": "".join([chunk.text async for chunk in chunks])}

    @tool
    async def slow() -> str:
        """Take a long time."""
        if kind == "graph":
            await graph_of(waits).ainvoke({"topic": "x"})
        elif kind == "model":
            await waits({"topic": "x", "text": "", "messages": []})
        else:
            begun.set()
            await go_on.wait()
        return "done"

    return slow


@pytest.mark.parametrize("fails", ["fails", "returns"])
@pytest.mark.parametrize("kind", ["tool", "model", "graph"])
async def test_a_tool_that_its_node_does_not_wait_for(module: StreamingModule, kind: str, fails: str) -> None:
    """A tool ends for its readers with the node; later calls in it are part of nothing."""
    go_on, begun = asyncio.Event(), asyncio.Event()
    slow = _waiting(go_on, begun, kind)
    left: list[asyncio.Future[Any]] = []

    async def node(_: State) -> Update:
        call: Any = {"name": "slow", "args": {}, "id": "call-1", "type": "tool_call"}
        left.append(asyncio.ensure_future(slow.ainvoke(call)))
        await begun.wait()
        if fails == "fails":
            raise ValueError("the other one failed")
        return {}

    config = module.config("e", capture="all")
    await asyncio.gather(graph_of(node).ainvoke({"topic": "x"}, config), return_exceptions=True)
    assert len(RUNS) == 0
    go_on.set()
    await left[0]
    run = await read(module, "e")
    expected = ["tool_start", "tool_error"]
    assert [each.type for each in run.of("tool_start", "tool_error", "tool_complete")] == expected
    assert run.one("tool_error").data["error"]["code"] == "cancelled"
    assert len(run.of("llm_start")) == len(run.of("llm_complete")) == (kind != "tool")
    assert len(run.of("node_start")) == len(run.of("node_complete", "node_error")) == (2 if kind == "graph" else 1)
    ends = [each.metadata.node_id for each in run.of("node_complete", "node_error")]
    assert ends[-1] == "node"
    assert not any(module.hub.statistics().dropped.values())
    assert len(RUNS) == 0


# --- calls without an execution -----------------------------------------------------------------------------


@tool
async def look() -> str:
    """Look out of the window, and describe it."""
    return (await model("Rain.").ainvoke("x")).text


async def call_models(_: State) -> Update:
    said = await model("one two").ainvoke("x")
    await look.ainvoke({})
    await asyncio.gather(*(model("three").ainvoke("x") for _ in range(3)))
    return {"messages": [said], "text": await (RunnableLambda(str) | RunnableLambda(str)).ainvoke("x")}


async def fail_after_models(_: State) -> Update:
    await model("one two").ainvoke("x")
    raise ValueError("not today")


async def wait_after_models(_: State) -> Update:
    await model("one two").ainvoke("x")
    await asyncio.Event().wait()
    return {}


DECORATED: dict[str, Callable[[Any], Any]] = {
    "graph": lambda node: stream_all(graph_of(node)),
    "node": lambda node: graph_of(stream_all(node)),
    "both": lambda node: stream_all(graph_of(stream_all(node))),
    "subgraph": lambda node: graph_of(stream_all(graph_of(node)), names=("inner",)),
    "graph in a graph": lambda node: stream_all(graph_of(stream_all(graph_of(node)), names=("inner",))),
}


@pytest.mark.parametrize("decorated", DECORATED)
async def test_a_call_without_an_execution_leaves_nothing(streaming: StreamingModule, decorated: str) -> None:
    """The module is installed, and the call is part of no execution: LangChain's runs are forgotten all the same."""
    build = DECORATED[decorated]
    await build(call_models).ainvoke({"topic": "x"})
    assert len(RUNS) == 0
    async for _ in build(call_models).astream({"topic": "x"}, stream_mode="messages"):
        break
    with pytest.raises(ValueError, match="not today"):
        await build(fail_after_models).ainvoke({"topic": "x"})
    for config in ({}, {"callbacks": [SlowHandler()]}):
        task = asyncio.ensure_future(build(wait_after_models).ainvoke({"topic": "x"}, config))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    gc.collect()
    await asyncio.sleep(0)
    assert len(RUNS) == 0
    assert not streaming.hub.executions()
