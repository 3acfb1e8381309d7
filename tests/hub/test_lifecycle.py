"""The life of executions: how they are made, what is known of them, how they end, and what a hub leaves behind."""

import asyncio
import contextlib
import gc
import importlib.metadata
import itertools
import logging
import threading
import tracemalloc
import uuid
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

import lg_streaming
from lg_streaming import StreamingModule, StreamingSettings, UpdateFilter
from lg_streaming.errors import (
    BadRequestError,
    ExecutionExistsError,
    ExecutionLimitError,
    ForbiddenError,
    HubClosedError,
    LogUnavailableError,
    StreamingConfigError,
    describe_error,
)
from lg_streaming.hub import ExecutionInfo, StreamHub
from lg_streaming.hub.execution import Execution
from lg_streaming.log import Batch, MemoryLog
from lg_streaming.publisher import RunOutcome
from lg_streaming.settings import RetentionSettings
from tests.gateway.site import site
from tests.hub.faulty import FaultyLog
from tests.hub.helpers import MakeHub, Threads, collect, contents, soon, take, types


def info_of(hub: StreamHub, execution_id: str = "e") -> ExecutionInfo:
    info = hub.info(execution_id)
    assert info is not None
    return info


# ---------------------------------------------------------------- making
@pytest.mark.row("AOS-10")
async def test_an_id_is_made_where_none_is_given(hub: StreamHub) -> None:
    made = [hub.create() for _ in range(100)]
    assert len(set(made)) == 100
    assert {uuid.UUID(each).version for each in made} == {7}
    assert hub.create("mine") == "mine"
    assert all(hub.registry.is_running(each) for each in (*made, "mine"))


@pytest.mark.row("AOS-10")
async def test_an_id_that_is_taken_is_refused_and_its_run_goes_on(hub: StreamHub) -> None:
    hub.create("e", metadata={"n": 1}, priority="high")
    hub.publish("e", "note", 1)
    before = info_of(hub)
    with pytest.raises(ExecutionExistsError) as caught:
        hub.create("e", owner="mallory", metadata={"n": 2}, priority="low", idle_timeout=1)
    assert (caught.value.code, caught.value.execution_id) == (4092, "e")
    assert info_of(hub) == before
    await hub.close("e")
    assert hub.create("e", owner="alice") == "e"
    await hub.close("e")
    with pytest.raises(ForbiddenError):
        hub.create("e", owner="mallory")


@pytest.mark.row("AOS-10")
async def test_a_made_id_that_is_taken_is_made_again() -> None:
    ids = iter(["x", "run 1", "x", "y", "run 2"])
    hub = StreamHub(new_id=lambda: next(ids))
    assert [hub.create(), hub.create()] == ["x", "y"]
    assert [info.run_id for info in hub.executions()] == ["run 1", "run 2"]
    await hub.aclose()


async def test_of_threads_that_create_one_execution_one_does(hub: StreamHub, busy_threads: None) -> None:
    for number in range(30):
        made: list[str] = []

        def create(execution_id: str = f"e{number}", made: list[str] = made) -> None:
            with contextlib.suppress(ExecutionExistsError):
                made.append(hub.create(execution_id))

        await Threads(*[create] * 4).start().join()
        assert made == [f"e{number}"]


# ---------------------------------------------------------------- what is kept with an execution
@pytest.mark.row("AOS-29")
async def test_metadata_is_kept_with_the_run_and_told_over_http() -> None:
    def redact(name: str, data: Any) -> Any:
        if name == "workflow_start" and "metadata" in data:
            return {**data, "metadata": {**data["metadata"], "password": "***"}}
        return data

    with site(redact=redact, retention={"max_updates": 2}) as place:
        given = {"user": "alice", "agent": {"name": "writer"}, "password": "secret"}
        place.hub.open("e", metadata=given)
        place.tokens("e", 10)  # the start itself is long gone
        place.hub.open("plain")
        async with httpx2.AsyncClient() as http:
            told = (await http.get(f"{place.url}/executions/e")).json()
            listed = (await http.get(f"{place.url}/executions")).json()["executions"]
        shown = {"user": "alice", "agent": {"name": "writer"}, "password": "***"}
        assert told["metadata"] == shown
        assert [each["metadata"] for each in listed] == [shown, {}]
        info = info_of(place.hub)
        assert info.metadata == given
        place.hub.open("e", metadata={"user": "bob"})
        assert info_of(place.hub).metadata == given, "an open run keeps its own"


