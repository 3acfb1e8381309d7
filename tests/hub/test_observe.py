"""An execution as a reactivex Observable: on a loop, on a thread, and however the observer behaves."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import reactivex
from reactivex import operators as ops

from lg_streaming.errors import GapError
from lg_streaming.events import StreamUpdate
from lg_streaming.filters import UpdateFilter
from lg_streaming.hub import StreamHub
from tests.hub.helpers import PATIENCE, MakeHub, Threads, publish_many, seqs, types, until, upto


class Observer:
    """An observer that records its items, and their threads."""

    def __init__(self, before: Callable[[StreamUpdate], object] = lambda _: None) -> None:
        self.got: list[StreamUpdate] = []
        self.threads: set[int] = set()
        self.errors: list[Exception] = []
        self.done = threading.Event()
        self._before = before

    def on_next(self, update: StreamUpdate) -> None:
        self._before(update)
        self.got.append(update)
        self.threads.add(threading.get_ident())

    def on_error(self, error: Exception) -> None:
        self.errors.append(error)
        self.done.set()

    def on_completed(self) -> None:
        self.done.set()


def watch(source: reactivex.Observable[StreamUpdate], observer: Observer) -> reactivex.abc.DisposableBase:
    return source.subscribe(observer.on_next, observer.on_error, observer.on_completed)


async def test_on_a_loop_updates_come_on_that_loop(hub: StreamHub) -> None:
    observer = Observer()
    watch(hub.observe("e"), observer)
    publish_many(hub, "e", range(10))
    await hub.close("e")
    await until(observer.done.is_set)
    assert seqs(observer.got) == upto(12)
    assert observer.threads == {threading.get_ident()}
    assert observer.errors == []
    assert hub.statistics().subscriptions == 0


def test_without_a_loop_updates_come_on_a_thread_of_their_own() -> None:
    hub = StreamHub()
    observer = Observer()
    watch(hub.observe("e"), observer)
    run_id = hub.open("e")
    publish_many(hub, "e", range(10))
    asyncio.run(hub.close("e"))
    assert observer.done.wait(PATIENCE)
    assert {update.metadata.run_id for update in observer.got} == {run_id}
    assert seqs(observer.got) == upto(12)
    assert len(observer.threads) == 1
    assert threading.get_ident() not in observer.threads
    asyncio.run(hub.aclose())


async def test_in_a_thread_updates_come_while_the_loop_is_busy(hub: StreamHub) -> None:
    observer = Observer()
    watch(hub.observe("e", in_thread=True), observer)
    publish_many(hub, "e", range(10))
    deadline = time.monotonic() + PATIENCE
    while len(observer.got) < 11 and time.monotonic() < deadline:
        time.sleep(0.001)  # noqa: ASYNC251 (it is the blocked loop that is tested)
    assert seqs(observer.got) == upto(11)
    assert threading.get_ident() not in observer.threads
    await hub.close("e")
    await until(observer.done.is_set)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_an_observer_that_raises_is_detached_and_logged(
    hub: StreamHub, in_thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(update: StreamUpdate) -> None:
        if update.data == 3:
            raise ValueError("no threes")

    good, bad = Observer(), Observer(refuse)
    watch(hub.observe("e", in_thread=in_thread), bad)
    watch(hub.observe("e", in_thread=in_thread), good)
    publish_many(hub, "e", range(10))
    await hub.close("e")
    await until(good.done.is_set)
    await until(lambda: hub.statistics().subscriptions == 0)
    assert seqs(good.got) == upto(12)
    assert seqs(bad.got) == upto(4)
    assert hub.statistics().observer_errors == 1
    assert [line for line in caplog.messages if "no threes" in line]


async def test_an_observer_without_an_error_handler_disturbs_nobody(hub: StreamHub) -> None:
    def refuse(update: StreamUpdate) -> None:
        raise ValueError(update.type)

    good = Observer()
    hub.observe("e").subscribe(refuse)
    watch(hub.observe("e"), good)
    hub.publish("e", "token")
    await hub.close("e")
    await until(good.done.is_set)
    assert len(good.got) == 3


def test_a_slow_observer_slows_nobody() -> None:
    hub = StreamHub()
    go_on = threading.Event()
    slow, fast = Observer(lambda _: go_on.wait(PATIENCE)), Observer()
    watch(hub.observe("e"), slow)
    watch(hub.observe("e"), fast)
    publish_many(hub, "e", range(3_000))
    asyncio.run(hub.close("e"))
    assert fast.done.wait(PATIENCE)
    assert (len(fast.got), len(slow.got)) == (3_002, 0)
    go_on.set()
    assert slow.done.wait(PATIENCE)
    assert seqs(slow.got) == upto(3_002)
    asyncio.run(hub.aclose())


@pytest.mark.parametrize("in_thread", [False, True])
async def test_disposing_unregisters(hub: StreamHub, in_thread: bool) -> None:
    observer = Observer()
    disposable = watch(hub.observe("e", in_thread=in_thread), observer)
    hub.publish("e", "token")
    await until(lambda: len(observer.got) == 2)
    disposable.dispose()
    disposable.dispose()
    assert hub.statistics().subscriptions == 0
    hub.publish("e", "token")
    await hub.close("e")
    assert len(observer.got) == 2


async def test_disposing_from_within_stops_at_once(hub: StreamHub) -> None:
    publish_many(hub, "e", range(50))
    observer = Observer()
    watch(hub.observe("e").pipe(ops.take(3)), observer)
    await until(observer.done.is_set)
    await until(lambda: hub.statistics().subscriptions == 0)
    assert seqs(observer.got) == upto(3)


@pytest.mark.row("HIVE-54", "HIVE-78")
async def test_the_options_are_those_of_a_subscription(hub: StreamHub) -> None:
    publish_many(hub, "e", range(5))
    await hub.close("e")
    state = await hub.describe("e")
    assert state is not None
    observer = Observer()
    watch(hub.observe("e", types=["token"], after=f"{state.epoch}:3"), observer)
    await until(observer.done.is_set)
    assert seqs(observer.got) == [4, 5, 6]


async def test_each_observer_of_one_observable_reads_for_itself(hub: StreamHub) -> None:
    source = hub.observe("e")
    assert hub.statistics().subscriptions == 0
    early, late = Observer(), Observer()
    watch(source, early)
    hub.publish("e", "token")
    await hub.close("e")
    watch(source, late)
    await until(lambda: early.done.is_set() and late.done.is_set())
    assert seqs(early.got) == seqs(late.got) == upto(3)


async def test_operators_work_on_it(hub: StreamHub) -> None:
    texts: list[str] = []
    done = asyncio.Event()
    hub.observe("e", types=["token"]).pipe(
        ops.map(lambda update: update.data["content"]),
        ops.buffer_with_count(3),
        ops.map("".join),
    ).subscribe(texts.append, on_completed=done.set)
    emitter = hub.emitter("e")
    for character in "reactivex":
        emitter.token(character)
    await hub.close("e")
    await asyncio.wait_for(done.wait(), PATIENCE)
    assert texts == ["rea", "cti", "vex"]


async def test_a_gap_that_shall_fail_is_an_error(make_hub: MakeHub) -> None:
    hub = make_hub(max_updates=2)
    publish_many(hub, "e", range(5))
    observer = Observer()
    watch(hub.observe("e", on_gap="fail"), observer)
    await until(observer.done.is_set)
    assert [type(error) for error in observer.errors] == [GapError]


async def test_a_gap_is_an_update(make_hub: MakeHub) -> None:
    hub = make_hub(max_updates=2)
    publish_many(hub, "e", range(5))
    observer = Observer()
    watch(hub.observe("e"), observer)
    await until(lambda: len(observer.got) == 3)
    assert types(observer.got) == ["gap", "token", "token"]


@pytest.mark.parametrize("in_thread", [False, True])
async def test_closing_the_hub_completes_its_observers(hub: StreamHub, in_thread: bool) -> None:
    observer = Observer()
    watch(hub.observe("e", in_thread=in_thread, follow=True), observer)
    hub.publish("e", "token")
    await until(lambda: len(observer.got) == 2)
    await hub.aclose()
    await until(observer.done.is_set)


@pytest.mark.row("PYEV-01")
@pytest.mark.parametrize("in_thread", [False, True])
async def test_threads_publish_and_every_observer_sees_all_in_one_order(hub: StreamHub, in_thread: bool) -> None:
    observers = [Observer() for _ in range(4)]
    for observer in observers:
        watch(hub.observe("e", in_thread=in_thread), observer)
    hub.open("e")
    await Threads(*[lambda: publish_many(hub, "e", range(500))] * 4).start().join()
    await hub.close("e")
    for observer in observers:
        await until(observer.done.is_set)
        assert seqs(observer.got) == upto(2_002)
        assert observer.got == observers[0].got


async def test_an_execution_waits_one_interval_however_many_others_there_are(hub: StreamHub) -> None:
    """Also more than may wait for a client: an observer in this process cannot subscribe to fewer."""
    count = 10_500
    got: list[str] = []
    failed: list[Exception] = []
    observable = hub.readers.observe_all(filter=UpdateFilter.of(types=["token"]))
    observer = observable.subscribe(lambda update: got.append(update.metadata.execution_id), failed.append)
    await asyncio.sleep(0)
    for number in range(count):
        hub.publish(f"e{number}", "token", {"content": "x"})
    loop = asyncio.get_running_loop()
    pauses: list[float] = []
    schedule = loop.call_later

    def call_later(delay: float, *arguments: Any, **options: Any) -> asyncio.TimerHandle:
        pauses.append(delay)
        return schedule(delay, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "call_later", call_later)
        async with asyncio.timeout(60):
            while len(got) < count and not failed:
                await asyncio.sleep(0)
    assert not failed
    assert sorted(got) == sorted(f"e{number}" for number in range(count))
    assert len(pauses) < count / 10
    observer.dispose()
