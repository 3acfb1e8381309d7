"""Places inside a captured node where a call can be made."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import anyio
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.prebuilt import ToolNode
from langsmith import Client, traceable, tracing_context

from lg_streaming import stream_event
from tests.capture.graphs import State, Update, graph_of, says


class _SilentClient(Client):
    """Sends nothing anywhere."""

    def create_run(self, *args: Any, **kwargs: Any) -> None:
        pass

    def update_run(self, *args: Any, **kwargs: Any) -> None:
        pass


_CLIENT: Final = _SilentClient(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)

Call = Callable[[], Awaitable[Any]]
Place = Callable[[Call], Awaitable[None]]


async def directly(call: Call) -> None:
    await call()


async def in_a_task(call: Call) -> None:
    await asyncio.ensure_future(call())


async def gathered(call: Call) -> None:
    await asyncio.gather(call(), asyncio.sleep(0))


async def in_a_task_group(call: Call) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(call)


async def in_a_thread(call: Call) -> None:
    await asyncio.to_thread(lambda: asyncio.run(_awaited(call)))


async def in_a_bare_pool(call: Call) -> None:
    pool = ThreadPoolExecutor(1)
    await asyncio.get_running_loop().run_in_executor(pool, lambda: asyncio.run(_awaited(call)))
    pool.shutdown(wait=False)


async def in_a_copied_context(call: Call) -> None:
    context = contextvars.copy_context()
    await context.run(asyncio.ensure_future, call())


async def in_a_lambda(call: Call) -> None:
    await _runnable(call).ainvoke(None)


async def in_a_chain(call: Call) -> None:
    await (RunnableLambda(lambda x: x) | _runnable(call)).ainvoke(None)


async def in_a_batch(call: Call) -> None:
    await _runnable(call).abatch([None])


async def in_a_plain_graph(call: Call) -> None:
    async def plain(_: State) -> Update:
        await call()
        return {}

    await graph_of(plain).ainvoke({})


async def in_a_traced_function(call: Call) -> None:
    traced: Any = traceable(name="traced")(call)
    with tracing_context(enabled="local", client=_CLIENT):
        await traced()


async def below_a_tracing_header(call: Call) -> None:
    dotted = "20260101T000000000000Z018f0000-0000-7000-8000-000000000001"
    with tracing_context(enabled="local", client=_CLIENT, parent={"langsmith-trace": dotted}):
        await call()


async def in_a_langgraph_task(call: Call) -> None:
    @task
    async def piece() -> None:
        await call()

    @entrypoint()
    async def flow(_: object) -> None:
        await piece()

    await flow.ainvoke("go")


async def in_a_plain_tool(call: Call) -> None:
    @tool
    async def look(what: str) -> str:
        "Look."
        await call()
        return what

    await look.ainvoke({"name": "look", "args": {"what": "x"}, "id": "call-1", "type": "tool_call"})


async def in_a_decorated_tool_node(call: Call) -> None:
    @tool
    async def look(what: str) -> str:
        "Look."
        await call()
        return what

    node = stream_event(ToolNode([look]))
    message = says()
    message.tool_calls = [{"name": "look", "args": {"what": "x"}, "id": "call-1", "type": "tool_call"}]
    await graph_of(node, names=("tools",)).ainvoke({"messages": [message]})


async def by_a_worker(call: Call) -> None:
    jobs: asyncio.Queue[tuple[Call, asyncio.Future[None]]] = asyncio.Queue()

    async def work() -> None:
        job, done = await jobs.get()
        try:
            done.set_result(await job())
        except Exception as error:  # noqa: BLE001 (goes to the caller)
            done.set_exception(error)

    worker = asyncio.create_task(work())
    done = asyncio.get_running_loop().create_future()
    await jobs.put((call, done))
    await done
    await worker


async def by_a_thread_with_a_queue(call: Call) -> None:
    jobs: queue.Queue[Call] = queue.Queue()
    done: asyncio.Event = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        try:
            asyncio.run(_awaited(jobs.get()))
        finally:
            loop.call_soon_threadsafe(done.set)

    worker = threading.Thread(target=contextvars.copy_context().run, args=(work,))
    worker.start()
    jobs.put(call)
    await done.wait()
    await asyncio.to_thread(worker.join)


async def by_a_timer(call: Call) -> None:
    loop = asyncio.get_running_loop()
    made: asyncio.Future[asyncio.Task[Any]] = loop.create_future()
    loop.call_later(0.001, lambda: made.set_result(asyncio.ensure_future(call())))  # type: ignore[arg-type]
    await (await made)


def _runnable(call: Call) -> RunnableLambda[Any, Any]:
    async def run(_: object) -> None:
        await call()

    return RunnableLambda(run)


async def _awaited(call: Call) -> None:
    await call()


PLACES: Final[dict[str, Place]] = {
    each.__name__: each
    for each in (
        directly,
        in_a_task,
        gathered,
        in_a_task_group,
        in_a_thread,
        in_a_bare_pool,
        in_a_copied_context,
        in_a_lambda,
        in_a_chain,
        in_a_batch,
        in_a_plain_graph,
        in_a_traced_function,
        below_a_tracing_header,
        in_a_langgraph_task,
        in_a_plain_tool,
        in_a_decorated_tool_node,
        by_a_worker,
        by_a_thread_with_a_queue,
        by_a_timer,
    )
}
