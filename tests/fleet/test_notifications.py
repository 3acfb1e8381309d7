"""Notifications are dropped, doubled, reordered, too large, or come while a reader begins: it misses nothing."""

import asyncio
import random
import time

import pytest

from lg_streaming.hub import StreamHub
from lg_streaming.hub.carry import read_when_available
from tests.fleet.harness import CHECK_INTERVAL, Observing, Producing, Reading, check_everything, process, until
from tests.fleet.resp import Edit, NotificationFilter, double_some, drop_all, drop_some, swap_some
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import tcp_proxy


def url_of(port: int) -> str:
    return f"redis://127.0.0.1:{port}"


@pytest.mark.parametrize("edit", [drop_all, drop_some, double_some, swap_some], ids=lambda each: each.__name__)
async def test_unreliable_notifications(shared_redis: RedisServer, redis_prefix: str, edit: Edit, scale: int) -> None:
    async with tcp_proxy(shared_redis.port) as proxy:
        proxy.new_filter = lambda: NotificationFilter(edit)
        async with (
            process(shared_redis.url, redis_prefix) as writer,
            process(url_of(proxy.port), redis_prefix) as other,
        ):
            await asyncio.to_thread(writer.open, "a")
            readings = [Reading(other, "a"), Reading(other, "a", limit=3)]
            last = await Producing(writer, "a", count=300 * scale, pause=0.002).finish()
            await writer.close("a")
            for reading in readings:
                await reading.end()
                check_everything(reading, last)


async def test_a_dropped_notification_costs_one_check_interval(shared_redis: RedisServer, redis_prefix: str) -> None:
    async with tcp_proxy(shared_redis.port) as proxy:
        dropping = False
        proxy.new_filter = lambda: NotificationFilter(lambda messages: [] if dropping else messages)
        async with (
            process(shared_redis.url, redis_prefix) as writer,
            process(url_of(proxy.port), redis_prefix) as other,
        ):
            await asyncio.to_thread(writer.open, "a")
            reading = Reading(other, "a")
            writer.publish("a", "step", {"n": 1})
            await reading.reach(1)
            dropping = True
            writer.publish("a", "step", {"n": 2})
            await writer.writer.flush()
            began = time.monotonic()
            await reading.reach(2)
            assert time.monotonic() - began < CHECK_INTERVAL + 0.3
            await writer.close("a")
            await reading.end()
            check_everything(reading, 2)


