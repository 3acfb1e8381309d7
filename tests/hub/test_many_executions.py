"""What the hub does costs the same beside a hundred thousand executions as beside a few."""

import asyncio
import time
from collections.abc import Callable

from lg_streaming.hub import StreamHub
from lg_streaming.scope import Outcome
from tests.hub.helpers import settings_of
from tests.hub.test_forgetting import Clock

MANY = 100_000
COMPLETE = Outcome("workflow_complete", {})


def best(work: Callable[[], object], *, times: int = 100) -> float:
    taken: list[float] = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return sorted(taken)[times // 4]


async def test_beside_a_hundred_thousand() -> None:
    clock = Clock()
    hub = StreamHub(settings_of(ttl=60, record_ttl=120, idle_timeout=0), monotonic=clock)
    for number in range(MANY):
        hub.open(f"e{number}", owner=f"owner {number}")
    hub.publish("busy", "note")
    few = StreamHub(settings_of(idle_timeout=0))
    few.publish("busy", "note")
    for use in (
        lambda each: each.publish("busy", "note"),
        lambda each: each.statistics(),
        lambda each: each.health(),
        lambda each: each.info("busy"),
        lambda each: each.executions("interrupted"),
        lambda each: each.sweep(64),
    ):
        beside_many, beside_few = best(lambda use=use: use(hub)), best(lambda use=use: use(few))
        assert beside_many < 4 * beside_few + 100e-6
    for number in range(MANY):
        hub.leave_run(f"e{number}", hub.open_run(f"e{number}") or "", COMPLETE)
    clock.now += 61
    slices: list[float] = []
    while hub.info("e0") is not None or len(hub._executions) > 1:  # pyright: ignore[reportPrivateUsage]
        began = time.process_time()
        hub.publish("busy", "note")
        slices.append(time.process_time() - began)
        assert len(slices) < MANY
    assert len(slices) > 100, "it works in slices"
    assert sorted(slices)[len(slices) * 9 // 10] < 0.02
    await asyncio.gather(hub.aclose(), few.aclose())
