"""A running server with the graphs of the checks."""

from collections.abc import Generator

import pytest

from tests.wires.ai_sdk.graphs import Place, place


@pytest.fixture(scope="module")
def running() -> Generator[Place]:
    with place() as it:
        yield it
