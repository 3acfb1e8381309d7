"""Updates on their way to the log: the three delivery levels, and the rate limit."""

from typing import Any

import pytest

from lg_streaming.emitter import ScopedPublisher
from lg_streaming.errors import BadRequestError, UpdateTooLargeError
from lg_streaming.hub import StreamHub
from lg_streaming.publisher import UpdateRequest
from tests.hub.faulty import FaultyLog
from tests.hub.helpers import MakeHub, collect, contents, until

pytestmark = [pytest.mark.row("HIVE-33"), pytest.mark.row("HIVE-D6")]


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log() -> FaultyLog:
    return FaultyLog()


def say(hub: StreamHub, *values: object, **options: Any) -> None:
    for value in values:
        hub.publish("e", "note", value, **options)


def stored(log: FaultyLog) -> list[Any]:
    return [record.update.data for record in log.stored() if record.kind != "status"]


async def held_up(hub: StreamHub, log: FaultyLog) -> None:
    """The log hangs with the run's start, so that everything else waits in the buffer."""
    log.hold()
    hub.open("e")
    await until(log.entered.is_set)


# --- a full buffer -------------------------------------------------------------------------------------------


async def test_at_most_once_goes_first_when_the_buffer_is_full(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=5)
    await held_up(hub, log)
    say(hub, "kept 1")
    say(hub, "spare 1", "spare 2", delivery="at-most-once")
    say(hub, "kept 2", "kept 3")
    say(hub, "spare 3", delivery="at-most-once")
    statistics = hub.statistics()
    assert (statistics.dropped_at_most_once, statistics.lost, statistics.waiting) == (2, 0, 5)
    log.release()
    await hub.writer.flush()
    assert stored(log) == ["kept 1", "kept 2", "kept 3", "spare 3"]
    assert hub.statistics().waiting == 0


async def test_at_least_once_is_lost_only_when_nothing_may_be_dropped_and_then_it_is_said(
    make_hub: MakeHub, log: FaultyLog
) -> None:
    hub = make_hub(log=log, producer_buffer_updates=4)
    await held_up(hub, log)
    say(hub, "a", "b", "c", "d", delivery="at-least-once")
    say(hub, "e", delivery="at-most-once")
    statistics = hub.statistics()
    assert (statistics.lost, statistics.dropped_at_most_once) == (1, 1)
    log.release()
    await hub.writer.flush()
    say(hub, "f", delivery="at-most-once")
    await hub.writer.flush()
    assert stored(log) == ["a", "b", "c", {"count": 1, "reason": "log_unavailable"}, "f"]


async def test_bytes_count_too(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_bytes=2_000)
    await held_up(hub, log)
    say(hub, "x" * 1_000, delivery="at-most-once")
    say(hub, "y" * 1_000)
    assert hub.statistics().dropped_at_most_once == 1
    log.release()
    await hub.writer.flush()
    assert stored(log) == ["y" * 1_000]


async def test_what_was_dropped_in_the_queue_disturbs_no_batch(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=3)
    await held_up(hub, log)
    for _ in range(50):
        say(hub, "spare", delivery="at-most-once")
    say(hub, "kept")
    say(hub, "spare", delivery="at-most-once")
    statistics = hub.statistics()
    assert (statistics.dropped_at_most_once, statistics.waiting) == (50, 3)  # the run's start waits too
    log.release()
    await hub.writer.flush()
    assert (stored(log), hub.statistics().waiting) == (["kept", "spare"], 0)
    say(hub, 1, 2, delivery="at-most-once")
    await hub.writer.flush()
    assert stored(log)[-2:] == [1, 2]


async def test_at_most_once_is_never_retried(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log)
    hub.open("e")
    await hub.writer.flush()
    log.fail_next("away", "strange")
    spare = UpdateRequest("note", "spare", delivery="at-most-once")
    hub.publisher.publish_all("e", [UpdateRequest("note", "kept 1"), spare, UpdateRequest("note", "kept 2")])
    await hub.writer.flush()
    assert stored(log) == ["kept 1", "kept 2"]
    statistics = hub.statistics()
    assert (statistics.dropped_at_most_once, statistics.lost, statistics.append_failures) == (1, 0, 2)


async def test_a_batch_of_nothing_else_is_given_up_at_its_first_failure(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log)
    hub.open("e")
    await hub.writer.flush()
    log.fail_next("away")
    say(hub, "spare", delivery="at-most-once")
    await hub.writer.flush()
    say(hub, "next", delivery="at-most-once")
    await hub.writer.flush()
    assert stored(log) == ["next"]
    assert hub.statistics().dropped_at_most_once == 1


