"""Another application that writes into the keys and channels of a log disturbs nothing else, and fills no log file."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
import redis

from lg_streaming.errors import LogUnavailableError, StreamingError
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.log.redis.rare_log import RareLog
from lg_streaming.settings import RedisSettings
from tests.hub.helpers import until
from tests.log.drafts import Producer
from tests.support.redis_server import RedisServer

TIMES = 20
ANYTHING = (b"rubbish", b"\xff\xfe 1 x \xff", b"[1,2]", b"{}", b"null", b'{"from":{},"topic":[]}', b"a\xff", b"")


class Place:
    """Two processes on one Redis, and a client that writes anything."""

    def __init__(self, server: RedisServer, prefix: str, client: redis.Redis) -> None:
        self.prefix = prefix
        self.client = client
        self.logs = [
            RedisLog(server.url, redis=RedisSettings(prefix=prefix, check_interval=0.1, lease=1.0)) for _ in "ab"
        ]
        self.writer, self.reader = self.logs

    def key(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    async def follow(self, execution_id: str) -> Callable[[], None]:
        """Append to an execution, and let the reader have its tail."""
        stop = self.reader.watch(execution_id)
        await self.append(execution_id)
        async with asyncio.timeout(10):
            await self.reader.read(execution_id, 0, 10)
        return stop

    async def append(self, execution_id: str) -> None:
        batch = Producer(self.writer, execution_id).batch("note")
        batch = batch._replace(producer=f"p{time.monotonic_ns()}")
        await asyncio.to_thread(self.writer.append, batch)

    async def check(self, execution_id: str = "good") -> None:
        """A reader still gets what is appended, by the connection that it had."""
        state = await self.reader.state(execution_id)
        assert state is not None
        await self.append(execution_id)
        async with asyncio.timeout(10):
            while not (found := await self.reader.read(execution_id, state.head, 10)) or not found.records:
                await asyncio.sleep(0.005)
        assert self.reader._follower.available


@pytest.fixture
async def place(shared_redis: RedisServer, redis_prefix: str) -> AsyncGenerator[Place]:
    with shared_redis.client() as client:
        place = Place(shared_redis, redis_prefix, client)
        yield place
        for log in place.logs:
            await log.aclose()


@pytest.fixture
async def followed(place: Place) -> AsyncGenerator[Place]:
    """With an execution that is read, and a reader of all."""
    remove = place.reader.listen_positions(lambda _execution_id, _before: None)
    await place.reader.ready()
    stop = await place.follow("good")
    await until(lambda: all(len(log.fleet.live) == len(place.logs) for log in place.logs))
    yield place
    stop()
    remove()


async def test_malformed_messages_disturb_nothing_and_are_logged_once(
    followed: Place, caplog: pytest.LogCaptureFixture
) -> None:
    connection = followed.reader._follower._notifications
    process_id = followed.reader.fleet.process_id
    mail = followed.key(f"mail:{{{process_id}}}")
    soon = round(time.time() * 1000) + 60_000
    for payload in ANYTHING * TIMES:
        followed.client.publish(followed.key("n"), payload)
        followed.client.publish(followed.key("fleet"), payload)
        followed.client.publish(followed.key(f"fleet:{process_id}"), payload)
        followed.client.execute_command("SPUBLISH", followed.key("{good}:n"), payload)
        followed.client.rpush(mail, payload, b"%d %b" % (soon, payload))
    followed.client.publish(followed.key(f"fleet:{process_id}"), b"m")
    await until(lambda: not followed.client.exists(mail))
    for _ in range(3):
        await followed.check()
    assert followed.reader._follower._notifications is connection
    assert 4 <= len(caplog.records) <= 10
    assert not any(record.exc_info for record in caplog.records)
    # a request between them is carried out
    followed.client.rpush(mail, *ANYTHING)
    followed.reader.fleet.on_request("double", _double)
    assert await followed.writer.fleet.request(process_id, "double", 4) == 8


async def _double(number: int) -> int:
    return 2 * number


async def test_a_handler_that_fails_often_is_logged_once(followed: Place, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[object] = []

    def fail(payload: Any) -> None:
        calls.append(payload)
        raise KeyError("a field of another version")

    followed.reader.fleet.on_message("news", fail)
    for _ in range(TIMES):
        followed.writer.fleet.publish("news", {})
    await until(lambda: len(calls) == TIMES)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == [
        "a handler of messages 'news' failed: KeyError: 'a field of another version'"
    ]


BAD: dict[str, Callable[[redis.Redis, str], object]] = {
    "another type": lambda client, start: client.set(f"{start}:x", "text"),
    "no number": lambda client, start: client.hset(f"{start}:x", mapping={"e": "e", "h": "many", "l": "1"}),
    "a part": lambda client, start: client.hset(f"{start}:x", mapping={"e": "e", "h": "3"}),
    "no text": lambda client, start: client.hset(f"{start}:x", mapping={"e": b"\xff", "h": "3"}),
}


@pytest.mark.parametrize("write", BAD.values(), ids=BAD)
async def test_an_unreadable_execution_disturbs_no_other(
    followed: Place, write: Callable[[redis.Redis, str], object], caplog: pytest.LogCaptureFixture
) -> None:
    connection = followed.reader._follower._notifications
    write(followed.client, followed.key("{bad}"))
    stop = followed.reader.watch("bad")
    for _ in range(3):
        with pytest.raises(StreamingError, match="cannot be read"):
            await followed.reader.read("bad", 0, 10)
    followed.client.publish(followed.key("n"), "e 0 3 bad")
    followed.client.zadd(followed.key("due"), {"bad": (time.time() + 86_400) * 1000})
    for _ in range(5):
        await _compare(followed.reader, again=False)
        await followed.check()
    await _compare(followed.reader, again=True)
    await followed.check()
    assert followed.reader._follower._notifications is connection
    assert len(caplog.records) <= 3
    heads = await followed.reader._io.run(followed.reader.reader.fetch_heads(["bad", "good"]))
    assert heads["good"] is not None  # what it has missed is found
    held = await followed.reader._io.run(followed.reader._repair._held(["bad", "good"], ["p", "p"]))
    assert held[3] == heads["good"].epoch.encode()
    stop()


async def test_a_chunk_that_is_cut_is_an_error_of_its_execution(followed: Place) -> None:
    await followed.append("cut")
    followed.client.xadd(followed.key("{cut}:u"), {"n": 3, "r": b"\x00cut"}, id="100-0")
    followed.client.hset(followed.key("{cut}:x"), "h", 100)
    with pytest.raises(StreamingError, match="cannot be read") as raised:
        await followed.reader.read("cut", 0, 10)
    assert raised.value.execution_id == "cut"
    assert not isinstance(raised.value, LogUnavailableError)
    await followed.check()


@pytest.mark.parametrize("name", ["due", "ids", "owners"])
async def test_a_key_of_another_type_disturbs_no_reader(followed: Place, name: str) -> None:
    followed.client.delete(followed.key(name))
    followed.client.set(followed.key(name), "text")
    connection = followed.reader._follower._notifications
    for _ in range(3):
        await _compare(followed.reader, again=False)
        await followed.check()
    assert followed.reader._follower._notifications is connection


async def test_malformed_processes_are_left_out(followed: Place) -> None:
    late = time.time() * 1000 + 3_600_000
    followed.client.zadd(followed.key("processes"), {b"\xff\xfe": late, b"\xff": 5, b"half": late, b"gone": 5})
    followed.client.hset(
        followed.key("process:{half}"),
        mapping={"host": "h", "pid": "p", "version": "v", "started": "1", "seen": "2", "report": "{"},
    )
    found = await followed.reader.fleet.processes()
    assert {each.process_id for each in found} == {log.fleet.process_id for log in followed.logs}
    await until(lambda: followed.client.zscore(followed.key("processes"), "gone") is None)  # it was reaped
    followed.client.zrem(followed.key("processes"), "half", b"\xff\xfe", b"\xff")


async def test_members_of_the_index_that_are_no_ids_are_left_out_and_swept(followed: Place) -> None:
    followed.client.zadd(followed.key("ids"), {b"\xff": 0, b"a\xff": 0})
    followed.client.zadd(followed.key("due"), {b"\xff": 0, b"a\xff": 0, b"never": 0})
    assert list(await followed.reader.executions()) == ["good"]
    await _on_io(followed.reader, followed.reader._index.sweep)
    assert followed.client.zrange(followed.key("ids"), 0, -1) == [b"good"]
    assert followed.client.zrange(followed.key("due"), 0, -1) == [b"good"]


async def _compare(log: RedisLog, *, again: bool) -> None:
    await _on_io(log, lambda: log._follower._compare(again=again))


async def _on_io(log: RedisLog, work: Callable[[], Any]) -> None:
    await log._io.run(_awaited(work))


async def _awaited(work: Callable[[], Awaitable[object]]) -> None:
    await work()


def test_a_repeated_problem_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 1.0, 59.0, 60.0, 61.0, 62.0])
    rare = RareLog(logging.getLogger("test"), clock=lambda: next(times))
    for _ in range(5):
        rare.note("a message is malformed", ValueError("it is no JSON"))
    rare.note("another", "of which there are many")
    assert [record.getMessage() for record in caplog.records] == [
        "a message is malformed: ValueError: it is no JSON",
        "a message is malformed: ValueError: it is no JSON (2 more since the last such line)",
        "another: of which there are many",
    ]
