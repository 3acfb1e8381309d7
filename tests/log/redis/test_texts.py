"""Texts that UTF-8 cannot encode reach a log from clients: the JSON of `json` has lone surrogates."""

# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncGenerator

import pytest

from lg_streaming.errors import BadRequestError
from lg_streaming.hub import StreamHub
from lg_streaming.log.fleet import RateLimit
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.settings import RedisSettings
from tests.hub.helpers import collect, types
from tests.support.redis_server import RedisServer

LONE = "a\ud800b"


@pytest.fixture
async def log(shared_redis: RedisServer, redis_prefix: str) -> AsyncGenerator[RedisLog]:
    log = RedisLog(shared_redis.url, redis=RedisSettings(prefix=redis_prefix))
    yield log
    await log.aclose()


@pytest.fixture
async def hub(log: RedisLog) -> AsyncGenerator[StreamHub]:
    hub = StreamHub(log=log)
    yield hub
    await hub.aclose()


async def test_an_update_loses_no_other(hub: StreamHub, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BadRequestError, match="surrogate"):
        hub.open("e", owner=LONE)
    hub.open("e")
    with pytest.raises(BadRequestError, match="surrogate"):
        hub.publish("e", "note", {}, key=LONE)
    hub.publish("e", LONE, {LONE: LONE})
    hub.publish("e", "note", {})
    await hub.close("e", LONE, reason=LONE)
    assert types(await collect(hub.subscribe("e"))) == ["workflow_start", "a\ufffdb", "note", "workflow_complete"]
    assert not caplog.records


async def test_a_run_is_cancelled(hub: StreamHub) -> None:
    hub.open("cancelled")
    assert await hub.cancel("cancelled", LONE)
    assert types(await collect(hub.subscribe("cancelled")))[-1] == "workflow_cancelled"


async def test_a_key_fails_no_other_command_of_its_request(log: RedisLog) -> None:
    fleet = log.fleet
    results = await asyncio.gather(
        fleet.put("kind", LONE, {LONE: 1}, ttl=60),
        fleet.count("kind", LONE, 1),
        fleet.claim(LONE),
        fleet.admit([RateLimit("kind", LONE, 1, 60.0)]),
        log.list_ids(owner=LONE),
        log.list_ids(prefix=LONE),
        log.list_ids(after=LONE),
        fleet.count("kind", "good", 1),
    )
    assert results == [None, 1, True, None, [], [], [], 1]
    assert await fleet.values("kind") == {LONE: {"a\ufffdb": 1}}
    assert await fleet.take("kind", LONE) == {"a\ufffdb": 1}
    await log._io.run(fleet._renew())  # the counter stops no renewal
