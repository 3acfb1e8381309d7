"""A server that runs out of descriptors, on both event loops."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.attacks.attack import Target, raw_get
from tests.attacks.front import FEW_DESCRIPTORS, STANDARD_LOOP, hold
from tests.attacks.server import target

FEW = (("ATTACK_DESCRIPTORS", "160"), ("LG_STREAMING_LIMITS__CONNECTIONS_PER_ADDRESS", "50"))


@pytest.fixture(scope="module", params=[(), (STANDARD_LOOP,)], ids=["uvloop", "asyncio"])
async def shared(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncGenerator[tuple[Target, int]]:
    """A server with few descriptors for each event loop, and the number of open ones when it is idle."""
    async with target(env=(*FEW, *request.param)) as running:
        assert await status(running, "/executions/x") == 401
        await asyncio.sleep(0.2)
        yield running, running.descriptors()


@pytest.fixture
async def few(shared: tuple[Target, int]) -> AsyncGenerator[Target]:
    """The shared server, which has its descriptors back after each test."""
    running, at_rest = shared
    yield running
    async with asyncio.timeout(20):
        while running.descriptors() > at_rest:
            await asyncio.sleep(0.05)


@asynccontextmanager
async def logged_little(running: Target) -> AsyncGenerator[None]:
    before = running.log_lines()
    yield
    assert running.log_lines() - before < 10, running.log.read_text()


async def status(running: Target, path: str) -> int:
    return (await raw_get(running, path, source="127.0.0.99"))[0]


async def test_silent_connections_make_room(few: Target) -> None:
    async with logged_little(few):
        async with hold(few, "silent", 400, 20):
            await asyncio.sleep(1.1)  # the grace of those that wait
            assert await status(few, "/health") == 200
            assert await status(few, "/executions/x") == 401
        assert await status(few, "/executions/x") == 401


async def test_a_server_full_of_busy_connections_answers_health_and_503(few: Target) -> None:
    async with logged_little(few):
        async with hold(few, "busy", 400, 20):
            async with asyncio.timeout(20):
                while await status(few, "/health") != 200:  # the last of those that are refused still leave
                    await asyncio.sleep(0.05)
            assert await status(few, "/executions/x") == 503
        began = time.monotonic()
        while await status(few, "/executions/x") == 503:
            await asyncio.sleep(0.05)
        assert time.monotonic() - began < 5


async def test_descriptors_that_the_application_takes_do_not_stop_the_server(few: Target) -> None:
    async with logged_little(few):
        assert await status(few, "/leak?seconds=3") == 200
        async with hold(few, "busy", 3):  # what the last connections left free
            assert {await status(few, "/executions/x") for _ in range(5)} == {503}
        async with asyncio.timeout(20):
            while await status(few, "/executions/x") != 401:
                await asyncio.sleep(0.1)


@pytest.mark.soak
@pytest.mark.parametrize("loop", [(), (STANDARD_LOOP,)], ids=["uvloop", "asyncio"])
async def test_a_minute_without_descriptors(loop: tuple[tuple[str, str], ...]) -> None:
    async with target(env=(*FEW_DESCRIPTORS, *loop)) as running, logged_little(running):
        began = time.monotonic()
        while time.monotonic() - began < 60:
            async with hold(running, "silent", 1_000, 200):
                await asyncio.sleep(1.1)
                assert await status(running, "/health") == 200
