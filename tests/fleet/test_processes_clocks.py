"""Processes whose wall clocks are wrong by an hour, or jump in the middle of a run."""

import asyncio
from pathlib import Path

from lg_streaming.hub import StreamHub
from tests.fleet.processes import Fleet, Member, finals, numbers, until
from tests.hub.helpers import collect
from tests.support.redis_server import RedisServer

HOUR = 3_600.0
RECORD_TTL = 2.0
RUN = "p.start(NAME, count=100_000, pause=0.01)"


async def jump(member: Member, seconds: float) -> None:
    await member.do(f"clock.set_shift({seconds})")


async def test_wrong_clocks_change_neither_leases_nor_retention_nor_order(
    shared_redis: RedisServer, redis_prefix: str, tmp_path: Path
) -> None:
    async with Fleet.of(shared_redis, redis_prefix, tmp_path, record_ttl=RECORD_TTL) as fleet:
        ahead, behind, right = await asyncio.gather(
            fleet.start(CLOCK=str(HOUR)), fleet.start(CLOCK=str(-HOUR)), fleet.start()
        )
        members = {"ahead": ahead, "behind": behind, "right": right}
        for name, member in members.items():
            await member.do(RUN.replace("NAME", repr(name)))
        readings = {name: asyncio.create_task(right.read(name)) for name in members}
        await asyncio.sleep(1.5 * fleet.lease)
        await jump(ahead, -HOUR)
        await jump(behind, HOUR)
        await asyncio.sleep(RECORD_TTL + 0.5)  # what is not extended has expired
        hub = await fleet.hub()
        for name in members:
            await _keeps(hub, name)
            assert not readings[name].done()
        assert len(await hub.log.list_ids()) >= len(members)
        for name, member in members.items():
            await member.do(f"await hub.cancel({name!r}, 'enough')")
        for name, reading in readings.items():
            updates = await reading
            numbers(updates)
            assert finals(updates) == ["workflow_cancelled"], name
            times = [update.metadata.timestamp.timestamp() for update in updates]
            assert (times == sorted(times)) == (name != "ahead")  # times are those of the process

        async def are_gone() -> bool:
            return all([await hub.describe(name) is None for name in members])

        await until(are_gone, "Redis removes what has expired", 2 * RECORD_TTL + 5)


async def _keeps(hub: StreamHub, name: str) -> None:
    state = await hub.describe(name)
    assert state is not None, name
    assert state.state == "running"
    assert state.oldest == 1


async def test_a_killed_process_with_a_wrong_clock_is_noticed_in_time(fleet: Fleet) -> None:
    ahead, behind = await asyncio.gather(fleet.start(CLOCK=str(HOUR)), fleet.start(CLOCK=str(-HOUR)))
    await ahead.do(RUN.replace("NAME", "'e'"))
    hub = await fleet.hub()
    await until(lambda: _head(hub, "e"), "it runs")
    ahead.kill()
    updates = await asyncio.wait_for(collect(hub.subscribe("e")), 4 * fleet.lease)
    numbers(updates)
    assert finals(updates) == ["workflow_abandoned"]
    assert await behind.do("return len(await hub.log.fleet.processes())") == 2  # it and this process


async def _head(hub: StreamHub, name: str) -> bool:
    state = await hub.describe(name)
    return state is not None and state.head > 3
