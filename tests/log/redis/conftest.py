from collections.abc import Generator

import pytest

from tests.support.redis_server import RedisCluster, RedisPair, RedisServer, redis_cluster, redis_pair, redis_server


@pytest.fixture
def redis_of_this_test() -> Generator[RedisServer]:
    """A server that a test may stop."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Generator[RedisCluster]:
    with redis_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def pair() -> Generator[RedisPair]:
    with redis_pair() as running:
        yield running
