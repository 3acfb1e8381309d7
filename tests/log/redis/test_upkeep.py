"""The index after many executions, and what short lives leave behind."""

# pyright: reportPrivateUsage=false

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable

import pytest

from lg_streaming.log.base import Start
from lg_streaming.log.redis.index import ExecutionIndex
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.settings import RedisSettings, RetentionSettings
from tests.hub.helpers import until
from tests.log.drafts import Producer
from tests.log.harness import Clock
from tests.support.redis_server import RedisServer

Make = Callable[..., RedisLog]


@pytest.fixture
async def make(shared_redis: RedisServer, redis_prefix: str) -> AsyncGenerator[Make]:
    logs: list[RedisLog] = []

    def make(**options: object) -> RedisLog:
        log = RedisLog(shared_redis.url, redis=RedisSettings(prefix=redis_prefix), **options)  # pyright: ignore[reportArgumentType]
        logs.append(log)
        return log

    yield make
    for log in logs:
        await log.aclose()


async def append(log: RedisLog, *execution_ids: str) -> None:
    batches = [Producer(log, each).batch("note") for each in execution_ids]
    results = await asyncio.to_thread(log.append_all, batches)
    assert not any(isinstance(result, Exception) for result in results)


async def test_a_process_lists_what_it_has_appended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of owners follows an append in the background."""
    add_owner = ExecutionIndex.add_owner

    async def add_later(index: ExecutionIndex, start: Start, owner: str) -> None:
        await asyncio.sleep(0.05)
        await add_owner(index, start, owner)

    monkeypatch.setattr(ExecutionIndex, "add_owner", add_later)
    log = make()
    batches = [Producer(log, each).batch("note")._replace(owner="ann") for each in ("a", "b")]
    await asyncio.to_thread(log.append_all, batches)
    assert await log.list_ids(owner="ann") == ["a", "b"]
    assert {each.execution_id for each in await log.list_newest(owner="ann")} == {"a", "b"}
    await asyncio.to_thread(log.append_all, [Producer(log, "c").batch("note")._replace(owner="ann")])
    listing = asyncio.create_task(log.list_ids(owner="ann"))
    await asyncio.sleep(0.01)
    listing.cancel()  # it leaves the change alone
    assert await log.list_ids(owner="ann") == ["a", "b", "c"]
    await asyncio.to_thread(log.append_all, [Producer(log, "d").batch("note")._replace(owner="ann")])
    await log.drop("d")  # and not before the change
    assert await log.list_ids(owner="ann") == ["a", "b", "c"]


async def test_one_sweep_removes_all_that_has_expired(make: Make, shared_redis: RedisServer, redis_prefix: str) -> None:
    clock = Clock()
    log = make(clock=clock, retention=RetentionSettings(record_ttl=60))
    gone = [f"gone-{number}" for number in range(1_234)]
    await append(log, *gone)
    clock.now += 61
    await append(log, "kept")
    with shared_redis.client() as client:
        client.delete(*(log.keys.execution(each).state for each in gone))
        await log._io.run(log._index.sweep())
        assert list(await log.executions()) == ["kept"]
        assert client.zcard(log.keys.due) == 1


async def test_an_execution_that_begins_again_during_a_sweep_stays_in_the_index(
    make: Make, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    log, other = make(clock=clock), make(clock=clock)
    await append(log, "e")
    with shared_redis.client() as client:
        client.delete(log.keys.execution("e").state)
    clock.now += 100_000
    remove = log._index.remove

    async def begin_and_remove(execution_id: str) -> None:
        await append(other, execution_id)
        await remove(execution_id)

    monkeypatch.setattr(log._index, "remove", begin_and_remove)
    await log._io.run(log._index.sweep())
    assert list(await log.executions()) == ["e"]


async def test_an_execution_that_expired_begins_again_without_a_warning(
    make: Make, shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    log = make(clock=clock, retention=RetentionSettings(record_ttl=60))
    producer = Producer(log)
    for seconds, warnings in ((61, 0), (1, 1)):  # it expired; Redis has lost it
        await asyncio.to_thread(log.append, producer.batch("note"))
        with shared_redis.client() as client:
            client.delete(log.keys.execution("e").state)
        clock.now += seconds
        await asyncio.to_thread(log.append, producer.batch("note"))
        assert sum("has lost updates" in record.getMessage() for record in caplog.records) == warnings


async def test_short_lives_leave_no_lease(make: Make, shared_redis: RedisServer, redis_prefix: str) -> None:
    for number in range(30):
        log = make()
        await append(log, f"e{number}")
        await asyncio.sleep(number / 10_000)  # the close comes before, during and after the first renewal
        await log.aclose()
    with shared_redis.client() as client:
        assert client.zcard(f"{redis_prefix}:processes") == 0
        for kind in ("process", "runs", "mail"):
            assert client.keys(f"{redis_prefix}:{kind}:*") == []


async def test_the_last_reader_of_all_executions_ends_the_subscription(make: Make, shared_redis: RedisServer) -> None:
    log, notified = make(), list[str]()
    with shared_redis.client() as client:

        def subscribed() -> bool:
            return client.pubsub_numsub(log.keys.all_updates)[0][1] == 1

        for number in range(3):
            first = log.listen_positions(lambda execution_id, _before: notified.append(execution_id))
            second = log.listen_positions(lambda _execution_id, _before: None)
            await log.ready()
            second()
            assert subscribed()
            await append(log, f"e{number}")
            await until(lambda number=number: notified == [f"e{each}" for each in range(number + 1)])
            first()
            await until(lambda: not subscribed())
        log.listen_positions(lambda _execution_id, _before: None)()  # removed before the subscription was made
        await append(log, "last")
        assert not subscribed()
    assert log._follower.available
    remove = log.listen_positions(lambda _execution_id, _before: None)
    await log.aclose()
    remove()
    assert not [each for each in threading.enumerate() if each.name == "lg-streaming-redis"]
