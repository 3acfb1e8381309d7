"""One timer for all."""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from reactivex.abc import SchedulerBase

from lg_streaming import current_emitter, stream_token
from lg_streaming.module import StreamingModule
from lg_streaming.timer import TIMER, TimerScheduler
from tests.pipeline.streams import texts


def doing(call: Callable[[], object]) -> Callable[[SchedulerBase, object], None]:
    """`call` as an action of a scheduler."""

    def action(scheduler: SchedulerBase, state: object = None) -> None:
        call()

    return action


def timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "lg-streaming-timer"]


async def test_two_hundred_nodes_share_one_timer(streaming: StreamingModule) -> None:
    inside, others = 0, TIMER.waiting  # hubs of other tests may wait for their next look
    all_inside = asyncio.Event()
    seen_threads: list[int] = []
    waiting: list[int] = []

    @stream_token(flush_interval=0.05)
    async def node(name: str) -> None:
        nonlocal inside
        emitter = current_emitter()
        for _ in range(3):
            emitter.token(name)
        inside += 1
        if inside == 200:
            waiting.append(TIMER.waiting)
            seen_threads.append(len(timers()))
            all_inside.set()
        await all_inside.wait()
        async with asyncio.timeout(10):
            while len(texts(streaming.hub, name)) < 2:  # what is held leaves while the node goes on
                await asyncio.sleep(0.01)

    async def run(name: str) -> None:
        async with streaming.execution(name):
            await node(name)

    await asyncio.gather(*(run(f"e{n}") for n in range(200)))
    assert seen_threads == [1]
    assert waiting[0] <= others + 201, "one for each node, and the hub's next look at its runs"
    assert TIMER.waiting <= others + 1


def test_the_thread_ends_when_there_is_nothing_to_do() -> None:
    timer = TimerScheduler()
    before = set(timers())
    rang = threading.Event()
    timer.schedule_relative(0.01, doing(rang.set))
    assert rang.wait(5)
    deadline = time.monotonic() + 5
    while set(timers()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(timers()) <= before
    again = threading.Event()
    timer.schedule(doing(again.set))
    assert again.wait(5)


def test_in_order_and_whatever_an_action_raises(caplog: pytest.LogCaptureFixture) -> None:
    timer = TimerScheduler()
    rang: list[str] = []
    done = threading.Event()

    def failing() -> None:
        rang.append("failing")
        raise RuntimeError("oh")

    begin = timer.now
    timer.schedule_absolute(begin + timedelta(seconds=0.06), doing(done.set))
    timer.schedule_absolute(begin + timedelta(seconds=0.04), doing(lambda: rang.append("second")))
    timer.schedule_absolute(begin, doing(failing))
    timer.schedule_absolute(begin + timedelta(seconds=0.02), doing(lambda: rang.append("first")))
    assert done.wait(5)
    assert rang == ["failing", "first", "second"]
    assert "an action of the timer failed" in caplog.text


def test_what_is_cancelled_is_let_go() -> None:
    timer = TimerScheduler()
    kept = timer.schedule_relative(3600, doing(lambda: None))
    for _ in range(1_000):
        cancelled = timer.schedule_relative(3600, doing(lambda: None))
        cancelled.dispose()
        cancelled.dispose()
    assert timer.waiting == 1
    assert len(timer._heap) < 200  # pyright: ignore[reportPrivateUsage]
    kept.dispose()
    assert timer.waiting == 0
    timer.schedule(doing(lambda: None))  # wakes the thread, which then finds nothing more to wait for
