"""Tasks: updates and order of the steps; the last progress is never lost."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from reactivex.testing import TestScheduler

from lg_streaming.activity import TaskStream
from lg_streaming.emitter import NO_EMITTER, Emitter
from lg_streaming.errors import BadRequestError, HubClosedError, TransitionError, UpdateTooLargeError
from lg_streaming.hub import StreamHub
from lg_streaming.settings import LimitSettings, StreamingSettings
from lg_streaming.timer import use_scheduler
from tests.activity.reading import read, said, types
from tests.hub.helpers import take

STEPS: dict[str, Callable[[TaskStream], None]] = {
    "created": lambda task: task.created(),
    "queued": lambda task: task.queued(),
    "assigned": lambda task: task.assigned("a1"),
    "started": lambda task: task.started(),
    "progress": lambda task: task.progress(10),
    "intermediate": lambda task: task.intermediate("x"),
    "metrics": lambda task: task.metrics(cpu_percent=1),
    "completed": lambda task: task.completed(),
    "failed": lambda task: task.failed("no"),
    "cancelled": lambda task: task.cancelled(),
}
# To each state the steps that can follow, and where they lead: written down a second time, on purpose.
TABLE: dict[str | None, dict[str, str]] = {
    None: {
        "created": "pending",
        "queued": "queued",
        "assigned": "assigned",
        "started": "running",
        "metrics": "pending",
        "failed": "failed",
        "cancelled": "cancelled",
    },
    "pending": {
        "queued": "queued",
        "assigned": "assigned",
        "started": "running",
        "metrics": "pending",
        "failed": "failed",
        "cancelled": "cancelled",
    },
    "queued": {
        "assigned": "assigned",
        "started": "running",
        "metrics": "queued",
        "failed": "failed",
        "cancelled": "cancelled",
    },
    "assigned": {
        "queued": "queued",
        "assigned": "assigned",
        "started": "running",
        "metrics": "assigned",
        "failed": "failed",
        "cancelled": "cancelled",
    },
    "running": {
        "progress": "running",
        "intermediate": "running",
        "metrics": "running",
        "completed": "completed",
        "failed": "failed",
        "cancelled": "cancelled",
    },
    "completed": {},
    "failed": {},
    "cancelled": {},
}
WAY: dict[str | None, list[str]] = {
    None: [],
    "pending": ["created"],
    "queued": ["queued"],
    "assigned": ["assigned"],
    "running": ["started"],
    "completed": ["started", "completed"],
    "failed": ["failed"],
    "cancelled": ["cancelled"],
}


@pytest.mark.row("CFLOW-14")
async def test_each_step_says_what_it_is(hub: StreamHub, clock: TestScheduler) -> None:
    task = TaskStream(
        hub.emitter("e"),
        "t1",
        name="Generate code",
        description="of the parser",
        type="code",
        priority="high",
        dependencies=["t0"],
        metadata={"tenant": 1},
    )
    task.created()
    task.queued()
    clock.advance_by(2)
    task.assigned("coder-1")
    task.started()
    clock.advance_by(3)
    task.completed({"files": 2})
    updates = await read(hub)
    assert [(update.type, update.data) for update in updates] == [
        (
            "task:created",
            {
                "task_id": "t1",
                "status": "pending",
                "priority": "high",
                "name": "Generate code",
                "description": "of the parser",
                "type": "code",
                "dependencies": ["t0"],
                "metadata": {"tenant": 1},
            },
        ),
        ("task:queued", {"task_id": "t1", "status": "queued"}),
        ("task:assigned", {"task_id": "t1", "status": "assigned", "agent_id": "coder-1"}),
        ("task:started", {"task_id": "t1", "status": "running", "agent_id": "coder-1", "waited_s": 2.0}),
        ("task:completed", {"task_id": "t1", "status": "completed", "result": {"files": 2}, "duration_s": 3.0}),
    ]
    assert {update.metadata.task_id for update in updates} == {"t1"}
    assert task.ended


@pytest.mark.row("CFLOW-14")
async def test_a_task_that_fails_or_is_cancelled_says_why(hub: StreamHub) -> None:
    TaskStream(hub.emitter("e"), "t1").failed(ValueError("no such file"))
    TaskStream(hub.emitter("e"), "t2").cancelled("not needed")
    updates = await read(hub)
    failed, cancelled = said(updates, "task:failed"), said(updates, "task:cancelled")
    assert failed == [{"task_id": "t1", "status": "failed", "error": {"message": "no such file", "type": "ValueError"}}]
    assert cancelled == [{"task_id": "t2", "status": "cancelled", "reason": "not needed"}]
    assert next(update for update in updates if update.type == "task:failed").metadata.priority == "high"


@pytest.mark.row("CFLOW-14")
@pytest.mark.parametrize("state", TABLE)
@pytest.mark.parametrize("step", STEPS)
async def test_only_steps_of_the_table_are_taken(hub: StreamHub, state: str | None, step: str) -> None:
    task = TaskStream(hub.emitter("e"), "t")
    for before in WAY[state]:
        STEPS[before](task)
    assert task.status == state
    known = task.state
    allowed = TABLE[state]
    if step in allowed:
        STEPS[step](task)
        assert task.status == allowed[step]
        assert types(await read(hub))[-1] == f"task:{step}"
    else:
        with pytest.raises(TransitionError) as refused:
            STEPS[step](task)
        assert f"{step}()" in str(refused.value)
        assert refused.value.execution_id == "e"
        assert task.state == known
        assert f"task:{step}" not in types(await read(hub))[len(WAY[state]) + 1 :]


def test_the_docstring_has_the_table() -> None:
    rows = [line.strip("| ").split(" | ") for line in (TaskStream.__doc__ or "").splitlines() if "| `" in line]
    told: dict[str, dict[str, str]] = {}
    for steps, begins, end in rows:
        for step in steps.replace("`", "").split(", "):
            for begin in begins.split(", "):
                told.setdefault(begin, {})[step] = begin if end == "the same" else end
    assert told.pop("new") == {"created": "pending"}
    assert told == {state: steps for state, steps in TABLE.items() if state is not None and steps}


class Tasks(RuleBasedStateMachine):
    """Any steps in any order, and seconds between them."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = TestScheduler()
        self.emitter = Recorder()
        with use_scheduler(self.clock):
            self.task = TaskStream(self.emitter, "t", interval=1)
        self.expected: str | None = None
        self.progress: float | None = None

    @rule(step=st.sampled_from([step for step in STEPS if step != "progress"]))
    def step(self, step: str) -> None:
        before = len(self.emitter.said)
        allowed = TABLE[self.expected]
        if step in allowed:
            STEPS[step](self.task)
            self.expected = allowed[step]
            assert self.emitter.said[-1][0] == f"task:{step}"
            if self.progress is not None:
                assert self.last_progress() == self.progress, "the last progress leaves before what follows it"
        else:
            with pytest.raises(TransitionError):
                STEPS[step](self.task)
            assert len(self.emitter.said) == before

    @rule(progress=st.floats(0, 100))
    def say_progress(self, progress: float) -> None:
        if self.expected == "running":
            self.task.progress(progress)
            self.progress = progress
        else:
            with pytest.raises(TransitionError):
                self.task.progress(progress)

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 5.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance_by(seconds)
        if seconds >= 1 and self.progress is not None:
            assert self.last_progress() == self.progress, "it leaves by itself"

    @invariant()
    def it_is_where_it_should_be(self) -> None:
        assert self.task.status == self.expected
        assert self.task.ended is (self.expected in {"completed", "failed", "cancelled"})
        if self.progress is not None:
            assert self.task.state.progress["progress"] == self.progress
        ends = [kind for kind, _ in self.emitter.said if kind in {"task:completed", "task:failed", "task:cancelled"}]
        assert len(ends) <= 1
        if ends:
            assert self.emitter.said[-1][0] == ends[0], "nothing follows the end"
        if self.emitter.said:
            assert self.emitter.said[0][0] == "task:created"

    def last_progress(self) -> float | None:
        return next((data["progress"] for kind, data in reversed(self.emitter.said) if kind == "task:progress"), None)


