"""Ends of readers, and readers that stay."""

import pytest

from lg_streaming.events import StreamUpdate
from lg_streaming.hub import StreamHub
from tests.hub.helpers import MakeHub, collect, page, publish_many, seqs, soon, take, types, upto, waiting


async def run(hub: StreamHub, count: int = 1) -> None:
    """One whole run of ``count`` + 2 updates."""
    hub.open("e")
    publish_many(hub, "e", range(count))
    await hub.close("e")


async def test_a_reader_that_comes_while_a_run_is_open_ends_with_it(hub: StreamHub) -> None:
    hub.open("e")
    subscription = hub.subscribe("e")
    await subscription.start()
    await hub.close("e")
    await run(hub)
    assert types(await collect(subscription)) == ["workflow_start", "workflow_complete"]


async def test_the_end_comes_with_the_final_update(hub: StreamHub) -> None:
    await run(hub)
    last = await page(hub.subscribe("e"))
    assert last.ended
    assert [record.seq for record in last.records] == [1, 2, 3]


async def test_after_the_end_pages_are_empty_at_once(hub: StreamHub) -> None:
    await run(hub)
    subscription = hub.subscribe("e")
    await collect(subscription)
    for _ in range(3):
        after = await page(subscription)
        assert (list(after.records), after.gap, after.ended) == ([], None, True)
        assert after.position == subscription.position


async def test_a_reader_that_comes_between_runs_gets_all_runs_so_far(hub: StreamHub) -> None:
    await run(hub)
    await run(hub)
    assert seqs(await collect(hub.subscribe("e"))) == upto(6)


async def test_a_reader_of_the_second_run_gets_the_first_too_and_ends_with_the_second(hub: StreamHub) -> None:
    await run(hub)
    hub.open("e")
    subscription = hub.subscribe("e")
    got = await take(subscription, 4)
    await hub.close("e")
    await run(hub)
    assert seqs(got + await collect(subscription)) == upto(5)


@pytest.mark.parametrize("after", ["latest", "head"])
async def test_a_reader_past_the_end_ends_at_once(hub: StreamHub, after: str) -> None:
    await run(hub)
    state = await hub.describe("e")
    assert state is not None
    subscription = hub.subscribe("e", after=f"{state.epoch}:{state.head}" if after == "head" else after)
    only = await page(subscription)
    assert (list(only.records), only.ended) == ([], True)


async def test_a_reader_that_attached_past_the_end_does_not_get_the_next_run(hub: StreamHub) -> None:
    await run(hub)
    subscription = hub.subscribe("e", after="latest")
    await subscription.start()
    await run(hub)
    assert await collect(subscription) == []


async def test_a_reader_ends_at_the_end_of_its_run_however_small_its_pages(hub: StreamHub) -> None:
    hub.open("e")
    subscription = hub.subscribe("e")
    await subscription.start()
    publish_many(hub, "e", range(7))
    await hub.close("e")
    await run(hub)
    pages = [await page(subscription, 2) for _ in range(5)]
    assert [record.seq for each in pages for record in each.records] == upto(9)
    assert [each.ended for each in pages] == [False, False, False, False, True]


@pytest.mark.row("CFLOW-D1")
async def test_a_filter_that_leaves_the_final_update_out_does_not_hide_the_end(hub: StreamHub) -> None:
    await run(hub, 3)
    assert types(await collect(hub.subscribe("e", types=["token"]))) == ["token"] * 3


async def test_a_follower_stays_over_several_runs(hub: StreamHub) -> None:
    subscription = hub.subscribe("e", follow=True)
    got: list[StreamUpdate] = []
    for _ in range(3):
        await run(hub, 2)
        got += await take(subscription, 4)
        task = await waiting(subscription)
        task.cancel()
    assert seqs(got) == upto(12)
    assert types(got).count("workflow_complete") == 3


async def test_a_follower_of_the_latest_waits_for_the_next_run(hub: StreamHub) -> None:
    await run(hub)
    subscription = hub.subscribe("e", after="latest", follow=True)
    task = await waiting(subscription)
    hub.open("e")
    got = (await soon(task)).updates("e")
    assert types(got) == ["workflow_start"]


async def test_closing_the_hub_ends_its_readers(hub: StreamHub) -> None:
    hub.open("e")
    follower, reader = hub.subscribe("e", follow=True), hub.subscribe("other")
    tasks = [await waiting(reader), await waiting(hub.subscribe("e", after="latest"))]
    await take(follower, 1)
    tasks.append(await waiting(follower))
    await hub.aclose()
    for task in tasks:
        assert (await soon(task)).ended
    assert hub.statistics().subscriptions == 0


async def test_an_ended_execution_whose_updates_aged_is_its_final_update(make_hub: MakeHub) -> None:
    now = [0.0]
    hub = make_hub(clock=lambda: now[0], ttl=10)
    await run(hub, 3)
    now[0] = 10.0
    hub.registry.sweep()
    got = await collect(hub.subscribe("e"))
    assert types(got) == ["gap", "workflow_complete"]
    assert got[0].data == {"from": 1, "to": 4, "reason": "evicted"}
