"""Start positions of readers, reading, and closing."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from lg_streaming.errors import BadPositionError, BadRequestError
from lg_streaming.events import Position
from lg_streaming.filters import UpdateFilter
from lg_streaming.hub import StreamHub
from tests.hub.helpers import (
    PATIENCE,
    MakeHub,
    Threads,
    collect,
    contents,
    page,
    publish_many,
    seqs,
    soon,
    take,
    types,
    until,
    upto,
    waiting,
)


@pytest.mark.row("PYEV-D10")
async def test_a_reader_that_comes_before_the_start_sees_the_whole_run(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    attached = await subscription.start()
    assert (attached.state, attached.position, attached.oldest) == ("unknown", None, None)
    assert attached.recovered
    task = await waiting(subscription)
    hub.publish("e", "token", 1)
    first = (await soon(task)).updates("e")
    await hub.close("e")
    got = first + await collect(subscription)
    assert seqs(got) == upto(3)
    assert types(got) == ["workflow_start", "token", "workflow_complete"]


@pytest.mark.row("PYEV-D10")
async def test_a_late_reader_sees_the_run_from_its_beginning(hub: StreamHub) -> None:
    publish_many(hub, "e", range(50))
    subscription = hub.subscribe("e")
    got = await take(subscription, 51)
    publish_many(hub, "e", range(50, 60))
    await hub.close("e")
    got += await collect(subscription)
    assert seqs(got) == upto(62)
    assert contents(got) == list(range(60))


async def test_attaching_tells_where_the_execution_is(hub: StreamHub) -> None:
    publish_many(hub, "e", range(3))
    subscription = hub.subscribe("e")
    attached = await subscription.start()
    state = await hub.describe("e")
    assert state is not None
    assert attached.state == "running"
    assert attached.position == Position(state.epoch, 4)
    assert attached.oldest == 1
    assert await subscription.start() is attached
    assert subscription.position == Position(state.epoch, 0)


async def test_latest_begins_with_what_comes_after_the_attach(hub: StreamHub) -> None:
    publish_many(hub, "e", range(5))
    subscription = hub.subscribe("e", after="latest")
    await subscription.start()
    publish_many(hub, "e", [5, 6])
    await hub.close("e")
    assert seqs(await collect(subscription)) == [7, 8, 9]


async def test_latest_of_an_execution_that_has_not_begun_is_its_start(hub: StreamHub) -> None:
    subscription = hub.subscribe("e", after="latest")
    await subscription.start()
    hub.publish("e", "token")
    assert seqs(await take(subscription, 2)) == [1, 2]


@pytest.mark.parametrize("as_text", [True, False])
async def test_a_reader_resumes_after_its_position_from_any_update(hub: StreamHub, as_text: bool) -> None:
    publish_many(hub, "e", range(8))
    await hub.close("e")
    everything = await collect(hub.subscribe("e"))
    for index, update in enumerate(everything):
        position = str(update.position) if as_text else update.position
        assert await collect(hub.subscribe("e", after=position)) == everything[index + 1 :]


async def test_resuming_twice_from_the_same_position_gives_the_same(hub: StreamHub) -> None:
    publish_many(hub, "e", range(8))
    await hub.close("e")
    position = (await collect(hub.subscribe("e")))[3].position
    once, twice = [await collect(hub.subscribe("e", after=position)) for _ in range(2)]
    assert once == twice


async def test_the_position_of_a_reader_is_where_it_can_be_resumed(hub: StreamHub) -> None:
    publish_many(hub, "e", range(20))
    await hub.close("e")
    got: list[int] = []
    position = None
    while len(got) < 22:
        async with hub.subscribe("e", after=position) as subscription:
            got += seqs((await page(subscription, 3)).updates("e"))
            position = subscription.position
    assert got == upto(22)


async def test_pages_hold_no_more_than_asked_for(hub: StreamHub) -> None:
    publish_many(hub, "e", range(9))
    subscription = hub.subscribe("e")
    sizes = [len((await page(subscription, 4)).records) for _ in range(3)]
    assert sizes == [4, 4, 2]


async def test_what_is_there_comes_as_one_list(hub: StreamHub) -> None:
    publish_many(hub, "e", range(99))
    subscription = hub.subscribe("e")
    batches: list[list[int]] = []
    async for batch in subscription.batches():
        batches.append(seqs(batch))
        if len(batches) == 1:
            publish_many(hub, "e", range(9))
        elif len(batches) == 2:
            await hub.close("e")
    assert [len(batch) for batch in batches] == [100, 9, 1]
    assert [seq for batch in batches for seq in batch] == upto(110)


@pytest.mark.row("PYEV-03")
@pytest.mark.row("PYEV-05")
async def test_a_filter_lets_only_its_updates_through(hub: StreamHub) -> None:
    emitter = hub.emitter("e", category="chat")
    emitter.token("a")
    emitter.scoped(category="document", node_id="write").token("b")
    emitter.event("note", {}, priority="high")
    emitter.thinking("c")
    await hub.close("e")

    async def read(**kwargs: Any) -> list[str]:
        return types(await collect(hub.subscribe("e", **kwargs)))

    assert await read(events=["token"]) == ["token", "token", "thinking"]
    assert await read(types=["token"]) == ["token", "token"]
    assert await read(events=["work*"]) == ["workflow_start", "workflow_complete"]
    chat = UpdateFilter.of(categories=["chat"])
    assert types(await collect(hub.subscribe("e", filter=chat))) == ["token", "note", "thinking"]
    write = UpdateFilter.of(node_ids=["write"])
    assert contents(await collect(hub.subscribe("e", filter=write))) == [
        {"content": "b", "index": 0, "role": "ai"},
    ]


async def test_a_stretch_of_filtered_updates_longer_than_a_page_is_read_over(hub: StreamHub) -> None:
    publish_many(hub, "e", range(1_500))
    hub.publish("e", "note", "here")
    subscription = hub.subscribe("e", types=["note"])
    found = await page(subscription, 100)
    assert [record.type for record in found.records] == ["note"]
    assert found.position is not None
    assert found.position.seq == 1_502


async def test_a_reader_that_filters_everything_moves_on_and_ends(hub: StreamHub) -> None:
    subscription = hub.subscribe("e", types=["nothing"])
    publish_many(hub, "e", range(1_200))
    task = await waiting(subscription)
    assert subscription.position is not None
    assert subscription.position.seq == 1_201
    await hub.close("e")
    last = await soon(task)
    assert (list(last.records), last.ended) == ([], True)


async def test_cancelling_a_wait_loses_nothing(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    for index in range(20):
        task = await waiting(subscription)
        task.cancel()
        if index % 2:
            hub.publish("e", "token", index)
        with pytest.raises(asyncio.CancelledError):
            await task
        if index % 2:
            await page(subscription)
    hub.publish("e", "token", 99)
    await hub.close("e")
    assert (await collect(subscription))[-1].metadata.sequence_number == 13
    assert seqs(await collect(hub.subscribe("e"))) == upto(13)


async def test_a_timeout_around_each_page_loses_nothing(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    threads = Threads(lambda: publish_many(hub, "e", range(3_000))).start()
    got: list[int] = []
    while len(got) < 3_001:
        try:
            got += [record.seq for record in (await asyncio.wait_for(subscription.next_page(7), 0.0001)).records]
        except TimeoutError:
            await asyncio.sleep(0)
    await threads.join()
    assert got == upto(3_001)


@pytest.mark.row("PYEV-06")
async def test_an_abandoned_iteration_unregisters(hub: StreamHub) -> None:
    publish_many(hub, "e", range(3))
    async for update in hub.subscribe("e"):
        assert update.metadata.sequence_number == 1
        break
    gc.collect()
    await until(lambda: hub.statistics().subscriptions == 0)


async def test_leaving_by_an_exception_unregisters(hub: StreamHub) -> None:
    with pytest.raises(RuntimeError):
        async with hub.subscribe("e"):
            raise RuntimeError
    assert hub.statistics().subscriptions == 0


async def test_a_cancelled_iteration_unregisters(hub: StreamHub) -> None:
    task = asyncio.create_task(collect(hub.subscribe("e")))
    await until(lambda: hub.statistics().subscriptions == 1)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hub.statistics().subscriptions == 0


async def test_closing_from_another_thread_wakes_the_reader(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    task = await waiting(subscription)
    thread = threading.Thread(target=subscription.close)
    thread.start()
    ended = await soon(task)
    thread.join(PATIENCE)
    assert ended.ended
    assert subscription.closed
    assert hub.statistics().subscriptions == 0


@pytest.mark.usefixtures("busy_threads")
async def test_threads_may_close_a_subscription_at_once(hub: StreamHub) -> None:
    for _ in range(200):
        stays, subscription = hub.subscribe("e"), hub.subscribe("e")
        await Threads(*[subscription.close] * 4).start().join()
        assert hub.statistics().subscriptions == 1
        stays.close()


async def test_closing_one_reader_leaves_the_others(hub: StreamHub) -> None:
    first, second = hub.subscribe("e"), hub.subscribe("e")
    task = await waiting(second)
    first.close()
    hub.publish("e", "token")
    assert [record.seq for record in (await soon(task)).records] == [1, 2]


async def test_the_last_reader_of_an_open_run_is_remembered_when_it_leaves(hub: StreamHub) -> None:
    last_read = hub.readers.last_read
    hub.open("e")
    assert last_read("e") is None
    first, second = hub.subscribe("e"), hub.subscribe("e")
    await page(first)
    first.close()
    assert last_read("e") == 0
    second.close()
    assert (last_read("e") or 0) > 0
    reader = hub.subscribe("e")
    assert last_read("e") == 0
    await hub.close("e")
    await collect(reader)
    assert last_read("e") is None, "it did not leave: it read the run to the end"


@pytest.mark.row("PYEV-08")
@pytest.mark.row("AOS-15")
async def test_readers_get_their_own_execution_and_no_other(hub: StreamHub) -> None:
    names = ["workflow-7", "document/1", "user:alice", "Überblick"]
    readers = {name: [hub.subscribe(name) for _ in range(3)] for name in names}
    for index in range(5):
        for name in names:
            hub.publish(name, "token", f"{name} {index}")
    for name in names:
        await hub.close(name)
        for reader in readers[name]:
            assert contents(await collect(reader)) == [f"{name} {index}" for index in range(5)]


@pytest.mark.parametrize("after", ["", "7", "abc", "a:b", ":1", "a:-1", "a:1:2", "oldest", 7, b"a:1"])
async def test_what_is_no_position_is_refused(hub: StreamHub, after: str) -> None:
    with pytest.raises(BadPositionError):
        hub.subscribe("e", after=after)
    assert hub.statistics().subscriptions == 0


async def test_an_unknown_way_to_meet_a_gap_is_refused(hub: StreamHub) -> None:
    on_gap: Any = "ignore"
    with pytest.raises(BadRequestError):
        hub.subscribe("e", on_gap=on_gap)


@pytest.mark.row("PYEV-04")
async def test_readers_that_attach_while_threads_publish_miss_and_repeat_nothing(make_hub: MakeHub) -> None:
    hub = make_hub(max_updates=100_000)
    threads = Threads(*[lambda: publish_many(hub, "e", range(1_500))] * 4).start()
    readers: list[asyncio.Task[list[int]]] = []
    expected = 4 * 1_500 + 2

    async def read() -> list[int]:
        return seqs(await collect(hub.subscribe("e")))

    for _ in range(25):
        readers.append(asyncio.create_task(read()))
        await asyncio.sleep(0.002)
    await threads.join()
    await hub.close("e")
    for reader in readers:
        assert await reader == upto(expected)


async def test_readers_that_come_and_go_while_threads_publish_lose_nothing(hub: StreamHub) -> None:
    threads = Threads(*[lambda: publish_many(hub, "e", range(1_000))] * 2).start()
    got: list[int] = []
    position = None
    while len(got) < 2_001:
        async with hub.subscribe("e", after=position) as subscription:
            got += [record.seq for record in (await page(subscription, 23)).records]
            position = subscription.position
    await threads.join()
    assert got == upto(2_001)
