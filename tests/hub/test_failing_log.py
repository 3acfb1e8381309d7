"""A log that fails: no update is lost silently or repeated, and no other execution is disturbed."""

import asyncio
import itertools
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_streaming.backoff import Backoff
from lg_streaming.errors import LogUnavailableError
from lg_streaming.hub import StreamHub
from tests.hub.faulty import Fault, FaultyLog
from tests.hub.helpers import MakeHub, collect, contents, publish_many, seqs, take, types, until, upto


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._FIRST_DELAY", 0.001)
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._LAST_DELAY", 0.002)
    monkeypatch.setattr("lg_streaming.hub.carry.LOG_BACKOFF", Backoff(delay=0.001, max_delay=0.001))


@pytest.fixture
def log() -> FaultyLog:
    return FaultyLog()


@pytest.fixture
def hub(make_hub: MakeHub, log: FaultyLog) -> StreamHub:
    return make_hub(log=log)


def data_of(log: FaultyLog, execution_id: str = "e") -> list[object]:
    return contents(record.update for record in log.stored(execution_id))


async def test_an_outage_is_waited_out(hub: StreamHub, log: FaultyLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lg_streaming.hub")
    log.away = True
    publish_many(hub, "e", range(100))
    await until(lambda: hub.statistics().append_failures > 3)
    publish_many(hub, "e", range(100, 200))
    assert log.stored() == ()
    log.away = False
    await hub.writer.flush()
    assert data_of(log) == list(range(200))
    assert [record.seq for record in log.stored()] == upto(201)
    assert (hub.statistics().lost, hub.statistics().waiting) == (0, 0)
    assert [line for line in caplog.messages if "be reached" in line] == [
        "the log cannot be reached, updates wait in memory: the log cannot be reached at the moment: try again",
        "the log can be reached again, waiting updates are sent",
    ]


async def test_a_batch_whose_reply_was_lost_is_stored_once(hub: StreamHub, log: FaultyLog) -> None:
    log.fail_next("reply lost", "reply lost", "away", "reply lost")
    publish_many(hub, "e", range(50))
    await hub.close("e")
    assert data_of(log) == list(range(50))
    assert [record.seq for record in log.stored()] == upto(52)
    assert hub.statistics().append_failures == 4


async def test_a_retry_is_the_same_batch(hub: StreamHub, log: FaultyLog) -> None:
    log.fail_next("away", times=5)
    hub.publish("e", "token")
    await hub.writer.flush()
    assert log.tried[0] is log.tried[5]


def test_whatever_fails_in_whatever_order_each_update_is_stored_once() -> None:
    faults = st.lists(st.sampled_from(["away", "reply lost", "strange", None]), max_size=12)

    @settings(max_examples=40)
    @given(faults=faults, bursts=st.lists(st.integers(1, 30), min_size=1, max_size=8))
    def check(faults: list[Fault | None], bursts: list[int]) -> None:
        asyncio.run(_publish_through([fault for fault in faults if fault], bursts))

    check()


async def _publish_through(faults: list[Fault], bursts: list[int]) -> None:
    log = FaultyLog()
    hub = StreamHub(log=log)
    try:
        numbers = itertools.count()
        for size, fault in itertools.zip_longest(bursts, faults):
            if fault:
                log.fail_next(fault)
            if size:
                publish_many(hub, "e", list(itertools.islice(numbers, size)))
                await asyncio.sleep(0)
        await hub.close("e")
        assert data_of(log) == list(range(sum(bursts)))
        assert [record.seq for record in log.stored()] == upto(sum(bursts) + 2)
    finally:
        await hub.aclose()


async def test_another_kind_of_error_is_tried_again_for_a_while(hub: StreamHub, log: FaultyLog) -> None:
    log.fail_next("strange", times=9)
    hub.publish("e", "token", 1)
    await hub.writer.flush()
    assert data_of(log) == [1]


async def test_what_the_log_will_never_take_is_given_up_and_said(
    hub: StreamHub, log: FaultyLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.fail_next("strange", times=10)
    publish_many(hub, "poison", [1])
    await hub.writer.flush()
    given_up = hub.statistics().lost
    assert given_up >= 1
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    hub.publish("poison", "token", 2)
    hub.publish("e", "token", 1)
    await hub.close("e")
    await hub.close("poison")
    assert data_of(log) == [1]
    told = [record.update for record in log.stored("poison") if record.type == "updates_lost"]
    assert [update.data for update in told] == [{"count": given_up, "reason": "log_unavailable"}]
    assert log.stored("poison")[-1].is_final


async def test_a_full_buffer_gives_updates_up_counts_them_and_says_so(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=10)
    log.away = True
    publish_many(hub, "e", range(50))
    assert (hub.statistics().waiting, hub.statistics().lost) == (10, 41)
    log.away = False
    await hub.writer.flush()
    publish_many(hub, "e", [50, 51])
    await hub.close("e")
    got = await collect(hub.subscribe("e"))
    assert types(got) == ["workflow_start", *["token"] * 9, "updates_lost", "token", "token", "workflow_complete"]
    assert got[10].data == {"count": 41, "reason": "log_unavailable"}
    assert contents(got)[:9] == list(range(9))
    assert seqs(got) == upto(14)


async def test_a_buffer_full_of_bytes_is_full(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_bytes=10_000)
    log.away = True
    publish_many(hub, "e", ["x" * 1_000] * 50)
    statistics = hub.statistics()
    assert statistics.lost > 35
    assert statistics.waiting + statistics.lost == 51
    hub.publish("e", "token", "small")
    log.away = False
    await hub.close("e")
    assert data_of(log)[-2:] == [{"count": statistics.lost, "reason": "log_unavailable"}, "small"]


async def test_the_end_of_a_run_is_taken_by_a_full_buffer_and_the_loss_before_it_said(
    make_hub: MakeHub, log: FaultyLog
) -> None:
    hub = make_hub(log=log, producer_buffer_updates=10)
    log.away = True
    publish_many(hub, "e", range(50))
    closing = asyncio.create_task(hub.close("e"))
    await asyncio.sleep(0)
    log.away = False
    await closing
    stored = [record.update for record in log.stored()]
    assert types(stored)[-2:] == ["updates_lost", "workflow_complete"]
    assert stored[-2].data["count"] == 41


async def test_losses_are_told_to_the_execution_they_happened_to(make_hub: MakeHub, log: FaultyLog) -> None:
    hub = make_hub(log=log, producer_buffer_updates=10)
    log.away = True
    publish_many(hub, "full", range(10))
    publish_many(hub, "e", range(5))
    log.away = False
    await hub.writer.flush()
    for name in ("full", "e"):
        hub.publish(name, "token", "after")
        await hub.close(name)
    lost = {
        name: [r.update.data["count"] for r in log.stored(name) if r.type == "updates_lost"] for name in ("full", "e")
    }
    assert lost == {"full": [1], "e": [5]}


async def test_readers_wait_out_an_outage(hub: StreamHub, log: FaultyLog) -> None:
    publish_many(hub, "e", range(10))
    await hub.writer.flush()
    log.away = True
    reader = asyncio.create_task(collect(hub.subscribe("e")))
    await until(log.reads_failed.is_set)
    publish_many(hub, "e", range(10, 20))
    log.away = False
    await hub.close("e")
    assert contents(await reader) == list(range(20))


async def test_a_page_that_cannot_be_read_can_be_asked_for_again(hub: StreamHub, log: FaultyLog) -> None:
    publish_many(hub, "e", range(10))
    await hub.writer.flush()
    subscription = hub.subscribe("e")
    first = await take(subscription, 11)
    log.away = True
    for call in (subscription.next_page(), hub.describe("e"), hub.subscribe("e").start()):
        with pytest.raises(LogUnavailableError):
            await call
    log.away = False
    hub.publish("e", "token")
    assert seqs(first + await take(subscription, 1)) == upto(12)


async def test_a_hub_that_is_closed_during_an_outage_gives_up_what_waits(
    make_hub: MakeHub, log: FaultyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lg_streaming.hub.lifespan._CLOSE_TIMEOUT", 0.05)
    hub = make_hub(log=log)
    log.away = True
    publish_many(hub, "e", range(20))
    closing = asyncio.create_task(hub.close("e"))
    await asyncio.sleep(0)  # its end waits too
    await until(lambda: hub.statistics().append_failures > 0)
    await hub.aclose()
    await asyncio.wait_for(closing, 10)
    assert (hub.statistics().lost, hub.statistics().waiting) == (22, 0)