class Recorder(Emitter):
    """Keeps what it is given, and raises like an emitter of a hub."""

    def __init__(self) -> None:
        super().__init__(None, "e")
        self.said: list[tuple[str, Any]] = []

    @property
    def raises_errors(self) -> bool:
        return True

    def scoped(self, **changes: Any) -> "Recorder":
        return self

    def event(self, type: str, data: object = None, **options: Any) -> None:
        self.said.append((type, data))


@pytest.mark.row("CFLOW-14")
@pytest.mark.row("CFLOW-15")
def test_any_steps_in_any_order() -> None:
    run_state_machine_as_test(Tasks)


@pytest.mark.row("CFLOW-13")
@pytest.mark.row("CFLOW-15")
@pytest.mark.row("CFLOW-D9")
async def test_progress_leaves_once_a_second_and_the_last_one_by_itself(hub: StreamHub, clock: TestScheduler) -> None:
    one, other = TaskStream(hub.emitter("e"), "t1"), TaskStream(hub.emitter("e"), "t2")
    one.started()
    other.started()
    for percent in (10, 20, 30):
        one.progress(percent, "parse", current_step_number=1, total_steps=3, eta_s=9, metadata={"file": "a"})
    other.progress(5)
    clock.advance_by(1)
    one.progress(40)
    one.completed()
    told = [(data["task_id"], data["progress"]) for data in said(await read(hub), "task:progress")]
    assert told == [("t1", 10), ("t2", 5), ("t1", 30), ("t1", 40)]


