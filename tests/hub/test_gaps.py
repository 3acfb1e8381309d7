"""A gap has the begin, the end and the reason of missing updates."""

import pytest

from lg_streaming.errors import GapError
from lg_streaming.events import Position
from lg_streaming.hub import Gap, StreamHub
from lg_streaming.hub.page import OnGap
from lg_streaming.log.base import LogState, ReadResult
from tests.hub.helpers import MakeHub, collect, page, publish_many, seqs, soon, take, types, waiting


@pytest.fixture
def small(make_hub: MakeHub) -> StreamHub:
    """Keeps five updates."""
    return make_hub(max_updates=5)


async def epoch_of(hub: StreamHub) -> str:
    state = await hub.describe("e")
    assert state is not None
    return state.epoch


async def test_nothing_is_said_when_nothing_is_missing(small: StreamHub) -> None:
    publish_many(small, "e", range(9))
    epoch = await epoch_of(small)
    for after in (5, 6, 10):
        attached = await small.subscribe("e", after=Position(epoch, after)).start()
        assert (attached.recovered, attached.reason) == (True, None)


async def test_a_reader_goes_on_at_the_oldest(small: StreamHub) -> None:
    publish_many(small, "e", range(9))
    subscription = small.subscribe("e")
    attached = await subscription.start()
    assert (attached.recovered, attached.reason, attached.oldest) == (False, "evicted", 6)
    first = await page(subscription)
    assert first.gap == Gap(1, 5, "evicted")
    assert [record.seq for record in first.records] == [6, 7, 8, 9, 10]


async def test_a_reader_goes_on_at_the_tail(small: StreamHub) -> None:
    publish_many(small, "e", range(9))
    subscription = small.subscribe("e", on_gap="tail")
    first = await page(subscription)
    assert (first.gap, list(first.records)) == (Gap(1, 10, "evicted"), [])
    small.publish("e", "token")
    assert seqs(await take(subscription, 1)) == [11]


async def test_a_reader_fails_as_often_as_it_asks(small: StreamHub) -> None:
    publish_many(small, "e", range(9))
    async with small.subscribe("e", on_gap="fail") as subscription:
        for _ in range(2):
            with pytest.raises(GapError) as caught:
                await page(subscription)
            assert caught.value.execution_id == "e"
    assert small.statistics().subscriptions == 0


async def test_an_iteration_that_fails_unregisters(small: StreamHub) -> None:
    publish_many(small, "e", range(9))
    with pytest.raises(GapError):
        await collect(small.subscribe("e", on_gap="fail"))
    assert small.statistics().subscriptions == 0


@pytest.mark.parametrize(("on_gap", "expected"), [("oldest", [6, 7]), ("tail", [])])
async def test_what_is_evicted_between_two_pages_is_said(small: StreamHub, on_gap: OnGap, expected: list[int]) -> None:
    publish_many(small, "e", range(4))
    subscription = small.subscribe("e", on_gap=on_gap)
    assert [record.seq for record in (await page(subscription, 2)).records] == [1, 2]
    publish_many(small, "e", range(5))
    second = await page(subscription, 2)
    assert second.gap == Gap(3, 5 if on_gap == "oldest" else 10, "evicted")
    assert [record.seq for record in second.records] == expected


@pytest.mark.parametrize("missing", [0, 1, 2, 4])
async def test_a_hole_of_any_size_is_said_and_no_larger(small: StreamHub, missing: int) -> None:
    publish_many(small, "e", range(4))
    subscription = small.subscribe("e")
    await page(subscription, 2)
    publish_many(small, "e", range(2 + missing))
    second = await page(subscription)
    assert second.gap == (Gap(3, 2 + missing, "evicted") if missing else None)
    assert [record.seq for record in second.records] == list(range(3 + missing, 8 + missing))


async def test_what_is_evicted_between_two_pages_fails(small: StreamHub) -> None:
    publish_many(small, "e", range(4))
    subscription = small.subscribe("e", on_gap="fail")
    await page(subscription, 2)
    publish_many(small, "e", range(5))
    for _ in range(2):
        with pytest.raises(GapError):
            await page(subscription, 2)


async def test_what_is_evicted_between_the_attach_and_the_first_page_is_said_too(small: StreamHub) -> None:
    publish_many(small, "e", range(9))
    subscription = small.subscribe("e")
    await subscription.start()
    publish_many(small, "e", range(4))
    first = await page(subscription)
    assert first.gap == Gap(1, 9, "evicted")
    assert [record.seq for record in first.records] == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("on_gap", ["oldest", "tail"])
async def test_a_position_past_the_end_goes_on_at_the_end(small: StreamHub, on_gap: OnGap) -> None:
    publish_many(small, "e", range(3))
    subscription = small.subscribe("e", after=Position(await epoch_of(small), 9), on_gap=on_gap)
    attached = await subscription.start()
    assert (attached.recovered, attached.reason) == (False, "future_position")
    assert (await page(subscription)).gap == Gap(5, 9, "future_position")
    small.publish("e", "token")
    assert seqs(await take(subscription, 1)) == [5]


@pytest.mark.parametrize(("on_gap", "expected"), [("oldest", [1, 2, 3, 4]), ("tail", [])])
async def test_a_position_of_another_epoch(small: StreamHub, on_gap: OnGap, expected: list[int]) -> None:
    publish_many(small, "e", range(3))
    subscription = small.subscribe("e", after="other:2", on_gap=on_gap)
    attached = await subscription.start()
    assert (attached.recovered, attached.reason) == (False, "epoch_changed")
    first = await page(subscription)
    assert first.gap == Gap(3, None, "epoch_changed")
    assert [record.seq for record in first.records] == expected


