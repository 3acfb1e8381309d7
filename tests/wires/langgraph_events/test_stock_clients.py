"""The newest stock event clients against our server: JavaScript and Python."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from tests.support.tcp_proxy import tcp_proxy
from tests.wires.langgraph.places import check_all_passed, record, run_script
from tests.wires.langgraph.python_checks import Place, client_of, human

if TYPE_CHECKING:
    from tests.wires.results import Tested

pytestmark = pytest.mark.anyio

JS = Path(__file__).parent / "js"
TIMEOUT = 20
TRANSPORTS = pytest.mark.parametrize("transport", ["sse", "websocket"])


@TRANSPORTS
async def test_the_javascript_client(transport: str, place: Place) -> None:
    check_all_passed(await run_script(str(JS / "lc_events.mjs"), place, transport=transport), least=18)


# ---------------------------------------------------------------- Python
async def messages_of(thread: Any, *, at: str = "", then: Sequence[Callable[[], object]] = ()) -> list[str]:
    """Read the texts of all messages of a run, each in its own task, as the client demands; act at a text."""

    async def text(message: Any) -> str:
        so_far = ""
        async for part in message.text:
            so_far += part
            for act in then if so_far == at else ():
                act()
        return so_far

    texts = [asyncio.create_task(text(message)) async for message in thread.messages]
    return list(await asyncio.gather(*texts))


async def tokens(place: Place, transport: str) -> None:
    async with (
        client_of(place.url) as client,
        client.threads.stream(assistant_id="agent", transport=transport) as thread,
    ):
        started = await thread.run.start(input=human("say Hello there, my friend."))
        assert await messages_of(thread) == ["Hello there, my friend."]
        output = await thread.output
        assert [each["content"] for each in output["messages"]] == [
            "say Hello there, my friend.",
            "Hello there, my friend.",
        ]
        assert (await client.runs.get(thread.thread_id, started["run_id"]))["status"] == "success"


async def parallel(place: Place, transport: str) -> None:
    async with (
        client_of(place.url) as client,
        client.threads.stream(assistant_id="agent", transport=transport) as thread,
    ):
        await thread.run.start(input=human("both one two three"))
        assert await messages_of(thread) == ["one two three"] * 2


async def interrupt(place: Place, transport: str) -> None:
    async with (
        client_of(place.url) as client,
        client.threads.stream(assistant_id="agent", transport=transport) as thread,
    ):
        await thread.run.start(input=human("ask"))
        seen = [each async for each in thread.values]
        assert thread.interrupted
        assert seen[-1]["messages"][0]["content"] == "ask"
        assert [each["value"] for each in thread.interrupts] == [{"question": "Go on?"}]
        with pytest.raises(RuntimeError, match="no-such"):
            await thread.run.respond("x", interrupt_id="no-such")
        await thread.run.respond("sure")
        output = await thread.output
        assert output["messages"][-1]["content"] == "answer: sure"


async def subgraphs(place: Place, transport: str) -> None:
    async with (
        client_of(place.url) as client,
        client.threads.stream(assistant_id="agent", transport=transport) as thread,
    ):
        await thread.run.start(input=human("child one two"))
        texts: dict[str, asyncio.Task[list[str]]] = {}
        async for each in thread.subgraphs:
            texts[each.graph_name] = asyncio.create_task(messages_of(each))
        assert {name: await reading for name, reading in texts.items()} == {"child": ["one two"]}
        await thread.output


async def custom(place: Place, transport: str) -> None:
    async with (
        client_of(place.url) as client,
        client.threads.stream(assistant_id="agent", transport=transport) as thread,
    ):
        await thread.run.start(input=human("custom"))
        found = [each["payload"] async for each in thread.extensions["stream_writer"]]
        assert found == [{"step": 1}, "plain"]
        await thread.output


async def failure(place: Place, transport: str) -> None:
    async with (
        client_of(place.url) as client,
        client.threads.stream(assistant_id="agent", transport=transport) as thread,
    ):
        await thread.run.start(input=human("fail half a text"))
        with pytest.raises(RuntimeError, match="boom"):
            await thread.output


async def a_thread_that_ended(place: Place, transport: str) -> None:
    async with client_of(place.url) as client:
        name = uuid4().hex
        async with client.threads.stream(name, assistant_id="agent", transport=transport) as thread:
            await thread.run.start(input=human("say here"))
            await thread.output
        async with client.threads.stream(name, assistant_id="agent", transport=transport) as thread:
            assert (await thread.output)["messages"][-1]["content"] == "here"
            assert await messages_of(thread) == ["here"]


async def cut(place: Place, transport: str) -> None:
    async with (
        tcp_proxy(int(place.url.rpartition(":")[2])) as proxy,
        client_of(f"http://127.0.0.1:{proxy.port}") as client,
    ):
        gate = place.gate()
        async with client.threads.stream(assistant_id="agent", transport=transport) as thread:
            await thread.run.start(input=human(f"say one two |{gate}| three"))
            reading = asyncio.create_task(
                messages_of(thread, at="one two", then=[proxy.reset, lambda: place.open(gate)])
            )
            assert await reading == ["one two three"]
            assert (await thread.output)["messages"][-1]["content"] == "one two three"


CHECKS: list[Callable[[Place, str], Awaitable[None]]] = [
    tokens,
    parallel,
    interrupt,
    subgraphs,
    custom,
    failure,
    a_thread_that_ended,
    cut,
]


@TRANSPORTS
async def test_the_python_client(transport: str, place: Place, tested: Tested) -> None:
    async def result(check: Callable[[Place, str], Awaitable[None]]) -> str | None:
        try:
            async with asyncio.timeout(TIMEOUT):
                await check(place, transport)
        except Exception as error:  # noqa: BLE001 (all are reported)
            return f"{check.__name__}: {error!r}"
        return None

    done = await asyncio.gather(*map(result, CHECKS))
    found = {check.__name__: error for check, error in zip(CHECKS, done, strict=True)}
    record(tested, "langgraph_sdk (Python), threads.stream", version("langgraph_sdk"), found)
    assert not (wrong := [each for each in done if each is not None]), wrong
    async with httpx.AsyncClient() as client:  # the server still works
        assert (await client.get(f"{place.url}/ok")).json() == {"ok": True}
