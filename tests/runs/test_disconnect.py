"""Runs whose readers have left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

import pytest

from lg_streaming import StreamingModule
from lg_streaming.errors import RunCancelledError
from lg_streaming.filters import ALL
from lg_streaming.hub import Subscription
from lg_streaming.runs import GraphRun
from lg_streaming.sinks import QueueSink
from tests.runs.graphs import Gate, gated


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule({"runs": {"disconnect_grace": 0.2}}) as module:
        yield module


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def start(streaming: StreamingModule, gate: Gate) -> GraphRun:
    run = await streaming.runs.start(gated(gate), {}, execution_id="e", on_disconnect="cancel")
    await gate.entered.wait()
    return run


async def read_some(streaming: StreamingModule) -> Subscription:
    subscription = streaming.hub.subscribe("e", timeout=5)
    await subscription.next_page(10)
    return subscription


def checks(streaming: StreamingModule, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with each look at the readers."""
    found: list[int] = []
    watch = streaming.runs._disconnects
    check = watch._check

    async def counted(drivers: list[object]) -> None:
        await check(drivers)  # pyright: ignore[reportArgumentType]
        found.append(len(drivers))

    monkeypatch.setattr(watch, "_check", counted)
    return found


async def test_a_run_is_cancelled_after_its_last_reader(streaming: StreamingModule) -> None:
    run = await start(streaming, Gate())
    one, two = await read_some(streaming), await read_some(streaming)
    one.close()
    left = time.monotonic()
    two.close()
    with pytest.raises(RunCancelledError, match="disconnected"):
        await run
    assert time.monotonic() - left >= 0.2
    last = [update async for update in run.updates(timeout=5)][-1]
    assert (last.type, last.data["reason"]) == ("workflow_cancelled", "disconnected")


async def test_a_reader_that_comes_back_keeps_it(streaming: StreamingModule, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    run = await start(streaming, gate)
    seen = checks(streaming, monkeypatch)
    (await read_some(streaming)).close()
    back = await read_some(streaming)
    await until(lambda: len(seen) >= 6)  # longer than the grace
    assert run.status == "running"
    back.close()
    with pytest.raises(RunCancelledError):
        await run


async def test_a_run_without_a_reader_goes_on(streaming: StreamingModule, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Gate()
    before.open.set()
    await streaming.runs.run(gated(before), {}, execution_id="e")
    (await read_some(streaming)).close()  # of the earlier run
    gate = Gate()
    run = await start(streaming, gate)
    seen = checks(streaming, monkeypatch)
    everything = streaming.hub.readers.observe_all(filter=ALL)
    disposable = everything.subscribe(lambda update: None)
    attachment = streaming.hub.attach("e", QueueSink())
    await until(lambda: len(seen) >= 3)
    disposable.dispose()
    attachment.detach()
    await until(lambda: len(seen) >= 9)
    assert run.status == "running"
    gate.open.set()
    await run


async def test_no_watch_is_left_after_the_run(streaming: StreamingModule) -> None:
    gate = Gate()
    run = await start(streaming, gate)
    gate.open.set()
    await run
    await asyncio.sleep(0)
    assert [task for task in asyncio.all_tasks() if "readers of runs" in task.get_name()] == []