@pytest.mark.row("CFLOW-15")
async def test_progress_says_what_is_known_of_it(hub: StreamHub) -> None:
    task = TaskStream(hub.emitter("e"), "t1", interval=0)
    task.started()
    task.progress(33.5, "parse", current_step_number=1, total_steps=3, eta_s=9.5, metadata={"task_id": "x", "a": 1})
    task.progress(100)
    assert said(await read(hub), "task:progress") == [
        {
            "task_id": "t1",
            "status": "running",
            "progress": 33.5,
            "current_step": "parse",
            "current_step_number": 1,
            "total_steps": 3,
            "eta_s": 9.5,
            "metadata": {"task_id": "x", "a": 1},
        },
        {"task_id": "t1", "status": "running", "progress": 100},
    ]


async def test_the_last_progress_leaves_on_the_shared_timer(hub: StreamHub) -> None:
    task = TaskStream(hub.emitter("e"), "t1", interval=0.05)
    task.started()
    task.progress(1)
    task.progress(2)
    subscription = hub.subscribe("e", types=["task:progress"])
    got = await take(subscription, 2)
    assert [update.data["progress"] for update in got] == [1, 2]
    subscription.close()


@pytest.mark.row("CFLOW-16")
async def test_intermediate_results_are_counted(hub: StreamHub) -> None:
    task = TaskStream(hub.emitter("e"), "t1")
    task.started()
    task.intermediate({"task_id": "no", "status": "no"})
    task.intermediate([1], "checkpoint")
    task.intermediate("done.txt", "artifact", is_final=True)
    common = {"task_id": "t1", "status": "running"}
    assert said(await read(hub), "task:intermediate") == [
        common | {"data": {"task_id": "no", "status": "no"}, "type": "partial", "sequence": 0, "is_final": False},
        common | {"data": [1], "type": "checkpoint", "sequence": 1, "is_final": False},
        common | {"data": "done.txt", "type": "artifact", "sequence": 2, "is_final": True},
    ]
    assert task.state.intermediate_results == 3


@pytest.mark.row("CFLOW-17")
async def test_metrics_are_put_together(hub: StreamHub) -> None:
    task = TaskStream(hub.emitter("e"), "t1")
    task.started()
    task.metrics(execution_s=5.0, cpu_percent=45, memory_bytes=1_024_000)
    task.metrics(token_count=100, cost_estimate=0.5, cpu_percent=50, files=3)
    figures = {"execution_s": 5.0, "cpu_percent": 45, "memory_bytes": 1_024_000}
    later = figures | {"token_count": 100, "cost_estimate": 0.5, "cpu_percent": 50, "files": 3}
    task.completed()
    updates = await read(hub)
    assert [data["metrics"] for data in said(updates, "task:metrics")] == [figures, later]
    assert said(updates, "task:completed")[0]["metrics"] == later


