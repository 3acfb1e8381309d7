"""A run: opened once, ended once, and nothing of it follows its end."""

import threading
from collections.abc import Callable

import pytest

from lg_streaming.errors import BadRequestError, ExecutionLimitError, ForbiddenError, HubClosedError
from lg_streaming.events import FINAL_TYPES, StreamUpdate
from lg_streaming.hub import StreamHub
from lg_streaming.publisher import RunOutcome
from tests.hub.helpers import MakeHub, Threads, collect, contents, publish_many, seqs, types, upto

COMPLETE = RunOutcome("workflow_complete", {})
INTERRUPTED = RunOutcome("workflow_interrupted", {"value": "?"})


async def everything(hub: StreamHub, execution_id: str = "e") -> list[StreamUpdate]:
    """Return the updates in the log, without waiting for an end."""
    found = await hub.log.read(execution_id, 0, 100_000)
    return [] if found is None else [record.update for record in found.records]


async def state_of(hub: StreamHub) -> str:
    state = await hub.describe("e")
    assert state is not None
    return state.state


@pytest.mark.row("PYEV-22")
async def test_a_run_from_start_to_end(hub: StreamHub) -> None:
    run_id = hub.open("e", metadata={"name": "research"})
    emitter = hub.emitter("e", node_id="write")
    emitter.status("running")
    emitter.custom("message", {"text": "hi"})
    await hub.close("e", {"answer": 42})
    got = await collect(hub.subscribe("e"))
    assert types(got) == ["workflow_start", "status", "custom", "workflow_complete"]
    assert got[0].data == {"run_id": run_id, "metadata": {"name": "research"}}
    assert got[-1].data == {"result": {"answer": 42}}
    assert {update.metadata.run_id for update in got} == {run_id}
    assert seqs(got) == upto(4)


async def test_publishing_opens_what_nobody_opened(hub: StreamHub) -> None:
    hub.publish("e", "token", "a")
    assert types(await everything(hub)) == ["workflow_start", "token"]
    assert await state_of(hub) == "running"


async def test_publishing_opens_what_was_only_configured(make_hub: MakeHub) -> None:
    hub = make_hub(max_executions=1)
    hub.configure("e", token={"enabled": False})
    hub.publish("other", "token")
    with pytest.raises(ExecutionLimitError):
        hub.publish("e", "token")
    await hub.close("other")
    hub.publish("e", "token", "a")
    assert types(await everything(hub)) == ["workflow_start", "token"]
    assert not hub.publisher.defaults("e").current.token.enabled


async def test_opening_an_open_run_changes_nothing(hub: StreamHub) -> None:
    assert hub.open("e") == hub.open("e") == hub.runs.join_run("e")
    assert types(await everything(hub)) == ["workflow_start"]
    assert hub.statistics().running == 1


async def test_the_ways_to_end(hub: StreamHub) -> None:
    hub.open("failed")
    await hub.fail("failed", ValueError("no"))
    hub.open("text")
    await hub.fail("text", "no")
    hub.open("cancelled")
    await hub.cancel("cancelled", "enough")
    last = {name: (await everything(hub, name))[-1] for name in ("failed", "text", "cancelled")}
    assert last["failed"].data == {"error": {"message": "no", "type": "ValueError"}}
    assert last["text"].data == {"error": {"message": "no"}}
    assert (last["cancelled"].type, last["cancelled"].data) == ("workflow_cancelled", {"reason": "enough"})
    assert hub.statistics().running == 0


async def test_an_error_that_cannot_say_what_it_is_ends_the_run_too(hub: StreamHub) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    hub.open("e")
    await hub.fail("e", MuteError())
    assert await state_of(hub) == "failed"


async def test_what_ends_a_run_is_redacted_too(make_hub: MakeHub) -> None:
    hub = make_hub(redact=lambda name, data: {} if name == "workflow_complete" else data)
    hub.open("e")
    await hub.close("e", "secret")
    assert (await everything(hub))[-1].data == {}


async def test_a_result_that_is_too_large_ends_the_run_without_it(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=2_000)
    hub.open("e")
    await hub.close("e", "x" * 5_000)
    last = (await everything(hub))[-1]
    assert last.type == "workflow_complete"
    assert last.data["truncated"] == {"result": 5_002}
    assert 1_000 < len(last.data["result"]) < 2_000


@pytest.mark.parametrize("ends", [["close", "close"], ["close", "fail"], ["cancel", "close", "fail"]])
async def test_a_run_ends_once(hub: StreamHub, ends: list[str]) -> None:
    hub.open("e")
    for end in ends:
        await (hub.fail("e", "no") if end == "fail" else getattr(hub, end)("e"))
    assert sum(update.is_final for update in await everything(hub)) == 1


