"""The counts say what happened."""

from lg_streaming.hub import HubStatistics, StreamHub
from tests.hub.helpers import MakeHub, collect, publish_many


async def test_a_new_hub_has_counted_nothing(hub: StreamHub) -> None:
    assert hub.statistics() == HubStatistics(
        executions=0,
        running=0,
        subscriptions=0,
        published=0,
        dropped_late=0,
        dropped_too_large=0,
        dropped_over_rate=0,
        dropped_at_most_once=0,
        repeated=0,
        lost=0,
        waiting=0,
        append_failures=0,
        encode_fallbacks=0,
        observer_errors=0,
        callable_errors=0,
    )


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


async def test_hubs_count_for_themselves(make_hub: MakeHub) -> None:
    one, two = make_hub(), make_hub()
    one.publish("e", "token")
    assert (one.statistics().published, two.statistics().published) == (2, 0)
    assert await two.describe("e") is None
