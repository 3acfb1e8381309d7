"""Faults between the event clients and the graph: servers that stop, are killed, are several; logs that forget."""

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import orjson
import pytest

from tests.support.node import NodeClient, node_process
from tests.support.redis_server import RedisServer
from tests.wires.langgraph.python_checks import human
from tests.wires.langgraph.test_faults import Fleet, fleet_of
from tests.wires.langgraph_events.test_stock_clients import JS, TRANSPORTS

pytestmark = pytest.mark.anyio

WORDS = "say one two |g| three"
TEXT = "one two three"


@dataclass
class Watched:
    """A run as a client shows it."""

    text: str = ""
    values: Any = None
    status: str | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: text in self.text)

    async def end(self) -> None:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: self.status is not None)


@asynccontextmanager
async def watch(url: str, thread: str, transport: str, text: str = "") -> AsyncGenerator[Watched]:
    """Follow a thread with the JavaScript client; with a text start a run."""
    watched = Watched()

    async def follow(node: NodeClient) -> None:
        while True:
            line = await node.next(timeout=60)
            async with watched.changed:
                watched.text += line.get("text", "")
                watched.values = line.get("values", watched.values)
                watched.status = line.get("status", watched.status)
                watched.changed.notify_all()

    async with node_process(str(JS / "watch.mjs"), url, thread, text, transport) as node:
        following = asyncio.create_task(follow(node))
        try:
            yield watched
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def check(watched: Watched) -> None:
    assert (watched.status, watched.text) == ("completed", TEXT)
    assert watched.values["messages"][-1]["content"] == TEXT


@TRANSPORTS
async def test_a_gateway_stops_in_the_middle(
    transport: str, tmp_path: Path, shared_redis: RedisServer, redis_prefix: str
) -> None:
    """A reader's gateway stops, and the other process has the run: the reader goes there, and has each word once."""
    async with fleet_of(tmp_path, shared_redis.url, redis_prefix) as fleet:
        runner, thread = fleet.servers[0], uuid4().hex
        await start(fleet.url, thread, WORDS)
        gateway = await fleet.start()
        async with watch(fleet.url, thread, transport) as watched:
            await watched.shows("one two")
            fleet.proxy.target = runner.port
            await asyncio.to_thread(gateway.stop)
            fleet.open("g")
            await watched.end()
        check(watched)
        assert "Traceback" not in gateway.log


@TRANSPORTS
async def test_commands_to_the_other_process(
    transport: str, tmp_path: Path, shared_redis: RedisServer, redis_prefix: str
) -> None:
    """An answer by the process that does not run the graph; the tape is the same from both."""
    async with fleet_of(tmp_path, shared_redis.url, redis_prefix) as fleet:
        thread = uuid4().hex
        await start(fleet.url, thread, "ask")
        other = await fleet.start()
        async with watch(fleet.url, thread, transport) as watched:
            await watched.end()
            assert watched.status == "interrupted"
            first = await tape(fleet.servers[0].url, thread, until="interrupted")
            (asked,) = [event["params"]["data"] for event in first if event["method"] == "input.requested"]
            watched.status = None
            params = {"interrupt_id": asked["interrupt_id"], "namespace": [], "response": "from afar"}
            answer = await command(other.url, thread, "input.respond", params)
            assert answer["type"] == "success", answer
            await watched.end()
            assert (watched.status, watched.values["note"]) == ("completed", "from afar")
        tapes = [await tape(each.url, thread) for each in fleet.servers]
        assert tapes[0] == tapes[1]
        assert tapes[0][: len(first)] == first


async def test_a_late_reader_of_an_evicted_log(tmp_path: Path) -> None:
    """The newest values come first; the message whose beginning is gone comes with values alone."""
    async with fleet_of(tmp_path, retention={"max_updates": 100}) as fleet:
        thread = uuid4().hex
        await start(fleet.url, thread, "count")
        whole = "".join(f"w{number} " for number in range(3000))
        await ended(fleet, thread)
        found = await tape(fleet.url, thread)
        assert found[0]["method"] == "checkpoints"
        assert found[1]["params"]["data"]["messages"][-1]["content"] == whole
        assert not [event for event in found if event["method"] == "messages"]
        values = [event for event in found if event["method"] == "values"]
        assert values[-1]["params"]["data"]["messages"][-1]["content"] == whole
        numbers = [event["seq"] for event in found]
        assert numbers == sorted(set(numbers))
        await start(fleet.url, thread, "say after it")
        both = await tape(fleet.url, thread, count=2)
        texts = [event["params"]["data"] for event in both if event["method"] == "messages"]
        assert "".join(data["delta"]["text"] for data in texts if "delta" in data) == "after it"


async def test_states_that_are_too_large_for_an_update(tmp_path: Path) -> None:
    """States come from the checkpointer, whole, with their checkpoints before them."""
    async with fleet_of(tmp_path, runs={"state_bytes": 100}) as fleet:
        thread = uuid4().hex
        await start(fleet.url, thread, "child one two")
        found = await tape(fleet.url, thread)
        values = [event["params"] for event in found if event["method"] == "values"]
        assert [len(each["data"]["messages"]) for each in values if not each["namespace"]] == [1, 1, 2]
        assert [each["data"]["messages"][-1]["content"] for each in values if each["namespace"]][-1] == "one two"
        for event, after in itertools.pairwise(found):
            assert event["method"] != "checkpoints" or after["method"] == "values"


# ---------------------------------------------------------------- plain HTTP
async def command(url: str, thread: str, method: str, params: dict[str, Any]) -> Any:
    async with httpx2.AsyncClient(trust_env=False, timeout=20) as http:
        body = {"id": 1, "method": method, "params": params}
        return (await http.post(f"{url}/threads/{thread}/commands", json=body)).json()


async def start(url: str, thread: str, text: str) -> None:
    answer = await command(url, thread, "run.start", {"assistant_id": "agent", "input": human(text)})
    assert answer["type"] == "success", answer


async def ended(fleet: Fleet, thread: str) -> None:
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
        run = (await http.get(f"{fleet.url}/threads/{thread}/runs")).json()[0]["run_id"]
        await http.get(f"{fleet.url}/threads/{thread}/runs/{run}/join")


async def tape(url: str, thread: str, *, until: str = "completed", count: int = 1) -> list[Any]:
    """All events of a thread up to an end of a run."""
    channels = ["values", "checkpoints", "messages", "lifecycle", "input", "tools", "custom", "tasks", "updates"]
    events: list[Any] = []
    async with asyncio.timeout(30), httpx2.AsyncClient(trust_env=False, timeout=30) as http:
        path = f"{url}/threads/{thread}/stream/events"
        async with http.stream("POST", path, json={"channels": channels}) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                event = orjson.loads(line[6:])
                events.append(event)
                is_root = event["method"] == "lifecycle" and not event["params"]["namespace"]
                if is_root and event["params"]["data"]["event"] == until:
                    count -= 1
                    if not count:
                        return events
    raise AssertionError(events)
