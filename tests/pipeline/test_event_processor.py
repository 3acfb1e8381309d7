"""Batches, groups and filters of updates, and what the log has kept."""

import asyncio
import itertools
import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import reactivex
from hypothesis import given
from hypothesis import strategies as st
from reactivex import GroupedObservable
from reactivex import operators as ops
from reactivex.subject import Subject
from reactivex.testing import ReactiveTest, TestScheduler

from lg_streaming import StreamMetadata, StreamUpdate, current_emitter, current_progress, stream_event, stream_progress
from lg_streaming.errors import BadRequestError
from lg_streaming.events import Scope
from lg_streaming.module import StreamingModule
from lg_streaming.views import EventStreamProcessor
from lg_streaming.views.update_operators import TokenAggregate, aggregate_tokens, batched, filter_updates
from tests.capture.graphs import State, Update, graph_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def update(
    type: str = "note", data: Any = None, *, execution_id: str = "e", seq: int = 1, node_id: str | None = None
) -> StreamUpdate:
    metadata = StreamMetadata(
        timestamp=NOON + timedelta(seconds=seq),
        sequence_number=seq,
        execution_id=execution_id,
        epoch="E",
        scope=Scope(node_id=node_id),
    )
    return StreamUpdate(type=type, data=data, metadata=metadata)


UPDATES = [
    update("a", 1, seq=1),
    update("b", 2, seq=2, node_id="n"),
    update("a", 3, execution_id="f", seq=3),
    update("a", 4, seq=4),
]


@pytest.fixture
def events(streaming: StreamingModule) -> EventStreamProcessor:
    return streaming.events


def data(updates: Sequence[StreamUpdate]) -> list[Any]:
    return [each.data for each in updates]


# --- batches -------------------------------------------------------------------------------------------------


@pytest.mark.row("HIVE-55")
@pytest.mark.row("HIVE-D14")
def test_a_full_list_leaves_at_once_and_the_rest_after_a_pause() -> None:
    clock = TestScheduler()
    source = clock.create_hot_observable(
        *(ReactiveTest.on_next(210 + index, index) for index in range(5)),
        ReactiveTest.on_next(260, 5),
        ReactiveTest.on_next(269, 6),
    )
    got = clock.start(lambda: source.pipe(batched(3, 10.0, scheduler=clock)), disposed=400)
    assert got.messages == [
        ReactiveTest.on_next(212, [0, 1, 2]),
        ReactiveTest.on_next(224, [3, 4]),
        ReactiveTest.on_next(279, [5, 6]),
    ]


@pytest.mark.row("HIVE-55")
@pytest.mark.parametrize("ending", [ReactiveTest.on_completed(215), ReactiveTest.on_error(215, ValueError("x"))])
def test_the_end_of_the_source_brings_what_is_left(ending: Any) -> None:
    clock = TestScheduler()
    source = clock.create_hot_observable(ReactiveTest.on_next(210, 1), ending)
    got = clock.start(lambda: source.pipe(batched(3, 100.0, scheduler=clock)))
    assert got.messages == [ReactiveTest.on_next(215, [1]), ending]


@pytest.mark.row("HIVE-55")
def test_nothing_leaves_after_unsubscribing() -> None:
    clock = TestScheduler()
    source = clock.create_hot_observable(ReactiveTest.on_next(210, 1))
    got = clock.start(lambda: source.pipe(batched(3, 100.0, scheduler=clock)), disposed=250)
    clock.advance_to(1_000)
    assert got.messages == []


@pytest.mark.row("HIVE-55")
@given(
    pauses=st.lists(st.integers(0, 30), max_size=50),
    size=st.integers(1, 8),
    debounce=st.integers(0, 20),
)
def test_every_item_is_in_one_list_in_order_and_in_time(pauses: list[int], size: int, debounce: int) -> None:
    clock = TestScheduler()
    source: Subject[int] = Subject()
    lists: list[tuple[float, list[int]]] = []
    source.pipe(batched(size, float(debounce), scheduler=clock)).subscribe(lambda got: lists.append((clock.clock, got)))
    at: list[float] = []
    for number, pause in enumerate(pauses):
        clock.advance_by(pause)
        at.append(clock.clock)
        source.on_next(number)
    clock.advance_by(debounce + 1)
    assert [item for _, got in lists for item in got] == list(range(len(pauses)))
    for left, got in lists:
        assert 1 <= len(got) <= size
        if len(got) == size:
            assert left == at[got[-1]] or debounce == 0
        else:
            assert left == at[got[-1]] + debounce
        for earlier, later in itertools.pairwise(got):
            assert at[later] - at[earlier] <= debounce


@pytest.mark.row("HIVE-55")
async def test_lists_are_batched_too(events: EventStreamProcessor) -> None:
    got: list[list[int]] = []
    events.process_batch(range(7), batch_size=3).subscribe(got.append)
    assert got == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.row("HIVE-55")
