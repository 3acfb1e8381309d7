"""The thread that all event loops and threads of a process share for Redis."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from lg_streaming.errors import LogUnavailableError
from lg_streaming.log.redis.io_thread import IoThread
from tests.support.forks import run_forking

PATIENCE = 10.0


@pytest.fixture
def io() -> Iterator[IoThread]:
    thread = IoThread()
    yield thread
    assert thread.close(PATIENCE)


async def _thread_name() -> str:
    return threading.current_thread().name


def test_starts_with_its_first_coroutine_and_again_after_a_close(io: IoThread) -> None:
    before = threading.active_count()
    assert IoThread().close(0)
    assert threading.active_count() == before
    assert io.call(_thread_name()).result(PATIENCE) == "lg-streaming-redis"
    assert io.close(PATIENCE)
    assert threading.active_count() == before
    assert io.call(_thread_name()).result(PATIENCE) == "lg-streaming-redis"


def test_uses_uvloop(io: IoThread) -> None:
    async def module() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert io.call(module()).result(PATIENCE) == "uvloop"


async def test_a_result_or_an_error_reaches_the_loop_of_the_caller(io: IoThread) -> None:
    async def fail() -> None:
        raise KeyError("x")

    assert await io.run(_thread_name()) == "lg-streaming-redis"
    with pytest.raises(KeyError):
        await io.run(fail())


async def test_on_the_loop_itself_a_coroutine_runs_within_its_caller(io: IoThread) -> None:
    async def task() -> object:
        return asyncio.current_task()

    async def outer() -> bool:
        return await io.run(task()) is asyncio.current_task()

    assert await io.run(outer())


async def test_the_cancellation_of_the_caller_cancels_the_coroutine(io: IoThread) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(io.run(hang()))
    assert await asyncio.to_thread(begun.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(ended.wait, PATIENCE)


@pytest.mark.parametrize("started", [True, False])
async def test_close_ends_the_waiting_callers_with_an_error(io: IoThread, started: bool) -> None:
    async def hang() -> None:
        await asyncio.gather(asyncio.Event().wait())

    future = io.call(hang())
    if started:
        await io.run(asyncio.sleep(0))
    assert await asyncio.to_thread(io.close, PATIENCE)
    with pytest.raises(LogUnavailableError):
        await asyncio.wrap_future(future)


def test_a_task_that_ends_may_run_more_on_the_same_loop(io: IoThread) -> None:
    names: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            names.append(await io.run(_thread_name()))
            io.spawn(more())

    async def more() -> None:
        names.append(await _thread_name())

    io.spawn(hang())
    io.call(_thread_name()).result(PATIENCE)
    assert io.close(PATIENCE)
    assert names[0] == "lg-streaming-redis"
    assert not [thread for thread in threading.enumerate() if thread.name == "lg-streaming-redis"]


def test_close_on_the_loop_does_not_wait(io: IoThread) -> None:
    async def close() -> bool:
        return io.close()

    assert io.call(close()).result(PATIENCE) is False


def test_coroutines_do_not_have_the_context_of_their_caller(io: IoThread) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("caller")

    async def read() -> str:
        return variable.get()

    assert io.call(read()).result(PATIENCE) == "unset"


def test_a_background_task_that_fails_is_logged(io: IoThread, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise KeyError("x")

    with caplog.at_level(logging.ERROR), pytest.raises(KeyError):
        io.spawn(fail()).result(PATIENCE)
    io.call(_thread_name()).result(PATIENCE)
    assert "a background task of the log failed" in caplog.text


def test_a_forked_child_has_another_thread() -> None:
    assert run_forking("""
        from lg_streaming.log.redis.io_thread import IoThread
        io = IoThread()

        async def pid():
            return os.getpid()

        def child():
            result = [io.call(pid()).result(5) == os.getpid(), io.close(5)]
            return result

        before = io.call(pid()).result(5)
        result = in_child(child)
        print(json.dumps([*result, io.call(pid()).result(5) == before, io.close(5)]))
    """) == [True, True, True, True]


async def test_a_task_that_hides_a_cancellation_is_cancelled_again() -> None:
    io = IoThread()

    async def hide() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    io.spawn(hide())
    await io.run(_thread_name())
    assert await asyncio.to_thread(io.close, PATIENCE)
