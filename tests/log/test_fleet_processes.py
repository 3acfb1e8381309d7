"""Processes of a fleet that die, stop or lose Redis, on real servers."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator

import pytest

from lg_streaming.errors import LogUnavailableError, NoAnswerError
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.settings import RedisSettings
from tests.log.fleets import LEASE, Member, members, until, until_live
from tests.support import warm
from tests.support.forks import run_forking
from tests.support.redis_server import RedisServer, redis_cluster, redis_server

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server() -> Generator[RedisServer]:
    with redis_server() as server:
        yield server


class Fleet:
    """Members in this process, and other processes, of one fleet."""

    def __init__(self, url: str, prefix: str, make: Callable[..., Member]) -> None:
        self.url, self.prefix, self.make = url, prefix, make
        self.programs: dict[str, warm.Program | subprocess.Popen[str]] = {}

    async def start(self, *, lease: float = LEASE) -> str:
        """Start another process, and return its id."""
        program = warm.start("-m", "tests.log.fleet_process", self.url, self.prefix, str(lease))
        assert program.stdout is not None
        line = await asyncio.to_thread(program.stdout.readline)
        assert line, program.stderr.read() if program.stderr else ""
        self.programs[json.loads(line)] = program
        return json.loads(line)

    def signal(self, process_id: str, number: int) -> None:
        os.kill(self.programs[process_id].pid, number)

    def end(self) -> None:
        for program in self.programs.values():
            program.kill()
            with program:
                pass


@pytest.fixture
def fleet(server: RedisServer) -> Generator[Fleet]:
    prefix = f"p{next(_numbers)}"
    with members(server.url, prefix) as make:
        fleet = Fleet(server.url, prefix, make)
        try:
            yield fleet
        finally:
            fleet.end()


async def echo(payload: object) -> object:
    return payload


async def test_the_runs_of_a_killed_process_end_within_its_lease(fleet: Fleet) -> None:
    here = fleet.make()
    await until_live(here)
    there = await fleet.start()
    await here.fleet.request(there, "hold", ["a", "b"])
    assert await here.fleet.request(there, "claim", "sink")
    assert await here.fleet.request(there, "count", 3) == 3
    hanging = asyncio.create_task(here.fleet.request(there, "hang", None, timeout=60))
    await until(lambda: there in here.fleet.live)
    fleet.signal(there, signal.SIGKILL)
    begun = time.monotonic()
    await until(lambda: sorted(here.abandoned) == [("a", there), ("b", there)])
    assert time.monotonic() - begun < LEASE * 4 / 3 + 0.5
    with pytest.raises(NoAnswerError, match="is gone"):
        await asyncio.wait_for(hanging, 10)
    while not await here.fleet.claim("sink"):
        assert time.monotonic() - begun < LEASE * 2 + 1
        await asyncio.sleep(0.02)
    assert await here.fleet.count("connections", "x", 1) == 1


async def test_a_process_that_was_stopped_past_its_lease_returns_as_another(fleet: Fleet) -> None:
    here = fleet.make()
    await until_live(here)
    there = await fleet.start()
    await here.fleet.request(there, "hold", ["a"])
    assert await here.fleet.request(there, "claim", "sink")
    fleet.signal(there, signal.SIGSTOP)
    await until(lambda: here.abandoned == [("a", there)])
    with pytest.raises(NoAnswerError, match="is gone"):
        await here.fleet.request(there, "report", None)
    deadline = time.monotonic() + LEASE
    while not await here.fleet.claim("sink"):  # it expires a lease after its own renewal
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    fleet.signal(there, signal.SIGCONT)
    await until(lambda: len(here.fleet.live) == 2)
    (back,) = here.fleet.live - {here.fleet.process_id}
    assert back != there
    report = await here.fleet.request(back, "report", None)
    assert report["events"] == [["claim", "sink"], ["lease", there]]
    assert await here.fleet.claim("sink")
    assert here.abandoned == [("a", there)]


async def test_a_process_that_was_stopped_while_no_other_ran_keeps_its_id(fleet: Fleet, server: RedisServer) -> None:
    there = await fleet.start()
    key = f"{fleet.prefix}:process:{{{there}}}"
    fleet.signal(there, signal.SIGSTOP)
    await asyncio.sleep(LEASE * 1.5)
    assert int(server.execute("HGET", key, "until")) < time.time() * 1000
    fleet.signal(there, signal.SIGCONT)
    await until(lambda: int(server.execute("HGET", key, "until")) > time.time() * 1000)
    here = fleet.make()
    assert (await here.fleet.request(there, "report", None))["events"] == []


async def test_clocks_of_machines_have_no_effect(fleet: Fleet) -> None:
    here = fleet.make()
    await until_live(here)
    there = await fleet.start()
    for seconds in (7_200.0, -14_400.0):
        await here.fleet.request(there, "shift", seconds)
        until_then = time.monotonic() + LEASE * 2
        while time.monotonic() < until_then:
            assert len(await here.fleet.processes()) == 2
            assert (await here.fleet.request(there, "report", None))["abandoned"] == []
            await asyncio.sleep(0.05)
    assert here.abandoned == []
    assert there in here.fleet.live


@pytest.mark.parametrize("how", ["flush", "restart", "restart with data"])
async def test_everything_registers_again_after_redis_lost_its_data(
    fleet: Fleet, server: RedisServer, how: str
) -> None:
    here = fleet.make(open_runs=lambda: ["run"])
    await until_live(here)
    there = await fleet.start()
    assert await here.fleet.claim("sink")
    assert await here.fleet.count("connections", "x", 2) == 2
    assert await here.fleet.request(there, "count", 1) == 3
    await until(lambda: there in here.fleet.live)
    before = here.fleet.live
    if how == "flush":
        await asyncio.to_thread(server.flush)
    else:
        server.restart(keep_data=how == "restart with data")
    deadline = time.monotonic() + 10
    found: list[str] = []
    while sorted(found) != sorted(before):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)
        try:
            found = [each.process_id for each in await here.fleet.processes()]
            answer = await here.fleet.request(there, "report", None, timeout=1)
        except (LogUnavailableError, NoAnswerError):
            found = []
        else:
            assert answer["events"] == []
    assert here.fleet.live == before
    await until(lambda: here.execute("GET", f"{fleet.prefix}:claim:{{sink}}") == here.fleet.process_id.encode())
    await until(lambda: here.execute("SMEMBERS", f"{fleet.prefix}:runs:{{{here.fleet.process_id}}}") == {b"run"})
    while await here.fleet.count("connections", "x", 0) != 3:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    here.fleet.publish("topic", "back")
    while ["message", "back"] not in (await here.fleet.request(there, "report", None))["events"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
        here.fleet.publish("topic", "back")
    assert here.abandoned == []


async def test_without_redis_nothing_is_forgotten(fleet: Fleet, server: RedisServer) -> None:
    here = fleet.make()
    await until_live(here)
    there = await fleet.start()
    await until(lambda: there in here.fleet.live)
    assert await here.fleet.count("connections", "x", 1) == 1
    await asyncio.to_thread(server.kill)
    try:
        for refused in (
            here.fleet.claim("sink"),
            here.fleet.request(there, "report", None),
            here.fleet.put("kind", "key", 1, ttl=1),
            here.fleet.count("connections", "x", 1),
            here.fleet.processes(),
        ):
            with pytest.raises(LogUnavailableError):
                await refused
        here.fleet.publish("topic", "lost")
        here.fleet.release("sink")
        assert here.fleet.live == {here.fleet.process_id, there}
        here.fleet.on_request("echo", echo)
        assert await here.fleet.request(here.fleet.process_id, "echo", 1) == 1
    finally:
        server.restart(keep_data=False)
    deadline = time.monotonic() + 10
    while True:
        try:
            if await here.fleet.count("connections", "x", 0) == 2:
                break
        except LogUnavailableError:
            pass
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_a_request_that_redis_does_not_confirm_ends_in_time(fleet: Fleet, server: RedisServer) -> None:
    here, other = fleet.make(lease=30), fleet.make(lease=30)
    other.fleet.on_request("echo", echo)
    await until_live(here)
    await until_live(other)
    server.pause()
    try:
        begun = time.monotonic()
        with pytest.raises(LogUnavailableError, match="did not confirm the request 'echo'"):
            await here.fleet.request(other.fleet.process_id, "echo", 1, timeout=0.3)
        assert time.monotonic() - begun < 2
    finally:
        server.resume()
    assert await here.fleet.request(other.fleet.process_id, "echo", 2) == 2


async def test_logs_share_their_connection_for_notifications_with_the_fleet(server: RedisServer) -> None:
    settings = RedisSettings(prefix=f"p{next(_numbers)}")
    logs = [RedisLog(server.url, redis=settings) for _ in range(2)]
    before = server.execute("CLIENT", "LIST", "TYPE", "pubsub").count(b"\n")
    try:
        logs[1].fleet.on_request("echo", echo)
        for log in logs:
            log.watch("execution")
            assert len(await log.fleet.processes()) >= 1
        assert await logs[0].fleet.request(logs[1].fleet.process_id, "echo", 1) == 1
        await until(lambda: server.execute("CLIENT", "LIST", "TYPE", "pubsub").count(b"\n") == before + 2)
    finally:
        for log in logs:
            await log.aclose()


async def test_a_request_goes_on_when_connections_are_cut(fleet: Fleet, server: RedisServer) -> None:
    here, other = fleet.make(), fleet.make()
    other.fleet.on_request("echo", echo)
    await until_live(here, other)
    answers = 0
    for number in range(60):
        if number % 5 == 0:
            await asyncio.to_thread(server.execute, "CLIENT", "KILL", "TYPE", "pubsub")
        answers += await here.fleet.request(other.fleet.process_id, "echo", 1, timeout=5)
    assert answers == 60


async def test_an_idle_process_costs_less_than_a_command_a_second(fleet: Fleet, server: RedisServer) -> None:
    lease, seconds = 1.2, 2.0
    member = fleet.make(lease=lease)
    await until_live(member)
    assert all(await asyncio.gather(*(member.fleet.claim(f"sink-{number}") for number in range(100))))
    await member.fleet.count("connections", "x", 1)
    await asyncio.sleep(0.5)
    before = _sent(server)
    await asyncio.sleep(seconds)
    sent = {name: count - before.get(name, 0) for name, count in _sent(server).items() if count != before.get(name)}
    renewals = seconds / (lease / 3) + 1
    assert sent.pop("evalsha") <= 3 * renewals  # the lease, the list of processes, and all claims
    scripted = {"time", "exists", "hset", "pexpire", "llen", "zadd", "zrange", "get", "set"}
    assert sum(count for name, count in sent.items() if name not in scripted | {"info", "eval"}) <= seconds


def _sent(server: RedisServer) -> dict[str, int]:
    with server.client() as client:
        stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(each["calls"]) for name, each in stats.items()}


def test_a_forked_child_is_another_process_without_claims(server: RedisServer) -> None:
    assert run_forking(
        """
        from tests.log.fleets import Member

        member = Member(url, prefix, lease=1)
        fleet = member.fleet

        async def state():
            return [await fleet.claim("sink"), len(await fleet.processes()), await fleet.count("k", "x", 1)]

        def child():
            try:
                return [fleet.process_id, *asyncio.run(state())]
            finally:
                member.close()

        first = asyncio.run(state())
        mine = fleet.process_id
        other, *second = in_child(child)
        third = asyncio.run(state())
        member.close()
        print(json.dumps([first, mine != other, second, third]))
        """,
        url=server.url,
        prefix=f"p{next(_numbers)}",
    ) == [[True, 1, 1], True, [False, 2, 2], [True, 1, 2]]


@pytest.fixture
def make_in_cluster() -> Generator[Callable[..., Member]]:
    with redis_cluster() as cluster, members(cluster.url, "cluster") as make:
        yield make


async def test_every_key_of_a_script_lies_in_one_slot(make_in_cluster: Callable[..., Member]) -> None:
    first, second, third = make_in_cluster(), make_in_cluster(), make_in_cluster()
    second.fleet.on_request("echo", echo)
    got: list[object] = []
    second.fleet.on_message("topic", got.append)
    await until_live(first, second, third)
    assert await first.fleet.request(second.fleet.process_id, "echo", {"a": "x" * 100_000}) == {"a": "x" * 100_000}
    names = [f"sink-{number}" for number in range(100)]
    assert all(await asyncio.gather(*(first.fleet.claim(name) for name in names)))
    assert not any(await asyncio.gather(*(second.fleet.claim(name) for name in names)))
    await first.io.run(first.fleet._claims.renew())
    for number in range(20):
        await first.fleet.put(f"kind-{number}", "key", number, ttl=10)
        await first.fleet.put(f"kind-{number}", "other", number, ttl=10)
        assert await second.fleet.values(f"kind-{number}") == {"key": number, "other": number}
        assert await second.fleet.take(f"kind-{number}", "key") == number
        assert await first.fleet.count("connections", f"x-{number}", 1) == 1
        assert await second.fleet.count("connections", f"x-{number}", 1) == 2
    while not got:
        first.fleet.publish("topic", 1)
        await asyncio.sleep(0.02)
    assert len(await second.fleet.processes()) == 3
    for member in (second, third):
        member.execute(*member.fleet.add_run("run", member.fleet.process_id))
    await second.crash()
    await until(lambda: ("run", second.fleet.process_id) in [*first.abandoned, *third.abandoned])
    await third.fleet.aclose()
    assert ("run", third.fleet.process_id) in third.abandoned
    await until(lambda: first.fleet.live == frozenset({first.fleet.process_id}))
