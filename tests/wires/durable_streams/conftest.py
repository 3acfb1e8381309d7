"""The results of the stock client's checks."""

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.support.npm import Checks, run_checks
from tests.wires.durable_streams.place import PATH, Place, place

JS = Path(__file__).parent / "js"


@pytest.fixture(scope="module")
def running() -> Generator[Place]:
    with place() as it:
        yield it


@pytest.fixture(scope="module")
def results(running: Place) -> Checks:
    """The results of the checks of `js/checks.mjs`, by name."""
    return asyncio.run(run_checks(JS / "checks.mjs", running.server.url, PATH, timeout=60))
