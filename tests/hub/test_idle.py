"""An idle run ends by itself, but not while a node works or a human thinks."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Generator
from typing import TypedDict

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.graph import START, StateGraph
from reactivex.testing import TestScheduler

from lg_streaming import StreamingModule, StreamingSettings, stream_event
from lg_streaming.errors import BadRequestError
from lg_streaming.events import room_execution
from lg_streaming.hub import StreamHub
from lg_streaming.log import Batch, MemoryLog
from lg_streaming.publisher import RunOutcome, publishers
from lg_streaming.settings import LimitSettings
from lg_streaming.timer import use_scheduler
from lg_streaming.views import TokenStreamingService
from tests.gateway.site import site
from tests.hub.helpers import PATIENCE, MakeHub, collect, take, types
from tests.log.drafts import read_now

HOUR = 3_600.0
COMPLETE = RunOutcome("workflow_complete", {})


@pytest.fixture
def clock() -> Generator[TestScheduler]:
    """Virtual time. The hubs of a test have to be made after it."""
    scheduler = TestScheduler()
    with use_scheduler(scheduler):
        yield scheduler


def limited(idle_timeout: float | None) -> StreamingSettings:
    return StreamingSettings(limits=LimitSettings(idle_timeout=idle_timeout))


@pytest.mark.row("AOS-05", "AOS-D3", "HIVE-53", "AOS-29")
async def test_a_run_in_which_nothing_happens_ends_as_abandoned(clock: TestScheduler, make_hub: MakeHub) -> None:
    hub = make_hub()
    hub.publish("e", "note", 1)
    clock.advance_by(299)
    assert hub.registry.is_running("e")
    clock.advance_by(62)
    assert not hub.registry.is_running("e")
    assert hub.statistics().running == 0
    got = await collect(hub.subscribe("e"))
    assert types(got) == ["workflow_start", "note", "workflow_abandoned"]
    assert got[-1].data["reason"] == "idle_timeout"
    assert 300 <= got[-1].data["idle_s"] <= 360
    state = await hub.describe("e")
    assert state is not None
    assert state.state == "abandoned"


async def test_a_reader_who_waits_is_told_and_let_go(clock: TestScheduler, make_hub: MakeHub) -> None:
    hub = make_hub(idle_timeout=10)
    subscription = hub.subscribe("e")
    hub.open("e")
    reading = asyncio.create_task(collect(subscription))
    await asyncio.sleep(0)
    clock.advance_by(13)
    assert types(await reading) == ["workflow_start", "workflow_abandoned"]


async def test_readers_over_the_network_are_told_too() -> None:
    with site(limits={"idle_timeout": 0.1}) as place:
        place.hub.open("e")
        async with httpx2.AsyncClient(timeout=PATIENCE) as http:
            text = (await http.get(f"{place.url}/executions/e/stream")).text
            told = (await http.get(f"{place.url}/executions/e")).json()
        assert text.index("event: workflow_abandoned") < text.index("event: end")
        assert told["state"] == "abandoned"


@pytest.mark.row("FLOW-D3")
async def test_any_update_begins_the_time_anew(clock: TestScheduler, make_hub: MakeHub) -> None:
    now = 0.0  # the hub's own clock does not move, as if the computer's had been set back
    hub = make_hub(clock=lambda: now)
    for _ in range(20):
        hub.publish("e", "note")
        clock.advance_by(290)
    assert hub.registry.is_running("e")
    clock.advance_by(71)
    assert not hub.registry.is_running("e")


async def test_a_clock_that_is_set_forward_ends_no_run(clock: TestScheduler, make_hub: MakeHub) -> None:
    now = [0.0]
    hub = make_hub(clock=lambda: now[0])
    hub.publish("e", "note")
    clock.advance_by(60)
    now[0] = 1e9
    clock.advance_by(60)
    assert hub.registry.is_running("e")


@pytest.mark.row("AOS-05", "HIVE-D28")
async def test_nothing_ends_while_a_block_is_at_work(clock: TestScheduler) -> None:
    async with StreamingModule() as streaming:
        with streaming.execution("e"):
            clock.advance_by(24 * HOUR)
            assert streaming.hub.registry.is_running("e")
        assert types(await collect(streaming.hub.subscribe("e"))) == ["workflow_start", "workflow_complete"]


class State(TypedDict):
    done: bool


@pytest.mark.row("AOS-05", "HIVE-D28")
async def test_nothing_ends_while_a_node_thinks_for_an_hour_and_says_nothing(clock: TestScheduler) -> None:
    @stream_event(enabled=False)
    async def think(state: State) -> State:
        clock.advance_by(HOUR)
        return {"done": True}

    graph = StateGraph(State).add_node("think", think).add_edge(START, "think").compile()
    async with StreamingModule() as streaming:
        streaming.hub.open("e")
        await graph.ainvoke({"done": False}, streaming.config(execution_id="e"))
        got = types(await collect(streaming.hub.subscribe("e")))
        assert (got[0], got[-1]) == ("workflow_start", "workflow_complete")


async def test_nothing_ends_while_a_human_is_asked(clock: TestScheduler, make_hub: MakeHub) -> None:
    hub = make_hub()
    hub.publish("e", "human_prompt", {"prompt_id": "p", "prompt": "?"})
    clock.advance_by(24 * HOUR)
    assert hub.registry.is_running("e")
    await hub.respond("e", "p", "yes")
    clock.advance_by(HOUR)
    assert not hub.registry.is_running("e")


async def test_nothing_ends_while_a_run_is_interrupted(clock: TestScheduler, make_hub: MakeHub) -> None:
    hub = make_hub()
    run_id = hub.runs.join_run("e")
    hub.runs.leave_run("e", run_id, RunOutcome("workflow_interrupted", {}))
    clock.advance_by(24 * HOUR)
    assert hub.runs.join_run("e") == run_id


@pytest.mark.parametrize("never", [None, 0.0])
@pytest.mark.row("AOS-05")
async def test_none_and_0_mean_never(clock: TestScheduler, never: float | None) -> None:
    for settings, own in ((limited(never), "default"), (limited(10), never)):
        hub = StreamHub(settings)
        hub.open("e", idle_timeout=own)  # pyright: ignore[reportArgumentType] (the text is the literal "default")
        clock.advance_by(24 * HOUR)
        assert hub.registry.is_running("e")
        info = hub.info("e")
        assert info is not None
        assert info.idle_timeout is None
        await hub.aclose()


async def test_each_execution_may_have_a_timeout_of_its_own(clock: TestScheduler, make_hub: MakeHub) -> None:
    hub = make_hub(idle_timeout=1_000)
    hub.open("usual")
    hub.open("short", idle_timeout=10)
    hub.open("later")
    clock.advance_by(13)
    assert [hub.registry.is_running(each) for each in ("usual", "short", "later")] == [True, False, True]
    hub.open("later", idle_timeout=20)  # also where a run is open already
    clock.advance_by(26)
    assert [hub.registry.is_running(each) for each in ("usual", "short", "later")] == [True, False, False]
    hub.open("short")  # and for later runs, until another one is named
    clock.advance_by(13)
    assert not hub.registry.is_running("short")
    clock.advance_by(1_100)
    assert not hub.registry.is_running("usual")


@pytest.mark.parametrize("wrong", [-1, float("nan"), True, "soon", [1]])
async def test_what_is_no_timeout_is_refused(hub: StreamHub, wrong: float) -> None:
    for call in (hub.open, hub.create):
        with pytest.raises(BadRequestError, match="seconds"):
            call("e", idle_timeout=wrong)
    assert hub.info("e") is None


async def test_a_run_stays_while_something_is_at_work_in_it(clock: TestScheduler, make_hub: MakeHub) -> None:
    hub = make_hub()
    emitter = hub.emitter("e")
    with emitter.keep_alive():
        with emitter.scoped(task_id="t").keep_alive():
            clock.advance_by(HOUR)
        clock.advance_by(HOUR)
        assert hub.registry.is_running("e")
    clock.advance_by(361)
    assert not hub.registry.is_running("e")

    hub.open("f")
    with hub.emitter("f").keep_alive():
        await hub.close("f")
        hub.open("f")
        clock.advance_by(361)
        assert not hub.registry.is_running("f"), "that was another run"


async def test_rooms_stay(clock: TestScheduler, make_hub: MakeHub) -> None:
    hub = make_hub()
    hub.publish(room_execution("lobby"), "note", "hi")
    clock.advance_by(24 * HOUR)
    assert hub.registry.is_running("room:lobby")


async def test_an_abandoned_execution_can_have_a_next_run(clock: TestScheduler, make_hub: MakeHub) -> None:
    hub = make_hub(idle_timeout=10)
    hub.open("e")
    late = hub.emitter("e")
    clock.advance_by(13)
    late.custom("late", {})
    assert hub.statistics().dropped_late == 1
    hub.open("e")
    hub.publish("e", "note")
    await hub.close("e")
    assert types(await take(hub.subscribe("e", follow=True), 5)) == [
        "workflow_start", "workflow_abandoned", "workflow_start", "note", "workflow_complete",
    ]  # fmt: skip


async def test_text_that_a_token_stream_holds_leaves_first(clock: TestScheduler, make_hub: MakeHub) -> None:
    hub = make_hub(idle_timeout=10)
    held = {"flush_interval": 60.0, "first_token_immediately": False}
    service = TokenStreamingService(hub)
    service.initialize_token_stream("e", "n", held)
    hub.open("e")
    clock.advance_by(5)
    service.stream_token("e", "n", "text")
    clock.advance_by(40)
    got = await collect(hub.subscribe("e"))
    assert types(got) == ["workflow_start", "token", "workflow_abandoned"]
    assert hub.statistics().dropped_late == 0


class RefusingLog(MemoryLog):
    """Fails on the ends of one execution."""

    def append(self, batch: Batch) -> int:
        if batch.execution_id == "bad" and batch.updates[-1].type == "workflow_abandoned":
            raise RuntimeError("the log's own mistake")
        return super().append(batch)


async def test_one_that_cannot_be_ended_holds_up_no_other(
    clock: TestScheduler, make_hub: MakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    hub = make_hub(log=RefusingLog(), idle_timeout=10)
    hub.open("bad")
    hub.open("good")
    clock.advance_by(13)
    assert not hub.registry.is_running("good")
    assert "'bad'" in caplog.text
    hub.open("next")
    clock.advance_by(13)
    assert not hub.registry.is_running("next")


@pytest.mark.row("PYEV-16")
def test_it_works_in_a_plain_script() -> None:
    """On the real timer, with no event loop and no sweeps."""
    log = MemoryLog()
    hub = StreamHub(limited(0.05), log=log)
    over = threading.Event()

    def listen(execution_id: str) -> None:
        found = read_now(log, execution_id, 0, 0)
        if found is not None and found.state.state == "abandoned":
            over.set()

    log.listen(listen)
    hub.open("first")
    threads = threading.active_count()
    hub.open("second")
    assert threading.active_count() == threads, "there is no thread for an execution"
    assert over.wait(PATIENCE)
    asyncio.run(hub.aclose())


def test_the_timer_keeps_no_hub_alive(clock: TestScheduler) -> None:
    def abandoned_hub() -> Callable[[], StreamHub | None]:
        hub = StreamHub(limited(100))
        hub.open("e")
        return weakref.ref(hub)

    gone = abandoned_hub()
    gc.collect()
    assert gone() is None
    clock.advance_by(HOUR)
    publishers.count -= 1  # it was never closed


async def test_a_closed_hub_ends_nothing_and_complains_of_nothing(
    clock: TestScheduler, make_hub: MakeHub, caplog: pytest.LogCaptureFixture
) -> None:
    looking, closed = make_hub(idle_timeout=10), make_hub(idle_timeout=10)
    for hub in (looking, closed):
        hub.open("e")
    looking.registry.closed = True  # while a check goes on
    await closed.aclose()
    clock.advance_by(HOUR)
    assert not caplog.records
    assert all(hub.registry.is_running("e") for hub in (looking, closed)), "runs are left as they are"
    looking.registry.closed = False  # so that the fixture closes it


EVENTS = st.lists(
    st.tuples(st.floats(0, 40), st.sampled_from(["publish", "enter", "leave", "ask", "answer", "nothing"])), max_size=12
)


@given(EVENTS)
def test_the_end_comes_after_the_timeout_and_not_long_after(events: list[tuple[float, str]]) -> None:
    """After any events, a run ends by itself within 100 to 120 % of its timeout since it became idle."""
    timeout = 30.0
    clock = TestScheduler()
    with use_scheduler(clock):
        hub = StreamHub(limited(timeout))
    hub.open("e")
    run_id, inside, asked, idle_since = hub.open("e"), 0, False, 0.0
    for pause, event in events:
        clock.advance_by(pause)
        now = clock.to_seconds(clock.now)
        if not hub.registry.is_running("e"):
            assert (inside, asked) == (0, False), "somebody was at work"
            assert now - idle_since >= timeout - 1e-3
            break
        if not (inside or asked):
            assert now - idle_since <= timeout * 1.2 + 1e-3
        if event == "publish":
            hub.publish("e", "note")
        elif event == "enter":
            hub.runs.join_run("e")
            inside += 1
        elif event == "leave" and inside > 1:  # the last one to leave ends the run
            hub.runs.leave_run("e", run_id, COMPLETE)
            inside -= 1
        elif event == "ask" and not asked:
            hub.publish("e", "human_prompt", {"prompt_id": "p"})
            asked = True
        elif event == "answer" and asked:
            asyncio.run(hub.respond("e", "p", None))
            asked = False
        else:
            continue
        idle_since = now
    else:
        if not (inside or asked):
            clock.advance_by(timeout * 1.2 + 1e-3)
            assert not hub.registry.is_running("e")
    asyncio.run(hub.aclose())
