"""Time and size of batches of events, in virtual time."""

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex.testing import TestScheduler

from lg_streaming import MemoryLog, StreamHub, current_emitter, stream_event, stream_token
from lg_streaming.emitter import Emitter, ScopedPublisher
from lg_streaming.log import Batch
from lg_streaming.module import StreamingModule
from lg_streaming.pipeline import EventOptions, NodeOptions
from lg_streaming.publisher import Scope
from lg_streaming.timer import use_scheduler
from tests.capture.graphs import Input, State, Update, graph_of, model, read
from tests.log.drafts import read_now

INPUT: Input = {"topic": "rivers"}


class SpyLog(MemoryLog):
    """Notes what is appended in one go."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []

    def append(self, batch: Batch) -> int:
        self.batches.append([draft.type for draft in batch.updates])
        return super().append(batch)


class Bench:
    """One node's events, by hand, and what is appended."""

    def __init__(self, clock: TestScheduler, **options: Any) -> None:
        self.clock = clock
        self.log = SpyLog()
        self.hub = StreamHub(log=self.log)
        run_id = self.hub.open("e")
        self.scope = Scope(run_id=run_id, node_id="node")
        with use_scheduler(clock):
            self.stream = NodeOptions(event=EventOptions.from_arguments(**options)).open(
                ScopedPublisher(self.hub.publisher, "e", self.scope)
            )
        self.emitter = Emitter(self.hub.publisher, "e", self.scope, strict=False, pipeline=self.stream)
        self.log.batches.clear()

    def happen(self, *types: str) -> None:
        for each in types:
            self.stream.put(each, {"node_id": "node", "node_name": "node"}, self.scope)

    def say(self, *types: str) -> None:
        for each in types:
            self.emitter.event(each)

    def close(self) -> None:
        asyncio.run(self.hub.aclose())

    def left(self) -> list[list[str]]:
        """Return the updates since the last call."""
        batches, self.log.batches = self.log.batches, []
        return batches


MakeBench = Callable[..., Bench]