async def test_metadata_is_the_run_s(hub: StreamHub) -> None:
    hub.open("e", metadata={"n": 1})
    await hub.close("e")
    assert info_of(hub).metadata == {"n": 1}
    hub.open("e")
    state = await hub.describe("e")
    assert state is not None
    assert (state.metadata, info_of(hub).metadata) == ({}, {})


async def test_what_a_program_does_to_its_metadata_later_changes_nothing(hub: StreamHub) -> None:
    given = {"n": 1}
    hub.open("e", metadata=given)
    given["n"] = 2
    told = info_of(hub).metadata
    told["n"] = 3  # pyright: ignore[reportIndexIssue]
    assert info_of(hub).metadata == {"n": 1}


async def priorities(hub: StreamHub) -> dict[str, str]:
    found = await hub.log.read("e", 0, 100)
    assert found is not None
    return {record.type: record.priority for record in found.records}


@pytest.mark.row("AOS-29")
@pytest.mark.parametrize(
    ("priority", "usual", "raised"),
    [
        ("low", "low", "high"),
        ("normal", "medium", "high"),
        ("high", "high", "high"),
        ("critical", "critical", "critical"),
    ],
)
async def test_an_execution_s_priority_is_that_of_updates_which_name_none(
    hub: StreamHub, priority: Any, usual: str, raised: str
) -> None:
    hub.open("e", priority=priority)
    for name in ("token", "debug", "error"):
        hub.publish("e", name, {})
    hub.publish("e", "named", priority="low")
    hub.emitter("e").event("written")
    await hub.close("e")
    assert await priorities(hub) == {
        "workflow_start": raised,
        "token": usual,
        "debug": "low",
        "error": raised,
        "named": "low",
        "written": usual,
        "workflow_complete": raised,
    }
    assert info_of(hub).priority == usual


async def test_a_priority_stays_until_another_is_named(hub: StreamHub) -> None:
    hub.open("e", priority="high")
    await hub.close("e")
    hub.open("e")
    hub.publish("e", "note", 1)
    hub.open("e", priority="low")
    hub.publish("e", "note", 2)
    await hub.close("e")
    updates = await take(hub.subscribe("e", types=["note"], follow=True), 2)
    assert [update.metadata.priority for update in updates] == ["high", "low"]
    urgent = await collect(hub.subscribe("e", filter=UpdateFilter.of(types=["note"], min_priority="high")))
    assert contents(urgent) == [1]


async def test_a_block_may_have_a_priority() -> None:
    async with StreamingModule() as streaming:
        async with streaming.execution("e", priority="high") as execution:
            execution.emitter.custom("note", {})
        assert "medium" not in (await priorities(streaming.hub)).values()


async def test_an_unknown_priority_opens_nothing(hub: StreamHub) -> None:
    wrong: Any = "urgent"
    for call in (hub.open, hub.create):
        with pytest.raises(BadRequestError):
            call("e", priority=wrong)
    assert hub.executions() == []


# ---------------------------------------------------------------- what there is
@pytest.mark.row("FLOW-18", "AOS-22")
async def test_what_there_is_is_known_at_once(hub: StreamHub) -> None:
    assert hub.executions() == []
    assert hub.info("e") is None
    assert not hub.registry.is_running("e")
    hub.open("e", owner="alice")
    subscriptions = [hub.subscribe("e") for _ in range(3)]
    hub.publish("e", "note")
    info = info_of(hub)
    assert (info.owner, info.state, info.readers, info.updates) == ("alice", "running", 3, 2)
    assert info.run_id == hub.open("e")
    assert info.started_at <= info.updated_at
    for subscription in subscriptions:
        subscription.close()
    assert info_of(hub).readers == 0
    await hub.close("e")
    assert (info_of(hub).state, info_of(hub).run_id) == ("completed", None)
    assert info.state == "running", "it tells of one moment"


