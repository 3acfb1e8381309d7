"""Servers, users and databases that the log cannot use: the error has the cause, and work goes on after a repair."""

import asyncio
import logging
from contextlib import suppress

import pytest
from redis import exceptions

from lg_streaming.errors import LogUnavailableError
from lg_streaming.log.redis.connection import to_unavailable
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.settings import RedisSettings
from tests.log.drafts import Producer
from tests.support.redis_server import RedisServer, redis_server


@pytest.mark.parametrize(
    "error",
    [
        exceptions.NoPermissionError("this user has no permissions to run the 'evalsha' command"),
        exceptions.ResponseError("unknown command 'SSUBSCRIBE', with args beginning with: 'lg:{e}:n'"),
        exceptions.ResponseError("Unknown Redis command called from script script: a4, on @user_script:29."),
        exceptions.ResponseError("Error compiling script (new function): user_script:1: unexpected symbol near '#'"),
        exceptions.ResponseError("DB index is out of range"),
    ],
)
def test_a_refusal_is_retried_and_names_the_doctor(error: Exception) -> None:
    found = to_unavailable(error)
    assert isinstance(found, LogUnavailableError)
    assert str(error) in found.message
    assert "lg-streaming doctor" in found.message


def test_a_node_of_a_cluster_is_recognised() -> None:
    assert "redis+cluster://" in str(to_unavailable(exceptions.MovedError("8785 127.0.0.1:6380")))


def test_an_error_of_the_data_stays() -> None:
    error = exceptions.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    assert to_unavailable(error) is error


@pytest.mark.parametrize("right", ["evalsha", "spublish", "ssubscribe", "zadd"])
async def test_the_work_goes_on_when_a_right_is_granted(
    redis_of_this_test: RedisServer, right: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_of_this_test.execute("ACL", "SETUSER", "default", f"-{right}")
    log = RedisLog(redis_of_this_test.url, redis=RedisSettings(check_interval=0.2, lease=1.0))
    stop, batch = log.watch("e"), Producer(log).batch("note")
    for _ in range(3):
        with suppress(LogUnavailableError, TimeoutError):
            async with asyncio.timeout(0.3):  # it waits longer for a connection
                await log.read("e", 0, 1)
        with suppress(LogUnavailableError):
            await asyncio.to_thread(log.append, batch)
    redis_of_this_test.execute("ACL", "SETUSER", "default", f"+{right}")
    async with asyncio.timeout(15):
        while True:
            try:
                await asyncio.to_thread(log.append, batch)
                if (found := await log.read("e", 0, 10)) and found.records:
                    break
            except LogUnavailableError:
                pass
            await asyncio.sleep(0.02)
    assert [each.seq for each in found.records] == [1]
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) <= 4
    assert not any(record.exc_info for record in lines)
    stop()
    await log.aclose()


def test_a_server_without_sharded_channels_is_refused() -> None:
    with redis_server(['rename-command SPUBLISH ""']) as server:
        log = RedisLog(server.url)
        with pytest.raises(LogUnavailableError, match="doctor"):
            log.append(Producer(log).batch("note"))
        asyncio.run(log.aclose())
