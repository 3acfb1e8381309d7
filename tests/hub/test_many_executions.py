"""Operations of the hub cost the same with a hundred thousand executions as with a few."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest

from lg_streaming.hub import StreamHub
from lg_streaming.publisher import RunOutcome
from tests.hub.helpers import settings_of
from tests.hub.test_forgetting import Clock

COMPLETE = RunOutcome("workflow_complete", {})


USES: list[Callable[[StreamHub], object]] = [
    lambda hub: hub.publish("busy", "note"),
    lambda hub: hub.statistics(),
    lambda hub: hub.health(),
    lambda hub: hub.info("busy"),
    lambda hub: hub.registry.sweep(64),
]


def running(hub: StreamHub) -> object:
    return hub.executions("running")


def best(work: Callable[[], object], *, times: int = 100) -> float:
    taken: list[float] = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return sorted(taken)[times // 4]


@pytest.mark.parametrize("many", [5_000, pytest.param(100_000, marks=pytest.mark.soak)])
async def test_beside_many(many: int) -> None:
    clock = Clock()
    hub = StreamHub(settings_of(ttl=60, record_ttl=120, idle_timeout=0), monotonic=clock)
    for number in range(many):
        hub.open(f"e{number}", owner=f"owner {number}")
    hub.publish("busy", "note")
    few = StreamHub(settings_of(idle_timeout=0))
    few.publish("busy", "note")
    for use in USES:
        beside_many, beside_few = best(partial(use, hub)), best(partial(use, few))
        assert beside_many < 4 * beside_few + 100e-6
    for number in range(many):
        hub.runs.leave_run(f"e{number}", hub.runs.current_run_id(f"e{number}") or "", COMPLETE)
    assert best(partial(running, hub)) < 4 * best(partial(running, few)) + 100e-6
    clock.now += 61
    slices: list[float] = []
    while hub.info("e0") is not None or len(hub.registry.executions) > 1:
        began = time.process_time()
        hub.publish("busy", "note")
        slices.append(time.process_time() - began)
        assert len(slices) < many
    assert len(slices) > many // 200, "it works in slices"
    assert sorted(slices)[len(slices) * 9 // 10] < 0.02
    await asyncio.gather(hub.aclose(), few.aclose())
