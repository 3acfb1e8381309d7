"""Clients of every kind hop between two gateways behind nginx: no update is lost, none comes twice.

The gateways, nginx and Redis are those of `examples/deploy`. A process that serves nothing publishes all the time.
A gateway is killed, the other one is restarted, and nginx reads its configuration again. In `make soak` both gateways
are restarted in turn, too.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest

from lg_streaming.cli.token import TokenRequest, make_token
from tests.deploy.deployment import GATEWAYS, SECRETS, Deployment
from tests.deploy.programs import environment
from tests.fleet.hop_clients import Client, NodeSocket, Report, browser_clients, python_clients
from tests.fleet.producer import OWNER
from tests.support.node import node_process

pytestmark = pytest.mark.row("PYEV-20")

RATE = 100
PAGES_RATE = 25
"""Updates a second that five pages show without all of the processor."""
PATIENCE = 25.0


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Generator[Deployment]:
    with Deployment.running(tmp_path_factory.mktemp("hop"), others=(*GATEWAYS, "nginx"), fresh=False) as deployment:
        yield deployment


def token(subject: str = OWNER) -> str:
    """A token of the owner, or of a user with a grant on all executions."""
    grants = () if subject == OWNER else ("**",)
    secret = SECRETS["AUTH_SECRET"]
    return make_token(TokenRequest(subject=subject, expires_in=1800, secret=secret, executions=grants))


class Producer:
    """The process that publishes, so many updates a second."""

    def __init__(self, execution_id: str, process: asyncio.subprocess.Process, rate: int) -> None:
        self.execution_id = execution_id
        self.rate = rate
        self._process = process

    async def end(self) -> dict[str, int]:
        """The number of updates of each execution, after the end of all."""
        output, _ = await self._process.communicate(b"")
        heads: dict[str, int] = json.loads(output)
        return heads


@asynccontextmanager
async def producer(deployment: Deployment, execution_id: str, rate: int = RATE) -> AsyncGenerator[Producer]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fleet.producer", execution_id, str(rate)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment(deployment.redis, LG_STREAMING_LOG=deployment.redis),
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield Producer(execution_id, process, rate)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def subscriptions(execution_id: str) -> dict[str, tuple[str, dict[str, Any], bool]]:
    """The message of each socket in Node, with its payload; and whether it resumes from its position."""
    room = {"execution_id": f"room:{execution_id}", "batch": True, "follow": True}
    return {
        "socket.io-client": ("subscribe_execution", {"execution_id": execution_id, "batch": True}, True),
        "room": ("subscribe_execution", room, True),
        "member": ("join_room", {"room_id": execution_id}, False),
        "events": ("subscribe_events", {"executions": [f"{execution_id}-*"], "batch": True}, False),
    }


class Hop:
    """Clients of every kind, and the times of what is done to their gateways."""

    def __init__(self, clients: Sequence[Client], rate: int) -> None:
        self._clients = clients
        self._rate = rate
        self._steps: list[tuple[str, float, float]] = []

    @asynccontextmanager
    async def step(self, name: str) -> AsyncGenerator[None]:
        """Do something in the block; then wait until every client has updates that were published afterwards."""
        began = time.time()
        yield
        target = max([await each.newest() for each in self._clients]) + self._rate // 2
        await self.until(target)
        self._steps.append((name, began, time.time()))

    async def until(self, number: int) -> None:
        deadline = time.monotonic() + PATIENCE
        for each in self._clients:
            while (newest := await each.newest()) < number:
                assert time.monotonic() < deadline, (each.name, newest, number)
                await asyncio.sleep(0.1)

    def silences(self, report: Report) -> dict[str, float]:
        """The longest time without an update in each step, in seconds."""
        return {
            name: round(max((b - a for a, b in pairwise(report.times) if began < b and a < ended), default=0.0), 2)
            for name, began, ended in self._steps
        }


async def restart_both(deployment: Deployment, hop: Hop) -> None:
    """Restart both gateways; nginx reads its configuration again while one of them is away."""
    first, second = GATEWAYS
    async with hop.step("a gateway stops"):
        await asyncio.to_thread(deployment.stop, first)
    await asyncio.to_thread(deployment.start, first)
    async with hop.step("the other one stops"):
        await asyncio.to_thread(deployment.stop, second)
    async with hop.step("nginx reloads"):
        deployment.reload("nginx")
    await asyncio.to_thread(deployment.start, second)


async def kill_one(deployment: Deployment, hop: Hop) -> None:
    """Kill a gateway, and restart the other one when the first is back; nginx reads its configuration again."""
    first, second = GATEWAYS
    async with hop.step("a gateway is killed"):
        await asyncio.to_thread(deployment.kill, first)
    await asyncio.to_thread(deployment.start, first)
    async with hop.step("the other one stops"):
        await asyncio.to_thread(deployment.stop, second)
    async with hop.step("nginx reloads"):
        deployment.reload("nginx")
    await asyncio.to_thread(deployment.start, second)


Roll = Callable[[Deployment, Hop], Awaitable[None]]


async def check(deployment: Deployment, clients: Sequence[Client], publishing: Producer, roll: Roll) -> dict[str, int]:
    """Let clients hop until the producer ends; each has every update once. Return the numbers of updates."""
    hop = Hop(clients, publishing.rate)
    await hop.until(1)
    await roll(deployment, hop)
    heads = await publishing.end()
    await hop.until(heads[publishing.execution_id])
    for client in clients:
        report = await client.report()
        assert (client.name, report.gaps) == (client.name, [])
        assert report.numbers == list(range(1, heads[publishing.execution_id] + 1)), client.name
        assert report.last == "workflow_complete", client.name
        print(client.name, json.dumps(hop.silences(report)))
    for log in (log for name in GATEWAYS for log in deployment.logs(name)):
        assert "Traceback" not in log.read_text(), log
    return heads


def check_sockets(found: dict[str, dict[str, Any]], head_of_room: int) -> None:
    """Check the sockets of the official client: all of them hopped, and how the server closed them."""
    for name, report in found.items():
        assert report["errors"] == report["gaps"] == [], name
        connections = [[tuple(each) for each in connection] for connection in report["numbers"]]
        assert len(connections) >= 2, name
        assert all(500 <= retry <= 3_000 for retry in report["retries"]), name
        got = [each for connection in connections for each in connection]
        assert len(got) == len(set(got)), f"{name} got an update twice"
        for connection in connections:  # in order, without holes
            for execution_id in {each for each, _ in connection}:
                numbers = [number for each, number in connection if each == execution_id]
                assert numbers == list(range(numbers[0], numbers[-1] + 1)), (name, execution_id)
    room = [number for connection in found["room"]["numbers"] for _, number in connection]
    assert room == list(range(1, head_of_room + 1))


@asynccontextmanager
async def node_sockets(deployment: Deployment, execution_id: str) -> AsyncGenerator[dict[str, NodeSocket]]:
    async with node_process("hop.mjs") as node:
        subscribed = subscriptions(execution_id)
        for name, subscribe in subscribed.items():
            await node.send("start", name=name, url=deployment.url, token=token("bob"), subscribe=subscribe)
        yield {name: NodeSocket(node, name) for name in subscribed}


ROLLS = [kill_one, pytest.param(restart_both, marks=pytest.mark.soak)]


@pytest.mark.parametrize("roll", ROLLS)
async def test_sockets_and_python(deployment: Deployment, roll: Roll) -> None:
    async with AsyncExitStack() as stack:
        execution_id = f"sockets-{roll.__name__}"
        publishing = await stack.enter_async_context(producer(deployment, execution_id))
        sockets = await stack.enter_async_context(node_sockets(deployment, execution_id))
        clients = await stack.enter_async_context(python_clients(deployment.url, execution_id, token()))
        heads = await check(deployment, [sockets["socket.io-client"], *clients], publishing, roll)
        check_sockets({name: await socket.whole() for name, socket in sockets.items()}, heads[f"room:{execution_id}"])


@pytest.mark.browser
@pytest.mark.parametrize("roll", ROLLS)
async def test_pages(deployment: Deployment, roll: Roll) -> None:
    async with AsyncExitStack() as stack:
        execution_id = f"pages-{roll.__name__}"
        publishing = await stack.enter_async_context(producer(deployment, execution_id, PAGES_RATE))
        clients = await stack.enter_async_context(browser_clients(deployment.url, execution_id, token()))
        await check(deployment, clients, publishing, roll)
