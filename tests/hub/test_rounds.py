"""Batches of many executions reach the log together, and no execution waits for another."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from lg_streaming.hub import StreamHub
from lg_streaming.log import Batch
from lg_streaming.publisher import RunOutcome
from tests.hub.faulty import FaultyLog
from tests.hub.helpers import PATIENCE, MakeHub, contents, publish_many, until, upto

ROUND = 5_000


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._FIRST_DELAY", 0.001)
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._LAST_DELAY", 0.002)


@pytest.fixture
def log() -> FaultyLog:
    return FaultyLog()


@pytest.fixture
def hub(make_hub: MakeHub, log: FaultyLog) -> StreamHub:
    return make_hub(log=log)


async def held_up(hub: StreamHub, log: FaultyLog, execution_id: str = "held") -> None:
    log.hold()
    hub.open(execution_id)
    await until(log.entered.is_set)


def data_of(log: FaultyLog, execution_id: str) -> list[object]:
    return contents(record.update for record in log.stored(execution_id))


def watch_wakes(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The events that are set from now on."""
    wakes: list[object] = []
    wake = threading.Event.set

    def watched(event: threading.Event) -> None:
        wakes.append(event)
        wake(event)

    monkeypatch.setattr(threading.Event, "set", watched)
    return wakes


def sizes(batches: Sequence[Batch]) -> dict[str, int]:
    return {batch.execution_id: len(batch.updates) for batch in batches}


async def test_what_waits_of_many_executions_is_one_request(hub: StreamHub, log: FaultyLog) -> None:
    await held_up(hub, log)
    for value in range(10):
        for name in "abc":
            hub.publish(name, "token", value)
    log.release()
    await hub.writer.flush()
    assert [sizes(batches) for batches in log.rounds] == [{"held": 1}, {"a": 11, "b": 11, "c": 11}]
    for name in "abc":
        assert data_of(log, name) == list(range(10))
        assert [record.seq for record in log.stored(name)] == upto(11)
    statistics = hub.statistics()
    assert (statistics.append_batches, statistics.append_seconds.count) == (4, 2)


async def test_batches_and_rounds_are_bounded_and_executions_take_turns(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=50_000)
    await held_up(hub, log)
    names = [f"e{number}" for number in range(12)]
    for name in names:
        publish_many(hub, name, range(1_200))
    hub.publish("small", "token", 1)
    log.release()
    await hub.writer.flush()
    rounds = [sizes(batches) for batches in log.rounds[1:]]
    assert max(max(each.values()) for each in rounds) == 500
    assert max(sum(each.values()) for each in rounds) < ROUND + 500
    assert [name for each in rounds[:2] for name in each][:13] == [*names, "small"]  # once each before one again
    for name in names:
        assert data_of(log, name) == list(range(1_200))


async def test_a_batch_is_bounded_in_bytes(hub: StreamHub, log: FaultyLog) -> None:
    await held_up(hub, log)
    publish_many(hub, "e", ["x" * 200_000] * 13)
    log.release()
    await hub.writer.flush()
    taken = [sum(len(update.body) for update in batch.updates) for batch in log.tried[1:]]
    assert len(taken) == 3
    assert max(taken) < (1 << 20) + 210_000


async def test_an_execution_that_cannot_be_reached_holds_up_itself_alone(hub: StreamHub, log: FaultyLog) -> None:
    log.unreachable = {"away"}
    publish_many(hub, "away", range(3))
    for value in range(100):
        hub.publish("e", "token", value)
        publish_many(hub, "away", [3 + value])
    await until(lambda: len(log.stored("e")) == 101)
    assert data_of(log, "away") == []
    assert hub.health().status == "log_unavailable"
    flushed = asyncio.create_task(hub.writer.flush())
    hub.publish("e", "token", 100)
    await until(lambda: len(log.stored("e")) == 102)
    assert not flushed.done()
    log.unreachable = set()
    await asyncio.wait_for(flushed, PATIENCE)
    assert data_of(log, "away") == list(range(103))
    tried = [batch for batch in log.tried if batch.execution_id == "away"]
    first = Counter(batch.number for batch in tried)[1]
    assert first > 1
    assert all(batch is tried[0] for batch in tried[:first])  # later drafts have waited behind it
    await hub.close("e")
    assert hub.health().status == "ok"


