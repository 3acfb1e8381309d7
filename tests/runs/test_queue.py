"""The queue of runs: bounded, fair by owner, in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex.testing import TestScheduler

from lg_streaming import StreamingModule
from lg_streaming.errors import ExecutionLimitError, RunCancelledError
from lg_streaming.runs.queue import RunQueue, Waiter
from lg_streaming.timer import use_scheduler
from tests.runs.graphs import Gate, asking, gated


def ignore(place: int) -> None:
    """Ignore the place."""


OWNERS = st.sampled_from(["alice", "bob", "carol", None])


@given(owners=st.lists(OWNERS, max_size=40), most=st.integers(1, 4))
def test_owners_take_turns_in_order(owners: list[str | None], most: int) -> None:
    async def check() -> None:
        queue = RunQueue(most, None)
        waiting = [queue.enter(owner, ignore) for owner in owners]
        working, before = waiting[:most], Counter[str | None]()
        assert [each.place for each in working] == [None] * len(working)
        queued = waiting[most:]
        counts = Counter(each.owner for each in queued)
        for number in range(len(queued)):
            queue.leave(working.pop(0))
            following = next(each for each in queued if each.place is None)
            assert queue.running == min(most, len(owners) - number - 1)
            working.append(following)
            queued.remove(following)
            # An owner's runs keep their order: none of its earlier ones waits.
            assert all(
                waiting.index(each) > waiting.index(following) for each in queued if each.owner == following.owner
            )
            # No owner that has waited from the start is more than one turn behind another.
            before[following.owner] += 1
            for owner, count in counts.items():
                if before[owner] < count:
                    assert max(before.values()) - before[owner] <= 1
        assert queue.queued == 0

    asyncio.run(check())


@given(owners=st.lists(OWNERS, min_size=1, max_size=30))
def test_places_are_the_order_of_the_turns(owners: list[str | None]) -> None:
    async def check() -> None:
        queue = RunQueue(1, None)
        working = queue.enter("x", ignore)
        waiting = [queue.enter(owner, ignore) for owner in owners]
        queue.notify_places()
        expected = sorted(waiting, key=lambda each: each.place or 0)
        assert [each.place for each in expected] == list(range(1, len(owners) + 1))
        order: list[Waiter] = []
        for _ in owners:
            queue.leave(working)
            working = next(each for each in waiting if each.place is None and each not in order)
            order.append(working)
        assert order == expected

    asyncio.run(check())


@given(owners=st.lists(OWNERS, min_size=1, max_size=30), data=st.data())
def test_the_place_at_the_entry_counts_the_runs_before(owners: list[str | None], data: st.DataObject) -> None:
    async def check() -> None:
        queue = RunQueue(1, None)
        queue.enter("x", ignore)
        for owner in owners:
            last = queue.enter(owner, ignore, first=data.draw(st.booleans()))
        entered = last.place
        queue.notify_places()
        assert last.place == entered

    asyncio.run(check())


async def test_one_that_goes_on_is_the_next_of_its_owner() -> None:
    queue = RunQueue(1, None)
    working = queue.enter("alice", ignore)
    first, other = queue.enter("alice", ignore), queue.enter("bob", ignore)
    resumed = queue.enter("alice", ignore, first=True)
    assert (resumed.place, other.place) == (1, 2)
    queue.leave(working)
    await resumed.wait()
    assert (first.place is None, other.place is None) == (False, False)


async def test_a_full_queue_refuses_a_run() -> None:
    queue = RunQueue(1, 2)
    queue.enter("alice", ignore)
    queue.enter("alice", ignore)
    queue.hold()
    for enter in (lambda: queue.enter("bob", ignore), queue.hold):
        with pytest.raises(ExecutionLimitError, match="max_queued"):
            enter()
    queue.enter("bob", ignore, bounded=False)  # one that goes on after an answer
    assert (queue.queued, queue.held) == (2, 1)


async def test_places_are_notified_once_a_second() -> None:
    scheduler = TestScheduler()
    with use_scheduler(scheduler):
        queue, places = RunQueue(1, None), list[int]()
        working = queue.enter("x", ignore)
        before = [queue.enter("alice", ignore) for _ in range(30)]
        queue.enter("alice", places.append)
        for each in before[:3]:
            queue.leave(each)
        assert places == []
        scheduler.advance_by(1.0)
        assert places == [28]
        queue.leave(before[3])
        scheduler.advance_by(1.0)
        assert places == [28]  # one of 28 is less than a tenth
        for each in before[4:]:
            queue.leave(each)
        scheduler.advance_by(1.0)
        assert places == [28, 1]
        queue.leave(working)


async def test_a_wait_that_is_cancelled_makes_room() -> None:
    queue = RunQueue(1, None)
    working = queue.enter("alice", ignore)

    async def work() -> None:
        async with queue.turn(queue.enter("alice", ignore)):
            pass

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    assert queue.queued == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (queue.queued, queue.running) == (0, 1)
    queue.leave(working)
    assert queue.running == 0


# --- in a module ------------------------------------------------------------------------------------------------


@pytest.fixture
async def streaming() -> AsyncGenerator[StreamingModule]:
    async with StreamingModule({"runs": {"max_concurrent": 1, "max_queued": 2}}) as module:
        yield module


async def statuses(streaming: StreamingModule, execution_id: str) -> list[dict[str, Any]]:
    return [update.data async for update in streaming.hub.subscribe(execution_id, types=["status"], timeout=5)]


async def test_runs_wait_for_their_turn(streaming: StreamingModule) -> None:
    gate, other = Gate(), Gate()
    first = await streaming.runs.start(gated(gate), {}, execution_id="a")
    await gate.entered.wait()
    second = await streaming.runs.start(gated(other), {}, execution_id="b")
    third = await streaming.runs.start(gated(other), {}, execution_id="c")
    with pytest.raises(ExecutionLimitError):
        await streaming.runs.start(gated(other), {}, execution_id="d")
    await asyncio.sleep(0)
    assert [(each.status, each.place) for each in (first, second, third)] == [
        ("running", None),
        ("queued", 1),
        ("queued", 2),
    ]
    counts = streaming.hub.statistics().runs
    assert (counts.queued, counts.running, counts.waiting) == (2, 1, 0)
    assert await second.cancel("enough")
    with pytest.raises(RunCancelledError, match="enough"):
        await second
    other.open.set()
    gate.open.set()
    await first
    await third
    assert other.starts == 1
    assert await statuses(streaming, "c") == [{"status": "queued", "place": 2}, {"status": "running"}]
    counts = streaming.hub.statistics().runs
    assert (counts.queued, counts.running, counts.waiting) == (0, 0, 0)


async def test_a_run_that_waits_for_a_human_has_no_turn(streaming: StreamingModule) -> None:
    gate = Gate()
    waiting = await streaming.runs.start(asking(), {}, execution_id="a")
    async for _ in streaming.hub.subscribe("a", until="interrupted", timeout=5):
        pass
    assert streaming.hub.statistics().runs.waiting == 1
    working = await streaming.runs.start(gated(gate), {}, execution_id="b")
    await gate.entered.wait()
    prompts = [each async for each in streaming.hub.subscribe("a", types=["human_prompt"], until="interrupted")]
    prompt = prompts[0]
    await streaming.hub.respond("a", prompt.data["prompt_id"], "yes")
    seen = streaming.hub.subscribe("a", types=["status"], timeout=5)
    async for update in seen:
        if update.data["status"] == "queued":
            break
    gate.open.set()
    await working
    assert (await waiting)["answer"] == "yes"
