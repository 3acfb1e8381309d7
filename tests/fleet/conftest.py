from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from tests.fleet.processes import Fleet
from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture
async def fleet(shared_redis: RedisServer, redis_prefix: str, tmp_path: Path) -> AsyncGenerator[Fleet]:
    """A fleet without processes, on the Redis of this worker."""
    async with Fleet.of(shared_redis, redis_prefix, tmp_path) as fleet:
        yield fleet


@pytest.fixture
def redis_of_fleet() -> Generator[RedisServer]:
    """A server that a test may stop."""
    with redis_server() as server:
        yield server
