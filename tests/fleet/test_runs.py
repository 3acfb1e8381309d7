"""Runs of graphs over processes that share a log: one open run of an execution in all of them."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from langgraph.graph import START, StateGraph

from lg_streaming import StreamingModule, StreamUpdate
from lg_streaming.errors import ExecutionExistsError, ForbiddenError, IdempotencyError, RunCancelledError
from lg_streaming.events import FINAL_TYPES
from lg_streaming.runs import GraphRun
from tests.fleet.harness import until
from tests.runs.graphs import Gate, State, asking, gated
from tests.runs.test_if_running import noting
from tests.support.redis_server import RedisServer

Modules = tuple[StreamingModule, StreamingModule]


@pytest.fixture
async def modules(shared_redis: RedisServer, redis_prefix: str) -> AsyncGenerator[Modules]:
    """Two modules; each has a log, and so counts as a process."""
    settings = {
        "log": shared_redis.url,
        "redis": {"prefix": redis_prefix, "check_interval": 0.2},
        "runs": {"disconnect_grace": 0.2},
        "limits": {"cancel_grace": 2.0},
    }
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(StreamingModule(settings))
        two = await stack.enter_async_context(StreamingModule(settings))
        yield one, two


async def types_of(module: StreamingModule, execution_id: str, runs: int = 1) -> list[str]:
    """Return the starts and ends of so many runs."""
    return [update.type async for update in ended(module, execution_id, runs)]


async def ended(module: StreamingModule, execution_id: str, runs: int) -> AsyncGenerator[StreamUpdate]:
    """Yield the starts and ends of so many runs."""
    kept, count = ["workflow_start", *FINAL_TYPES], 0
    async for update in module.hub.subscribe(execution_id, types=kept, follow=True, timeout=10):
        yield update
        count += update.type in FINAL_TYPES
        if count == runs:
            return


async def starts_of(module: StreamingModule, execution_id: str, count: int) -> list[str | None]:
    """Return the ids of so many runs, in their order."""
    found: list[str | None] = []
    async for update in module.hub.subscribe(execution_id, types=["workflow_start"], follow=True, timeout=10):
        found.append(update.metadata.run_id)
        if len(found) == count:
            break
    return found


COMPLETED = ["workflow_start", "workflow_complete"]
CANCELLED = ["workflow_start", "workflow_cancelled"]


async def test_a_start_is_rejected_while_another_process_has_an_open_run(modules: Modules) -> None:
    one, two = modules
    gate = Gate()
    run = await one.runs.start(gated(gate), {}, execution_id="e", owner="alice")
    with pytest.raises(ExecutionExistsError):
        await two.runs.start(gated(gate), {}, execution_id="e", owner="alice")
    with pytest.raises(ForbiddenError):
        await two.runs.start(gated(gate), {}, execution_id="e", owner="bob")
    assert two.hub.statistics().runs.running == 0
    gate.open.set()
    await run
    again = await two.runs.start(gated(gate), {}, execution_id="e", owner="alice")
    await again
    assert await types_of(one, "e", 2) == [*COMPLETED, *COMPLETED]
    kept = ["workflow_start", *FINAL_TYPES]
    assert [each.type async for each in again.updates(types=kept, timeout=10)] == COMPLETED


async def test_a_start_is_rejected_while_a_run_waits_for_a_human_elsewhere(modules: Modules) -> None:
    one, two = modules
    run = await one.runs.start(asking(), {}, execution_id="e")
    async for _ in two.hub.subscribe("e", until="interrupted", timeout=10):
        pass
    with pytest.raises(ExecutionExistsError):
        await two.runs.start(asking(), {}, execution_id="e")
    assert run.status == "interrupted"
    await two.hub.cancel("e", "enough")
    with pytest.raises(RunCancelledError, match="enough"):
        await run


async def test_of_starts_at_once_in_two_processes_one_is_accepted(modules: Modules) -> None:
    for number in range(5):
        gate = Gate()
        starts = [each.runs.start(gated(gate), {}, execution_id=f"e{number}") for each in (*modules, *modules)]
        results = await asyncio.gather(*starts, return_exceptions=True)
        runs = [each for each in results if isinstance(each, GraphRun)]
        assert [type(each) for each in results if not isinstance(each, GraphRun)] == [ExecutionExistsError] * 3
        gate.open.set()
        await runs[0]
        assert gate.starts == 1
        assert await types_of(modules[0], f"e{number}") == COMPLETED


async def test_an_enqueued_run_follows_the_one_of_another_process(modules: Modules) -> None:
    one, two = modules
    first, second = Gate(), Gate()
    run = await one.runs.start(gated(first), {}, execution_id="e")
    following = await two.runs.start(gated(second), {}, execution_id="e", if_running="enqueue")
    assert (following.status, following.is_open) == ("queued", False)
    await first.entered.wait()
    assert second.starts == 0
    first.open.set()
    await run
    second.open.set()
    await asyncio.wait_for(following, 10)
    assert await types_of(one, "e", 2) == [*COMPLETED, *COMPLETED]


async def test_runs_enqueued_in_two_processes_follow_in_order(modules: Modules) -> None:
    gate = Gate()
    runs = [await modules[n % 2].runs.start(gated(gate), {}, execution_id="e", if_running="enqueue") for n in range(5)]
    gate.open.set()
    await asyncio.wait_for(asyncio.gather(*runs), 20)
    assert gate.starts == 5
    starts = await starts_of(modules[1], "e", 5)
    assert starts == [run.run_id for run in runs]
    late = await modules[1].runs.start(gated(gate), {}, execution_id="e", if_running="enqueue")
    assert late.is_open  # no ticket is left
    await late


@pytest.mark.parametrize("state", ["running", "interrupted"])
async def test_cancel_replaces_the_run_of_another_process(modules: Modules, state: str) -> None:
    one, two = modules
    gate, done = Gate(), Gate()
    done.open.set()
    graph = gated(gate) if state == "running" else asking()
    run = await one.runs.start(graph, {}, execution_id="e")
    waiting = await one.runs.start(gated(gate), {}, execution_id="e", if_running="enqueue")
    if state == "running":
        await gate.entered.wait()
    else:
        await until(lambda: run.status == "interrupted", "the run waits")
    last = await two.runs.start(gated(done), {}, execution_id="e", if_running="cancel")
    for each in (run, waiting):
        with pytest.raises(RunCancelledError, match="replaced"):
            await each
    await last
    assert await types_of(one, "e", 2) == [*CANCELLED, *COMPLETED]


async def test_rollback_takes_back_the_changes_of_another_process(modules: Modules) -> None:
    one, two = modules
    gate = Gate()
    graph = noting(gate)  # with the checkpointer that both processes share
    run = await one.runs.start(graph, {"notes": ["cancelled"]}, execution_id="e")
    await gate.entered.wait()
    last = await two.runs.start(graph, {"notes": ["last"]}, execution_id="e", if_running="rollback")
    gate.open.set()
    with pytest.raises(RunCancelledError):
        await run
    assert (await last)["notes"] == ["last", "before", "after"]


# --- idempotency --------------------------------------------------------------------------------------------------


async def test_a_repeated_start_returns_the_run_of_another_process(modules: Modules) -> None:
    one, two = modules
    gate = Gate()
    first, other = await asyncio.gather(
        *(each.runs.start(gated(gate), {"text": "hi"}, owner="alice", idempotency_key="k") for each in modules)
    )
    assert (first.run_id, first.execution_id) == (other.run_id, other.execution_id)
    with pytest.raises(IdempotencyError):
        await two.runs.start(gated(gate), {"text": "other"}, owner="alice", idempotency_key="k")
    results = asyncio.gather(first, other)
    await gate.entered.wait()
    gate.open.set()
    assert await asyncio.wait_for(results, 10) == [{"text": "hi!"}, {"text": "hi!"}]
    assert gate.starts == 1
    again = await one.runs.start(gated(gate), {"text": "hi"}, owner="alice", idempotency_key="k")
    assert again.run_id == first.run_id
    assert await types_of(two, first.execution_id) == COMPLETED


async def test_the_handle_of_another_process_cancels(modules: Modules) -> None:
    one, two = modules
    run = await one.runs.start(gated(Gate()), {}, idempotency_key="k")
    other = await two.runs.start(gated(Gate()), {}, idempotency_key="k")
    assert await other.cancel("enough")
    for each in (run, other):
        with pytest.raises(RunCancelledError, match="enough"):
            await each
    assert other.status == "cancelled"


# --- readers ------------------------------------------------------------------------------------------------------


async def test_a_reader_in_another_process_keeps_the_run(modules: Modules) -> None:
    one, two = modules
    gate = Gate()
    run = await one.runs.start(gated(gate), {}, execution_id="e", on_disconnect="cancel")
    await gate.entered.wait()
    reader = two.hub.subscribe("e")
    await reader.next_page(10)
    here = one.hub.subscribe("e")
    await here.next_page(10)
    here.close()
    seen = count_calls(one.runs._disconnects, "_ask_others")
    await until(lambda: len(seen) >= 6, "six looks at the readers")  # longer than the grace
    assert run.status == "running"
    reader.close()
    with pytest.raises(RunCancelledError, match="disconnected"):
        await asyncio.wait_for(run, 10)
    assert await types_of(two, "e") == CANCELLED


def count_calls(owner: Any, name: str) -> list[Any]:
    """Return a list that grows with each call of a coroutine method."""
    method: Callable[..., Any] = getattr(owner, name)
    seen: list[Any] = []

    async def counted(*args: Any) -> Any:
        result = await method(*args)
        seen.append(result)
        return result

    setattr(owner, name, counted)
    return seen


# --- cancels that come late ---------------------------------------------------------------------------------------


async def test_a_cancel_that_arrives_late_leaves_a_later_run(modules: Modules) -> None:
    one, two = modules
    control: Any = two.hub.control
    handled: list[str] = []
    cancel_guest = control._cancel_guest

    async def handle(execution_id: str, *arguments: Any) -> None:
        await cancel_guest(execution_id, *arguments)
        handled.append(execution_id)

    control._cancel_guest = handle
    for number in range(10):
        execution_id = f"e{number}"
        one.hub.open(execution_id)
        await one.hub.cancel(execution_id)
        run_id = two.hub.open(execution_id)  # on its way to the log
        control._on_cancelled({"execution_id": execution_id, "reason": "late", "final_seq": 0})
        await until(lambda: execution_id in handled, "the message is handled")  # noqa: B023
        await two.hub.writer.flush()
        state = await two.hub.describe(execution_id)
        assert state is not None
        assert (state.state, two.hub.runs.current_run_id(execution_id)) == ("running", run_id)
        await two.hub.close(execution_id)


async def test_a_handle_of_another_process_cancels_only_its_run(modules: Modules) -> None:
    one, two = modules
    done, gate = Gate(), Gate()
    done.open.set()
    graph = gated(done)
    await one.runs.run(graph, {}, execution_id="e", idempotency_key="k")
    early = await two.runs.start(graph, {}, execution_id="e", idempotency_key="k")
    later = await one.runs.start(gated(gate), {}, execution_id="e")
    await gate.entered.wait()
    assert not await early.cancel("too late")
    gate.open.set()
    assert (await later)["text"] == "!"


async def test_of_replacing_starts_in_two_processes_one_goes_on(modules: Modules) -> None:
    at_work, most = 0, 0

    async def work(state: State) -> State:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        try:
            await asyncio.sleep(0.01)
        finally:
            at_work -= 1
        return {"text": state.get("text", "")}

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    graph = builder.compile()
    starts = [modules[n % 2].runs.start(graph, {}, execution_id="e", if_running="cancel") for n in range(12)]
    runs = await asyncio.wait_for(asyncio.gather(*starts), 30)
    results = await asyncio.wait_for(asyncio.gather(*runs, return_exceptions=True), 30)
    assert most == 1
    completed = [each for each in results if not isinstance(each, RunCancelledError)]
    assert completed
    assert not [each for each in completed if isinstance(each, BaseException)]
    flow = [update async for update in ended(modules[0], "e", len(runs))]
    assert [each.type for each in flow[::2]] == ["workflow_start"] * len(runs)
    assert [each.metadata.run_id for each in flow[::2]] == [each.metadata.run_id for each in flow[1::2]]
