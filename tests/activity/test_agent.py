"""Agents: updates and order of the steps, and the output that is kept."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reactivex.testing import TestScheduler

from lg_streaming.activity import AgentStream
from lg_streaming.activity.output import OutputBuffer
from lg_streaming.emitter import NO_EMITTER, Emitter
from lg_streaming.errors import BadRequestError, TransitionError
from lg_streaming.events import Scope
from lg_streaming.hub import StreamHub
from tests.activity.reading import read, said, types

STEPS: dict[str, Callable[[AgentStream], None]] = {
    "spawned": lambda agent: agent.spawned(),
    "started": lambda agent: agent.started("t1"),
    "paused": lambda agent: agent.paused(),
    "error": lambda agent: agent.error("no"),
    "stopped": lambda agent: agent.stopped(),
    "output": lambda agent: agent.output("stdout", "x"),
    "log": lambda agent: agent.log("info", "x"),
    "metrics": lambda agent: agent.metrics(cpu_percent=1),
    "health": lambda agent: agent.health(True),
}
LAST = {"output": "output:stdout", "log": "log:info"}
SAME = ["output", "log", "metrics", "health"]
# To each state the steps that can follow, and where they lead: written down a second time, on purpose.
TABLE: dict[str | None, dict[str, str]] = {
    None: {
        "spawned": "idle",
        "started": "busy",
        "paused": "paused",
        "error": "error",
        "stopped": "stopped",
        **dict.fromkeys(SAME, "idle"),
    },
    "idle": {
        "started": "busy",
        "paused": "paused",
        "error": "error",
        "stopped": "stopped",
        **dict.fromkeys(SAME, "idle"),
    },
    "busy": {
        "started": "busy",
        "paused": "paused",
        "error": "error",
        "stopped": "stopped",
        **dict.fromkeys(SAME, "busy"),
    },
    "paused": {"started": "busy", "error": "error", "stopped": "stopped", **dict.fromkeys(SAME, "paused")},
    "error": {
        "spawned": "idle",
        "started": "busy",
        "error": "error",
        "stopped": "stopped",
        **dict.fromkeys(SAME, "error"),
    },
    "stopped": {},
}
WAY: dict[str | None, list[str]] = {
    None: [],
    "idle": ["spawned"],
    "busy": ["started"],
    "paused": ["started", "paused"],
    "error": ["error"],
    "stopped": ["stopped"],
}


@pytest.mark.row("CFLOW-20")
async def test_each_step_says_what_it_is(hub: StreamHub, clock: TestScheduler) -> None:
    agent = AgentStream(
        hub.emitter("e", extra={"tenant": 1}), "a1", agent_type="coder", name="coder-1", metadata={"model": "m"}
    )
    agent.spawned()
    agent.started("t1")
    agent.paused("lunch")
    agent.started()
    agent.error(ValueError("no"))
    clock.advance_by(2)
    agent.stopped("done")
    updates = await read(hub)
    assert [(update.type, update.data) for update in updates] == [
        (
            "agent:spawned",
            {"agent_id": "a1", "status": "idle", "agent_type": "coder", "name": "coder-1", "metadata": {"model": "m"}},
        ),
        ("agent:started", {"agent_id": "a1", "status": "busy", "task_id": "t1"}),
        ("agent:paused", {"agent_id": "a1", "status": "paused", "reason": "lunch"}),
        ("agent:started", {"agent_id": "a1", "status": "busy"}),
        ("agent:error", {"agent_id": "a1", "status": "error", "error": {"message": "no", "type": "ValueError"}}),
        ("agent:stopped", {"agent_id": "a1", "status": "stopped", "reason": "done", "uptime_s": 2.0}),
    ]
    assert {update.metadata.agent_type for update in updates} == {"coder"}
    assert [update.metadata.task_id for update in updates] == [None, "t1", "t1", "t1", "t1", "t1"]
    assert updates[0].metadata.extra == {"tenant": 1, "agent_id": "a1"}
    assert updates[4].metadata.priority == "high"


@pytest.mark.row("CFLOW-20")
@pytest.mark.parametrize("state", TABLE)
@pytest.mark.parametrize("step", STEPS)
async def test_only_steps_of_the_table_are_taken(hub: StreamHub, state: str | None, step: str) -> None:
    agent = AgentStream(hub.emitter("e"), "a", interval=0)
    for before in WAY[state]:
        STEPS[before](agent)
    known, buffered = agent.state, agent.output_buffer()
    if step in TABLE[state]:
        STEPS[step](agent)
        assert agent.status == TABLE[state][step]
        assert agent.ended is (agent.status == "stopped")
        assert types(await read(hub))[-1] == f"agent:{LAST.get(step, step)}"
    else:
        with pytest.raises(TransitionError, match=rf"{step}\(\)"):
            STEPS[step](agent)
        assert (agent.state, agent.output_buffer()) == (known, buffered)
        assert types(await read(hub))[-1] == f"agent:{WAY[state][-1]}"


def test_the_docstring_has_the_table() -> None:
    rows = [line.strip("| ").split(" | ") for line in (AgentStream.__doc__ or "").splitlines() if "| `" in line]
    told: dict[str, dict[str, str]] = {}
    for steps, begins, end in rows:
        for step in steps.replace("`", "").split(", "):
            for begin in begins.split(", "):
                told.setdefault(begin, {})[step] = begin if end == "the same" else end
    assert told.pop("new") == {"spawned": "idle"}
    assert told == {state: steps for state, steps in TABLE.items() if state is not None and steps}


@pytest.mark.row("CFLOW-21")
async def test_output_leaves_as_it_is_and_the_last_of_it_is_kept(hub: StreamHub) -> None:
    agent = AgentStream(hub.emitter("e"), "a1", buffer_size=3)
    for number in range(3):
        agent.output("stdout", f"out {number}\n")
        agent.output("stderr", f"err {number}\n")
    updates = await read(hub)
    assert "".join(data["content"] for data in said(updates, "agent:output:stdout")) == "out 0\nout 1\nout 2\n"
    assert said(updates, "agent:output:stderr")[0] == {"agent_id": "a1", "content": "err 0\n"}
    kept = [(piece.stream, piece.content) for piece in agent.output_buffer()]
    assert kept == [("stderr", "err 1\n"), ("stdout", "out 2\n"), ("stderr", "err 2\n")]
    assert [piece.content for piece in agent.output_buffer("stdout")] == ["out 2\n"]


@pytest.mark.row("CFLOW-19")
@pytest.mark.row("CFLOW-21")
async def test_by_default_a_hundred_pieces_are_kept(hub: StreamHub) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    for number in range(150):
        agent.output("stdout", str(number))
    assert [piece.content for piece in agent.output_buffer()] == [str(number) for number in range(50, 150)]


@pytest.mark.row("CFLOW-21")
@given(
    st.lists(st.text(st.characters(exclude_categories=()), max_size=9), max_size=20),
    st.integers(0, 6),
    st.integers(0, 20),
)
def test_the_buffer_is_the_end_of_what_came_and_within_its_bounds(
    pieces: list[str], most: int, most_bytes: int
) -> None:
    buffer, now = OutputBuffer(most, most_bytes), datetime.now().astimezone()
    for piece in pieces:
        buffer.add("stdout", piece, now)
    kept = [piece.content for piece in buffer.pieces()]
    assert len(kept) <= most
    assert sum(len(piece.encode(errors="surrogatepass")) for piece in kept) <= most_bytes
    assert kept[1:] == pieces[len(pieces) - len(kept) + 1 :]
    if kept:
        whole = pieces[len(pieces) - len(kept)]
        assert whole.endswith(kept[0])
        assert kept[0] == whole or len(kept) == 1, "only a piece that is too large alone is cut"
    assert bool(kept) == bool(pieces and most)


@pytest.mark.row("CFLOW-22")
async def test_logs_have_a_level(hub: StreamHub) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    agent.log("debug", "look")
    agent.log("info", "Task completed", {"task_id": "t1", "level": "x"})
    agent.log("warning", "careful")
    agent.log("error", "broken")
    agent.log("critical", "gone")
    _, *updates = await read(hub)
    assert types(updates) == [f"agent:log:{level}" for level in ("debug", "info", "warn", "error", "fatal")]
    assert updates[1].data == {
        "agent_id": "a1",
        "level": "info",
        "message": "Task completed",
        "context": {"task_id": "t1", "level": "x"},
    }
    assert [update.metadata.priority for update in updates] == ["medium", "medium", "medium", "high", "high"]


@pytest.mark.row("CFLOW-19")
@pytest.mark.row("CFLOW-23")
async def test_metrics_are_put_together_and_leave_every_two_seconds(hub: StreamHub, clock: TestScheduler) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    agent.spawned()
    agent.metrics(tasks_completed=1)
    clock.advance_by(1)
    agent.metrics(total_tokens=10)
    agent.metrics(tasks_completed=2, queue=7)
    clock.advance_by(1)
    agent.metrics(total_cost=0.5, uptime_s=60)
    agent.stopped()
    updates = await read(hub)
    zero = dict.fromkeys(["tasks_failed", "avg_execution_s", "cpu_percent", "memory_bytes"], 0)
    first, second, third = (data["metrics"] for data in said(updates, "agent:metrics"))
    assert first == zero | {"tasks_completed": 1, "total_tokens": 0, "total_cost": 0, "uptime_s": 0}
    assert second == zero | {"tasks_completed": 2, "total_tokens": 10, "total_cost": 0, "uptime_s": 1, "queue": 7}
    assert third == second | {"total_cost": 0.5, "uptime_s": 60}
    assert types(updates)[-1] == "agent:stopped", "the last ones left before the end"
    assert agent.state.metrics == third


@pytest.mark.row("CFLOW-24")
async def test_health_is_a_score_and_what_is_wrong(hub: StreamHub, clock: TestScheduler) -> None:
    agent = AgentStream(hub.emitter("e"), "a1")
    agent.health(True)
    agent.health(False, 12.5, ["disk full", "slow"])
    _, good, bad = [update.data for update in await read(hub)]
    assert good == {
        "agent_id": "a1",
        "status": "idle",
        "healthy": True,
        "score": 100,
        "last_check": clock.now.isoformat(),
    }
    assert (bad["healthy"], bad["score"], bad["issues"]) == (False, 12.5, ["disk full", "slow"])
    assert agent.state.health["score"] == 12.5


@pytest.mark.row("CFLOW-19")
async def test_what_is_not_included_is_only_kept(hub: StreamHub) -> None:
    agent = AgentStream(hub.emitter("e"), "a1", include_output=False, include_logs=False, include_metrics=False)
    agent.output("stdout", "x")
    agent.log("info", "x")
    agent.metrics(cpu_percent=5)
    assert types(await read(hub)) == ["agent:spawned"]
    assert [piece.content for piece in agent.output_buffer()] == ["x"]
    assert agent.state.metrics["cpu_percent"] == 5


def agent_of(emitter: Any, *arguments: Any, **options: Any) -> Any:
    return AgentStream(emitter, *arguments, **options)


WRONG: list[Callable[[Any], object]] = [
    lambda e: agent_of(e, ""),
    lambda e: agent_of(e, "a", interval=-1),
    lambda e: agent_of(e, "a", buffer_size=-1),
    lambda e: agent_of(e, "a", buffer_bytes="many"),
    lambda e: agent_of(e, "a").started(""),
    lambda e: agent_of(e, "a").output("stdin", "x"),
    lambda e: agent_of(e, "a").output("stdout", b"x"),
    lambda e: agent_of(e, "a").log("loud", "x"),
    lambda e: agent_of(e, "a").metrics(cpu_percent=float("nan")),
    lambda e: agent_of(e, "a").health(True, 101),
    lambda e: agent_of(e, "a").health(True, -1),
]


@pytest.mark.parametrize("wrong", WRONG)
async def test_values_that_cannot_be_used_are_refused(hub: StreamHub, wrong: Callable[[Any], object]) -> None:
    with pytest.raises(BadRequestError):
        wrong(hub.emitter("e"))
    assert set(types(await read(hub))) <= {"agent:spawned"}


@pytest.mark.row("CFLOW-20")
@pytest.mark.parametrize(
    ("raised", "ends"),
    [
        (None, ["agent:stopped"]),
        (ValueError("no"), ["agent:error", "agent:stopped"]),
        (asyncio.CancelledError(), ["agent:stopped"]),
    ],
    ids=str,
)
async def test_a_block_stops_its_agent(hub: StreamHub, raised: BaseException | None, ends: list[str]) -> None:
    seen: BaseException | None = None
    try:
        async with AgentStream(hub.emitter("e"), "a1") as agent:
            agent.started("t1")
            if raised is not None:
                raise raised
    except BaseException as error:  # noqa: BLE001 (that it is the same is tested)
        seen = error
    assert seen is raised
    updates = await read(hub)
    assert types(updates) == ["agent:spawned", "agent:started", *ends]
    assert updates[-1].data.get("reason") == ("CancelledError" if isinstance(raised, asyncio.CancelledError) else None)


async def test_in_a_node_nothing_raises(hub: StreamHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.open("e")
    emitter = Emitter(hub.publisher, "e", Scope(agent_type="writer"), strict=False)
    with caplog.at_level(logging.WARNING, "lg_streaming"), AgentStream(emitter, "", buffer_size=-1) as agent:
        agent.output("stdin", "x")  # pyright: ignore[reportArgumentType]
        agent.spawned()
        agent.output("stdout", "x")
    updates = await read(hub)
    assert types(updates) == ["agent:spawned", "agent:output:stdout", "agent:stopped"]
    assert updates[0].metadata.agent_type == "writer", "it is the emitter's where none is given"
    assert "is not one of stdout, stderr" in caplog.text
    assert "spawned() can follow only" in caplog.text


def test_outside_of_any_execution_nothing_happens() -> None:
    with AgentStream(NO_EMITTER, "a1") as agent:
        agent.output("stdout", "x")
    assert agent.status == "stopped"
