"""Readers that wait for an execution cost Redis no requests, and get its first updates from the notification."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import pytest

from lg_streaming.errors import LogUnavailableError
from lg_streaming.log.base import Batch, ReadResult, latest_state
from lg_streaming.log.redis import RedisLog
from lg_streaming.log.redis.watch import Watch
from lg_streaming.settings import RedisSettings
from tests.log.drafts import Producer, draft
from tests.support.redis_server import RedisServer


@pytest.fixture
async def logs(shared_redis: RedisServer, redis_prefix: str) -> AsyncGenerator[tuple[RedisLog, RedisLog]]:
    """Logs of two processes."""
    made = [RedisLog(shared_redis.url, redis=RedisSettings(prefix=redis_prefix)) for _ in range(2)]
    yield made[0], made[1]
    for log in made:
        await log.aclose()


@pytest.fixture
def fetches(logs: tuple[RedisLog, RedisLog], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Reads of Redis by the first log."""
    made: list[str] = []
    fetch = logs[0].reader.fetch

    def count(execution_id: str, after: int, limit: int) -> object:
        made.append(execution_id)
        return fetch(execution_id, after, limit)

    monkeypatch.setattr(logs[0].reader, "fetch", count)
    return made


async def test_a_reader_waits_without_requests(logs: tuple[RedisLog, RedisLog], fetches: list[str]) -> None:
    log, other = logs
    loop, notified = asyncio.get_running_loop(), asyncio.Event()

    def notify(_: str) -> None:
        loop.call_soon_threadsafe(notified.set)

    log.listen(notify)
    unwatch = log.watch("e")
    assert await log.read("e", 0, 10) is None
    assert len(fetches) == 1
    assert [await log.read("e", 0, 10) for _ in range(3)] == [None] * 3
    assert len(fetches) == 1
    producer = Producer(other)
    await asyncio.to_thread(other.append, producer.batch("workflow_start", "token"))
    await asyncio.wait_for(notified.wait(), 10)
    found = await log.read("e", 0, 10)
    assert found is not None
    assert [record.type for record in found.records] == ["workflow_start", "token"]
    assert len(fetches) == 1
    assert found.state == await other.state("e")
    unwatch()


@pytest.mark.parametrize("type", ["token", "workflow_complete", "workflow_interrupted", "workflow_progress"])
async def test_the_first_notification_makes_the_state(logs: tuple[RedisLog, RedisLog], type: str) -> None:
    log, other = logs
    unwatch = log.watch("e")
    assert await log.read("e", 0, 10) is None
    await asyncio.to_thread(other.append, Producer(other).batch(type))
    found = await read_when_there(log)
    assert found.state == await other.state("e")
    unwatch()


async def test_a_position_is_looked_up(logs: tuple[RedisLog, RedisLog], fetches: list[str]) -> None:
    log, _ = logs
    unwatch = log.watch("e")
    assert await log.read("e", 0, 10) is None
    assert await log.read("e", 5, 10) is None  # of a process that may know more
    assert await log.state("e") is None
    assert len(fetches) == 3
    unwatch()