@pytest.mark.row("AOS-22")
async def test_executions_by_their_state(hub: StreamHub) -> None:
    hub.configure("configured", token={"enabled": False})  # nothing was written to it
    for name in ("running", "completed", "failed", "cancelled", "interrupted"):
        hub.open(name)
    await hub.close("completed")
    await hub.fail("failed", "no")
    await hub.cancel("cancelled")
    hub.runs.leave_run("interrupted", hub.runs.join_run("interrupted"), RunOutcome("workflow_interrupted", {}))
    assert [info.state for info in hub.executions()] == [info.execution_id for info in hub.executions()]
    assert [info.execution_id for info in hub.executions("running")] == ["running"]
    misspelt: Any = "runing"
    with pytest.raises(BadRequestError, match="runing"):
        hub.executions(misspelt)
    ended = hub.executions({"completed", "failed", "cancelled", "abandoned"})
    assert [info.execution_id for info in ended] == ["completed", "failed", "cancelled"]
    assert hub.executions(()) == []


@pytest.mark.row("FLOW-22")
async def test_how_a_hub_is(make_hub: MakeHub) -> None:
    hub = make_hub(max_executions=7)
    hub.open("a")
    hub.open("b")
    await hub.close("b")
    hub.subscribe("c")
    health = hub.health()
    assert (health.status, health.hub_id, health.max_executions) == ("ok", hub.registry.hub_id, 7)
    assert (health.executions, health.running, health.subscriptions) == (2, 1, 1)
    await hub.aclose()
    assert hub.health().status == "closed"


async def test_a_log_that_is_away_is_seen_in_the_health(make_hub: MakeHub) -> None:
    log = FaultyLog()
    hub = make_hub(log=log)
    log.fail_next("away", times=2)
    hub.open("e")
    seen: set[str] = set()
    while hub.statistics().waiting:
        seen.add(hub.health().status)
        await asyncio.sleep(0.01)
    assert "log_unavailable" in seen
    assert hub.health().status == "ok"


@pytest.mark.row("AOS-30", "FLOW-23", "FLOW-12")
async def test_hubs_are_independent_and_each_has_its_own_id(make_hub: MakeHub) -> None:
    one, other = make_hub(max_executions=1), make_hub()
    assert one.registry.hub_id != other.registry.hub_id
    one.publish("e", "note", 1)
    other.publish("e", "note", 2)
    await one.close("e")
    assert other.registry.is_running("e")
    assert contents((await collect(one.subscribe("e")))[1:2]) == [1]
    await one.aclose()
    other.publish("f", "note")
    assert lg_streaming.__version__ == importlib.metadata.version("lg-streaming")


@pytest.mark.row("PYEV-07", "FLOW-23")
async def test_the_default_of_the_process_can_be_had_and_taken_back() -> None:
    assert StreamingModule.active() is None
    async with StreamingModule() as one, StreamingModule() as other:
        with one.activate():
            assert StreamingModule.active() is one
            with other.activate():
                assert StreamingModule.active() is other
            assert StreamingModule.active() is one
        assert StreamingModule.active() is None
        one.activate()
    assert StreamingModule.active() is None, "a closed module is not active"


# ---------------------------------------------------------------- before and after
@pytest.mark.row("AOS-01", "AOS-02")
async def test_what_needs_a_set_up_says_so_and_it_happens_once() -> None:
    hub = StreamHub()
    hub.publish("e", "note")  # a hub is ready when it is made
    await hub.aclose()
    for call in (lambda: hub.publish("e", "note"), hub.create, lambda: hub.subscribe("e")):
        with pytest.raises(HubClosedError) as caught:
            call()
        assert caught.value.code == 5031
    settings = StreamingSettings()
    async with StreamingModule(settings) as streaming:
        with pytest.raises(StreamingConfigError, match="install"):
            _ = streaming.gateway
        with pytest.raises(ValidationError):
            settings.debug = True


