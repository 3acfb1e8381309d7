from collections.abc import AsyncGenerator, Generator

import pytest

from lg_streaming.capture.run_registry import RUNS
from lg_streaming.module import StreamingModule
from tests.agents.teams import import_packages


@pytest.fixture(autouse=True, scope="session")
def _packages() -> None:
    import_packages()


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module
        assert module.hub.statistics().running == 0, "an execution was left running"


@pytest.fixture(autouse=True)
def no_run_is_left() -> Generator[None]:
    """Fail where the table of LangChain's runs keeps an entry."""
    before = len(RUNS)
    yield
    assert len(RUNS) == before, "runs that ended are still known"