async def test_a_position_of_an_execution_nobody_knows(small: StreamHub) -> None:
    subscription = small.subscribe("e", after="other:2")
    attached = await subscription.start()
    assert (attached.state, attached.recovered, attached.reason) == ("unknown", False, "epoch_changed")
    assert (await page(subscription)).gap == Gap(3, None, "epoch_changed")
    small.open("e")
    assert seqs(await take(subscription, 1)) == [1]


@pytest.mark.parametrize("after", ["other:2", "EPOCH:99", None])
async def test_every_kind_of_gap_fails_when_asked_to(small: StreamHub, after: str | None) -> None:
    publish_many(small, "e", range(9))
    position = after.replace("EPOCH", await epoch_of(small)) if after else None
    subscription = small.subscribe("e", after=position, on_gap="fail")
    for _ in range(2):
        with pytest.raises(GapError):
            await subscription.start()


async def test_a_live_reader_hears_that_the_log_began_anew(small: StreamHub) -> None:
    publish_many(small, "e", range(3))
    subscription = small.subscribe("e")
    await take(subscription, 4)
    task = await waiting(subscription)
    await small.log.drop("e")
    small.publish("e", "token", "new")
    told = await soon(task)
    assert told.gap == Gap(5, None, "epoch_changed")
    got = [*told.records, *(() if told.records else (await page(subscription)).records)]
    assert [record.seq for record in got] == [1]
    assert subscription.position == Position(await epoch_of(small), 1)


async def test_a_live_reader_at_the_tail_skips_what_the_new_log_has(small: StreamHub) -> None:
    publish_many(small, "e", range(3))
    subscription = small.subscribe("e", on_gap="tail")
    await take(subscription, 4)
    await small.log.drop("e")
    publish_many(small, "e", range(2))
    assert (await page(subscription)).gap == Gap(5, None, "epoch_changed")
    small.publish("e", "token")
    assert seqs(await take(subscription, 1)) == [3]


async def test_a_live_reader_that_shall_fail_fails_on_a_new_epoch(small: StreamHub) -> None:
    publish_many(small, "e", range(3))
    subscription = small.subscribe("e", on_gap="fail")
    await take(subscription, 4)
    await small.log.drop("e")
    small.publish("e", "token")
    for _ in range(2):
        with pytest.raises(GapError):
            await page(subscription)


async def test_an_epoch_change_that_was_not_told_yet_is_not_forgotten_over_an_eviction(small: StreamHub) -> None:
    publish_many(small, "e", range(3))
    subscription = small.subscribe("e", after="other:2")
    await subscription.start()
    publish_many(small, "e", range(4))
    first = await page(subscription)
    assert first.gap == Gap(3, None, "epoch_changed")
    assert [record.seq for record in first.records] == [4, 5, 6, 7, 8]


async def test_an_eviction_that_was_not_told_yet_is_not_forgotten_over_an_epoch_change(small: StreamHub) -> None:
    publish_many(small, "e", range(9))
    subscription = small.subscribe("e")
    await subscription.start()
    await small.log.drop("e")
    small.publish("e", "token")
    assert (await page(subscription)).gap == Gap(1, None, "epoch_changed")


async def test_an_iteration_gets_a_gap_as_an_update_where_it_belongs(small: StreamHub) -> None:
    publish_many(small, "e", range(8))
    await small.close("e")
    got = await collect(small.subscribe("e"))
    assert types(got) == ["gap", "token", "token", "token", "token", "workflow_complete"]
    assert got[0].data == {"from": 1, "to": 5, "reason": "evicted"}
    assert await collect(small.subscribe("e", after=got[0].position)) == got[1:]


@pytest.mark.parametrize("on_gap", ["oldest", "tail"])
async def test_a_reader_ends_after_a_gap_that_took_its_run(small: StreamHub, on_gap: OnGap) -> None:
    subscription = small.subscribe("e", on_gap=on_gap)
    small.open("e")
    await take(subscription, 1)
    publish_many(small, "e", range(20))
    await small.close("e")
    got = await collect(subscription)
    assert got[0].type == "gap"
    assert types(got[1:]) == ([] if on_gap == "tail" else ["token"] * 4 + ["workflow_complete"])


async def test_a_filter_does_not_hide_a_gap(small: StreamHub) -> None:
    publish_many(small, "e", range(9))
    first = await page(small.subscribe("e", types=["nothing"]))
    assert (first.gap, list(first.records)) == (Gap(1, 5, "evicted"), [])


async def test_an_execution_that_was_begun_anew_without_updates_leaves_no_gap(
    small: StreamHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log does that after a loss, and the execution may be dropped before its first update."""

    async def read_empty(_execution_id: str, _after: int, _limit: int) -> ReadResult:
        state = LogState(epoch="other", oldest=1, head=0, state="running", owner=None, started_at=0.0, updated_at=0.0)
        return ReadResult(state, ())

    subscription = small.subscribe("e")
    assert await subscription.poll() is None
    with monkeypatch.context() as patched:
        patched.setattr(small.log, "read", read_empty)
        assert await subscription.poll() is None
    assert subscription.position is None
    small.publish("e", "token")
    first = await page(subscription)
    assert (first.gap, [record.seq for record in first.records]) == (None, [1, 2])