@pytest.mark.row("FLOW-D11")
async def test_ending_what_is_not_open_does_nothing(hub: StreamHub) -> None:
    await hub.close("e")
    await hub.fail("e", "no")
    assert await hub.describe("e") is None


async def test_nothing_of_a_run_follows_its_end(hub: StreamHub) -> None:
    hub.open("e")
    emitter = hub.emitter("e")
    await hub.close("e")
    emitter.token("late")
    hub.publish("e", "token", "late")
    assert types(await everything(hub)) == ["workflow_start", "workflow_complete"]
    assert hub.statistics().dropped_late == 2


@pytest.mark.row("FLOW-38")
async def test_a_late_emitter_does_not_write_into_the_next_run(hub: StreamHub) -> None:
    hub.open("e")
    first = hub.emitter("e")
    await hub.close("e")
    second = hub.emitter("e")
    first.token("late")
    second.token("right")
    await hub.close("e")
    got = await collect(hub.subscribe("e"))
    assert [data["content"] for data in contents(got)] == ["right"]
    assert seqs(got) == upto(5)
    assert hub.statistics().dropped_late == 1


@pytest.mark.parametrize("type", sorted(FINAL_TYPES))
async def test_a_final_update_cannot_be_published_by_hand(hub: StreamHub, type: str) -> None:
    emitter = hub.emitter("e")
    for publish in (lambda: emitter.event(type), lambda: hub.publish("e", type)):
        with pytest.raises(BadRequestError, match="close"):
            publish()
    await hub.close("e")
    assert types(await everything(hub)) == ["workflow_start", "workflow_complete"]


async def test_a_gap_cannot_be_published_by_hand(hub: StreamHub) -> None:
    with pytest.raises(BadRequestError):
        hub.publish("e", "gap", {"from": 1, "to": 9, "reason": "evicted"})


async def test_one_final_update_when_threads_write_and_end_at_once(hub: StreamHub) -> None:
    for _ in range(30):
        emitter = hub.emitter("e")

        def write(emitter: Callable[[str], None] = emitter.token) -> None:
            for _ in range(20):
                emitter("a")

        def leave(run_id: str = hub.open("e")) -> None:
            hub.runs.leave_run("e", run_id, COMPLETE)

        await Threads(write, write, leave, leave).start().join()
    got = await everything(hub)
    runs = [update.metadata.run_id for update in got]
    assert len(set(runs)) == sum(update.is_final for update in got) == 30
    assert runs == sorted(runs, key=runs.index), "nothing of a run follows its end"
    statistics = hub.statistics()
    assert len(got) + statistics.dropped_late == 30 * 42
    assert (statistics.running, statistics.published) == (0, len(got))


async def test_the_last_participant_ends_the_run(hub: StreamHub) -> None:
    first = hub.runs.join_run("e", name="graph")
    second = hub.runs.join_run("e")
    assert first == second
    hub.runs.leave_run("e", first, COMPLETE)
    assert await state_of(hub) == "running"
    hub.runs.leave_run("e", second, RunOutcome("workflow_error", {"error": {}}))
    assert await state_of(hub) == "failed"
    hub.runs.leave_run("e", second, COMPLETE)
    assert types(await everything(hub)) == ["workflow_start", "workflow_error"]


async def test_closing_ends_a_run_that_still_has_participants(hub: StreamHub) -> None:
    run_id = hub.runs.join_run("e")
    await hub.close("e")
    next_id = hub.runs.join_run("e")
    hub.runs.leave_run("e", run_id, COMPLETE)
    assert next_id != run_id
    assert await state_of(hub) == "running"


async def test_an_interrupted_run_waits_and_goes_on(hub: StreamHub) -> None:
    run_id = hub.runs.join_run("e")
    hub.runs.leave_run("e", run_id, INTERRUPTED)
    assert await state_of(hub) == "interrupted"
    assert hub.statistics().running == 1
    assert hub.runs.join_run("e") == run_id
    assert await state_of(hub) == "running"
    hub.runs.leave_run("e", run_id, COMPLETE)
    got = await collect(hub.subscribe("e"))
    assert types(got) == ["workflow_start", "workflow_interrupted", "status", "workflow_complete"]
    assert got[2].data == {"status": "resumed"}


async def test_a_run_whose_node_waits_for_a_human_is_not_complete(hub: StreamHub) -> None:
    run_id = hub.runs.join_run("e")
    hub.runs.pause("e", run_id, "ask:1")
    hub.runs.leave_run("e", run_id, COMPLETE)
    assert await state_of(hub) == "interrupted"
    hub.runs.join_run("e")
    assert hub.runs.next_attempt("e", "ask:1") == 1
    hub.runs.leave_run("e", run_id, COMPLETE)
    assert await state_of(hub) == "completed"


