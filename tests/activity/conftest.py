from collections.abc import AsyncGenerator, Generator

import pytest
from reactivex.testing import TestScheduler

from lg_streaming.hub import StreamHub
from lg_streaming.timer import use_scheduler


@pytest.fixture
def clock() -> Generator[TestScheduler]:
    """Virtual time: `clock.advance_by(1)` lets a second pass."""
    scheduler = TestScheduler()
    with use_scheduler(scheduler):
        yield scheduler


@pytest.fixture
async def hub() -> AsyncGenerator[StreamHub]:
    made = StreamHub()
    yield made
    await made.aclose()