@pytest.mark.row("FLOW-13", "FLOW-14")
async def test_the_start_and_the_stop_of_a_server_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lg_streaming.gateway")

    def told() -> list[str]:
        events: list[str] = [getattr(record, "event", "") for record in caplog.records]
        return [event for event in events if event in {"gateway.started", "gateway.stopped"}]

    with site() as place:
        assert told() == ["gateway.started"]
        place.hub.open("e")
    assert told() == ["gateway.started", "gateway.stopped"]


# ---------------------------------------------------------------- errors
class QuotaError(Exception):
    code = "insufficient_quota"


class OddError(Exception):
    @property
    def code(self) -> int:
        raise RuntimeError


@pytest.mark.row("AOS-20", "AOS-21", "AOS-D6")
async def test_an_error_that_does_not_end_the_run(hub: StreamHub) -> None:
    hub.open("e")
    reader = hub.subscribe("e")
    await hub.fail("e", QuotaError("no money left"), terminate=False)
    await hub.fail("e", LogUnavailableError(), terminate=False)
    await hub.fail("e", "only words", terminate=False)
    assert hub.registry.is_running("e")
    hub.publish("e", "note", "on we go")
    await hub.fail("e", QuotaError("no money left"))
    got = await collect(reader)
    assert types(got) == ["workflow_start", "error", "error", "error", "note", "workflow_error"]
    assert [update.is_final for update in got] == [False] * 5 + [True]
    described = {"message": "no money left", "type": "QuotaError", "code": "insufficient_quota"}
    assert got[1].data == described
    assert (got[2].data["code"], got[2].data["type"]) == (5030, "LogUnavailableError")
    assert got[3].data == {"message": "only words"}
    assert got[-1].data == {"error": described}
    assert got[1].metadata.priority == "high"


@pytest.mark.row("AOS-21")
def test_a_code_is_told_where_the_exception_has_one() -> None:
    assert "code" not in describe_error(ValueError("no"))
    assert "code" not in describe_error(OddError("no"))
    for code, told in ((17, True), ("x", True), ("", False), (None, False), (True, False), (object(), False)):
        error = ValueError("no")
        error.code = code  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        assert ("code" in describe_error(error)) is told


async def test_an_error_of_no_run_opens_none(hub: StreamHub) -> None:
    await hub.fail("e", "no", terminate=False)
    assert await hub.describe("e") is None
    hub.open("e")
    await hub.close("e")
    await hub.fail("e", "no", terminate=False)
    assert types(await collect(hub.subscribe("e"))) == ["workflow_start", "workflow_complete"]


async def test_an_error_that_is_too_large_is_told_shorter(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=2_000)
    hub.open("e")
    await hub.fail("e", "x" * 5_000, terminate=False)
    assert hub.registry.is_running("e")
    data = (await take(hub.subscribe("e", types=["error"]), 1))[0].data
    assert (data["truncated"], 1_000 < len(data["message"]) < 2_000) == ({"message": 5_002}, True)


@pytest.mark.row("AOS-25", "AOS-03")
async def test_an_error_says_to_programs_what_it_is_about(make_hub: MakeHub) -> None:
    hub = make_hub(max_executions=1, max_subscribers_per_execution=1)
    hub.open("a")
    with pytest.raises(ExecutionLimitError) as caught:
        hub.create("b")
    error = caught.value
    assert (error.code, error.name, error.execution_id, error.details) == (4295, "execution_limit", "b", {"limit": 1})
    assert error.message
    assert error.to_dict()["details"] == {"limit": 1}
    with site(limits={"max_subscribers_per_execution": 1}) as place:
        place.hub.subscribe("e")
        async with httpx2.AsyncClient() as http:
            answer = await http.get(f"{place.url}/executions/e/stream")
    told = answer.json()["error"]
    assert (told["code"], told["execution_id"], told["details"]) == (4294, "e", {"limit": 1})


