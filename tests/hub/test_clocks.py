"""A step of the computer's clock, in either direction, changes nothing that lasts for a time."""

import pytest

from lg_streaming.hub import StreamHub
from tests.hub.helpers import MakeHub, settings_of
from tests.hub.test_forgetting import Clock

DAY = 86_400.0


@pytest.mark.parametrize("step", [-400 * DAY, -2 * 3_600.0, 2 * 3_600.0, 400 * DAY])
async def test_retention_and_sweeps(step: float) -> None:
    wall, steady = Clock(), Clock()
    wall.now = 1.8e9
    hub = StreamHub(settings_of(ttl=60, record_ttl=120), clock=wall, monotonic=steady)
    hub.publish("ended", "note")
    await hub.close("ended")
    wall.now += step
    hub.registry.sweep()
    state = await hub.log.state("ended")
    assert state is not None
    assert state.oldest == 1, "nothing is forgotten early"
    assert hub.info("ended") is not None
    hub.publish("other", "note")
    steady.now += 60
    hub.publish("other", "note")  # sweeps go on
    state = await hub.log.state("ended")
    assert state is not None
    assert state.oldest == state.head == 3
    assert hub.info("ended") is None
    steady.now += 60
    hub.publish("other", "note")
    assert await hub.log.state("ended") is None, "nor late"
    await hub.aclose()


@pytest.mark.parametrize("step", [-400 * DAY, 400 * DAY])
async def test_the_rate_of_updates(make_hub: MakeHub, step: float) -> None:
    wall, steady = Clock(), Clock()
    wall.now = 1.8e9
    hub = make_hub(clock=wall, monotonic=steady, updates_per_second=10)
    hub.open("e")

    def passed() -> int:
        before = hub.statistics().dropped_over_rate
        for _ in range(30):
            hub.publish("e", "note", delivery="at-most-once")
        return 30 - (hub.statistics().dropped_over_rate - before)

    first = passed()
    assert 9 <= first <= 10
    wall.now += step
    assert passed() == 0
    steady.now += 1.0
    assert passed() == 10
