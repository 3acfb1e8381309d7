"""Dropped updates are counted by reason, and each reason is logged once for each execution."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from lg_streaming.emitter import Emitter, ScopedPublisher
from lg_streaming.errors import ExecutionNotFoundError
from lg_streaming.events import Scope
from lg_streaming.hub import StreamHub
from lg_streaming.publisher import UpdateRequest
from tests.hub.faulty import FaultyLog
from tests.hub.helpers import MakeHub, until


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def dropped(hub: StreamHub) -> dict[str, int]:
    return {reason: count for reason, count in hub.statistics().dropped.items() if count}


async def test_what_comes_after_the_end_of_its_run(hub: StreamHub, caplog: pytest.LogCaptureFixture) -> None:
    emitter = hub.emitter("e")
    emitter.token("a")
    old = emitter.scope
    await hub.close("e")
    for _ in range(3):
        emitter.token("late")
    hub.open("e")
    for _ in range(2):
        hub.publish("e", "note", scope=old)
    hub.publisher.publish_all("e", [UpdateRequest("note", 1, old), UpdateRequest("note", 2, old)])
    assert dropped(hub) == {"late": 3, "foreign_run": 4}
    assert hub.statistics().dropped_late == 7
    late, foreign = warned(caplog)
    assert "'token' of execution 'e' was dropped: its run has ended;" in late
    assert "'note' of execution 'e' was dropped: its run has ended, and another" in foreign


async def test_each_execution_is_named_once_and_forgotten_with_it(caplog: pytest.LogCaptureFixture) -> None:
    now = 1_000.0
    hub = StreamHub(monotonic=lambda: now)
    for execution_id in ("a", "b", "a", "b"):
        emitter = hub.emitter(execution_id, missing="drop")
        emitter.token("x")
    assert dropped(hub) == {"no_run": 4}
    assert len(warned(caplog)) == 2
    for _ in range(2):
        emitter = hub.emitter("c")
        emitter.token("x")
        await hub.close("c")
        emitter.token("late")
        now += 10_000
        hub.registry.sweep()
        assert hub.info("c") is None
    assert [("'c'" in line, "late" in line) for line in warned(caplog)[2:]] == [(True, True)] * 2
    await hub.aclose()


async def test_the_memory_of_unknown_executions_is_bounded(hub: StreamHub) -> None:
    for number in range(3_000):
        hub.publish(f"gone-{number}", "note", scope=Scope(run_id="old"))
    assert dropped(hub) == {"late": 3_000}
    assert len(hub.writer.counters.drops.unknown) <= 1_024


async def test_what_is_over_the_rate(make_hub: MakeHub, caplog: pytest.LogCaptureFixture) -> None:
    now = 1_000.0
    hub = make_hub(updates_per_second=2, clock=lambda: now)
    for _ in range(9):
        hub.publish("e", "note", delivery="at-most-once")
    assert dropped(hub)["over_rate"] == hub.statistics().dropped_over_rate >= 6
    (line,) = warned(caplog)
    assert "limits.updates_per_second" in line


async def test_what_a_log_that_is_away_costs(make_hub: MakeHub, caplog: pytest.LogCaptureFixture) -> None:
    log = FaultyLog()
    log.hold()
    hub = make_hub(log=log, producer_buffer_updates=5)
    hub.open("e")
    await until(log.entered.is_set)  # the start is on its way, and the writer takes no more
    for _ in range(3):
        hub.publish("e", "note", delivery="at-most-once")
    for _ in range(9):
        hub.publish("e", "note")
    statistics = hub.statistics()
    assert dropped(hub) == {"at_most_once": 3, "lost": 5}, "a buffer of 5 has the start and the first 4 notes"
    assert (statistics.dropped_at_most_once, statistics.lost) == (3, 5)
    told = [line for line in warned(caplog) if "was dropped" in line]
    assert [("at-most-once" in line, "too long" in line) for line in told] == [(True, False), (False, True)]
    log.release()


MISTAKES: list[Callable[[Any], object]] = [
    lambda it: it.event("note", key=""),
    lambda it: it.event("workflow_complete"),
    lambda it: it.usage(-1, 2),
    lambda it: it.milestone(101),
]


@pytest.mark.parametrize("say", MISTAKES)
async def test_what_is_refused_in_a_node_is_counted(
    hub: StreamHub, caplog: pytest.LogCaptureFixture, say: Callable[[Any], object]
) -> None:
    hub.open("e")
    emitter = Emitter(hub.publisher, "e", strict=False)
    for _ in range(5):
        say(emitter)
    assert dropped(hub) == {"invalid": 5}
    assert len(warned(caplog)) == 1


async def test_different_mistakes_are_each_told(hub: StreamHub, caplog: pytest.LogCaptureFixture) -> None:
    hub.open("e")
    emitter = Emitter(hub.publisher, "e", strict=False)
    for number in range(200):
        emitter.event("note", key="x" * (600 + number))
    assert dropped(hub) == {"invalid": 200}
    assert len(warned(caplog)) == 64


async def test_a_handler_of_the_log_may_publish(hub: StreamHub) -> None:
    class Publishes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            hub.publish("e", "logged", record.getMessage(), scope=Scope(run_id="old"))
            hub.publish("other", "logged", record.getMessage())

    handler = Publishes()
    logging.getLogger("lg_streaming").addHandler(handler)
    try:
        emitter = hub.emitter("e")
        emitter.token("x")
        await hub.close("e")
        emitter.token("late")
    finally:
        logging.getLogger("lg_streaming").removeHandler(handler)
    assert dropped(hub) == {"late": 2}
    assert hub.registry.is_running("other")


async def test_several_updates_at_once_do_what_the_emitter_does_where_no_run_is_open(hub: StreamHub) -> None:
    updates = [UpdateRequest("token", {"content": "a"}), UpdateRequest("token", {"content": "b"})]
    ScopedPublisher(hub.publisher, "e", strict=True, missing="drop").publish_all(updates)
    assert not hub.registry.is_running("e")
    with pytest.raises(ExecutionNotFoundError):
        ScopedPublisher(hub.publisher, "e", strict=True, missing="raise").publish_all(updates)
    output = ScopedPublisher(hub.publisher, "e", strict=True, missing="open")
    output.publish_all(updates)
    assert hub.registry.is_running("e")
    await hub.close("e")
    output.publish_all(updates)  # of the run that has ended
    assert not hub.registry.is_running("e")
    types = [update.type async for update in hub.subscribe("e")]
    assert types == ["workflow_start", "token", "token", "workflow_complete"]
