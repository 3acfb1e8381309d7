"""Runs that go on after the end of their hub, from the checkpoints of their thread; what is stored of a run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError, DeadlineError, PromptError
from lg_streaming.log import Batch, MemoryLog
from lg_streaming.log.base import LogState, PendingUpdate
from lg_streaming.publisher import Scope
from lg_streaming.runs.attempts import attempts_of
from lg_streaming.runs.records import RECORD_KEY, RecordStore, RunRecord, json_config, json_value
from tests.runs.graphs import State, asking
from tests.support.memory_fleet import MemoryFleet, Network


class LastingSaver(InMemorySaver):
    """Stand-in for a checkpointer that outlives the process."""


@asynccontextmanager
async def process(graph: Any, name: str = "asking") -> AsyncGenerator[StreamingModule]:
    """A module with a fresh memory log, as of a new process."""
    async with StreamingModule() as streaming:
        streaming.graphs[name] = graph
        yield streaming


async def read(streaming: StreamingModule, execution_id: str = "e", **options: Any) -> list[Any]:
    return [update async for update in streaming.hub.subscribe(execution_id, timeout=5, **options)]


async def wait_at_prompt(graph: Any, **options: Any) -> tuple[str, str]:
    """Start a run and end its process at the prompt; return the run and the prompt."""
    async with process(graph) as streaming:
        run = await streaming.runs.start("asking", {"text": "ok:"}, execution_id="e", owner="alice", **options)
        seen = await read(streaming, until="interrupted")
        prompt_id = next(each.data["prompt_id"] for each in seen if each.type == "human_prompt")
        run_id = run.run_id
    return run_id, prompt_id


@pytest.fixture
def graph() -> Any:
    return asking(checkpointer=LastingSaver())


async def test_an_answer_restores_the_run(graph: Any) -> None:
    run_id, prompt_id = await wait_at_prompt(graph, metadata={"ticket": 7}, context=None)
    async with process(graph) as streaming:
        await streaming.hub.respond("e", prompt_id, "yes")
        updates = await read(streaming)
        assert updates[-1].type == "workflow_complete"
        assert updates[-1].data["result"]["text"] == "ok: yes"
        assert updates[0].data["resumed_from"] == run_id
        assert updates[0].data["metadata"] == {"ticket": 7}
        state = await streaming.hub.describe("e")
        assert state is not None
        assert state.owner == "alice"
        with pytest.raises(PromptError):
            await streaming.hub.respond("e", prompt_id, "again")


async def test_it_is_restored_again_after_a_second_end(graph: Any) -> None:
    _, prompt_id = await wait_at_prompt(graph)
    async with process(graph) as streaming:
        assert await streaming.hub.control.restore("e")
        assert not await streaming.hub.control.restore("e")
        handle = streaming.runs.get("e")
        assert handle is not None
        assert handle.status == "interrupted"
    async with process(graph) as streaming:
        await streaming.hub.respond("e", prompt_id, "yes")
        assert (await read(streaming))[-1].data["result"]["text"] == "ok: yes"


async def test_at_once_and_from_several_sides_it_is_restored_once(graph: Any) -> None:
    _, prompt_id = await wait_at_prompt(graph)
    async with process(graph) as streaming:
        answers = [streaming.hub.respond("e", prompt_id, each) for each in "abc"]
        results = await asyncio.gather(*answers, return_exceptions=True)
        assert [type(each) for each in results].count(PromptError) == 2
        types = [each.type for each in await read(streaming)]
        assert types.count("workflow_start") == types.count("workflow_complete") == 1


async def test_a_run_that_is_released_during_an_attempt_is_taken_up(
    graph: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await wait_at_prompt(graph)
    async with process(graph) as streaming:
        recovery, log = streaming.runs.recovery, streaming.hub.log
        reads, read, go_on = log.state, asyncio.Event(), asyncio.Event()
        elsewhere = LogState(
            epoch="0", oldest=1, head=1, state="running", owner="alice", started_at=0.0, updated_at=0.0, process="x"
        )

        async def state(execution_id: str) -> LogState | None:
            if read.is_set():
                return await reads(execution_id)
            read.set()
            await go_on.wait()
            return elsewhere

        monkeypatch.setattr(log, "state", state)
        early = asyncio.create_task(recovery.recover("e"))
        await read.wait()
        recovery.begin("e")  # as when a process notices that the run has none any more
        await asyncio.sleep(0)
        go_on.set()
        assert await early is False
        seen = await read_until_prompt(streaming)
        assert seen[-1].type == "workflow_interrupted"
        run = streaming.runs.get("e")
        assert run is not None
        await run.cancel()


async def read_until_prompt(streaming: StreamingModule) -> list[Any]:
    async with asyncio.timeout(5):
        while streaming.runs.get("e") is None:
            await asyncio.sleep(0.01)
    return await read(streaming, until="interrupted")


async def test_what_is_not_restored(graph: Any, caplog: pytest.LogCaptureFixture) -> None:
    _, prompt_id = await wait_at_prompt(graph)
    async with process(asking(checkpointer=LastingSaver())) as streaming:
        assert not await streaming.hub.control.restore("e"), "another database"
    async with process(graph, "renamed") as streaming:
        assert not await streaming.hub.control.restore("e"), "no graph of this name"
    async with process(graph) as streaming:
        assert not await streaming.hub.control.restore("unknown")
        await streaming.hub.respond("e", prompt_id, "yes")
        await read(streaming)
    async with process(graph) as streaming:
        assert not await streaming.hub.control.restore("e"), "it has ended"
    assert "cannot" not in caplog.text


async def test_a_thread_with_another_name_is_not_restored(graph: Any) -> None:
    """Only a thread that has the execution's id shows whose execution it is."""
    await wait_at_prompt(graph, thread_id="thread-1")
    async with process(graph) as streaming:
        assert not await streaming.hub.control.restore("e")
        assert not await streaming.hub.control.restore("thread-1")


