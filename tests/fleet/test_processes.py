"""Processes that are killed, paused and restarted, as readers and runs see it."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from lg_streaming.client import SSEClient
from lg_streaming.events import StreamUpdate
from tests.fleet.processes import PATIENCE, Fleet, Hopper, Member, finals, numbers, until
from tests.support.redis_server import RedisServer


async def state_of(member: Member, execution_id: str) -> str | None:
    return await member.do(f"state = await hub.describe({execution_id!r}); return state and state.state")


async def is_in(member: Member, execution_id: str, state: str) -> bool:
    return await state_of(member, execution_id) == state


async def running(member: Member, execution_id: str, head: int = 5) -> None:
    """Wait until the log has some updates of a run."""

    async def has() -> Any:
        return await member.do(f"state = await hub.describe({execution_id!r}); return state and state.head >= {head}")

    await until(has, f"{execution_id} runs")


async def test_the_runs_of_a_killed_producer_are_abandoned_once(fleet: Fleet, scale: int) -> None:
    b = await fleet.start()
    for at in range(scale):
        await kill_a_producer(fleet, b, f"e{at}", pause=random.choice([0, 0.001, 0.01]))


async def kill_a_producer(fleet: Fleet, b: Member, execution_id: str, *, pause: float) -> None:
    a = await fleet.start()
    await a.do(f"p.start({execution_id!r}, count=1_000_000, pause={pause})")
    reading = asyncio.create_task(b.read(execution_id))
    await running(b, execution_id)
    a.kill()
    began = time.monotonic()
    updates = await reading
    took = time.monotonic() - began
    numbers(updates)
    assert finals(updates) == ["workflow_abandoned"]
    assert updates[-1].data["reason"] == "process_lost"
    assert 0.5 * fleet.lease < took < 2.4 * fleet.lease + 1  # one lease more if the other process is young
    assert len(await b.read(execution_id)) == len(updates)


async def test_an_interrupted_run_of_a_killed_process_is_resumed_in_another(fleet: Fleet) -> None:
    a, b, c = await fleet.start(), await fleet.start(), await fleet.start()
    await a.do("p.start('e', count=3, ask=True)")
    reading = asyncio.create_task(c.read("e"))
    await until(lambda: is_in(b, "e", "interrupted"), "the graph asks")
    process_id = await a.do("return hub.log.fleet.process_id")
    a.kill()
    await until(
        lambda: b.do(f"return not any(each.process_id == {process_id!r} for each in await hub.log.fleet.processes())"),
        "it is gone",
    )

    async def released() -> bool:
        return await b.do("return (await hub.describe('e')).process is None")

    await until(released, "the run has no holder")
    assert await state_of(b, "e") == "interrupted"
    assert not reading.done()
    await b.do("p.load(); p.resume('e', 'yes')")
    assert await b.do("return await p.outcome('e')") == "returned"
    updates = await reading
    numbers(updates)
    assert finals(updates) == ["workflow_complete"]
    assert [update.type for update in updates].count("workflow_start") == 1
    assert "answer yes" in str([update.data for update in updates])


async def test_readers_of_a_killed_gateway_resume_at_another(fleet: Fleet) -> None:
    producer, one, other = await fleet.start(), await fleet.start(), await fleet.start()
    readers = [Hopper(one, other) for _ in range(5)]
    readings = [asyncio.create_task(reader.read("e")) for reader in readers]
    await producer.do("p.start('e', count=300, pause=0.003)")
    await running(other, "e", 50)

    async def all_read() -> bool:
        return all(reader.updates for reader in readers)

    await until(all_read, "all have updates")
    one.kill()
    for updates in await asyncio.gather(*readings):
        numbers(updates)
        assert len(updates) > 300
        assert finals(updates) == ["workflow_complete"]
    assert all(reader.breaks for reader in readers)


async def test_a_producer_that_is_paused_past_its_lease_is_fenced(fleet: Fleet) -> None:
    a, b = await fleet.start(), await fleet.start()
    await a.do("p.start('e', count=100_000, pause=0.002)")
    reading = asyncio.create_task(b.read("e"))
    await running(b, "e")
    before = await a.do("return hub.log.fleet.process_id")
    a.pause()
    updates = await reading
    a.go_on()
    numbers(updates)
    assert finals(updates) == ["workflow_abandoned"]
    assert await a.do("return await p.outcome('e')") == "CancelledError"
    await until(lambda: a.do("return p.refused"), "its updates are counted as refused")
    await until(lambda: a.do(f"return hub.log.fleet.process_id != {before!r}"), "it is another process")
    assert await a.do("return hub.registry.is_running('e')") is False
    assert await a.do("return hub.log._runs.executions") == []
    assert len(await b.read("e")) == len(updates)  # nothing follows
    await a.do("p.start('f', count=3)")  # it goes on, and holds new runs
    again = await b.read("f")
    numbers(again)
    assert finals(again) == ["workflow_complete"]
    await a.do("p.start('e', count=3); await p.outcome('e')")
    await until(lambda: is_in(b, "e", "completed"), "the second run has ended")
    both = await everything(b, "e")
    numbers(both)
    assert finals(both) == ["workflow_abandoned", "workflow_complete"]


async def everything(member: Member, execution_id: str) -> list[StreamUpdate]:
    """Return the updates of all runs of an execution, of which the last has ended."""
    head = await member.do(f"return (await hub.describe({execution_id!r})).head")
    updates: list[StreamUpdate] = []
    async with asyncio.timeout(PATIENCE), SSEClient(member.server.url) as client:
        async for update in client.subscribe(execution_id, follow=True):
            updates.append(update)
            if len(updates) == head:
                break
    return updates


async def test_a_pause_shorter_than_the_lease_does_no_harm(fleet: Fleet) -> None:
    fleet.lease = 2.0
    a, b = await fleet.start(), await fleet.start()
    await a.do("p.start('e', count=100, pause=0.005)")
    reading = asyncio.create_task(b.read("e"))
    await running(b, "e")
    a.pause()
    await asyncio.sleep(0.9)
    a.go_on()
    updates = await reading
    numbers(updates)
    assert finals(updates) == ["workflow_complete"]
    assert await a.do("return await p.outcome('e'), p.refused") == ["returned", 0]


async def test_no_run_is_abandoned_while_redis_is_away_for_longer_than_the_lease(
    redis_on_disk: RedisServer, redis_prefix: str, tmp_path: Path
) -> None:
    async with Fleet.of(redis_on_disk, redis_prefix, tmp_path) as fleet:
        members = [await fleet.start() for _ in range(3)]
        for number, member in enumerate(members):
            await member.do(f"p.start('e{number}', count=900, pause=0.003)")
        readings = [asyncio.create_task(members[0].read(f"e{number}")) for number in range(3)]
        await running(members[0], "e2")
        redis_on_disk.kill()
        await asyncio.sleep(2 * fleet.lease)
        redis_on_disk.restart(keep_data=True)
        for updates in await asyncio.gather(*readings):
            numbers(updates)
            assert finals(updates) == ["workflow_complete"]
