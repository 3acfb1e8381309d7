"""A deploy: processes that produce and serve are restarted in turn, while runs begin and readers read."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import httpx2
import pytest

from lg_streaming.events import StreamUpdate
from tests.fleet.processes import Fleet, Hopper, Member, finals, numbers


class Load:
    """Runs that begin in each process in turn, and a reader of each, which hops between the processes."""

    def __init__(self, members: list[Member]) -> None:
        self.members = members
        self.readings: list[asyncio.Task[list[StreamUpdate]]] = []
        self.stopped = False

    async def run(self) -> None:
        """Begin runs until `stopped`; one that a process did not confirm is not read."""
        number = 0
        while not self.stopped:
            number += 1
            member = self.members[number % len(self.members)]
            with suppress(httpx2.HTTPError, AssertionError):
                await member.do(f"p.start('e{number}', count=60, pause=0.01)\nawait hub.writer.flush()")
                reader = Hopper()
                reader.members, reader.at = self.members, number
                self.readings.append(asyncio.create_task(reader.read(f"e{number}")))
            await asyncio.sleep(0.03)


@pytest.mark.parametrize("rounds", [pytest.param(1, id="ci"), pytest.param(10, id="long", marks=pytest.mark.soak)])
async def test_processes_are_restarted_in_turn_under_load(fleet: Fleet, rounds: int) -> None:
    members = [await fleet.start() for _ in range(3)]
    hub = await fleet.hub()
    load = Load(members)
    loading = asyncio.create_task(load.run())
    times: list[float] = []
    for _ in range(rounds):
        for at, member in enumerate(members):
            await asyncio.sleep(0.5)
            held = await member.do("return list(hub.registry.open_runs)")
            took = await member.stop()
            for execution_id in held:
                state = await hub.describe(execution_id)
                assert state is None or state.state not in {"running", "interrupted"}, execution_id
            times.append(took)
            members[at] = await fleet.start(port=member.server.port)
    load.stopped = True
    await loading
    everything: Sequence[list[StreamUpdate]] = await asyncio.gather(*load.readings)
    ends: Counter[str] = Counter()
    for updates in everything:
        numbers(updates)
        (final,) = finals(updates)
        ends[final] += 1
    assert set(ends) <= {"workflow_complete", "workflow_cancelled", "workflow_abandoned"}
    assert ends["workflow_complete"] > len(everything) / 3
    assert max(times) < 10
    print(ends, times)


async def test_runs_of_a_process_that_stops_end_at_once_and_interrupted_ones_stay(fleet: Fleet) -> None:
    fleet.lease = 10.0
    a, b = await fleet.start(), await fleet.start()
    await a.do("p.start('asks', count=1, ask=True)\nawait p.outcome('asks')")
    await a.do("p.start('runs', count=100_000)\nhub.open('open')\nawait hub.writer.flush()")
    readings = [asyncio.create_task(b.read(name)) for name in ("runs", "open")]
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await a.stop()
    for updates in await asyncio.gather(*readings):
        numbers(updates)
        print(updates[-1].type, updates[-1].data)
        assert finals(updates)[0] in {"workflow_cancelled", "workflow_abandoned"}
    assert time.monotonic() - began < 5
    state = await b.do("state = await hub.describe('asks')\nreturn [state.state, state.process]")
    assert state == ["interrupted", None]
    await b.do("p.load()\np.resume('asks', 1)\nawait p.outcome('asks')")
    assert finals(await b.read("asks")) == ["workflow_complete"]
