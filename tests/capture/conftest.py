from collections.abc import AsyncGenerator

import pytest

from lg_streaming.module import StreamingModule
from tests.capture.leftovers import note_runs


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module
        assert module.hub.statistics().running == 0, "an execution was left running"


@pytest.fixture(autouse=True)
def _runs_before() -> None:
    note_runs()
