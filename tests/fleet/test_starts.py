"""Runs that are started through one gateway, and watched, answered, steered and cancelled through another."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack
from typing import Any

import pytest

from lg_streaming.client import ClientRun, SocketIOClient, SSEClient
from lg_streaming.errors import ForbiddenError
from tests.gateway.starts import StartSite, bearer, may_start, start_site
from tests.support.redis_server import RedisServer

importlib.import_module("lg_streaming.log.redis.log")  # it reads files: before that is watched

PATIENCE = 20.0
TOKEN = bearer("alice", may_start("**", executions=("alice/*",)))


@pytest.fixture
def places(shared_redis: RedisServer, redis_prefix: str) -> Generator[tuple[StartSite, StartSite]]:
    """Two servers of one fleet, with the same graphs."""
    settings: dict[str, Any] = {"log": shared_redis.url, "redis": {"prefix": redis_prefix}}
    with ExitStack() as stack:
        first, second = (stack.enter_context(start_site(**settings)) for _ in range(2))
        yield first, second


@pytest.fixture
async def clients(places: tuple[StartSite, StartSite]) -> AsyncGenerator[tuple[SSEClient, SocketIOClient]]:
    """A client of each server, over different transports."""
    async with SSEClient(places[0].url, token=TOKEN) as here, SocketIOClient(places[1].url, token=TOKEN) as there:
        yield here, there


async def types_of(client: SSEClient | SocketIOClient, run: ClientRun) -> list[str]:
    async with asyncio.timeout(PATIENCE):
        return [each.type async for each in client.subscribe(run.execution_id, after=run.position)]


async def prompt_of(client: SSEClient | SocketIOClient, run: ClientRun) -> str:
    async with asyncio.timeout(PATIENCE):
        async for update in client.subscribe(run.execution_id, until="interrupted"):
            if update.type == "human_prompt":
                return update.data["prompt_id"]
    raise AssertionError("no prompt came")


@pytest.mark.row("HIVE-81")
async def test_a_run_is_answered_through_another_gateway(clients: tuple[SSEClient, SocketIOClient]) -> None:
    here, there = clients
    run = await here.start("ask", {})
    prompt_id = await prompt_of(there, run)
    assert await there.pause(run.execution_id)
    assert await there.inject(run.execution_id, {"text": "from afar"})
    assert await there.resume(run.execution_id)
    await there.respond(run.execution_id, prompt_id, "yes")
    async with asyncio.timeout(PATIENCE):
        last = [update async for update in there.subscribe(run.execution_id)][-1]
    assert last.data["result"] == {"answer": "yes", "text": "from afar"}
    assert not await there.cancel(run.execution_id)


async def test_a_run_is_cancelled_through_another_gateway(clients: tuple[SSEClient, SocketIOClient]) -> None:
    here, there = clients
    run = await there.start("ask", {})
    await prompt_of(here, run)
    assert await here.cancel(run.execution_id, reason="enough")
    assert (await types_of(here, run))[-1] == "workflow_cancelled"


async def test_a_repeated_start_through_another_gateway_is_the_same_run(
    clients: tuple[SSEClient, SocketIOClient],
) -> None:
    here, there = clients
    both = await asyncio.gather(*(each.start("shout", {"text": "a"}, idempotency_key="k") for each in clients))
    assert len({each.run_id for each in both}) == 1
    assert (await types_of(there, both[0])).count("workflow_start") == 1
    assert (await here.start("shout", {"text": "a"}, idempotency_key="k")).run_id == both[0].run_id


async def test_of_two_owners_who_start_at_once_one_gets_the_execution(places: tuple[StartSite, StartSite]) -> None:
    tokens = [bearer(name, may_start("**", executions=("shared/*",))) for name in ("alice", "bob")]
    async with SSEClient(places[0].url, token=tokens[0]) as alice, SSEClient(places[1].url, token=tokens[1]) as bob:
        starts = [each.start("ask", {}, execution_id="shared/1") for each in (alice, bob)]
        results = await asyncio.gather(*starts, return_exceptions=True)
        winners = [each for each in results if isinstance(each, ClientRun)]
        assert len(winners) == 1
        assert [type(each) for each in results if not isinstance(each, ClientRun)] == [ForbiddenError]
        assert await winners[0].cancel()
