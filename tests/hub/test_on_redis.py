"""A hub's writer on a real Redis: rounds, faults of the server, and runs and owners of two processes."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from functools import partial
from typing import Any

import pytest

from lg_streaming.hub import StreamHub
from lg_streaming.log.base import PendingUpdate, StoredUpdate
from lg_streaming.log.redis import RedisLog
from lg_streaming.publisher import Scope
from lg_streaming.settings import StreamingSettings
from tests.hub.helpers import Threads, publish_many, until
from tests.hub.test_drops import dropped
from tests.support.redis_server import RedisServer, redis_server

MakeProcess = Callable[..., StreamHub]


@pytest.fixture
async def make_process(shared_redis: RedisServer, redis_prefix: str) -> AsyncGenerator[MakeProcess]:
    """Makes hubs that share a log as those of several processes do."""
    hubs: list[StreamHub] = []

    def make(server: RedisServer = shared_redis, **limits: int) -> StreamHub:
        settings: Any = {"log": server.url, "redis": {"prefix": redis_prefix}, "limits": limits}
        hubs.append(StreamHub(StreamingSettings.model_validate(settings)))
        return hubs[-1]

    yield make
    for hub in hubs:
        await hub.aclose()


@pytest.fixture
def own_redis() -> Generator[RedisServer]:
    with redis_server() as server:
        yield server


async def stored(hub: StreamHub, execution_id: str) -> list[StoredUpdate]:
    records: list[StoredUpdate] = []
    while page := await hub.log.read(execution_id, records[-1].seq if records else 0, 500):
        if not page.records:
            break
        records += page.records
    return records


async def types(hub: StreamHub, execution_id: str) -> list[str]:
    return [record.type for record in await stored(hub, execution_id)]


async def data(hub: StreamHub, execution_id: str) -> list[object]:
    return [record.update.data for record in await stored(hub, execution_id) if record.type == "token"]


async def abandon_elsewhere(hub: StreamHub, other: StreamHub, execution_id: str) -> None:
    """End the run as another process does that finds the first one dead."""
    await hub.writer.flush()
    assert isinstance(hub.log, RedisLog)
    assert isinstance(other.log, RedisLog)

    def final(run_id: str) -> PendingUpdate:
        (draft,) = other.writer.encoder.encode(
            other.registry.get_or_create(execution_id),
            "workflow_abandoned",
            {},
            Scope(run_id=run_id),
            None,
            by_hub=True,
        )
        return draft

    assert hub.log.fleet is not None
    assert await other.log.end_for(execution_id, hub.log.fleet.process_id, final)


async def test_many_executions_from_threads(make_process: MakeProcess) -> None:
    hub = make_process()
    names = [f"e{number}" for number in range(40)]

    def publish(dice: random.Random, name: str) -> None:
        for number in range(100):
            hub.publish(name, "token", number)
            hub.publish(dice.choice(names), "note", number)

    await Threads(*(partial(publish, random.Random(at), name) for at, name in enumerate(names[:4]))).start().join()
    await asyncio.gather(*(hub.close(name) for name in names))
    total = 0
    for name in names:
        records = await stored(hub, name)
        total += len(records)
        assert [record.seq for record in records] == list(range(1, len(records) + 1))
        if name in names[:4]:
            assert await data(hub, name) == list(range(100))
    statistics = hub.statistics()
    assert total == statistics.published
    assert (statistics.lost, statistics.waiting, statistics.append_failures) == (0, 0, 0)
    assert statistics.append_seconds.count < statistics.append_batches < total


@pytest.mark.parametrize("fault", ["paused", "killed"])
async def test_a_server_that_is_away_for_a_while(make_process: MakeProcess, own_redis: RedisServer, fault: str) -> None:
    hub = make_process(own_redis)
    publish_many(hub, "e", range(100))
    await hub.writer.flush()
    if fault == "paused":
        own_redis.pause()
    else:
        await asyncio.to_thread(own_redis.execute, "SAVE")
        own_redis.kill()
    publish_many(hub, "e", range(100, 200))
    publish_many(hub, "f", range(100))
    hub.publish("f", "note", "spare", delivery="at-most-once")
    if fault == "killed":
        await until(lambda: hub.health().status == "log_unavailable")
        await asyncio.to_thread(own_redis.restart, keep_data=True)
    else:
        own_redis.resume()
    await asyncio.gather(hub.close("e"), hub.close("f"))
    assert await data(hub, "e") == list(range(200))
    assert await data(hub, "f") == list(range(100))
    assert hub.health().status == "ok"
    assert (hub.statistics().lost, hub.statistics().waiting) == (0, 0)


async def test_clients_whose_connections_are_killed_lose_and_repeat_nothing(
    make_process: MakeProcess, own_redis: RedisServer
) -> None:
    hub = make_process(own_redis)
    publishing = Threads(*(partial(publish_many, hub, name, range(400)) for name in "abcd")).start()
    for _ in range(15):
        await asyncio.to_thread(own_redis.execute, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await publishing.join()
    await asyncio.gather(*(hub.close(name) for name in "abcd"))
    for name in "abcd":
        assert await data(hub, name) == list(range(400))
    assert hub.statistics().lost == 0


async def test_losses_are_counted_exactly(make_process: MakeProcess, own_redis: RedisServer) -> None:
    hub = make_process(own_redis, producer_buffer_updates=50)
    hub.open("e")
    await hub.writer.flush()
    await asyncio.to_thread(own_redis.execute, "SAVE")
    own_redis.kill()
    for number in range(100):
        hub.publish("e", "token", number)
        hub.publish("e", "note", number, delivery="at-most-once")
    await asyncio.to_thread(own_redis.restart, keep_data=True)
    await hub.writer.flush()
    hub.publish("e", "token", 100)
    await hub.close("e")
    records = await stored(hub, "e")
    kept = Counter(record.type for record in records)
    (notice,) = [record.update.data["count"] for record in records if record.type == "updates_lost"]
    assert kept["token"] + notice == 101
    assert kept["note"] + hub.statistics().dropped_at_most_once == 100
    assert hub.statistics().lost == notice


async def test_a_run_that_was_ended_by_another_process_is_closed(make_process: MakeProcess) -> None:
    hub, other = make_process(), make_process()
    reasons: list[str | None] = []
    hub.on_cancel("e", reasons.append)
    publish_many(hub, "e", range(3))
    await abandon_elsewhere(hub, other, "e")
    publish_many(hub, "e", range(3, 6))
    await hub.writer.flush()
    assert await types(other, "e") == ["workflow_start", "token", "token", "token", "workflow_abandoned"]
    assert dropped(hub) == {"refused": 3}
    assert hub.statistics().running == 0
    await until(lambda: len(reasons) == 1)
    hub.open("e")
    publish_many(hub, "e", [6])
    await hub.close("e")
    assert await data(other, "e") == [0, 1, 2, 6]
    assert (await types(other, "e"))[-1] == "workflow_complete"


async def test_an_owner_of_another_process_is_kept(make_process: MakeProcess) -> None:
    hub, other = make_process(), make_process()
    hub.open("e", owner="alice")
    await hub.close("e")
    other.open("e", owner="mallory")
    publish_many(other, "e", range(3))
    await other.writer.flush()
    state = await hub.describe("e")
    assert state is not None
    assert (state.owner, state.head) == ("alice", 2)
    assert dropped(other) == {"refused": 4}
    other.open("e", owner="alice")
    publish_many(other, "e", [1])
    await other.close("e")
    assert await data(hub, "e") == [1]


async def test_the_last_update_is_in_the_log_when_it_is_closed_and_a_restart_connects_anew(
    make_process: MakeProcess,
) -> None:
    hub, other = make_process(), make_process()
    publish_many(hub, "e", range(500))
    await hub.lifespan.restart()
    assert await data(other, "e") == list(range(500))
    publish_many(hub, "f", range(10))
    await hub.close("f")
    assert await data(other, "f") == list(range(10))
    assert hub.statistics().lost == 0