@pytest.mark.row("HIVE-D16")
async def test_a_live_execution_in_batches_on_the_loop_it_is_watched_from(streaming: StreamingModule) -> None:
    got: list[list[Any]] = []
    threads: set[int] = set()
    partial, ended = asyncio.Event(), asyncio.Event()

    def take(batch: list[StreamUpdate]) -> None:
        threads.add(threading.get_ident())
        got.append(data(batch))
        partial.set()

    live = streaming.hub.observe("e", types=["note"])
    streaming.events.process_batch(live, 3, debounce=0.02).subscribe(take, on_completed=ended.set)
    for number in range(4):
        streaming.hub.publish("e", "note", number)
    while [3] not in got:
        partial.clear()
        await asyncio.wait_for(partial.wait(), 10)
    streaming.hub.publish("e", "note", 4)
    await streaming.hub.close("e")
    await asyncio.wait_for(ended.wait(), 10)
    assert got == [[0, 1, 2], [3], [4]]
    assert threads == {threading.get_ident()}


@pytest.mark.parametrize(("size", "debounce"), [(0, 0.1), (1, -1.0)])
def test_a_batch_that_cannot_be_is_refused(size: int, debounce: float) -> None:
    with pytest.raises(BadRequestError):
        batched(size, debounce)


# --- groups, filters, functions ------------------------------------------------------------------------------


@pytest.mark.row("HIVE-56")
@pytest.mark.parametrize(
    ("per_execution", "expected"),
    [(False, {"a": [1, 3, 4], "b": [2]}), (True, {"e_a": [1, 4], "e_b": [2], "f_a": [3]})],
)
async def test_groups(events: EventStreamProcessor, per_execution: bool, expected: dict[str, list[int]]) -> None:
    got: dict[str, list[int]] = {}

    def watch(group: GroupedObservable[str, StreamUpdate]) -> None:
        group.subscribe(lambda each: got.setdefault(group.key, []).append(each.data))

    events.group_events_by_type(UPDATES, per_execution=per_execution).subscribe(watch)
    assert got == expected


@pytest.mark.row("HIVE-57")
async def test_the_updates_of_one_execution_by_type(events: EventStreamProcessor) -> None:
    found = events.aggregate_by_execution("e", UPDATES)
    for _ in range(2):  # each subscriber gets a separate mapping
        got: list[dict[str, list[StreamUpdate]]] = []
        found.subscribe(got.append)
        assert [{name: data(each) for name, each in mapping.items()} for mapping in got] == [{"a": [1, 4], "b": [2]}]
    nothing: list[Any] = []
    events.aggregate_by_execution("g", UPDATES).subscribe(nothing.append)
    assert nothing == [{}]


@pytest.mark.row("HIVE-58")
@pytest.mark.row("HIVE-D15")
@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({}, [1, 2, 3, 4]),
        ({"types": ["a"]}, [1, 3, 4]),
        ({"types": ["*"], "execution_id": "f"}, [3]),
        ({"node_id": "n"}, [2]),
        ({"start_time": NOON + timedelta(seconds=2)}, [2, 3, 4]),
        ({"end_time": NOON + timedelta(seconds=3)}, [1, 2, 3]),
        ({"start_time": NOON + timedelta(seconds=2), "end_time": NOON + timedelta(seconds=2)}, [2]),
        ({"types": ["a"], "execution_id": "e", "start_time": NOON + timedelta(seconds=2)}, [4]),
    ],
)
async def test_criteria(events: EventStreamProcessor, criteria: dict[str, Any], expected: list[int]) -> None:
    got: list[StreamUpdate] = []
    events.filter_events(UPDATES, criteria).subscribe(got.append)
    assert data(got) == expected


