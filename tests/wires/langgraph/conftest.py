import json
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.redis_server import RedisServer
from tests.wires.langgraph.places import place_of, serving
from tests.wires.langgraph.python_checks import Place

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the gates of the graphs."""
    return tmp_path_factory.mktemp("gates")


@pytest.fixture(scope="module")
def place(gates: Path) -> Generator[Place]:
    """A server that all tests of a module share: memory log, no authentication."""
    with serving(gates) as server:
        yield place_of(server, gates)


@pytest.fixture(scope="module")
def on_redis(gates: Path, shared_redis: RedisServer) -> Generator[Place]:
    """A server with its log on Redis."""
    settings = {"redis": {"prefix": f"lg-{uuid4().hex}"}}
    with serving(gates, {"LOG": shared_redis.url, "SETTINGS": json.dumps(settings)}) as server:
        yield Place(server.url, gates)
