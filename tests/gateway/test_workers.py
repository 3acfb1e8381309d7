"""The threads in which the application is asked: bounded, fair, and gone with the gateway."""

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import pytest

from lg_streaming.errors import MessageRateError, ServerRestartError
from lg_streaming.gateway.limits.workers import Workers

PATIENCE = 20.0


class Gate:
    """A function that blocks until it is released, and the callers inside it."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.most = 0
        self._open = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, name: str) -> str:
        with self._lock:
            self.inside.append(name)
            self.most = max(self.most, len(self.inside))
        assert self._open.wait(PATIENCE)
        with self._lock:
            self.inside.remove(name)
        return name

    def open(self) -> None:
        self._open.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def threads_named(name: str) -> int:
    return sum(thread.name == f"lg-streaming-{name}" for thread in threading.enumerate())


@asynccontextmanager
async def blocked(workers: Workers, **calls: int) -> AsyncGenerator[Gate]:
    """So many calls of each caller, all of which block; they return at the end."""
    gate = Gate()
    tasks = [asyncio.create_task(workers.call(name, gate, name)) for name, count in calls.items() for _ in range(count)]
    await asyncio.sleep(0)
    try:
        yield gate
    finally:
        gate.open()
        async with asyncio.timeout(PATIENCE):
            assert [await task for task in tasks] == [name for name, count in calls.items() for _ in range(count)]
        workers.close()


async def test_one_who_is_slow_leaves_half_to_the_others() -> None:
    workers = Workers("t1", threads=8, per_caller=100)
    async with blocked(workers, mallory=50) as gate:
        await until(lambda: len(gate.inside) == 4)
        for name in "abc":
            async with asyncio.timeout(PATIENCE):
                assert await workers.call(name, str.upper, name) == name.upper()
        assert (gate.most, workers.busy, workers.waiting) == (4, 4, 46)
    assert workers.busy == workers.waiting == 0


async def test_half_of_the_threads_go_to_callers_that_have_none() -> None:
    workers = Workers("t2", threads=16)
    slow = {"m0": 20, **{f"m{number}": 20 for number in range(1, 8)}}
    async with blocked(workers, **slow) as gate:
        await until(lambda: len(gate.inside) == 8 + 7)
        assert {name: gate.inside.count(name) for name in slow} == {"m0": 8, **dict.fromkeys(list(slow)[1:], 1)}
        async with asyncio.timeout(PATIENCE):
            assert await workers.call("alice", str.upper, "a") == "A"
        assert threads_named("t2") == 16


async def test_no_more_threads_than_there_may_be_and_turns_for_all() -> None:
    workers = Workers("t3", threads=2)
    order: list[str] = []
    async with blocked(workers, m1=1, m2=1) as gate:
        await until(lambda: len(gate.inside) == 2)
        many = [asyncio.create_task(workers.call("m1", order.append, "m1")) for _ in range(20)]
        await asyncio.sleep(0)
        late = asyncio.create_task(workers.call("alice", order.append, "alice"))
        await asyncio.sleep(0)
        assert threads_named("t3") == 2
        gate.open()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(late, *many)
    assert order.index("alice") <= 2


async def test_a_caller_may_let_only_so_many_wait() -> None:
    workers = Workers("t4", threads=1, waiting_per_caller=3)
    async with blocked(workers, mallory=4):
        with pytest.raises(MessageRateError):
            await workers.call("mallory", str.upper, "m")
        assert workers.waiting == 3
        waits = asyncio.create_task(workers.call("alice", str.upper, "a"))
        await asyncio.sleep(0)
        assert workers.waiting == 4
        waits.cancel()
        await asyncio.gather(waits, return_exceptions=True)
        assert workers.waiting == 3


async def test_threads_end_when_there_is_nothing_to_do() -> None:
    workers = Workers("t5", idle_lifetime=0.05)
    for _ in range(3):
        await asyncio.gather(*(workers.call(f"c{number}", str.upper, "a") for number in range(5)))
        await until(lambda: not threads_named("t5"))


async def test_threads_end_with_the_gateway_and_come_back() -> None:
    workers = Workers("t6", threads=2, idle_lifetime=600)
    for _ in range(3):
        gate = Gate()
        busy = asyncio.create_task(workers.call("a", gate, "a"))
        await until(lambda gate=gate: gate.inside == ["a"])
        waits = asyncio.create_task(workers.call("a", str.upper, "a"))
        await workers.call("b", str.upper, "b")
        workers.close()
        with pytest.raises(ServerRestartError):
            await waits
        gate.open()
        assert await busy == "a"
        await until(lambda: not threads_named("t6"))


async def test_what_a_function_raises_comes_back_and_its_context_goes_along() -> None:
    variable = contextvars.ContextVar[str]("variable")
    variable.set("here")
    workers = Workers("t7")

    def stop() -> None:
        raise StopIteration

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="StopIteration"):
        await workers.call("a", stop)
    with pytest.raises(SystemExit):
        await workers.call("a", leave)
    assert await workers.call("a", variable.get) == "here"
    workers.close()


async def test_the_loops_own_executor_stays_free() -> None:
    workers = Workers("t8", threads=64, per_caller=64)
    async with blocked(workers, **{f"m{number}": 1 for number in range(60)}):
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.to_thread(lambda: threading.current_thread().name.startswith("asyncio"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_forked_child_has_threads_of_its_own() -> None:
    workers = Workers("t9", threads=1)
    async with blocked(workers, a=2) as gate:
        await until(lambda: gate.inside == ["a"])
        child = os.fork()
        if not child:
            code = 1
            try:
                signal.alarm(int(PATIENCE))
                loop = asyncio.SelectorEventLoop()
                asyncio._set_running_loop(None)
                code = 0 if loop.run_until_complete(workers.call("b", str.upper, "b")) == "B" else 2
            finally:
                os._exit(code)
        ended = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(ended[1]) == 0
        assert workers.waiting == 1