@pytest.mark.parametrize("raises", [False, True])
async def test_a_mistake_of_the_log_at_one_batch_is_no_loss_of_the_others(
    hub: StreamHub, log: FaultyLog, raises: bool
) -> None:
    log.raises = raises
    log.broken = {"poison"}
    await held_up(hub, log)
    for value in range(100):
        hub.publish("poison", "token", value)
        hub.publish("e", "token", value)
    log.release()
    await hub.writer.flush()
    assert data_of(log, "e") == list(range(100))
    assert hub.statistics().lost == 101
    log.broken = set()
    hub.publish("poison", "token", 100)
    await hub.writer.flush()
    assert data_of(log, "poison") == [{"count": 101, "reason": "log_unavailable"}, 100]


async def test_a_burst_shares_a_batch_and_the_first_update_leaves_at_once(
    hub: StreamHub, log: FaultyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._SPACING", PATIENCE)
    hub.open("e")
    await until(lambda: len(log.rounds) == 1)  # the first round waits for nothing
    hub.publish("e", "token", 0)
    await asyncio.sleep(0.02)  # long enough for a round that did not wait
    with monkeypatch.context() as watched:
        wakes = watch_wakes(watched)
        publish_many(hub, "e", range(1, 10))
    assert (wakes, len(log.rounds)) == ([], 1)
    await hub.writer.flush()
    assert [len(batches[0].updates) for batches in log.rounds] == [1, 10]
    publish_many(hub, "f", [1])
    hub.runs.end_run("e", RunOutcome("workflow_complete", {}))
    await until(lambda: len(log.rounds) == 3)  # nor does the end of a run
    assert sizes(log.rounds[2]) == {"f": 2, "e": 1}


async def test_an_end_behind_a_long_queue_does_not_wait_either(
    hub: StreamHub, log: FaultyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._SPACING", 10 * PATIENCE)
    await held_up(hub, log)
    publish_many(hub, "e", range(1_700))
    log.release()
    await asyncio.wait_for(hub.close("e"), PATIENCE)
    assert log.stored("e")[-1].is_final


async def test_an_idle_writer_sleeps(hub: StreamHub, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    wait = threading.Event.wait

    def watched(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread().name == "lg-streaming-writer":
            waits.append(timeout)
        return wait(event, timeout)

    monkeypatch.setattr(threading.Event, "wait", watched)
    for _ in range(5):
        hub.publish("e", "token")
        await hub.writer.flush()
        await until(lambda: bool(waits) and waits[-1] is None)
    before = len(waits)
    await asyncio.sleep(0.02)
    assert len(waits) == before


async def test_a_flush_waits_for_no_later_update(hub: StreamHub, log: FaultyLog) -> None:
    """Neither does it wait for an execution that was not put into, nor return before one that was."""
    log.unreachable = {"b"}
    hub.publish("a", "token", 1)
    flushed = asyncio.create_task(hub.writer.flush())
    await asyncio.sleep(0)
    hub.publish("b", "token", 1)
    await asyncio.wait_for(flushed, PATIENCE)
    second = asyncio.create_task(hub.writer.flush())
    await asyncio.sleep(0)
    hub.publish("a", "token", 2)
    await until(lambda: data_of(log, "a") == [1, 2])
    third = asyncio.create_task(hub.writer.flush())
    await asyncio.sleep(0)
    assert not second.done()
    log.unreachable = {"b", "c"}
    hub.publish("c", "token", 1)
    fourth = asyncio.create_task(hub.writer.flush())
    await asyncio.sleep(0)
    log.unreachable = {"c"}
    await asyncio.wait_for(asyncio.gather(second, third), PATIENCE)
    assert data_of(log, "b") == [1]
    hub.publish("b", "token", 2)
    await until(lambda: data_of(log, "b") == [1, 2])
    assert not fourth.done()
    log.unreachable = set()
    await asyncio.wait_for(fourth, PATIENCE)
    assert data_of(log, "c") == [1]


async def test_many_flushes_cost_as_much_as_few(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=50_000)
    await held_up(hub, log)
    for number in range(2_000):
        hub.open(f"e{number}")
    ends = [asyncio.create_task(hub.close(f"e{number}")) for number in range(2_000)]
    await asyncio.sleep(0)
    log.release()
    await asyncio.wait_for(asyncio.gather(*ends), PATIENCE)
    assert all(log.stored(f"e{number}")[-1].is_final for number in range(2_000))


async def test_dropped_drafts_leave_the_queue(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=20)
    await held_up(hub, log)
    for name in ("e", "f"):
        hub.publish(name, "note", "kept")
    for value in range(5_000):
        hub.publish("ef"[value % 2], "note", value, delivery="at-most-once")
    assert hub.writer.buffer is not None
    queues = [hub.registry.executions[name].queue for name in ("e", "f")]
    assert sum(len(queue.items) for queue in queues if queue is not None) < 100
    assert hub.statistics().waiting == 20
    log.release()
    await hub.writer.flush()
    assert data_of(log, "e") == ["kept", *range(4_986, 5_000, 2)]
    assert hub.statistics().dropped_at_most_once == 5_000 - 15


async def test_an_at_most_once_update_finds_a_buffer_that_is_over_full(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=2)
    await held_up(hub, log)
    for name in "abc":
        hub.open(name)  # is always accepted
    hub.publish("a", "note", 1, delivery="at-most-once")
    assert (hub.statistics().waiting, hub.statistics().dropped_at_most_once) == (4, 1)
    log.release()


async def test_a_lost_notice_of_losses_is_counted_again(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=10)
    await held_up(hub, log, "e")
    publish_many(hub, "e", range(30))
    assert hub.statistics().lost == 21
    log.release()
    await hub.writer.flush()
    log.broken = {"e"}
    hub.publish("e", "token", 30)  # behind a notice of the 21
    await hub.writer.flush()
    log.broken = set()
    hub.publish("e", "token", 31)
    await hub.writer.flush()
    assert data_of(log, "e") == [*range(9), {"count": 22, "reason": "log_unavailable"}, 31]
    assert hub.statistics().lost == 22


async def test_the_start_is_the_first_update_of_a_run_also_after_a_loss(hub: StreamHub, log: FaultyLog) -> None:
    log.broken = {"e"}
    hub.publish("e", "token", 1)
    await hub.close("e")
    log.broken = set()
    hub.open("e")
    hub.publish("e", "token", 2)
    await hub.writer.flush()
    assert [record.type for record in log.stored("e")] == ["workflow_start", "updates_lost", "token"]
    assert log.stored("e")[1].update.data["count"] == 3


async def test_an_execution_is_not_forgotten_while_the_log_lacks_its_updates(make_hub: MakeHub, log: FaultyLog) -> None:
    now = 1_000.0
    hub = make_hub(log=log, monotonic=lambda: now, ttl=10.0)
    log.away = True
    hub.publish("e", "token", 1)
    closing = asyncio.create_task(hub.close("e"))
    await asyncio.sleep(0)
    for _ in range(3):
        now += 100
        hub.registry.sweep()
    assert "e" in hub.registry.executions
    log.away = False
    await closing
    now += 100
    hub.registry.sweep()
    assert "e" not in hub.registry.executions


async def test_closing_ends_attempts_at_the_timeout(
    make_hub: MakeHub, log: FaultyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.hub.lifespan._CLOSE_TIMEOUT", 0.02)
    hub = make_hub(log=log)
    log.unreachable = {f"e{number}" for number in range(50)}
    for name in log.unreachable:
        publish_many(hub, name, range(5))
    publish_many(hub, "reached", range(5))
    await hub.aclose()
    assert (hub.statistics().lost, hub.statistics().waiting) == (50 * 6, 0)
    assert len(log.stored("reached")) == 6
    tried = len(log.tried)
    time.sleep(0.005)  # noqa: ASYNC251 (nothing is to go on)
    assert len(log.tried) == tried


async def test_the_log_is_closed_after_the_last_append_and_is_used_again_after_a_restart(
    make_hub: MakeHub, log: FaultyLog
) -> None:
    hub = make_hub(log=log)
    log.hold()
    publish_many(hub, "e", range(50))
    restarting = asyncio.create_task(hub.lifespan.restart())
    await until(log.entered.is_set)
    log.release()
    await restarting
    assert log.closed_at == [51]
    assert log.stored("e")[-1].type == "token"  # the run is open in the log
    hub.publish("f", "token", 1)
    await hub.aclose()
    assert log.closed_at == [51, 53]


async def test_a_publisher_wakes_a_busy_thread_for_an_end_alone(
    hub: StreamHub, log: FaultyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held_up(hub, log)
    wakes = watch_wakes(monkeypatch)
    publish_many(hub, "e", range(100))
    assert wakes == []
    hub.runs.end_run("e", RunOutcome("workflow_complete", {}))
    assert len(wakes) == 1
    log.release()


async def test_an_outage_that_ends_ends_for_all_at_once(
    make_hub: MakeHub, log: FaultyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._LAST_DELAY", 10 * PATIENCE)
    hub = make_hub(log=log)
    log.away = True
    for name in "abc":
        hub.open(name)
        await until(lambda: hub.statistics().append_failures >= 12)
    log.away = False
    hub.open("d")
    await asyncio.wait_for(hub.writer.flush(), PATIENCE)
    assert all(len(log.stored(name)) == 1 for name in "abcd")
