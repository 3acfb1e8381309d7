"""Counts of a hub."""

from typing import get_args

from lg_streaming.hub import HubStatistics, ReaderLag, StreamHub
from lg_streaming.hub.drops import DropReason
from lg_streaming.hub.statistics import RunCounts
from lg_streaming.publisher import UpdateRequest
from tests.hub.helpers import MakeHub, collect, page, publish_many, take


async def test_a_new_hub_has_counted_nothing(hub: StreamHub) -> None:
    assert hub.statistics() == HubStatistics(
        executions=0,
        running=0,
        runs=RunCounts(),
        subscriptions=0,
        published=0,
        published_by_kind={"token": 0, "progress": 0, "status": 0, "event": 0},
        delivered=0,
        publish_seconds=hub.statistics().publish_seconds,
        dropped=dict.fromkeys(get_args(DropReason), 0),
        shortened=0,
        dropped_late=0,
        dropped_too_large=0,
        dropped_over_rate=0,
        dropped_at_most_once=0,
        repeated=0,
        lost=0,
        waiting=0,
        append_batches=0,
        append_failures=0,
        append_seconds=hub.statistics().append_seconds,
        encode_fallbacks=0,
        observer_errors=0,
        sinks=0,
        sink_errors=0,
        callable_errors=0,
    )
    assert hub.statistics().publish_seconds.count == 0
    assert hub.statistics().append_seconds.count == 0


async def test_what_is_there_and_what_was(hub: StreamHub) -> None:
    publish_many(hub, "a", range(10))
    hub.open("b")
    hub.open("c")
    await hub.cancel("c")
    reader = hub.subscribe("a")
    hub.subscribe("b")
    hub.publish("b", "note", {1: "JSON knows no such key", 2: {1, 2}})
    statistics = hub.statistics()
    assert (statistics.executions, statistics.running, statistics.subscriptions) == (3, 2, 2)
    assert statistics.published == 11 + 2 + 2
    assert statistics.encode_fallbacks == 1
    await hub.close("a")
    await collect(reader)
    assert (hub.statistics().running, hub.statistics().subscriptions) == (1, 1)


async def test_updates_are_counted_by_kind_also_after_their_execution_was_forgotten(make_hub: MakeHub) -> None:
    now = 1_000.0
    hub = make_hub(clock=lambda: now, ttl=10.0)
    publish_many(hub, "a", range(5))
    hub.publish("a", "progress", {"progress": 10})
    hub.publish("a", "thinking", {"content": "…"})
    hub.publish("a", "my_own", {})
    await hub.close("a")
    counted = {"token": 6, "progress": 1, "status": 2, "event": 1}
    assert hub.statistics().published_by_kind == counted
    now += 11.0
    hub.registry.sweep()
    assert hub.statistics().executions == 0
    assert (hub.statistics().published_by_kind, hub.statistics().published) == (counted, 10)


async def test_what_readers_took_is_counted_for_each_and_stays_when_they_leave(hub: StreamHub) -> None:
    publish_many(hub, "a", range(9))
    everything, tokens = hub.subscribe("a", follow=True), hub.subscribe("a", types=["token"], follow=True)
    await take(everything, 10)
    await take(tokens, 9)
    assert hub.statistics().delivered == 19
    everything.close()
    tokens.close()
    assert hub.statistics().delivered == 19


async def test_one_call_in_sixteen_is_timed(hub: StreamHub) -> None:
    hub.open("a")
    publish_many(hub, "a", range(32))
    timed = hub.statistics().publish_seconds
    assert timed.count == 2
    assert timed.total > 0.0
    several = [UpdateRequest("token", index) for index in range(3)]
    for _ in range(16):
        hub.publisher.publish_all("a", several)
    assert hub.statistics().publish_seconds.count == 3


async def test_lag_is_what_readers_have_not_come_to_yet(hub: StreamHub) -> None:
    assert await hub.readers.lag() == ReaderLag(readers=0, most=0, total=0)
    publish_many(hub, "a", range(9))
    slow, quick = hub.subscribe("a", follow=True), hub.subscribe("a", follow=True)
    early = hub.subscribe("not-yet-there")
    await quick.start()
    await page(slow, limit=3)
    await take(quick, 10)
    publish_many(hub, "a", range(5))
    assert await hub.readers.lag() == ReaderLag(readers=3, most=12, total=12 + 5)
    await take(slow, 12)
    await take(quick, 5)
    assert await hub.readers.lag() == ReaderLag(readers=3, most=0, total=0)
    early.close()
    assert (await hub.readers.lag()).readers == 2


async def test_a_reader_that_is_done_is_not_behind_when_the_execution_goes_on(hub: StreamHub) -> None:
    publish_many(hub, "a", range(3))
    await hub.close("a")
    reader = hub.subscribe("a")
    assert (await page(reader)).ended
    hub.open("a")
    publish_many(hub, "a", range(3))
    assert await hub.readers.lag() == ReaderLag(readers=1, most=0, total=0)


async def test_hubs_count_for_themselves(make_hub: MakeHub) -> None:
    one, two = make_hub(), make_hub()
    one.publish("e", "token")
    assert (one.statistics().published, two.statistics().published) == (2, 0)
    assert await two.describe("e") is None
