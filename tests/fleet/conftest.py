from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.fleet.processes import Fleet
from tests.support.redis_server import RedisServer


@pytest.fixture
async def fleet(shared_redis: RedisServer, redis_prefix: str, tmp_path: Path) -> AsyncGenerator[Fleet]:
    """A fleet without processes, on the Redis of this worker."""
    async with Fleet.of(shared_redis, redis_prefix, tmp_path) as fleet:
        yield fleet