async def test_a_run_may_end_with_a_reason(hub: StreamHub) -> None:
    hub.open("e")
    await hub.close("e", {"rows": 3}, reason="enough")
    assert (await collect(hub.subscribe("e")))[-1].data == {"result": {"rows": 3}, "reason": "enough"}


# ---------------------------------------------------------------- shutdown
@pytest.mark.row("AOS-23", "FLOW-14")
async def test_a_shutdown_ends_all_runs_and_then_the_hub(make_hub: MakeHub) -> None:
    hub = make_hub()
    ends: dict[str, tuple[str, str]] = {}
    for name in ("plain", "interrupted", "asks"):
        hub.open(name)
    hub.runs.leave_run("interrupted", hub.runs.join_run("interrupted"), RunOutcome("workflow_interrupted", {}))
    hub.publish("asks", "human_prompt", {"prompt_id": "p"})

    async def read(name: str) -> None:
        got = await collect(hub.subscribe(name))
        ends[name] = (got[-1].type, got[-1].data["reason"])

    readers = [asyncio.create_task(read(name)) for name in ("plain", "interrupted", "asks")]
    idle = hub.subscribe("nobody-reads-this")
    await asyncio.sleep(0)
    await hub.shutdown("maintenance")
    await asyncio.gather(*readers)
    assert ends == dict.fromkeys(("plain", "interrupted", "asks"), ("workflow_cancelled", "maintenance"))
    assert idle.closed
    assert hub.statistics().running == hub.statistics().subscriptions == 0
    await hub.shutdown()
    await hub.aclose()
    for call in (lambda: hub.open("plain"), lambda: hub.publish("new", "note"), lambda: hub.subscribe("plain")):
        with pytest.raises(HubClosedError):
            call()


@pytest.mark.row("AOS-23")
async def test_a_shutdown_lets_work_come_to_its_end() -> None:
    streaming = StreamingModule()
    hub = streaming.hub
    began, refused = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with streaming.execution("works") as execution:
            began.set()
            try:
                await asyncio.sleep(60)
            finally:
                execution.emitter.event("cleaned")
                with pytest.raises(HubClosedError):
                    hub.open("new")  # while the hub shuts down no run begins
                refused.set()

    reading = asyncio.create_task(collect(hub.subscribe("works")))
    working = asyncio.create_task(work())
    await began.wait()
    await soon(hub.shutdown("maintenance"))
    with pytest.raises(asyncio.CancelledError):
        await working
    assert refused.is_set()
    got = await reading
    assert types(got) == ["workflow_start", "cleaned", "workflow_cancelled"]
    assert got[-1].data == {"reason": "maintenance"}


