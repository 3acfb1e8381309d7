"""The history of runs: bounded in memory, and shared in the fleet's store."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from typing import Any

import pytest

from lg_streaming.log.fleet import Fleet
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.runs.history import RunHistory, RunTrace, Visit
from lg_streaming.settings import RedisSettings
from tests.hub.helpers import PATIENCE, until
from tests.support.memory_fleet import MemoryFleet, Network
from tests.support.redis_server import RedisServer


def trace(seconds: float, visits: int = 1) -> RunTrace:
    each = seconds / visits
    return RunTrace(seconds, visits, tuple(Visit("n", each * i, each * (i + 1), each) for i in range(visits)))


def seconds(traces: Sequence[RunTrace]) -> list[float]:
    return [each.seconds for each in traces]


def test_it_keeps_the_newest_runs() -> None:
    history = RunHistory()
    for number in range(15):
        history.add("g", trace(number))
    assert seconds(history.get("g")) == [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
    assert history.get("other") == ()


def test_long_runs_leave_room_for_fewer() -> None:
    history = RunHistory()
    for number in range(10):
        history.add("g", trace(number, 200))
    assert seconds(history.get("g")) == [5, 6, 7, 8, 9]


def test_it_forgets_the_graphs_that_did_not_run_for_longest() -> None:
    history = RunHistory()
    for number in range(100):
        history.add(f"g{number}", trace(1))
    history.add("g0", trace(2))
    history.add("new", trace(1))
    assert seconds(history.get("g0")) == [1, 2]
    assert history.get("g1") == ()


def test_a_trace_survives_json() -> None:
    before = RunTrace(9.5, 3, (Visit("a", 0.0, 1.5, 1.5), Visit("b", 1.5, 9.5, 2.0)))
    assert RunTrace.from_json(before.to_json()) == before


@pytest.fixture
def network() -> Generator[Network]:
    network = Network()
    yield network
    for fleet in network.fleets.values():
        fleet.stop()


@pytest.fixture(params=["memory", "redis"])
async def fleets(request: pytest.FixtureRequest) -> AsyncGenerator[list[Fleet]]:
    """Two processes."""
    if request.param == "memory":
        network: Network = request.getfixturevalue("network")
        yield [network.join("a"), network.join("b")]
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    settings = RedisSettings(prefix=request.getfixturevalue("redis_prefix"))
    logs = [RedisLog(server.url, redis=settings) for _ in "ab"]
    for log in logs:
        log.fleet.start()
    yield [log.fleet for log in logs]
    for log in logs:
        await log.aclose()


async def stored(fleet: Fleet, graph: str = "g") -> list[RunTrace]:
    value: list[Any] = await fleet.get("run_history", graph) or []
    return [RunTrace.from_json(each) for each in value]


async def until_stored(fleet: Fleet, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(await stored(fleet)) < count:
            await asyncio.sleep(0.001)


async def test_another_process_learns_from_the_store(fleets: list[Fleet]) -> None:
    here, there = (RunHistory(fleet) for fleet in fleets)
    here.add("g", trace(3))
    await until_stored(fleets[1], 1)
    got: list[Sequence[RunTrace]] = []
    there.load("g", got.append)
    await until(lambda: bool(got))
    assert seconds(got[0]) == [3]
    assert there.get("g") == got[0]
    there.add("g", trace(4))
    await until_stored(fleets[0], 2)
    here.load("g", got.append)
    await until(lambda: len(got) == 2)
    assert seconds(got[1]) == [3, 4]


async def test_the_store_keeps_a_history_for_a_limited_time(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, asked = network.join("a"), list[float]()

    async def put(kind: str, key: str, value: object, *, ttl: float) -> None:
        asked.append(ttl)

    monkeypatch.setattr(fleet, "put", put)
    RunHistory(fleet, ttl=60).add("g", trace(1))
    RunHistory(fleet).add("g", trace(1))
    await until(lambda: len(asked) == 2)
    assert asked == [60, 30 * 86_400]


async def test_without_the_store_it_goes_on_in_memory(network: Network) -> None:
    fleet = network.join("a")
    history, got = RunHistory(fleet), list[Any]()
    network.away = True
    history.load("g", got.append)
    history.add("g", trace(1))
    await caught_up(fleet)
    network.away = False
    assert (seconds(history.get("g")), got) == ([1], [])
    history.load("g", got.append)
    await caught_up(fleet)
    assert (seconds(history.get("g")), got) == ([1], []), "an empty store takes nothing away"


@pytest.mark.parametrize("value", ["text", [1], [[1.0, 1]], [[1.0, 1, [["n"]]]], {"v": 2}, 7])
async def test_a_value_of_another_version_counts_as_none(network: Network, value: object) -> None:
    fleet, got = network.join("a"), list[Any]()
    network.store["run_history", "g"] = value
    history = RunHistory(fleet)
    history.load("g", got.append)
    history.add("g", trace(1))
    await caught_up(fleet)
    assert got == []
    assert seconds(await stored(fleet)) == [1]


async def caught_up(fleet: MemoryFleet) -> None:
    """Everything that was spawned on the fleet's loop has run."""
    done = list[int]()

    async def mark() -> None:
        done.append(1)

    fleet.spawn(mark)
    await until(lambda: bool(done))
