"""Redis servers that the tests of this folder stop, pause and fill, and processes that share one."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from tests.fleet.processes import Fleet
from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture
def redis_of_this_test() -> Generator[RedisServer]:
    """A server that a test may stop."""
    with redis_server() as server:
        yield server


@pytest.fixture
def redis_on_disk() -> Generator[RedisServer]:
    """A server that keeps its data when it restarts."""
    with redis_server(appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
async def fleet(shared_redis: RedisServer, redis_prefix: str, tmp_path: Path) -> AsyncGenerator[Fleet]:
    """A fleet without processes, on the Redis of this worker."""
    async with Fleet.of(shared_redis, redis_prefix, tmp_path) as fleet:
        yield fleet


@pytest.fixture(params=[pytest.param(1, id="ci"), pytest.param(20, id="long", marks=pytest.mark.soak)])
def scale(request: pytest.FixtureRequest) -> int:
    """Size of a fault: 1 in CI, more in the long form."""
    return request.param