class KeptLog(MemoryLog):
    """Remembers types beyond its end, and fails on ends of executions that are called so."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, list[str]] = {}

    def append(self, batch: Batch) -> int:
        if batch.execution_id.startswith("bad") and batch.updates[-1].type == "workflow_cancelled":
            raise RuntimeError("the log's own mistake")
        self.kept.setdefault(batch.execution_id, []).extend(draft.type for draft in batch.updates)
        return super().append(batch)


@pytest.mark.row("AOS-23")
async def test_a_shutdown_goes_on_past_what_fails(make_hub: MakeHub, caplog: pytest.LogCaptureFixture) -> None:
    log = KeptLog()
    hub = make_hub(log=log, cancel_grace=0.05)
    for name in ("a", "bad", "b", "deaf", "raises", "c"):
        hub.open(name)
    hub.on_cancel("deaf", lambda reason: None)

    def fail(reason: str | None) -> None:
        raise ValueError(reason)

    hub.on_cancel("raises", fail)
    await soon(hub.shutdown())
    assert {name: kept[-1] for name, kept in log.kept.items() if name != "bad"} == dict.fromkeys(
        ("a", "b", "c", "deaf", "raises"), "workflow_cancelled"
    )
    assert "'bad'" in caplog.text
    assert hub.health().status == "closed"


async def test_a_shutdown_ends_what_was_asked_to_end_on_a_loop_that_is_gone(make_hub: MakeHub) -> None:
    log = KeptLog()
    hub = make_hub(log=log, cancel_grace=0.05)
    hub.open("deaf")
    hub.on_cancel("deaf", lambda reason: None)
    assert await asyncio.to_thread(asyncio.run, hub.cancel("deaf", "first"))
    await soon(hub.shutdown())
    assert log.kept["deaf"][-1] == "workflow_cancelled"


async def test_at_a_shutdown_a_slow_reader_reads_to_the_end(make_hub: MakeHub) -> None:
    hub = make_hub()
    for number in range(5_000):
        hub.publish("e", "note", number)
    got: list[str] = []

    async def read() -> None:
        async for batch in hub.subscribe("e").batches():
            await asyncio.sleep(0.01)
            got.extend(types(batch))

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    await hub.shutdown()
    await reading
    assert (len(got), got[-1]) == (5_002, "workflow_cancelled")


async def test_a_shutdown_gives_a_slow_log_its_updates(make_hub: MakeHub) -> None:
    log = FaultyLog(delay=0.02)
    hub = make_hub(log=log)
    for number in range(5):
        hub.open(f"e{number}")
    readers = [asyncio.create_task(collect(hub.subscribe(f"e{number}"))) for number in range(5)]
    await asyncio.sleep(0)
    await hub.shutdown()
    assert [(await each)[-1].type for each in readers] == ["workflow_cancelled"] * 5


# ---------------------------------------------------------------- nothing is left
@pytest.mark.row("PYEV-09", "CFLOW-D10")
async def test_of_a_thousand_executions_nothing_is_left(make_hub: MakeHub) -> None:
    now = [0.0]
    retention = RetentionSettings(ttl=10, record_ttl=20)
    hub = make_hub(clock=lambda: now[0], log=MemoryLog(retention, monotonic=lambda: now[0]), ttl=10, record_ttl=20)

    async def live(name: str, all_are_there: asyncio.Barrier) -> None:
        hub.create(name, owner="alice", metadata={"name": name}, priority="high", idle_timeout=60)
        undo = hub.on_cancel(name, lambda reason: None)
        hub.on_response(name, lambda prompt_id, response: None)
        reading = asyncio.create_task(collect(hub.subscribe(name)))
        emitter = hub.emitter(name, node_id="n")
        for _ in range(5):
            emitter.token("x")
        hub.publish(name, "human_prompt", {"prompt_id": "answered"})
        hub.publish(name, "human_prompt", {"prompt_id": "forgotten"})
        await hub.respond(name, "answered", True)
        await all_are_there.wait()  # so each wave makes the tables as large as the one before
        await (hub.close(name) if hash(name) % 2 else hub.fail(name, ValueError(name)))
        undo()
        assert len(await reading) == 10

    async def wave(prefix: str, count: int) -> None:
        together = asyncio.Barrier(count)
        await asyncio.gather(*(live(f"{prefix}{number}", together) for number in range(count)))
        now[0] += 30.0
        hub.registry.sweep()
        assert hub.executions() == []
        assert await hub.log.executions() == ()

    sizes: list[int] = []
    await wave("warm-", 1_000)  # tables grow once
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    tracemalloc.start()
    try:
        for number in range(4):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
            if number < 3:
                await wave(f"fed-{number}-", 1_000)
    finally:
        tracemalloc.stop()
    growths = [after - before for before, after in itertools.pairwise(sizes)]
    assert min(growths) < 100_000, "bytes: a hundred for each execution would be a leak; tables may grow once more"
    assert asyncio.all_tasks() == tasks
    assert {thread.name for thread in set(threading.enumerate()) - threads} <= {"lg-streaming-timer"}
    statistics = hub.statistics()
    assert (statistics.executions, statistics.running, statistics.subscriptions) == (0, 0, 0)
    executions = [each for each in gc.get_objects() if isinstance(each, Execution)]
    assert not [each for each in executions if each.execution_id.startswith(("warm-", "fed-"))]