async def test_a_final_update_is_taken_by_a_full_buffer(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=2)
    await held_up(hub, log)
    say(hub, "a", "b", "c")
    log.release()
    await hub.close("e")
    assert log.stored()[-1].type == "workflow_complete"


# --- the rate ------------------------------------------------------------------------------------------------


async def test_over_the_rate_at_most_once_is_dropped_and_nothing_else(make_hub: MakeHub) -> None:
    clock = Clock()
    hub = make_hub(updates_per_second=3, clock=clock)
    hub.open("e")
    say(hub, *range(5), delivery="at-most-once")
    say(hub, "kept")
    hub.publish("e", "node_start", "start", delivery="at-most-once")
    hub.publish("e", "status", "busy", delivery="at-most-once")
    clock.now += 1 / 3
    say(hub, "later", "too soon", delivery="at-most-once")
    clock.now += 100
    say(hub, *"vwxyz", delivery="at-most-once")
    assert hub.statistics().dropped_over_rate == 2 + 1 + 2
    await hub.close("e")
    got = [update.data for update in await collect(hub.subscribe("e")) if not update.type.startswith("workflow_")]
    assert got == [0, 1, 2, "kept", "start", "busy", "later", "v", "w", "x"]


async def test_every_execution_has_a_rate_of_its_own(make_hub: MakeHub) -> None:
    hub = make_hub(updates_per_second=1, clock=Clock())
    for name in ("a", "b"):
        for _ in range(2):
            hub.publish(name, "note", delivery="at-most-once")
    assert hub.statistics().dropped_over_rate == 2


async def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing(make_hub: MakeHub) -> None:
    clock = Clock()
    hub = make_hub(updates_per_second=1, clock=clock)
    say(hub, 1, delivery="at-most-once")
    clock.now -= 1_000
    say(hub, 2, delivery="at-most-once")
    clock.now += 1
    say(hub, 3, delivery="at-most-once")
    await hub.close("e")
    assert contents(await collect(hub.subscribe("e"))) == [1, 3]


async def test_without_a_limit_nothing_is_dropped(hub: StreamHub) -> None:
    say(hub, *range(1_000), delivery="at-most-once")
    await hub.close("e")
    assert contents(await collect(hub.subscribe("e"))) == list(range(1_000))


# --- exactly once --------------------------------------------------------------------------------------------


async def test_an_update_with_a_key_is_appended_once(hub: StreamHub) -> None:
    say(hub, "first", key="k")
    say(hub, "again", key="k", delivery="exactly-once")
    hub.emitter("e").event("note", "and again", key="k")
    say(hub, "another", key="k2")
    say(hub, "no key", "no key", delivery="at-least-once")
    hub.publish("f", "note", "elsewhere", key="k")
    assert hub.statistics().repeated == 2
    await hub.close("e")
    assert contents(await collect(hub.subscribe("e"))) == ["first", "another", "no key", "no key"]


async def test_it_is_appended_once_by_a_log_that_is_away_too(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log)
    log.fail_next("reply lost", "away", "reply lost")
    say(hub, "first", "second", key="k")
    say(hub, "third", key="k")
    await hub.writer.flush()
    say(hub, "fourth", key="k")  # the log's replies about the others may be lost
    await hub.writer.flush()
    assert stored(log) == ["first"]
    assert hub.statistics().repeated >= 1


@pytest.mark.parametrize(
    "options",
    [
        {"delivery": "exactly-once"},
        {"delivery": "at-most-once", "key": "k"},
        {"delivery": "twice"},
        {"key": ""},
        {"key": "x" * 513},
    ],
)
async def test_what_makes_no_sense_is_refused(hub: StreamHub, options: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        say(hub, 1, **options)


# --- several at once -----------------------------------------------------------------------------------------


async def test_one_that_is_refused_does_not_keep_the_others_back(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=1_024)
    updates = [UpdateRequest("note", value) for value in (1, "x" * 1_000, 2)]
    with pytest.raises(UpdateTooLargeError):
        hub.publisher.publish_all("e", updates)
    await hub.close("e")
    assert contents(await collect(hub.subscribe("e"))) == [1, 2]


async def test_a_whole_batch_that_comes_too_late_is_counted(hub: StreamHub) -> None:
    hub.open("e")
    output = ScopedPublisher(hub.publisher, "e", hub.emitter("e").scope)
    await hub.close("e")
    assert output.publish_all([UpdateRequest("note", value, output.scope) for value in range(3)])
    assert hub.statistics().dropped_late == 3
