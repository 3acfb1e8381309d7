import sys
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import pytest

from lg_streaming.hub import StreamHub
from tests.hub.helpers import MakeHub, settings_of


@pytest.fixture
async def make_hub() -> AsyncGenerator[MakeHub]:
    """Makes hubs, with limits and retention by name, and closes them. One clock is for all, but where two are given."""
    made: list[StreamHub] = []

    def make(
        *,
        log: Any = None,
        clock: Callable[[], float] | None = None,
        monotonic: Callable[[], float] | None = None,
        redact: Callable[[str, Any], Any] | None = None,
        **settings: float,
    ) -> StreamHub:
        more: dict[str, Any] = {} if clock is None else {"clock": clock, "monotonic": clock}
        if monotonic is not None:
            more["monotonic"] = monotonic
        made.append(StreamHub(settings_of(**settings), log=log, redact=redact, **more))
        return made[-1]

    yield make
    for hub in made:
        await hub.aclose()


@pytest.fixture
async def hub(make_hub: MakeHub) -> StreamHub:
    return make_hub()


@pytest.fixture
def busy_threads() -> Generator[None]:
    """Threads take turns so often that what is not safe goes wrong soon."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