async def test_a_breakpoint_is_restored() -> None:
    graph = asking(checkpointer=LastingSaver(), interrupt_before=["answer_node"])
    _, prompt_id = await wait_at_prompt(graph)
    async with process(graph) as streaming:
        await streaming.hub.respond("e", prompt_id, "yes")
        async for update in streaming.hub.subscribe("e", follow=True, timeout=5):
            if update.type == "workflow_interrupted" and "breakpoint" in str(update.data):
                break
    async with process(graph) as streaming:
        assert await streaming.hub.control.restore("e")
        seen = await read(streaming, until="interrupted")
        (prompt,) = [each for each in seen if each.type == "human_prompt"]
        await streaming.hub.respond("e", prompt.data["prompt_id"], True)
        assert (await read(streaming))[-1].data["result"]["text"] == "ok: yes"


async def test_the_deadline_holds_after_a_restart(graph: Any) -> None:
    await wait_at_prompt(graph, deadline=0.5)
    async with process(graph) as streaming:
        assert await streaming.hub.control.restore("e")
        handle = streaming.runs.get("e")
        assert handle is not None
        with pytest.raises(DeadlineError):
            await handle


async def test_a_context_that_is_no_json(caplog: pytest.LogCaptureFixture) -> None:
    graph = asking(checkpointer=LastingSaver())
    with caplog.at_level(logging.WARNING):
        await wait_at_prompt(graph, config={"configurable": {"client": object()}})
    assert "cannot go on in another process" in caplog.text
    async with process(graph) as streaming:
        assert not await streaming.hub.control.restore("e")


async def test_a_checkpointer_that_fails_restores_nothing(graph: Any, caplog: pytest.LogCaptureFixture) -> None:
    _, prompt_id = await wait_at_prompt(graph)

    async def fail(*_: Any, **__: Any) -> Any:
        raise OSError("no database")

    graph.checkpointer.aget_tuple = fail
    async with process(graph) as streaming:
        with pytest.raises(PromptError):
            await streaming.hub.respond("e", prompt_id, "yes")
    assert "cannot be read" in caplog.text


async def test_a_run_at_work_goes_on_only_when_asked() -> None:
    gate, entered = asyncio.Event(), asyncio.Event()

    async def work(state: State) -> State:
        entered.set()
        await gate.wait()
        return {"text": "done"}

    builder = StateGraph(State).add_node("before", lambda state: {"text": "before"}).add_node("work", work)
    builder.add_edge(START, "before").add_edge("before", "work").add_edge("work", END)
    graph = builder.compile(checkpointer=LastingSaver())
    async with process(graph) as streaming:
        options: dict[str, Any] = {"on_abandoned": "resume", "call_options": {"durability": "sync"}}
        run = await streaming.runs.start("asking", {}, execution_id="e", **options)
        await entered.wait()
        await run.cancel()
    entered.clear()
    gate.set()
    async with process(graph) as streaming:
        assert not await streaming.hub.control.restore("e")
        assert not entered.is_set()
        handle = await streaming.runs.recover("e")
        assert handle is not None
        assert (await handle)["text"] == "done"
        with pytest.raises(BadRequestError, match="on_abandoned"):
            await streaming.runs.start("asking", {}, on_abandoned="retry")  # pyright: ignore[reportArgumentType]