@pytest.fixture
def make_bench() -> Generator[MakeBench]:
    made: list[Bench] = []

    def make(clock: TestScheduler, **options: Any) -> Bench:
        made.append(Bench(clock, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.mark.row("HIVE-32")
def test_a_lone_event_leaves_at_once_and_what_follows_close_waits_for_one_interval(
    make_bench: MakeBench, clock: TestScheduler
) -> None:
    bench = make_bench(clock, flush_interval=0.05)
    bench.say("a")
    assert bench.left() == [["a"]]
    bench.say("b")
    clock.advance_by(0.03)
    bench.say("c")
    assert bench.left() == []
    clock.advance_by(0.019)
    assert bench.left() == []
    clock.advance_by(0.002)
    assert bench.left() == [["b", "c"]]
    clock.advance_by(0.06)
    bench.say("d")
    assert bench.left() == [["d"]]


@pytest.mark.row("HIVE-32")
def test_no_more_than_batch_size_are_appended_in_one_go(make_bench: MakeBench, clock: TestScheduler) -> None:
    bench = make_bench(clock, batch_size=3)
    bench.say("first", *"abcdefgh")
    assert bench.left() == [["first"]]
    clock.advance_by(0.051)
    assert bench.left() == [list("abc"), list("def"), list("gh")]


@pytest.mark.row("HIVE-32")
def test_a_full_buffer_leaves_at_once(make_bench: MakeBench, clock: TestScheduler) -> None:
    bench = make_bench(clock, buffer_size=4)
    bench.say("first", *"abcde")
    assert bench.left() == [["first"], list("abcd")]
    clock.advance_by(0.051)
    assert bench.left() == [["e"]]


@pytest.mark.row("HIVE-32")
@pytest.mark.parametrize("options", [{"buffer_size": 1}, {"flush_interval": 0}])
def test_waiting_can_be_switched_off(make_bench: MakeBench, clock: TestScheduler, options: dict[str, Any]) -> None:
    bench = make_bench(clock, **options)
    bench.say(*"abc")
    assert bench.left() == [["a"], ["b"], ["c"]]


@pytest.mark.row("HIVE-32")
@pytest.mark.parametrize("urgent", ["tool_error", "llm_error", "node_complete", "node_error", "node_interrupted"])
def test_errors_and_the_nodes_end_never_wait_and_nothing_waits_past_them(
    make_bench: MakeBench, clock: TestScheduler, urgent: str
) -> None:
    bench = make_bench(clock)
    bench.happen("node_start", "tool_start", "tool_complete", urgent)
    assert bench.left() == [["node_start"], ["tool_start"], ["tool_complete", urgent]]


def test_nothing_is_held_past_text_progress_or_a_change_of_the_options(
    make_bench: MakeBench, clock: TestScheduler
) -> None:
    bench = make_bench(clock)
    bench.happen("llm_start", "llm_complete")
    bench.stream.put("token", {"content": "x"}, bench.scope)
    assert bench.left() == [["llm_start"], ["llm_complete"]]  # the node has no @stream_token
    bench.say("note", "progress")
    assert bench.left() == [["note"], ["progress"]]
    bench.say("note")
    bench.hub.configure("e", event={"batch_size": 5})
    bench.say("other")
    assert bench.left() == [["note"]]
    clock.advance_by(0.051)
    assert bench.left() == [["other"]]


def test_what_comes_after_the_end_does_not_wait(make_bench: MakeBench, clock: TestScheduler) -> None:
    bench = make_bench(clock)
    bench.happen("node_start", "tool_start", "node_complete", "tool_complete", "tool_error")
    assert bench.left() == [["node_start"], ["tool_start"], ["node_complete"], ["tool_complete"], ["tool_error"]]


@pytest.mark.row("HIVE-32")
def test_data_is_as_it_was_when_it_happened(make_bench: MakeBench, clock: TestScheduler) -> None:
    bench = make_bench(clock)
    cart = ["milk"]
    bench.say("first")
    bench.emitter.event("cart", cart)
    cart.append("bread")
    bench.emitter.event("cart", cart)
    clock.advance_by(0.051)
    found = read_now(bench.log, "e", 0, 100)
    assert found is not None
    assert [record.update.data for record in found.records if record.type == "cart"] == [["milk"], ["milk", "bread"]]


@pytest.mark.row("HIVE-32")
async def test_in_a_graph_events_text_and_the_end_keep_their_order(streaming: StreamingModule) -> None:
    @stream_token
    @stream_event
    async def node(state: State) -> Update:
        await model("one two").ainvoke("go")
        current_emitter().event("between")
        await model("three").ainvoke("go")
        return {}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    order: list[str] = []
    for each in (await read(streaming, "e")).types:
        if not order or order[-1] != each:
            order.append(each)
    assert order == [
        *("workflow_start", "node_start", "llm_start", "token", "llm_complete", "between"),
        *("llm_start", "token", "llm_complete", "node_complete", "workflow_complete"),
    ]


@pytest.mark.row("HIVE-32")
def test_options_of_the_execution_hold_for_a_node_that_runs(make_bench: MakeBench, clock: TestScheduler) -> None:
    bench = make_bench(clock)
    bench.say("a", "b")
    bench.hub.configure("e", event={"flush_interval": 0})
    bench.say("c", "d")
    assert bench.left() == [["a"], ["b"], ["c"], ["d"]]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 9)),
        st.tuples(st.just("urgent"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.floats(0.0, 0.2, allow_nan=False)),
    ),
    max_size=60,
)


@pytest.mark.row("HIVE-32")
@given(steps=STEPS, buffer_size=st.integers(1, 12), batch_size=st.integers(1, 12), interval=st.floats(0, 0.1))
def test_every_event_leaves_once_in_order_and_in_time(
    steps: Sequence[tuple[str, Any]], buffer_size: int, batch_size: int, interval: float
) -> None:
    clock = TestScheduler()
    bench = Bench(clock, buffer_size=buffer_size, batch_size=batch_size, flush_interval=interval)
    said: list[str] = []
    pending: list[tuple[str, float]] = []
    got: list[str] = []

    def look() -> None:
        for batch in bench.left():
            assert 1 <= len(batch) <= batch_size
            got.extend(batch)
        for name, since in pending[: len(pending)]:
            if name in got:
                pending.remove((name, since))
        assert all(clock.clock - since <= interval + 0.002 for _, since in pending)

    for number, (what, value) in enumerate(steps):
        if what == "wait":
            clock.advance_by(value)
        else:
            name = f"{number}:{'error' if what == 'urgent' else value}"
            said.append(name)
            pending.append((name, clock.clock))
            bench.say(name)
        if what == "urgent":
            look()
            assert not pending
        elif what == "wait":
            look()
    bench.happen("node_complete")
    look()
    bench.close()
    assert got == [*said, "node_complete"]


async def test_threads_may_say_things_at_once(streaming: StreamingModule) -> None:
    @stream_event(buffer_size=7)
    def node(state: State) -> Update:
        emitter = current_emitter()

        def say(name: str) -> None:
            for number in range(200):
                emitter.event(f"{name}:{number}")

        threads = [threading.Thread(target=say, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {}

    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="e"))
    types = (await read(streaming, "e")).types
    for name in "abc":
        assert [each for each in types if each.startswith(f"{name}:")] == [f"{name}:{i}" for i in range(200)]
    assert types[-2:] == ["node_complete", "workflow_complete"]
