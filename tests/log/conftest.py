from collections.abc import AsyncGenerator

import pytest

from lg_streaming.log import EventLog
from lg_streaming.settings import RetentionSettings
from tests.log.factories import FACTORIES, Clock, LogFactory, MakeLog


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
async def make_log(request: pytest.FixtureRequest, clock: Clock) -> AsyncGenerator[MakeLog]:
    """Makes a log with the given retention; the suite runs once for each kind of log."""
    factory: LogFactory = request.param
    made: list[EventLog] = []

    def make(**retention: float) -> EventLog:
        made.append(factory(retention=RetentionSettings.model_validate(retention), clock=clock, monotonic=clock))
        return made[-1]

    yield make
    for each in made:
        await each.aclose()


@pytest.fixture
async def log(make_log: MakeLog) -> EventLog:
    return make_log()