@pytest.mark.row("CFLOW-13")
async def test_what_is_not_included_changes_only_the_state(hub: StreamHub) -> None:
    task = TaskStream(hub.emitter("e"), "t1", include_progress=False, include_intermediate=False, include_metrics=False)
    task.started()
    task.progress(50)
    task.intermediate("x")
    task.metrics(cpu_percent=1)
    assert types(await read(hub)) == ["task:created", "task:started"]
    assert (task.state.progress, task.state.intermediate_results, task.state.metrics) == (
        {"progress": 50},
        1,
        {"cpu_percent": 1},
    )


@pytest.mark.row("CFLOW-18")
async def test_the_state_is_put_together_over_the_steps(hub: StreamHub, clock: TestScheduler) -> None:
    task = TaskStream(hub.emitter("e"), "t1", name="n", description="d", type="code", priority="normal")
    task.created()
    task.assigned("a1")
    task.started()
    task.progress(10)
    task.progress(20, "second")
    task.metrics(cpu_percent=1)
    task.metrics(token_count=2)
    clock.advance_by(4)
    state = task.state
    assert (state.name, state.description, state.type, state.priority) == ("n", "d", "code", "medium")
    assert (state.status, state.agent_id, state.progress) == (
        "running",
        "a1",
        {"progress": 20, "current_step": "second"},
    )
    assert state.metrics == {"cpu_percent": 1, "token_count": 2}
    task.completed("r")
    assert (task.state.status, task.state.result) == ("completed", "r")
    assert task.state.ended_at is not None
    assert task.state.started_at is not None
    assert (task.state.ended_at - task.state.started_at).total_seconds() == 4
    assert state.status == "running", "a state does not change afterwards"


def task_of(emitter: Any, *arguments: Any, **options: Any) -> Any:
    return TaskStream(emitter, *arguments, **options)


def running_task(emitter: Any) -> Any:
    task = task_of(emitter, "t")
    task.started()
    return task