@pytest.mark.parametrize("criteria", [{"type": ["a"]}, {"types": "a"}, {"start_time": datetime(2026, 1, 1)}])  # noqa: DTZ001
def test_criteria_that_cannot_be_used_are_refused(criteria: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        filter_updates(criteria)


@pytest.mark.row("HIVE-58")
async def test_a_function_of_each_update(events: EventStreamProcessor, caplog: pytest.LogCaptureFixture) -> None:
    def function(each: StreamUpdate) -> int | None:
        if each.type == "b":
            return None
        return 10 // (each.data - 3)

    got: list[Any] = []
    ended: list[bool] = []
    events.transform_events([*UPDATES, UPDATES[2]], function).subscribe(
        got.append, on_completed=lambda: ended.append(True)
    )
    assert got == [-5, UPDATES[2], 10, UPDATES[2]]
    assert ended
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_operators_go_together() -> None:
    got: list[Any] = []
    reactivex.from_iterable(UPDATES).pipe(filter_updates({"types": ["a"]}), batched(2), ops.map(data)).subscribe(
        got.append
    )
    assert got == [[1, 3], [4]]


@pytest.mark.row("HIVE-60")
@pytest.mark.row("HIVE-D26")
def test_tokens_come_together_after_a_pause_and_none_twice() -> None:
    clock = TestScheduler()
    source: Subject[StreamUpdate] = Subject()
    got: list[TokenAggregate] = []
    source.pipe(aggregate_tokens(0.5, scheduler=clock)).subscribe(got.append)
    for text in ("Hel", "lo"):
        source.on_next(update("token", {"content": text}))
        source.on_next(update("note", "not a token"))
        clock.advance_by(0.4)
    source.on_next(update("token", {"content": "other"}, execution_id="f"))
    clock.advance_by(1)
    source.on_next(update("token", {"content": "!"}))
    source.on_completed()
    assert [(each.execution_id, each.text, each.total_count) for each in got] == [
        ("e", "Hello", 2),
        ("f", "other", 1),
        ("e", "!", 3),
    ]


# --- what the log has kept -----------------------------------------------------------------------------------


async def ended_run(streaming: StreamingModule, execution_id: str = "e", notes: int = 3) -> None:
    for number in range(notes):
        streaming.hub.publish(execution_id, "note", number)
    await streaming.hub.close(execution_id)


@pytest.mark.row("HIVE-59")
async def test_replay_begins_at_a_number_inclusive(streaming: StreamingModule, events: EventStreamProcessor) -> None:
    await ended_run(streaming, notes=2_500)  # more than a page of the log
    whole = await events.replay_events("e")
    assert [each.metadata.sequence_number for each in whole] == list(range(1, 2_503))
    assert await events.replay_events("e", from_sequence=2_500) == whole[2_499:]
    assert await events.replay_events("e", from_sequence=0) == whole
    assert await events.replay_events("e", from_sequence=9_999) == []
    assert await events.replay_events("nobody") == []


@pytest.mark.row("HIVE-59")
async def test_statistics(streaming: StreamingModule, events: EventStreamProcessor) -> None:
    await ended_run(streaming)
    stats = await events.get_event_stats("e")
    assert stats is not None
    assert (stats.execution_id, stats.state, stats.total, stats.kept) == ("e", "completed", 5, 5)
    assert stats.by_type == {"workflow_start": 1, "note": 3, "workflow_complete": 1}
    assert stats.by_kind == {"status": 2, "event": 3}
    assert stats.first is not None
    assert stats.last is not None
    assert stats.first <= stats.last
    assert await events.get_event_stats("nobody") is None


@pytest.mark.row("HIVE-59")
async def test_sizes_and_clearing(streaming: StreamingModule, events: EventStreamProcessor) -> None:
    await ended_run(streaming, "a")
    await ended_run(streaming, "b", notes=1)
    streaming.hub.open("c")
    assert [await events.get_buffer_size(name) for name in ("a", "b", "c", "nobody", None)] == [5, 3, 1, 0, 9]
    await events.clear_buffer("a")
    assert await events.replay_events("a") == []
    await events.clear_buffer()
    assert [await events.get_buffer_size(name) for name in ("a", "b", "c")] == [0, 0, 1]
    await streaming.hub.cancel("c")


@pytest.mark.row("HIVE-59")
async def test_updates_from_elsewhere_can_be_kept(streaming: StreamingModule, events: EventStreamProcessor) -> None:
    passed: list[StreamUpdate] = []
    events.buffer_events("f", UPDATES).subscribe(passed.append)
    assert passed == UPDATES
    kept = [(each.type, each.data) for each in await events.replay_events("f") if each.kind != "status"]
    assert kept == [("a", 1), ("b", 2), ("a", 4)]  # the other is of this execution already
    await streaming.hub.close("f")
    with pytest.raises(BadRequestError):
        events.buffer_events("not an id", [])


@pytest.mark.row("HIVE-61")
async def test_milestones_and_progress_are_kept_for_a_replay(
    streaming: StreamingModule, events: EventStreamProcessor
) -> None:
    @stream_event
    @stream_progress
    def node(state: State) -> Update:
        current_emitter().event("milestone", {"milestone": 50, "progress": 50.0})
        current_progress().update(1, 2)
        return {}

    await graph_of(node).ainvoke({"topic": "x"}, streaming.config(execution_id="e"))
    kept = await events.replay_events("e")
    assert [each.data["milestone"] for each in kept if each.type == "milestone"] == [50]
    assert [each.data["progress"] for each in kept if each.type == "progress"] == [0.0, 50.0, 100.0]


@pytest.mark.row("HIVE-62")
async def test_an_observer_that_leaves_is_forgotten(streaming: StreamingModule) -> None:
    got: list[str] = []
    leaving = streaming.hub.observe("e").subscribe(lambda each: got.append(each.type))
    staying = asyncio.Event()
    streaming.hub.observe("e").subscribe(on_completed=staying.set)
    leaving.dispose()
    await ended_run(streaming)
    await asyncio.wait_for(staying.wait(), 10)
    assert got == []
    assert streaming.hub.statistics().subscriptions == 0