# --- what is stored ---------------------------------------------------------------------------------------------


def test_the_parts_of_a_config_that_are_stored() -> None:
    config: Any = {
        "callbacks": [object()],
        "tags": ["a"],
        "recursion_limit": 5,
        "configurable": {"thread_id": "t", "model": "m", "__pregel_x": object(), RECORD_KEY: "x", "checkpoint_id": "c"},
    }
    assert json_config(config) == {"tags": ["a"], "recursion_limit": 5, "configurable": {"model": "m"}}
    assert json_config(None) == {}


def test_values_that_json_keeps() -> None:
    assert json_value({"a": [1, None]}) == {"a": [1, None]}
    assert json_value({1: "a"}) is None
    assert json_value({"a": (1,)}) is None
    assert json_value(object()) is None


def test_a_record_of_another_version_is_left() -> None:
    record = RunRecord(graph="g", execution_id="e", thread_id="e", run_id="r")
    assert RunRecord.parse(record.to_json()) == record
    for value in (None, 3, {}, {**record.to_json(), "later": 1}):
        assert RunRecord.parse(value) is None
    assert RunRecord.from_checkpoint({RECORD_KEY: "no json"}) is None
    assert RunRecord.from_checkpoint({RECORD_KEY: record.for_checkpoints()}) == record
    assert (
        RunRecord(graph="g", execution_id="e", thread_id="e", run_id="r", context="x" * 20_000).for_checkpoints()
        is None
    )


@pytest.fixture
async def fleet() -> AsyncGenerator[tuple[Network, MemoryFleet]]:
    network = Network()
    fleet = network.join("one")
    yield network, fleet
    fleet.stop()


async def test_records_are_stored_until_the_run_ends(fleet: tuple[Network, MemoryFleet]) -> None:
    network, one = fleet
    store = RecordStore(one, 60)
    record = RunRecord(graph="g", execution_id="e", thread_id="e", run_id="r")
    store.put(record)
    await store.flush()
    assert await store.all() == [record]
    network.away = True
    store.put(RunRecord(graph="g", execution_id="e", thread_id="e", run_id="r", answers={"p": 1}))
    await asyncio.sleep(0)
    network.away = False
    await store.flush()
    found = await store.get("e")
    assert found is not None
    assert found.answers == {"p": 1}
    store.remove(record)
    await store.flush()
    assert not network.store
    await store.aclose()


async def test_the_record_of_a_later_run_is_left(fleet: tuple[Network, MemoryFleet]) -> None:
    _, one = fleet
    store = RecordStore(one, 60)
    earlier = RunRecord(graph="g", execution_id="e", thread_id="e", run_id="r1")
    store.put(RunRecord(graph="g", execution_id="e", thread_id="e", run_id="r2"))
    await store.flush()
    store.remove(earlier)
    await store.drop(earlier)
    assert [each.run_id for each in await store.all()] == ["r2"]
    store.release(RunRecord(graph="g", execution_id="e", thread_id="e", run_id="r2"))
    await store.aclose()
    assert [each.run_id for each in await store.all()] == ["r2"]


async def test_records_are_refreshed(fleet: tuple[Network, MemoryFleet]) -> None:
    network, one = fleet
    store = RecordStore(one, 0.15)
    record = RunRecord(graph="g", execution_id="e", thread_id="e", run_id="r")
    store.put(record)
    await store.flush()
    network.store.clear()
    async with asyncio.timeout(5):
        while not await store.all():
            await asyncio.sleep(0.01)
    store.remove(record)
    await store.aclose()


async def test_attempts_of_other_processes() -> None:
    log = MemoryLog()

    def start(run_id: str, namespace: str | None, node_id: str, attempt: int) -> PendingUpdate:
        scope = Scope(run_id=run_id, namespace=namespace, node_id=node_id, attempt=attempt)
        return PendingUpdate("node_start", scope, "medium", 0.0, b'{"type":"node_start","metadata":{}')

    updates = [start("r", "a:x", "a", 1), start("r", "a:x", "a", 2), start("r", "call:3", "call", 1)]
    log.append(Batch("e", [*updates, start("other", "b:x", "b", 9), start("r", None, "c", 4)], "p", 1))
    assert await attempts_of(log, "e", "r") == {"a:x\na": 2, "call:3\ncall": 1, "call": 3}
