"""Repeated starts with an idempotency key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError, ExecutionExistsError, IdempotencyError
from tests.runs.graphs import Gate, gated


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule() as module:
        yield module


async def test_a_repeated_start_is_one_run(streaming: StreamingModule) -> None:
    gate = Gate()
    graph = gated(gate)
    starts = [streaming.runs.start(graph, {"text": "hi"}, idempotency_key="k") for _ in range(5)]
    runs = await asyncio.gather(*starts)
    assert len({id(run) for run in runs}) == 1
    gate.open.set()
    await runs[0]
    again = await streaming.runs.start(graph, {"text": "hi"}, idempotency_key="k")
    assert again is runs[0]
    assert gate.starts == 1


async def test_the_result_of_a_run_that_has_ended_comes_from_the_log(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    graph = gated(gate)
    run_id = (await streaming.runs.start(graph, {"text": "hi"}, execution_id="e", idempotency_key="k")).run_id
    async for _ in streaming.hub.subscribe("e", timeout=5):
        pass
    await streaming.runs.run(graph, {"text": "other"}, execution_id="e")
    again = await streaming.runs.start(graph, {"text": "hi"}, execution_id="e", idempotency_key="k")
    assert again.run_id == run_id
    assert await again == {"text": "hi!"}
    assert (again.status, await again.cancel()) == ("completed", False)


@pytest.mark.parametrize(
    "changed", [{"input": {"text": "b"}}, {"execution_id": "f"}, {"metadata": {"a": 1}}, {"config": {"tags": ["a"]}}]
)
async def test_other_arguments_are_refused(streaming: StreamingModule, changed: dict[str, Any]) -> None:
    gate = Gate()
    gate.open.set()
    graph = gated(gate)
    arguments: dict[str, Any] = {"input": {"text": "a"}, "execution_id": "e", "idempotency_key": "k"}
    await streaming.runs.run(graph, **arguments)
    with pytest.raises(IdempotencyError) as caught:
        await streaming.runs.start(graph, **{**arguments, **changed})
    assert (caught.value.code, caught.value.http_status) == (4093, 409)


async def test_a_key_belongs_to_its_owner(streaming: StreamingModule) -> None:
    gate = Gate()
    gate.open.set()
    runs = [await streaming.runs.start(gated(gate), {}, owner=owner, idempotency_key="k") for owner in ("a", "b", None)]
    assert len({run.run_id for run in runs}) == 3
    await asyncio.gather(*runs)


async def test_a_start_that_failed_may_be_repeated(streaming: StreamingModule) -> None:
    gate = Gate()
    first = await streaming.runs.start(gated(gate), {}, execution_id="e")
    starts = [streaming.runs.start(gated(gate), {}, execution_id="e", idempotency_key="k") for _ in range(2)]
    assert [type(each) for each in await asyncio.gather(*starts, return_exceptions=True)] == [ExecutionExistsError] * 2
    gate.open.set()
    await first
    await streaming.runs.run(gated(gate), {}, execution_id="e", idempotency_key="k")
    assert gate.starts == 2


async def test_a_start_that_was_cancelled_is_taken_over(
    streaming: StreamingModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, opening = Gate(), asyncio.Event()
    gate.open.set()
    begin = streaming.runs._begin

    async def slow(*args: Any, **options: Any) -> None:
        if not opening.is_set():
            opening.set()
            await asyncio.Event().wait()
        await begin(*args, **options)

    monkeypatch.setattr(streaming.runs, "_begin", slow)
    first = asyncio.create_task(streaming.runs.start(gated(gate), {}, execution_id="e", idempotency_key="k"))
    await opening.wait()
    second = asyncio.create_task(streaming.runs.start(gated(gate), {}, execution_id="e", idempotency_key="k"))
    await asyncio.sleep(0)
    first.cancel()
    await (await second)
    assert gate.starts == 1
    assert (first.cancelled(), streaming.runs.get("e")) == (True, None)


@pytest.mark.parametrize("key", ["", "k" * 257, "a\nb"])
async def test_keys_that_cannot_be_used(streaming: StreamingModule, key: str) -> None:
    with pytest.raises(BadRequestError, match="idempotency_key"):
        await streaming.runs.start(gated(Gate()), {}, idempotency_key=key)


async def test_keys_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    async with StreamingModule({"retention": {"record_ttl": 10.0, "ttl": 10.0}}) as streaming:
        gate = Gate()
        gate.open.set()
        now = [0.0]
        monkeypatch.setattr("lg_streaming.runs.start_keys.now", lambda: now[0])
        ids = set[str]()
        for now[0] in (0.0, 9.0, 11.0):
            run = await streaming.runs.start(gated(gate), {}, idempotency_key="k")
            await run
            ids.add(run.run_id)
        assert len(ids) == 2
