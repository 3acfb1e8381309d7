"""A process whose notifications are late: subscriptions and commands do not take a former run for the present one."""

import asyncio
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.hub import StreamHub
from lg_streaming.log.redis.watch import Watch
from tests.fleet.harness import process
from tests.hub.helpers import types
from tests.support.redis_server import RedisServer


class State(TypedDict):
    n: int


async def run_once(writer: StreamHub, other: StreamHub) -> None:
    """A run that the other process has read to its end, so that it has its tail."""
    await asyncio.to_thread(writer.open, "a")
    writer.publish("a", "step", {"n": 1})
    await writer.close("a")
    await writer.writer.flush()
    assert types([update async for update in other.subscribe("a", timeout=10)])[-1] == "workflow_complete"


def be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    def ignore(_watch: Watch, _message: bytes) -> None:
        pass

    monkeypatch.setattr(Watch, "apply", ignore)


async def test_a_subscription_does_not_miss_a_run_that_has_just_begun(
    shared_redis: RedisServer, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(shared_redis.url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
        await run_once(writer, other)
        before = await other.describe("a")
        assert before is not None
        be_late(monkeypatch)
        await asyncio.to_thread(writer.open, "a")
        writer.publish("a", "step", {"n": 2})
        await writer.close("a")
        await writer.writer.flush()
        assert await other.describe("a") == before
        after = f"{before.epoch}:{before.head}"
        found = types([update async for update in other.subscribe("a", after=after, timeout=10)])
        assert found == ["workflow_start", "step", "workflow_complete"]


async def test_a_cancel_reaches_a_run_that_has_just_begun(
    shared_redis: RedisServer, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(shared_redis.url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
        await run_once(writer, other)
        be_late(monkeypatch)
        await asyncio.to_thread(writer.open, "a")
        await writer.writer.flush()
        stale = await other.describe("a")
        assert stale is not None
        assert stale.state == "completed"
        assert await other.cancel("a", "enough")


async def test_an_answer_reaches_a_prompt_that_has_just_been_asked(
    shared_redis: RedisServer, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(shared_redis.url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
        await run_once(writer, other)
        be_late(monkeypatch)
        await asyncio.to_thread(writer.open, "a")
        writer.publish("a", "human_prompt", {"prompt_id": "p", "prompt": "Go on?", "type": "confirmation"})
        await writer.writer.flush()
        await other.respond("a", "p", True)
        await writer.close("a")


async def test_a_run_starts_after_one_that_has_just_ended(
    shared_redis: RedisServer, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def node(state: State) -> State:
        return {"n": state["n"] + 1}

    builder: Any = StateGraph(State)
    graph = builder.add_node("node", node).add_edge(START, "node").compile()
    settings: Any = {"log": shared_redis.url, "redis": {"prefix": redis_prefix}}
    async with process(shared_redis.url, redis_prefix) as writer, StreamingModule(settings) as other:
        await asyncio.to_thread(writer.open, "a")
        await writer.writer.flush()
        unwatch = other.hub.log.watch("a")
        assert await other.hub.describe("a") is not None
        be_late(monkeypatch)
        await writer.close("a")
        await writer.writer.flush()
        stale = await other.hub.describe("a")
        assert stale is not None
        assert stale.state == "running"
        run = await other.runs.start(graph, {"n": 1}, execution_id="a")
        assert await run == {"n": 2}
        unwatch()
