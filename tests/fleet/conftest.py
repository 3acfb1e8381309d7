"""Redis servers that the tests of this folder stop, pause and fill."""

from collections.abc import Generator

import pytest

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


@pytest.fixture(params=[pytest.param(1, id="ci"), pytest.param(20, id="long", marks=pytest.mark.soak)])
def scale(request: pytest.FixtureRequest) -> int:
    """Size of a fault: 1 in CI, more in the long form."""
    return request.param
