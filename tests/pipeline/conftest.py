from collections.abc import AsyncGenerator, Generator

import pytest
from reactivex.testing import TestScheduler

from lg_streaming.module import StreamingModule
from lg_streaming.timer import use_scheduler


@pytest.fixture
def clock() -> Generator[TestScheduler]:
    """Virtual time: nothing is late or early by itself, `clock.advance_by(0.1)` lets a tenth of a second pass."""
    scheduler = TestScheduler()
    with use_scheduler(scheduler):
        yield scheduler


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module
        assert module.tokens.statistics().active_streams == 0, "a token stream was left open"
        assert module.hub.statistics().running == 0, "an execution was left running"