WRONG: list[Callable[[Any], object]] = [
    lambda e: task_of(e, ""),
    lambda e: task_of(e, "t", priority="urgent"),
    lambda e: task_of(e, "t", interval=-1),
    lambda e: task_of(e, "t", dependencies="t0"),
    lambda e: running_task(e).progress(101),
    lambda e: running_task(e).progress(float("nan")),
    lambda e: running_task(e).progress("half"),
    lambda e: running_task(e).progress(1, eta_s=-1),
    lambda e: running_task(e).intermediate("x", "whole"),
    lambda e: running_task(e).metrics(cpu_percent=float("inf")),
    lambda e: task_of(e, "t").assigned(""),
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_values_that_cannot_be_used_are_refused(hub: StreamHub, wrong: Callable[[Any], object]) -> None:
    with pytest.raises(BadRequestError):
        wrong(hub.emitter("e"))
    assert set(types(await read(hub))) <= {"task:created", "task:started"}


# ---------------------------------------------------------------- as a block
@pytest.mark.row("CFLOW-14")
@pytest.mark.parametrize(
    ("raised", "end"),
    [
        (None, {"status": "completed"}),
        (ValueError("no"), {"status": "failed", "error": {"message": "no", "type": "ValueError"}}),
        (asyncio.CancelledError(), {"status": "cancelled", "reason": "CancelledError"}),
        (KeyboardInterrupt(), {"status": "cancelled", "reason": "KeyboardInterrupt"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_block_ends_its_task(
    hub: StreamHub, clock: TestScheduler, raised: BaseException | None, end: dict[str, Any], asynchronous: bool
) -> None:
    task = TaskStream(hub.emitter("e"), "t1")
    seen: BaseException | None = None
    try:
        if asynchronous:
            async with task as entered:
                assert entered is task
                if raised is not None:
                    raise raised
        else:
            with task as entered:
                assert entered is task
                if raised is not None:
                    raise raised
    except BaseException as error:  # noqa: BLE001 (that it is the same is tested)
        seen = error
    assert seen is raised
    *before, last = await read(hub)
    assert types(before) == ["task:created", "task:started"]
    assert last.data == {"task_id": "t1", "duration_s": 0.0} | end


async def test_a_graph_that_waits_for_a_human_has_not_failed(hub: StreamHub) -> None:
    from langgraph.errors import GraphInterrupt

    with pytest.raises(GraphInterrupt), TaskStream(hub.emitter("e"), "t1"):
        raise GraphInterrupt
    assert said(await read(hub), "task:cancelled")[0]["reason"] == "GraphInterrupt"


async def test_a_block_that_ended_its_task_itself_is_left_alone(hub: StreamHub) -> None:
    with pytest.raises(ValueError, match="later"), TaskStream(hub.emitter("e"), "t1") as task:  # noqa: PT012 (a block)
        task.completed("early")
        raise ValueError("later")
    assert types(await read(hub)) == ["task:created", "task:started", "task:completed"]


# ---------------------------------------------------------------- when publishing fails
async def test_what_cannot_be_published_leaves_the_task_as_it_was() -> None:
    hub = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=1_024)))
    task = TaskStream(hub.emitter("e"), "t1", interval=0)
    task.started()
    with pytest.raises(UpdateTooLargeError):
        task.progress(1, "x" * 2_000)
    with pytest.raises(UpdateTooLargeError):
        task.completed("x" * 2_000)
    assert (task.status, task.ended, task.state.progress) == ("running", False, {})
    task.completed()
    assert types(await read(hub)) == ["task:created", "task:started", "task:completed"]
    await hub.aclose()


async def test_a_held_progress_that_is_refused_stops_nothing(
    clock: TestScheduler, caplog: pytest.LogCaptureFixture
) -> None:
    hub = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=1_024)))
    task = TaskStream(hub.emitter("e"), "t1")
    task.started()
    task.progress(1)
    task.progress(2, "x" * 2_000)
    clock.advance_by(1)
    assert "task:progress of task 't1' was refused" in caplog.text
    assert "Traceback" not in caplog.text
    task.completed()
    assert types(await read(hub)) == ["task:created", "task:started", "task:progress", "task:completed"]
    await hub.aclose()


async def test_what_a_block_raised_matters_more_than_that_its_end_cannot_be_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = StreamHub()
    task = TaskStream(hub.emitter("e"), "t1")
    with pytest.raises(ValueError, match="mine"), task:  # noqa: PT012 (a block)
        await hub.aclose()
        raise ValueError("mine")
    assert "the end of task 't1' was refused" in caplog.text
    with pytest.raises(HubClosedError):
        task.completed()


@pytest.mark.row("CFLOW-14")
async def test_in_a_node_nothing_raises(hub: StreamHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.open("e")
    emitter = Emitter(hub.publisher, "e", strict=False)
    task = TaskStream(emitter, "", priority="urgent", interval=-1, dependencies="t0")
    with caplog.at_level(logging.WARNING, "lg_streaming"):
        task.progress(10)
        task.started()
        task.progress(500)
        task.completed()
        task.failed("again")
    assert types(await read(hub)) == ["task:created", "task:started", "task:completed"]
    assert "progress() can follow only running" in caplog.text
    assert "progress is a number from 0 to 100, not 500" in caplog.text
    assert "failed() can follow only" in caplog.text
    assert "Traceback" not in caplog.text


def test_outside_of_any_execution_nothing_happens() -> None:
    with TaskStream(NO_EMITTER, "t1") as task:
        task.progress(10)
        task.created()
    assert task.status == "completed"


@given(st.dictionaries(st.sampled_from(["task_id", "status", "type", "x"]), st.integers(), max_size=4))
def test_what_users_say_never_replaces_what_the_task_says(own: dict[str, int]) -> None:
    emitter = Recorder()
    task = TaskStream(emitter, "t", metadata=own, interval=0)
    task.created()
    task.started()
    task.progress(1, metadata=own)
    task.intermediate(own)
    task.metrics(**own)
    task.completed(own)
    expected = ["pending", "running", "running", "running", "running", "completed"]
    assert [(data["task_id"], data["status"]) for _, data in emitter.said] == [("t", each) for each in expected]
