"""Processes that are killed, paused and restarted, as readers and runs see it."""

import asyncio
import time
from typing import Any

from tests.fleet.processes import Fleet, Member, finals, numbers, until


async def state_of(member: Member, execution_id: str) -> str | None:
    return await member.do(f"state = await hub.describe({execution_id!r}); return state and state.state")


async def running(member: Member, execution_id: str, head: int = 5) -> None:
    """Wait until the log has some updates of a run."""

    async def has() -> Any:
        return await member.do(f"state = await hub.describe({execution_id!r}); return state and state.head >= {head}")

    await until(has, f"{execution_id} runs")


async def test_the_runs_of_a_killed_producer_are_abandoned_once(fleet: Fleet) -> None:
    a, b = await fleet.start(), await fleet.start()
    await a.do("p.start('e', count=100_000)")
    reading = asyncio.create_task(b.read("e"))
    await running(b, "e")
    a.kill()
    began = time.monotonic()
    updates = await reading
    took = time.monotonic() - began
    numbers(updates)
    assert finals(updates) == ["workflow_abandoned"]
    assert updates[-1].data["reason"] == "process_lost"
    print("abandoned after", took)
    assert took < 3 * fleet.lease + 1
    assert finals(await b.read("e")) == ["workflow_abandoned"]
