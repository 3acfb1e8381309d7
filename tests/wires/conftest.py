"""The results of clients of other systems, for `docs/guide/front-ends/tested-clients.md`."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import npm
from tests.wires.results import Collector, Tested, recorder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tested-clients", metavar="PAGE", help="replace the tables of this page by the results")


def pytest_configure(config: pytest.Config) -> None:
    manager: Any = config.pluginmanager.getplugin("capturemanager")
    if manager is not None:
        npm.uncaptured = manager.global_and_fixture_disabled
    if not hasattr(config, "workerinput"):
        page: str | None = config.getoption("--tested-clients", default=None)
        config.pluginmanager.register(Collector(Path(page) if page else None))


@pytest.fixture
def tested(request: pytest.FixtureRequest) -> Tested:
    """Record which check of which client the test is; see `tests/wires/results.py`."""
    assert isinstance(request.node, pytest.Item)
    return recorder(request.node)
