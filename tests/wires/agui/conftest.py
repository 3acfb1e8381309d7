"""A server for many checks."""

from collections.abc import Generator

import pytest

from tests.wires.agui.place import Place, place


@pytest.fixture(scope="module")
def running() -> Generator[Place]:
    with place() as it:
        yield it