async def test_a_reader_gets_what_a_lookup_has_found(
    logs: tuple[RedisLog, RedisLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position or a state that is newer than the notifications counts for the next read from the beginning."""
    log, other = logs
    unwatch = log.watch("e")
    assert await log.read("e", 0, 10) is None
    monkeypatch.setattr(Watch, "apply", _ignore)  # the notification is late
    await asyncio.to_thread(other.append, Producer(other).batch("workflow_start", "token"))
    assert await log.read("e", 0, 10) is None
    assert await log.state("e") == await other.state("e")
    found = await log.read("e", 0, 10)
    assert found is not None
    assert found.state.head == 2
    unwatch()


async def test_a_process_reads_what_it_has_appended(
    logs: tuple[RedisLog, RedisLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = logs
    unwatch = log.watch("e")
    assert await log.read("e", 0, 10) is None
    monkeypatch.setattr(Watch, "apply", _ignore)  # the notification is late
    await asyncio.to_thread(log.append, Producer(log).batch("workflow_start"))
    found = await log.read("e", 0, 10)
    assert found is not None
    assert found.state.head == 1
    unwatch()


@pytest.mark.parametrize("end", ["workflow_complete", "workflow_interrupted"])
async def test_a_process_reads_the_start_after_an_end(
    logs: tuple[RedisLog, RedisLog], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """A reader that opens right after a start must not take the end of the run before for the end."""
    log, other = logs
    unwatch = log.watch("e")
    producer = Producer(log)
    await asyncio.to_thread(log.append, producer.batch("workflow_start", end))
    before = await log.read("e", 0, 10)
    assert before is not None
    monkeypatch.setattr(Watch, "apply", _ignore)  # the notifications are late
    await asyncio.to_thread(log.append, producer.batch("workflow_start"))
    found = await log.read("e", before.state.head, 10)
    assert found is not None
    assert [record.type for record in found.records] == ["workflow_start"]
    assert await log.state("e") == found.state == await other.state("e")
    unwatch()


@pytest.mark.parametrize("change", ["workflow_complete", "workflow_error", "workflow_interrupted", "human_prompt"])
async def test_a_process_knows_the_changes_that_it_has_appended(
    logs: tuple[RedisLog, RedisLog], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    log, other = logs
    unwatch = log.watch("e")
    producer = Producer(log)
    await asyncio.to_thread(log.append, producer.batch("workflow_start", "token"))
    assert await log.state("e") is not None
    monkeypatch.setattr(Watch, "apply", _ignore)
    await asyncio.to_thread(log.append, producer.batch(change))
    assert await log.state("e") == await other.state("e")
    await asyncio.to_thread(log.append, producer.batch("token"))
    assert await log.state("e") == await other.state("e")
    unwatch()


async def test_a_process_knows_what_it_has_taken_or_dropped(
    logs: tuple[RedisLog, RedisLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = logs
    unwatch = log.watch("e")
    asks = [draft(each, run_id="r1") for each in ("workflow_start", "workflow_interrupted")]
    await asyncio.to_thread(other.append, Batch("e", asks, "p", 1))
    before = await log.state("e")
    assert before is not None
    monkeypatch.setattr(Watch, "apply", _ignore)
    assert await log.take_over("e", before.process) is not None
    taken = await log.state("e")
    assert taken is not None
    assert taken.process == log.fleet.process_id != before.process
    await log.drop("e")
    assert await log.state("e") is None
    unwatch()


async def test_the_latest_state_has_what_others_have_just_appended(
    logs: tuple[RedisLog, RedisLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = logs
    unwatch = log.watch("e")
    producer = Producer(other)
    await asyncio.to_thread(other.append, producer.batch("workflow_start", "workflow_complete"))
    before = await log.read("e", 0, 10)
    assert before is not None
    monkeypatch.setattr(Watch, "apply", _ignore)
    await asyncio.to_thread(other.append, producer.batch("workflow_start"))
    assert await latest_state(log, "e") == await other.state("e")
    found = await log.read("e", before.state.head, 10)  # from then on all readers have it
    assert found is not None
    assert [record.type for record in found.records] == ["workflow_start"]
    assert await latest_state(log, "unknown") is None
    unwatch()


async def test_tokens_of_this_process_cost_its_readers_no_requests(
    logs: tuple[RedisLog, RedisLog], fetches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, _ = logs
    unwatch = log.watch("e")
    producer = Producer(log)
    await asyncio.to_thread(log.append, producer.batch("workflow_start", "token"))
    assert await log.read("e", 0, 10) is not None
    monkeypatch.setattr(Watch, "apply", _ignore)
    fetches.clear()
    await asyncio.to_thread(log.append, producer.batch("token"))
    found = await log.read("e", 2, 10)
    assert found is not None
    assert found.records == []
    assert fetches == []
    unwatch()


async def test_the_first_append_of_a_process_is_notified_once(
    logs: tuple[RedisLog, RedisLog], fetches: list[str], shared_redis: RedisServer, redis_prefix: str
) -> None:
    """The first lease of a process, which it takes at that time, is not the sign of a loss of data."""
    log, _ = logs
    for index in range(40):
        name = f"e{index}"
        unwatch = log.watch(name)
        assert await log.read(name, 0, 10) is None
        new = RedisLog(shared_redis.url, redis=RedisSettings(prefix=redis_prefix))
        batch = Batch(name, [draft("workflow_start", execution_id=name, run_id="r1")], "p", 1)
        await asyncio.to_thread(new.append, batch)
        assert (await read_when_there(log, name)).state.head == 1
        await new.aclose()
        unwatch()
    assert len(fetches) == 40


async def test_an_execution_waits_again_after_it_was_dropped(
    logs: tuple[RedisLog, RedisLog], fetches: list[str]
) -> None:
    log, other = logs
    unwatch = log.watch("e")
    producer = Producer(other)
    epochs: list[str] = []
    for life in range(2):
        assert await log.read("e", 0, 10) is None
        assert len(fetches) == life + 1
        await asyncio.to_thread(other.append, producer.batch("workflow_start"))
        epochs.append((await read_when_there(log)).state.epoch)
        await other.drop("e")
        async with asyncio.timeout(10):
            while await log.read("e", 0, 10) is not None:
                await asyncio.sleep(0.005)
        assert len(fetches) == life + 2
    assert epochs[0] != epochs[1]
    unwatch()


async def test_a_waiting_reader_asks_again_after_a_reconnection(redis_of_this_test: RedisServer) -> None:
    log, other = (RedisLog(redis_of_this_test.url, redis=RedisSettings(prefix="w")) for _ in range(2))
    unwatch = log.watch("e")
    assert await log.read("e", 0, 10) is None
    redis_of_this_test.execute("CLIENT", "KILL", "TYPE", "pubsub")
    await asyncio.to_thread(other.append, Producer(other).batch("workflow_start"))
    assert (await read_when_there(log)).state.head == 1
    unwatch()
    for each in (log, other):
        await each.aclose()


def _ignore(_watch: Watch, _message: bytes) -> None:
    pass


async def read_when_there(log: RedisLog, execution_id: str = "e") -> ReadResult:
    """Read the execution from its beginning, when it has begun."""
    async with asyncio.timeout(10):
        while True:
            with suppress(LogUnavailableError):
                if (found := await log.read(execution_id, 0, 10)) is not None:
                    return found
            await asyncio.sleep(0.005)
