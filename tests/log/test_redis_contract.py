"""The contract suite for logs, on a log on a real Redis."""

from collections.abc import Generator

import pytest

from lg_streaming.testing.log_contract import LogContract, LogHarness, check_random_steps
from tests.log.harness import RedisHarness
from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def server() -> Generator[RedisServer]:
    with redis_server() as server:
        yield server


class TestRedisLog(LogContract):
    random_examples = 15

    @pytest.fixture
    def harness(self, server: RedisServer) -> LogHarness:
        return RedisHarness(server)


@pytest.mark.soak
def test_random_steps_for_long(server: RedisServer) -> None:
    check_random_steps(RedisHarness(server), examples=300, steps=60)