async def test_an_interrupted_run_can_be_ended(hub: StreamHub) -> None:
    hub.runs.leave_run("e", hub.runs.join_run("e"), INTERRUPTED)
    await hub.cancel("e")
    assert types(await everything(hub))[-2:] == ["workflow_interrupted", "workflow_cancelled"]


async def test_attempts_are_counted_within_a_run(hub: StreamHub) -> None:
    hub.open("e")
    assert [hub.runs.next_attempt("e", task) for task in ("a", "a", "b")] == [1, 2, 1]
    await hub.close("e")
    hub.open("e")
    assert hub.runs.next_attempt("e", "a") == 1


async def test_an_execution_belongs_to_its_owner(hub: StreamHub) -> None:
    hub.open("e", owner="alice")
    for enter in (hub.open, hub.runs.join_run):
        with pytest.raises(ForbiddenError):
            enter("e", owner="mallory")
    hub.open("e")
    assert hub.open("e", owner="alice") == hub.runs.join_run("e", owner="alice")
    await hub.close("e")
    with pytest.raises(ForbiddenError):
        hub.open("e", owner="mallory")
    state = await hub.describe("e")
    assert state is not None
    assert state.owner == "alice"


async def test_an_owner_may_come_after_the_start(hub: StreamHub) -> None:
    hub.publish("e", "token")
    hub.open("e", owner="alice")
    hub.publish("e", "token")
    state = await hub.describe("e")
    assert state is not None
    assert state.owner == "alice"


async def test_a_run_that_comes_after_the_execution_was_forgotten_here_is_kept(make_hub: MakeHub) -> None:
    now = [0.0]
    hub = make_hub(clock=lambda: now[0], ttl=10)
    for start in (0.0, 20.0, 40.0):
        now[0] = start
        hub.open("e")
        publish_many(hub, "e", range(5))
        await hub.close("e")
        now[0] = start + 15.0
        hub.registry.sweep()
        assert hub.statistics().executions == 0
    state = await hub.describe("e")
    assert state is not None
    assert state.head == 3 * 7


@pytest.mark.row("PYEV-09", "PYEV-D11")
async def test_an_ended_execution_is_kept_for_late_readers_and_then_freed(make_hub: MakeHub) -> None:
    now = [0.0]
    hub = make_hub(clock=lambda: now[0], ttl=10, record_ttl=100)
    for index in range(50):
        hub.publish(f"e{index}", "token")
        await hub.close(f"e{index}")
    assert len(await collect(hub.subscribe("e7"))) == 3
    now[0] = 40.0
    hub.open("another")
    assert hub.statistics().executions == 1
    assert types(await collect(hub.subscribe("e7"))) == ["gap", "workflow_complete"]
    now[0] = 140.0
    hub.registry.sweep()
    assert await hub.describe("e7") is None


async def test_a_closed_hub_takes_and_gives_nothing(hub: StreamHub) -> None:
    emitter = hub.emitter("e")
    await hub.aclose()
    await hub.aclose()
    calls: list[Callable[[], object]] = [
        lambda: hub.publish("e", "token"),
        lambda: hub.open("f"),
        lambda: hub.runs.join_run("f"),
        lambda: hub.subscribe("e"),
        lambda: emitter.token("a"),
    ]
    for call in calls:
        with pytest.raises(HubClosedError):
            call()


@pytest.mark.row("PYEV-16")
def test_everything_about_writing_works_without_an_event_loop() -> None:
    hub = StreamHub()
    try:
        run_id = hub.runs.join_run("e")
        thread = threading.Thread(target=publish_many, args=(hub, "e", range(10)))
        thread.start()
        thread.join()
        hub.runs.leave_run("e", run_id, COMPLETE)
        assert hub.statistics().published == 12
    finally:
        import asyncio

        asyncio.run(hub.aclose())


async def test_nobody_else_may_open_an_owned_execution_that_ended_long_ago(make_hub: MakeHub) -> None:
    now = [0.0]
    hub = make_hub(clock=lambda: now[0], ttl=10, record_ttl=100)
    hub.open("e", owner="alice")
    await hub.close("e")
    now[0] = 50.0
    hub.registry.sweep()
    with pytest.raises(ForbiddenError):
        hub.open("e", owner="bob")


async def test_closing_the_hub_lets_observers_read_what_is_there(make_hub: MakeHub) -> None:
    hub = make_hub()
    seen: list[str] = []
    hub.observe("e", types=["token"]).subscribe(lambda update: seen.append(update.data))
    hub.observe("e", types=["token"], in_thread=True).subscribe(lambda update: seen.append(update.data))
    for text in ("one", "two", "three"):
        hub.publish("e", "token", text)
    await hub.aclose()
    assert sorted(seen) == ["one", "one", "three", "three", "two", "two"]
