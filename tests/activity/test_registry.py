"""Open activities are found by their id, and ended ones are dropped."""

import gc
import logging
import threading
import weakref
from typing import Any

import pytest
from reactivex.testing import TestScheduler

from lg_streaming.activity import Agents, LLMStream, Tasks
from lg_streaming.emitter import Emitter
from lg_streaming.errors import BadRequestError, TransitionError
from lg_streaming.hub import StreamHub
from lg_streaming.timer import TIMER
from tests.activity.reading import read, said, types
from tests.hub.helpers import until


@pytest.mark.row("CFLOW-18")
async def test_open_tasks_are_known(hub: StreamHub) -> None:
    with Tasks(hub.emitter("e")) as tasks:
        one, other = tasks.task("t1", name="one"), tasks.task(name="other")
        one.started()
        assert tasks.get("t1") is one
        assert set(tasks.states()) == {"t1", other.task_id}
        assert list(tasks) == [one, other]
        state = tasks.state("t1")
        assert state is not None
        assert (state.status, state.name) == ("running", "one")
        one.completed()
        assert (tasks.get("t1"), tasks.state("t1"), len(tasks)) == (None, None, 1)
        assert tasks.task("t1") is not one, "the id is free again"
        tasks.clear("t1")
        assert "t1" not in tasks
        tasks.clear()
        assert len(tasks) == 0
        other.started()
    with pytest.raises(TransitionError, match="closed"):
        tasks.task("t2")
    assert types(await read(hub)) == [
        "task:created",
        "task:started",
        "task:completed",
        "task:created",
        "task:started",
    ]


@pytest.mark.row("CFLOW-25")
async def test_open_agents_are_known(hub: StreamHub) -> None:
    with Agents(hub.emitter("e")) as agents:
        agent = agents.agent("a1", agent_type="coder", name="n", metadata={"x": 1})
        agent.started("t1")
        state = agents.state("a1")
        assert state is not None
        assert (state.status, state.task_id, state.agent_type, state.name) == ("busy", "t1", "coder", "n")
        assert agents.states() == {"a1": state}
        agents.agent("a2")
        agents.clear("a2")
        assert list(agents.states()) == ["a1"]
        agent.stopped()
        assert (agents.state("a1"), agents.states()) == (None, {})


@pytest.mark.row("CFLOW-33")
@pytest.mark.row("CFLOW-34")
async def test_open_requests_are_known(hub: StreamHub) -> None:
    llm = LLMStream(hub.emitter("e"))
    request = llm.request(request_id="r1", model="m", provider="anything")
    request.token("x")
    state = llm.state("r1")
    assert state is not None
    assert (state.model, state.provider, state.tokens) == ("m", "anything", 1)
    assert llm.states() == {"r1": state}
    assert (llm.state("r2"), llm.get("r2")) == (None, None)
    llm.clear("r1")
    assert llm.states() == {}
    request.completed()


@pytest.mark.row("CFLOW-13")
@pytest.mark.row("CFLOW-19")
async def test_options_hold_for_all(hub: StreamHub, clock: TestScheduler) -> None:
    tasks = Tasks(hub.emitter("e"), interval=10, include_intermediate=False, include_metrics=False)
    agents = Agents(hub.emitter("e"), interval=5, buffer_size=1, include_logs=False)
    task, agent = tasks.task("t"), agents.agent("a")
    task.started()
    task.intermediate("x")
    task.metrics(cpu_percent=1)
    agent.log("info", "x")
    for number in range(2):
        task.progress(number)
        agent.metrics(cpu_percent=number)
        agent.output("stdout", str(number))
    clock.advance_by(5)
    seen = [update.type for update in await read(hub)]
    assert (seen.count("task:progress"), seen.count("agent:metrics")) == (1, 2)
    assert not {"task:intermediate", "task:metrics", "agent:log:info"} & set(seen)
    assert len(agent.output_buffer()) == 1


@pytest.mark.row("CFLOW-18")
async def test_one_id_is_one_open_task(hub: StreamHub, caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(hub.emitter("e"))
    known = tasks.task("t1")
    with pytest.raises(TransitionError, match="'t1' is open already"):
        tasks.task("t1")
    with pytest.raises(BadRequestError):
        tasks.task("")
    assert tasks.get("t1") is known
    quiet = Tasks(Emitter(hub.publisher, "e", strict=False))
    quiet.task("t1")
    with caplog.at_level(logging.WARNING, "lg_streaming"):
        quiet.task("t1").started()
    assert "'t1' is open already" in caplog.text
    assert types(await read(hub)) == [], "what cannot be known writes nothing"


async def test_of_many_threads_one_gets_the_id(hub: StreamHub) -> None:
    tasks, made, barrier = Tasks(hub.emitter("e")), list[object](), threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        for number in range(50):
            try:
                made.append(tasks.task(f"t{number}"))
            except TransitionError:
                continue

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    await until(lambda: not any(thread.is_alive() for thread in threads))
    for thread in threads:
        thread.join()
    assert len(made) == len(tasks) == 50


async def test_steps_of_many_threads_are_told_in_one_order(hub: StreamHub) -> None:
    task = Tasks(hub.emitter("e"), interval=0).task("t")
    task.started()

    def work(share: int) -> None:
        for number in range(200):
            task.intermediate((share, number))

    threads = [threading.Thread(target=work, args=(share,)) for share in range(4)]
    for thread in threads:
        thread.start()
    await until(lambda: not any(thread.is_alive() for thread in threads))
    for thread in threads:
        thread.join()
    sequences = [data["sequence"] for data in said(await read(hub), "task:intermediate")]
    assert sequences == list(range(800))


@pytest.mark.row("CFLOW-18")
@pytest.mark.row("CFLOW-25")
@pytest.mark.row("CFLOW-31")
async def test_a_thousand_of_each_leave_nothing() -> None:
    hub = StreamHub()
    emitter = hub.emitter("e")
    tasks, agents, llm = Tasks(emitter), Agents(emitter), LLMStream(emitter)
    kept: list[weakref.ref[Any]] = []
    emitter.event("note")  # what a run itself waits for is not counted
    threads, waiting = threading.active_count(), TIMER.waiting

    def work(number: int) -> None:
        with agents.agent(f"a{number}") as agent, tasks.task(f"t{number}") as task, llm.request() as request:
            for percent in range(3):
                task.progress(percent)
                agent.metrics(cpu_percent=percent)
            agent.output("stdout", "x" * 100)
            request.token("x" * 100)
            kept.extend([weakref.ref(task), weakref.ref(agent), weakref.ref(request)])

    for number in range(1_000):
        work(number)
    assert (len(tasks), len(agents), len(llm)) == (0, 0, 0)
    assert threading.active_count() <= threads + 1, "one timer for all"
    await until(lambda: TIMER.waiting <= waiting)
    gc.collect()
    assert not [reference for reference in kept if reference() is not None]
    await hub.aclose()


async def test_a_wrong_option_is_refused_at_once(hub: StreamHub) -> None:
    wrong: Any = {"intervall": 1}
    for kind in (Tasks, Agents):
        with pytest.raises(TypeError, match="intervall"):
            kind(hub.emitter("e"), **wrong)
    with pytest.raises(TypeError, match="intervall"):
        Tasks(hub.emitter("e")).task("t", **wrong)
