from collections.abc import Generator
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import pytest

from tests.cli.site import cli_site, start
from tests.gateway.starts import StartSite

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer


@pytest.fixture(scope="module", params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Generator[StartSite]:
    """A server on each log."""
    settings: dict[str, Any] = {}
    if request.param == "redis":
        server = cast("RedisServer", request.getfixturevalue("shared_redis"))
        settings = {"log": server.url, "redis": {"prefix": f"lg-{uuid4().hex[:12]}"}}
    with cli_site(**settings) as site:
        start(site, "shout")  # connects to Redis: connections of a test would count as left behind
        yield site


@pytest.fixture(scope="module")
def memory_place() -> Generator[StartSite]:
    """A server with its log in memory."""
    with cli_site() as site:
        yield site