async def test_notifications_larger_than_their_limit(shared_redis: RedisServer, redis_prefix: str) -> None:
    """Notifications contain up to 64 KiB of updates; readers fetch larger ones."""
    async with process(shared_redis.url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        readings = [Reading(other, "a"), Reading(writer, "a")]
        for number in range(1, 61):
            writer.publish("a", "step", {"n": number, "pad": "x" * (70_000 if number % 3 else 10)})
            if number % 5 == 0:
                await asyncio.sleep(0.003)
        await writer.close("a")
        for reading in readings:
            await reading.end()
            check_everything(reading, 60)


async def test_readers_attach_while_another_process_appends(
    shared_redis: RedisServer, redis_prefix: str, scale: int
) -> None:
    async with process(shared_redis.url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
        readings: list[Reading] = []
        for number in range(6 * scale):  # before the first update, during them, and after the last
            name = f"a{number}"
            mine = [Reading(other, name)]
            await asyncio.to_thread(writer.open, name)
            producing = Producing(writer, name, count=400, pause=0)
            for _ in range(6):
                await asyncio.sleep(random.uniform(0, 0.004))
                mine.append(Reading(other, name, limit=random.choice([1, 50, 500])))
            await producing.finish()
            await writer.close(name)
            mine.append(Reading(other, name))
            for reading in mine:
                await reading.end()
                check_everything(reading, 400)
            readings += mine


async def test_the_first_update_wakes_all_readers_that_wait(shared_redis: RedisServer, redis_prefix: str) -> None:
    """Readers wait for executions that do not exist yet. Those of them come and go while it begins.

    Comparisons are too rare to help.
    """
    async with (
        process(shared_redis.url, redis_prefix) as writer,
        process(shared_redis.url, redis_prefix, check_interval=60) as other,
    ):
        for number in range(30):
            name = f"a{number}"
            waiting = [Reading(other, name) for _ in range(3)]
            await asyncio.sleep(random.uniform(0, 0.003))
            writer.open(name)
            writer.publish(name, "step", {"n": 1})
            waiting += [Reading(other, name) for _ in range(3)]
            await writer.close(name)
            for reading in waiting:
                await reading.end(5)
                check_everything(reading, 1)


async def test_readers_that_come_and_go(shared_redis: RedisServer, redis_prefix: str, scale: int) -> None:
    """A storm of subscriptions to one execution, each of which continues where the one before it was."""
    async with process(shared_redis.url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        producing = Producing(writer, "a", count=500 * scale, pause=0.001)

        async def hop() -> list[int]:
            position, got, ended = None, list[int](), False
            while not ended:
                async with other.subscribe("a", after=position) as subscription:
                    for _ in range(random.randint(0, 2)):
                        page = await read_when_available(subscription.next_page, random.choice([1, 10, 500]))
                        assert page.gap is None
                        got += [each.seq for each in page.records]
                        position, ended = page.position, page.ended
                        if ended:
                            break
                await asyncio.sleep(0)
            return got

        hops = [asyncio.create_task(hop()) for _ in range(5)]
        last = await producing.finish()
        await writer.close("a")
        for got in await asyncio.wait_for(asyncio.gather(*hops), 20 * scale):
            assert got == list(range(1, last + 3))


# ---------------------------------------------------------------- readers of all executions


async def test_an_observer_gets_what_came_while_notifications_were_lost(
    redis_of_this_test: RedisServer, redis_prefix: str
) -> None:
    """Executions that run on, begin, end, or begin and end, and then are silent."""
    server = redis_of_this_test
    async with (
        tcp_proxy(server.port) as proxy,
        process(server.url, redis_prefix) as writer,
        process(url_of(proxy.port), redis_prefix) as other,
    ):
        for name in ("quiet", "old", "runs", "ends"):
            writer.open(name)
        writer.publish("quiet", "step", {"n": 1})
        writer.publish("old", "step", {"n": 1})
        await writer.writer.flush()
        observing = Observing(other)
        await observing.ready()
        for name in ("runs", "ends"):
            writer.publish(name, "step", {"n": 1})
        await writer.writer.flush()
        for name in ("runs", "ends"):
            await observing.reach(name, 1)
        proxy.freeze()
        proxy.reset()
        for name in ("old", "runs", "ends", "begins"):
            writer.publish(name, "step", {"n": 2}, missing="open")
        await writer.close("ends")
        writer.publish("short", "step", {"n": 2}, missing="open")
        await writer.close("short")
        await writer.writer.flush()
        proxy.thaw()
        for name in ("old", "runs", "ends", "begins", "short"):
            await observing.reach(name, 2)
        await until(lambda: "workflow_complete" in observing.types("short"), "the end")
        assert observing.steps("runs") == observing.steps("ends") == [1, 2]
        assert observing.steps("old") == observing.steps("begins") == observing.steps("short") == [2]
        assert observing.types("ends")[-1] == "workflow_complete"
        assert observing.types("begins") == ["workflow_start", "step"]
        for name in ("old", "runs"):
            writer.publish(name, "step", {"n": 3})
        await observing.reach("old", 3)
        assert observing.steps("old") == [2, 3]
        assert observing.types("quiet") == []
        observing.close()


async def test_an_observer_gets_what_silently_dropped_notifications_were_about(
    shared_redis: RedisServer, redis_prefix: str
) -> None:
    async with tcp_proxy(shared_redis.port) as proxy:
        dropping = False
        proxy.new_filter = lambda: NotificationFilter(lambda messages: [] if dropping else messages)
        async with (
            process(shared_redis.url, redis_prefix) as writer,
            process(url_of(proxy.port), redis_prefix) as other,
        ):
            observing = Observing(other)
            await observing.ready()
            writer.publish("a", "step", {"n": 1}, missing="open")
            await observing.reach("a", 1)
            dropping = True
            writer.publish("a", "step", {"n": 2})
            writer.publish("b", "step", {"n": 1}, missing="open")
            await writer.close("b")
            await observing.reach("a", 2)
            await observing.reach("b", 1)
            dropping = False
            writer.publish("a", "step", {"n": 3})
            await observing.reach("a", 3)
            assert observing.steps("a") == [1, 2, 3]
            assert observing.types("b") == ["workflow_start", "step", "workflow_complete"]
            observing.close()


async def test_a_position_that_is_newer_than_what_a_process_knows(shared_redis: RedisServer, redis_prefix: str) -> None:
    """A client goes from one process to another, which has not been notified yet: nothing is missing."""
    async with tcp_proxy(shared_redis.port) as proxy:
        dropping = False
        proxy.new_filter = lambda: NotificationFilter(lambda messages: [] if dropping else messages)
        async with (
            process(shared_redis.url, redis_prefix) as writer,
            process(url_of(proxy.port), redis_prefix, check_interval=60) as other,
        ):
            await asyncio.to_thread(writer.open, "a")
            here, there = Reading(writer, "a"), Reading(other, "a")
            writer.publish("a", "step", {"n": 1})
            await there.reach(1)
            dropping = True
            writer.publish("a", "step", {"n": 2})
            await here.reach(2)
            moved = Reading(other, "a", after=here.position)
            await there.reach(2)  # the new reader has shown that updates are there
            assert moved.items == []
            await other.log.drop("a")
            writer.publish("a", "step", {"n": 3})
            await here.reach(3)
            position = here.position
            async with other.subscribe("a", after=position) as subscription:
                result = await subscription.start()
                assert result.recovered
                assert result.position == position
            for reading in (here, there, moved):
                await reading.stop()


async def test_readers_that_wait_are_woken_while_another_one_begins(
    shared_redis: RedisServer, redis_prefix: str
) -> None:
    """The notification of the first update comes while a second reader reads the execution for the first time."""
    async with (
        tcp_proxy(shared_redis.port) as proxy,
        process(shared_redis.url, redis_prefix) as writer,
        process(url_of(proxy.port), redis_prefix, check_interval=60) as other,
    ):
        waiting = Reading(other, "a")
        await other.log.read("a", 0, 1)  # a round trip after that of the reader
        await asyncio.sleep(0.05)
        proxy.freeze()
        beginning = Reading(other, "a")
        await asyncio.sleep(0.05)  # its request has arrived at the proxy
        writer.open("a")
        await writer.writer.flush()
        proxy.delay = 0.05  # the answer comes after the notification
        proxy.thaw()
        for reading in (beginning, waiting):
            await until(lambda reading=reading: reading.types == ["workflow_start"], "the first update", 3)
        proxy.delay = 0
        for reading in (beginning, waiting):
            await reading.stop()


async def test_a_read_does_not_get_the_answer_of_an_earlier_one(shared_redis: RedisServer, redis_prefix: str) -> None:
    """Equal reads share a request only before it is sent: a later reader knows of updates that came after it."""
    async with (
        tcp_proxy(shared_redis.port) as proxy,
        process(shared_redis.url, redis_prefix) as writer,
        process(url_of(proxy.port), redis_prefix) as other,
    ):
        assert await other.log.read("a", 0, 10) is None
        proxy.delay = 0.2
        early = asyncio.create_task(asyncio.to_thread(asyncio.run, read_once(other, "a")))
        await asyncio.sleep(0.1)
        writer.open("a")
        await writer.writer.flush()
        late = await other.log.read("a", 0, 10)
        assert late is not None
        assert [record.type for record in late.records] == ["workflow_start"]
        assert await early == 0
        proxy.delay = 0


async def read_once(hub: StreamHub, execution_id: str) -> int:
    found = await hub.log.read(execution_id, 0, 10)
    return len(found.records) if found is not None else 0
