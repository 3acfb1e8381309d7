"""A hub that no server sweeps forgets ended executions by itself, at its next use."""

from collections.abc import Callable
from typing import Any

import pytest

from lg_streaming.hub import StreamHub
from lg_streaming.publisher import UpdateRequest
from lg_streaming.settings import RetentionSettings, StreamingSettings


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def plain_hub(clock: Clock, **retention: float) -> StreamHub:
    return StreamHub(
        StreamingSettings(retention=RetentionSettings.model_validate(retention)), clock=clock, monotonic=clock
    )


USES: list[Callable[[StreamHub], Any]] = [
    lambda hub: hub.publish("busy", "note"),
    lambda hub: hub.publisher.publish_all("busy", [UpdateRequest("note", 1)]),
    lambda hub: hub.emitter("busy").token("x"),
    lambda hub: hub.open("new"),
    lambda hub: hub.executions(),
    lambda hub: hub.statistics(),
    lambda hub: hub.health(),
    lambda hub: hub.info("busy"),
    lambda hub: hub.subscribe("old").close(),
]


@pytest.mark.parametrize("use", USES)
async def test_any_use_forgets_what_is_past_its_time(use: Callable[[StreamHub], Any]) -> None:
    clock = Clock()
    hub = plain_hub(clock, ttl=60, record_ttl=120)
    hub.publish("busy", "note")
    hub.publish("old", "note", "x" * 1_000)
    await hub.close("old")
    clock.now += 59
    use(hub)
    assert "old" in hub.registry.executions
    clock.now += 62
    use(hub)
    assert "old" not in hub.registry.executions
    assert await hub.log.state("old") is None
    assert hub.registry.is_running("busy")
    await hub.aclose()


async def test_one_long_run_does_not_keep_the_others() -> None:
    clock = Clock()
    hub = plain_hub(clock, ttl=10, record_ttl=10)
    long = hub.emitter("long")
    most = 0
    for number in range(2_000):
        hub.publish(f"short-{number}", "note")
        await hub.close(f"short-{number}")
        long.token("x")
        clock.now += 0.5
        most = max(most, len(hub.registry.executions))
    assert most < 60
    assert len(await hub.log.executions()) < 60
    await hub.aclose()


async def test_it_does_not_look_at_every_use(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    hub = plain_hub(clock)
    sweeps: list[float] = []
    monkeypatch.setattr(hub.publisher.token_streams, "sweep", lambda: sweeps.append(clock.now))
    for _ in range(1_000):
        hub.publish("e", "note")
        clock.now += 1.0
    assert 30 <= len(sweeps) <= 34
    await hub.aclose()
