from collections.abc import Generator
from pathlib import Path

import pytest

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
