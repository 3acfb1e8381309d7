"""Runs that clients start, over each transport, and steer."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from lg_streaming.cli.access import Access
from lg_streaming.cli.start import StartRequest, start_run
from lg_streaming.client import SSEClient, StreamClient, SyncClient
from lg_streaming.errors import BadRequestError, ExecutionExistsError, ForbiddenError, UnauthorizedError
from tests.client.conftest import PATIENCE, Make
from tests.gateway.starts import StartSite, bearer, may_start, start_site

TOKEN = bearer("alice", may_start("**", executions=("alice/**",)))


@pytest.fixture(scope="module")
def place() -> Generator[StartSite]:
    with start_site() as site:
        yield site


async def command(place: StartSite, graph: str, input: Any, *, token: str | None = TOKEN) -> tuple[int, str]:
    """Return the exit code and the output of ``lg-streaming start``."""
    output = StringIO()
    request = StartRequest(access=Access.of(place.url, token=token), graph=graph, input=input, options={})
    async with asyncio.timeout(PATIENCE):
        code = await start_run(request, Console(file=output, width=80))
    return code, output.getvalue()


async def test_the_command_shows_the_result_and_how_to_answer(place: StartSite) -> None:
    code, output = await command(place, "shout", {"text": "hi"})
    assert (code, output.splitlines()[-1]) == (0, 'Result: {"text": "HI"}')
    code, output = await command(place, "ask", {})
    arguments = shlex.split(output.splitlines()[-1])
    assert code == 3
    assert arguments[:3] == ["lg-streaming", "respond", place.url]
    execution_id, answer, option, prompt_id = arguments[3:]
    assert (answer, option) == ("…", "--prompt")
    async with SSEClient(place.url, token=TOKEN) as client:
        await client.respond(execution_id, prompt_id, "yes")
    with pytest.raises(UnauthorizedError):
        await command(place, "ask", {}, token=None)


@pytest.mark.row("HIVE-77", "HIVE-81")
async def test_a_started_run_is_read_to_its_end(place: StartSite, make: Make) -> None:
    client = make(place.url, token=TOKEN)
    run = await client.start("shout", {"text": "hi"}, execution_id=f"alice/{make.kind}", metadata={"k": 1})
    assert (run.execution_id, run.thread_id, run.state, run.position) == (
        f"alice/{make.kind}",
        f"alice/{make.kind}",
        "running",
        None,
    )
    async with asyncio.timeout(PATIENCE):
        updates = [update async for update in run]
    assert updates[-1].data["result"] == {"text": "HI"}
    again = await client.start("shout", {}, execution_id=run.execution_id)
    async with asyncio.timeout(PATIENCE):
        assert {update.metadata.run_id async for update in again} == {again.run_id}


async def test_a_refused_start_raises(place: StartSite, make: Make) -> None:
    client = make(place.url, token=TOKEN)
    with pytest.raises(BadRequestError, match=r"input\.text"):
        await client.start("shout", {"text": 5})
    with pytest.raises(ForbiddenError):
        await client.start("shout", {}, execution_id="other")
    with pytest.raises(BadRequestError, match="JSON"):
        await client.start("shout", {"text": object()})


@asynccontextmanager
async def asking(client: StreamClient) -> AsyncGenerator[tuple[Any, str]]:
    """A run that waits for an answer, and the prompt's id."""
    run = await client.start("ask", {})
    async with asyncio.timeout(PATIENCE):
        updates = [update async for update in run.updates(until="interrupted")]
    yield run, next(each.data["prompt_id"] for each in updates if each.type == "human_prompt")
    await run.cancel()


async def test_a_run_is_answered_and_cancelled_through_its_handle(place: StartSite, make: Make) -> None:
    client = make(place.url, token=TOKEN)
    async with asking(client) as (run, prompt_id):
        with pytest.raises(ExecutionExistsError):
            await client.start("ask", {}, execution_id=run.execution_id)
        await run.respond(prompt_id, "yes")
        async with asyncio.timeout(PATIENCE):
            assert [update async for update in run][-1].data["result"] == {"answer": "yes"}
    async with asking(client) as (run, _):
        assert await run.cancel(reason="enough")
        assert not await run.cancel()


@pytest.mark.row("HIVE-75")
async def test_a_run_is_paused_changed_and_resumed(place: StartSite, make: Make) -> None:
    client = make(place.url, token=TOKEN)
    async with asking(client) as (run, prompt_id):
        execution_id = run.execution_id
        assert await client.pause(execution_id, reason="lunch")
        await run.respond(prompt_id, "yes")
        async with asyncio.timeout(PATIENCE):
            async for update in run.updates(follow=True):
                if update.type == "status" and update.data["status"] == "paused":
                    break
        with pytest.raises(BadRequestError, match="other"):
            await client.inject(execution_id, {"other": 1})
        assert await client.inject(execution_id, {"text": "changed"})
        assert await client.resume(execution_id)
        async with asyncio.timeout(PATIENCE):
            updates = [update async for update in run]
        assert updates[-1].data["result"]["text"] == "changed"
        assert "input_injected" in {update.type for update in updates}
        assert not await client.pause(execution_id)
        assert not await client.resume(execution_id)
        assert not await client.inject(execution_id, {"text": "late"})


async def test_the_graphs_a_client_may_start(place: StartSite, make: Make) -> None:
    client = make(place.url, token=bearer("alice", may_start("shout")))
    assert [each["name"] for each in await client.graphs()] == ["shout"]


@pytest.mark.parametrize("transport", ["sse", "socketio"])
def test_a_blocking_client_starts_a_run(place: StartSite, transport: Any) -> None:
    with SyncClient(place.url, transport=transport, token=TOKEN) as client:
        run = client.start("shout", {"text": "a"})
        assert list(run)[-1].data["result"] == {"text": "A"}
        asking = client.start("ask", {})
        prompt = next(update for update in asking.updates(until="interrupted") if update.type == "human_prompt")
        assert client.pause(asking.execution_id)
        assert client.resume(asking.execution_id)
        assert client.inject(asking.execution_id, {"text": "b"})
        asking.respond(prompt.data["prompt_id"], 1)
        assert list(asking)[-1].data["result"] == {"text": "b", "answer": 1}
        assert not asking.cancel()
        assert [each["name"] for each in client.graphs()] == ["shout", "ask", "demo/chat"]
