"""A worker that stops, is killed, or loses its connections to Redis during a run, as readers see it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from lg_streaming.client import SSEClient
from lg_streaming.events import StreamUpdate
from tests.deploy.programs import Process, redis_server, web, worker
from tests.deploy.test_worker import REPORT, start, text_of

LEASE = "2"
PATIENCE = 60.0


@dataclass(frozen=True, kw_only=True)
class Place:
    folder: Path
    redis: str
    url: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Generator[Place]:
    folder = tmp_path_factory.mktemp("worker_ends")
    with ExitStack() as stack:
        url = stack.enter_context(redis_server(folder))
        server = stack.enter_context(web(folder, url, fresh=False, LG_STREAMING_REDIS__LEASE=LEASE))
        yield Place(folder=folder, redis=url, url=server)


@asynccontextmanager
async def running_worker(place: Place) -> AsyncGenerator[Process]:
    """Run a worker; its start and its end may take longer than a lease."""
    running = worker(place.folder, place.redis, LG_STREAMING_REDIS__LEASE=LEASE)
    process = await asyncio.to_thread(running.__enter__)
    try:
        yield process
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


async def watch(
    place: Place, *, at: str, action: Callable[[], object], execution_id: str | None = None
) -> list[StreamUpdate]:
    """Read the run of a job, by default a new one; call the action at its first update of a type.

    A later prompt is answered.
    """
    updates: list[StreamUpdate] = []
    async with asyncio.timeout(PATIENCE), SSEClient(place.url) as client:
        execution_id = execution_id or await start(place.url)
        done = False
        async for update in client.subscribe(execution_id):
            updates.append(update)
            if update.type == at and not done:
                action()
                done = True
            if update.type == "human_prompt" and at != "human_prompt":
                await client.respond(execution_id, update.data["prompt_id"], True)
    assert [update.metadata.sequence_number for update in updates] == list(range(1, len(updates) + 1))
    return updates


async def test_the_runs_of_a_killed_worker_are_abandoned_by_another_process(place: Place) -> None:
    async with running_worker(place) as process:
        updates = await watch(place, at="token", action=lambda: os.killpg(process.pid, signal.SIGKILL))
    assert updates[-1].type == "workflow_abandoned"


async def test_a_worker_outlasts_lost_connections_to_redis_and_cancels_its_runs_when_it_stops(place: Place) -> None:
    def disconnect() -> None:
        with redis.Redis.from_url(place.redis) as client:
            assert client.client_kill_filter(_type="normal", skipme=True)
            client.client_kill_filter(_type="pubsub", skipme=True)

    async with running_worker(place) as process:
        other = await start(place.url)
        updates = await watch(place, at="token", action=disconnect)
        assert text_of(updates) == REPORT
        assert updates[-1].type == "workflow_complete"
        updates = await watch(place, at="human_prompt", action=process.terminate, execution_id=other)
    assert updates[-1].type == "workflow_cancelled"
    assert updates[-1].data["reason"] == "the worker stops"
