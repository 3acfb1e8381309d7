from collections.abc import AsyncGenerator

import pytest

from lg_streaming.module import StreamingModule


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module
        assert module.hub.statistics().running == 0, "an execution was left running"
