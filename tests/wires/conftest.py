"""The results of clients of other systems, for `docs/guide/front-ends/tested-clients.md`."""

from pathlib import Path
from typing import Any

import pytest

from tests.support import npm
from tests.wires.results import Collector, Tested, recorder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tested-clients", metavar="PAGE", help="replace the tables of this page; - only prints")


def pytest_configure(config: pytest.Config) -> None:
    manager: Any = config.pluginmanager.getplugin("capturemanager")
    if manager is not None:
        npm.uncaptured = manager.global_and_fixture_disabled
    page: str | None = config.getoption("--tested-clients", default=None)
    if page and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Collector(None if page == "-" else Path(page)))


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that record a check of a client."""
    for item in items:
        if "tested" in getattr(item, "fixturenames", ()):
            item.add_marker("tested")


@pytest.fixture
def tested(request: pytest.FixtureRequest) -> Tested:
    """Record which check of which client the test is; see `tests/wires/results.py`."""
    assert isinstance(request.node, pytest.Item)
    return recorder(request.node)
