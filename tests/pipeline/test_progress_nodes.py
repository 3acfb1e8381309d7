"""Progress of real nodes in real graphs: how they end, how they loop, parts, threads, and parallel branches."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from lg_streaming import StreamingModule, current_progress, stream_all, stream_progress, streaming_options
from tests.capture.graphs import Input, State, Update, graph_of, read
from tests.pipeline.progress_kit import percentages, reports, run_node, tracker

INPUT: Input = {"topic": "rivers"}


@pytest.mark.row("HIVE-44")
@pytest.mark.parametrize("sync", [False, True])
async def test_a_failing_node_keeps_its_last_value_and_says_why(streaming: StreamingModule, *, sync: bool) -> None:
    def work() -> None:
        current_progress().update(3, 10)
        current_progress().update(4, 10)
        raise LookupError("no luck")

    @stream_progress
    async def node(state: State) -> Update:
        work()
        return {}

    @stream_progress
    def node_sync(state: State) -> Update:
        work()
        return {}

    with pytest.raises(LookupError):
        await graph_of(node_sync if sync else node).ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    last = reports(run)[-1]
    assert percentages(run) == [0.0, 40.0, 40.0]
    assert (last["status"], last["error"]["message"]) == ("failed", "no luck")
    assert last["elapsed_s"] >= 0
    assert "eta_s" not in last
    assert run.types.index("node_error") > run.types.index("progress")
    assert run.types[-2:] == ["node_error", "workflow_error"]


@pytest.mark.row("HIVE-44")
async def test_an_interrupted_node_keeps_its_last_value_and_starts_again(streaming: StreamingModule) -> None:
    @stream_progress
    async def ask(state: State) -> Update:
        current_progress().update(1, 4)
        return {"text": interrupt("may I?")}

    graph = graph_of(ask, checkpointer=InMemorySaver())
    config = {**streaming.config(execution_id="e"), "configurable": {"thread_id": "t", "execution_id": "e"}}
    await graph.ainvoke(INPUT, config)
    await graph.ainvoke(Command(resume="yes"), config)
    run = await read(streaming, "e")
    told = [(data["progress"], data["status"]) for data in reports(run) if data["status"] != "running"]
    assert told == [(0.0, "started"), (25.0, "interrupted"), (0.0, "started"), (100.0, "completed")]


@pytest.mark.row("HIVE-44")
async def test_a_retried_node_has_a_fresh_tracker(streaming: StreamingModule) -> None:
    tries: list[float] = []

    @stream_progress(milestones=[50])
    async def node(state: State) -> Update:
        tries.append(current_progress().percent)
        current_progress().update(60, 100)
        if len(tries) < 3:
            raise LookupError
        return {}

    builder: Any = StateGraph(State)
    builder.add_node("node", node, retry_policy=RetryPolicy(initial_interval=0.001, retry_on=Exception))
    builder.set_entry_point("node")
    await builder.compile().ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert tries == [0.0, 0.0, 0.0]
    assert percentages(run) == [0, 60, 60, 0, 60, 60, 0, 60, 100]
    assert [update.metadata.attempt for update in run.of("milestone")] == [1, 2, 3]
    assert not any("combined" in data for data in reports(run))  # one branch, tried three times


@pytest.mark.row("HIVE-45")
async def test_outside_of_a_decorated_node_nothing_happens(streaming: StreamingModule) -> None:
    async def letters() -> AsyncIterator[str]:
        for letter in "abc":
            yield letter

    async def use() -> list[Any]:
        progress = current_progress()
        progress.update(1, 2)
        progress.reset()
        part = progress.subtask(weight=2, name="part")
        with part as same, progress.step("step"):
            same.update(1, 2)
        progress.step("another")
        progress.complete()
        assert (progress.active, progress.percent, part.active, part.percent) == (False, 0.0, False, 0.0)
        return [*progress.track("abc"), *[letter async for letter in part.track(letters())]]

    async def undecorated(state: State) -> Update:
        assert await use() == list("abcabc")
        return {}

    @stream_progress(enabled=False)
    async def disabled(state: State) -> Update:
        return await undecorated(state)

    @stream_all(token=True)
    async def other(state: State) -> Update:
        return await undecorated(state)

    assert await use() == list("abcabc")
    await graph_of(undecorated, disabled, other).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert (await read(streaming, "e")).of("progress", "milestone", "error") == []


def words(count: int) -> Iterator[str]:
    for number in range(count):
        yield str(number)


@pytest.mark.row("HIVE-45")
@pytest.mark.parametrize(
    ("items", "total", "expected"),
    [
        ("abcd", None, [0, 25, 50, 75, 100, 100]),
        (words(4), 4, [0, 25, 50, 75, 100, 100]),
        (words(4), None, [0, 0, 0, 0, 0, 100, 100]),  # cannot be estimated
        (words(4), 5, [0, 20, 40, 60, 80, 100, 100]),  # the loop ran to its end
        (words(4), 2, [0, 50, 100, 100, 100, 100, 100]),
        ("", None, [0, 100, 100]),
    ],
)
async def test_track_reports_each_item_that_is_done(
    streaming: StreamingModule, items: Any, total: float | None, expected: list[float]
) -> None:
    def body(progress: Any, wait: Any) -> None:
        reached: list[float] = []
        seen = []
        for item in progress.track(items, total):
            reached.append(progress.percent)
            seen.append(item)
        assert reached[:1] in ([0.0], [])
        assert progress.percent == 100.0

    run = await run_node(streaming, body, granularity="detailed")
    assert percentages(run) == expected


@pytest.mark.row("HIVE-45")
async def test_track_async(streaming: StreamingModule) -> None:
    async def letters() -> AsyncIterator[str]:
        for letter in "abcd":
            await asyncio.sleep(0)
            yield letter

    seen: list[str] = []

    @stream_progress(granularity="detailed")
    async def node(state: State) -> Update:
        async for letter in current_progress().track(letters(), total=4):
            seen.append(letter)
            if letter == "c":
                break
        return {}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    assert seen == ["a", "b", "c"]
    assert percentages(await read(streaming, "e")) == [0, 25, 50, 100]


def test_track_takes_nothing_before_it_is_asked() -> None:
    taken = iter("abc")
    current_progress().track(taken)
    assert next(taken) == "a"
    with pytest.raises(TypeError):
        current_progress().track(3)  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_parts_of_parts_add_up() -> None:
    progress, said, _ = tracker(granularity="detailed")
    load, parse = progress.subtask(1, "loading"), progress.subtask(3, "parsing")
    first, second = parse.subtask(), parse.subtask()
    load.update(1, 2)
    first.update(1, 2)
    with second:
        pass
    load.complete()
    first.complete()
    assert [(data["progress"], data.get("text")) for data in said.of("progress")] == [
        (0.0, None),
        (12.5, "loading"),
        (31.2, "parsing"),
        (68.8, "parsing"),
        (81.2, "loading"),
        (100.0, "parsing"),
    ]


def test_a_part_that_is_made_late_does_not_move_it_back() -> None:
    progress, _, _ = tracker()
    progress.subtask().update(8, 10)
    late = progress.subtask()
    assert progress.percent == 80.0
    late.update(7, 10)
    assert progress.percent == 80.0
    late.complete()
    assert progress.percent == 90.0


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "much", None])
def test_a_weight_that_is_none_adds_nothing(weight: Any) -> None:
    progress, _, _ = tracker()
    odd, real = progress.subtask(weight), progress.subtask(2)
    odd.complete()
    assert progress.percent == 0.0
    real.update(1, 2)
    assert progress.percent == 50.0


def test_a_part_that_fails_is_not_complete() -> None:
    progress, _, _ = tracker()
    part = progress.subtask()
    part.update(1, 2)
    with pytest.raises(LookupError), part:
        raise LookupError
    assert progress.percent == 50.0


def test_steps_are_named() -> None:
    progress, said, _ = tracker(granularity="detailed")
    progress.step("one")
    progress.update(1, 10)
    with progress.step("two"):
        progress.update(2, 10)
    progress.update(3, 10)
    progress.finish("failed")
    assert [(data["progress"], data.get("text")) for data in said.of("progress")] == [
        (0.0, None),
        (0.0, "one"),
        (10.0, "one"),
        (10.0, "two"),
        (20.0, "two"),
        (20.0, "one"),
        (30.0, "one"),
        (30.0, "one"),
    ]


def test_reset_starts_again() -> None:
    progress, said, clock = tracker(milestones=[25, 50], interval=1.0)
    part = progress.subtask()
    clock.advance_by(10)
    part.update(40, 100)
    clock.advance_by(0.5)
    part.update(45, 100)
    progress.reset()
    part.update(90, 100)  # of the time before
    assert progress.percent == 0.0
    clock.advance_by(5)
    progress.update(30, 100)
    clock.advance_by(5)
    progress.update(60, 100)
    assert [data["progress"] for data in said.of("progress")] == [0.0, 40.0, 0.0, 30.0, 60.0]
    assert [data["milestone"] for data in said.of("milestone")] == [25, 50]
    assert said.of("progress")[-1]["eta_s"] == pytest.approx(6.667)


async def test_threads_of_a_node_report_together(streaming: StreamingModule) -> None:
    @stream_progress(granularity="detailed", milestones=[25, 50, 75])
    def node(state: State) -> Update:
        progress = current_progress()
        parts = [progress.subtask() for _ in range(4)]
        start = threading.Barrier(4)

        def work(part: Any) -> None:
            start.wait()
            for _ in part.track(range(50)):
                pass

        usual = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(work, parts))
        finally:
            sys.setswitchinterval(usual)
        assert progress.percent == 100.0
        return {}

    await asyncio.to_thread(graph_of(node).invoke, INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    told = percentages(run)
    assert told == sorted(told)
    assert len(told) == 202
    assert [update.data["milestone"] for update in run.of("milestone")] == [25, 50, 75]


async def test_a_report_that_is_held_leaves_while_the_node_waits(streaming: StreamingModule) -> None:
    """In real time: the process's own timer."""

    @stream_progress(interval=0.02)
    async def node(state: State) -> Update:
        current_progress().update(1, 10)
        async for update in streaming.hub.subscribe("e", types=["progress"]):
            if update.data["progress"] == 10.0:
                break
        return {}

    await asyncio.wait_for(graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e")), 10)
    assert percentages(await read(streaming, "e")) == [0, 10, 100]


async def test_executions_do_not_mix(streaming: StreamingModule) -> None:
    @stream_progress(granularity="detailed")
    async def node(state: State) -> Update:
        for _ in current_progress().track(range(4)):
            await asyncio.sleep(0)
        return {}

    graph = graph_of(node)
    await asyncio.gather(*(graph.ainvoke(INPUT, streaming.config(execution_id=f"e{n}")) for n in range(20)))
    for number in range(20):
        told = reports(await read(streaming, f"e{number}"))
        assert [data["progress"] for data in told] == [0, 25, 50, 75, 100, 100]
        assert not any("combined" in data for data in told)


async def test_metadata_is_a_copy_of_its_moment(streaming: StreamingModule) -> None:
    def body(progress: Any, wait: Any) -> None:
        details = {"page": 1}
        progress.update(1, 10, details)
        details["page"] = 2
        wait(5)
        progress.update(2, 10, object())  # a mistake breaks nothing

    run = await run_node(streaming, body)
    assert [data.get("metadata") for data in reports(run)] == [None, {"page": 1}, None]


def test_numbers_of_any_kind() -> None:
    from decimal import Decimal
    from fractions import Fraction

    progress, _, _ = tracker()
    for current, total, expected in [
        ("a", 3, 0.0),
        (1, 0, 0.0),
        (1, -1, 0.0),
        (Fraction(1, 2), 10, 5.0),
        (Decimal(1), Decimal(10), 10.0),
        (10**400, 5 * 10**400, 20.0),
        (29, 100, 29.0),
        (None, 5, 29.0),
        (float("nan"), 5, 29.0),
        (float("inf"), 5, 100.0),
    ]:
        progress.update(current, total)  # pyright: ignore[reportArgumentType]
        assert progress.percent == expected


def test_options_are_kept_on_the_node() -> None:
    @stream_progress(milestones=[50, 25], format={"precision": 2})
    def node(state: State) -> Update:
        return {}

    options = streaming_options(node)
    assert options is not None
    assert options.progress is not None
    assert options.progress.chosen == {"milestones": (25, 50), "format": {"precision": 2}}
