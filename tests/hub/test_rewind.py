"""A reader that looks without waiting, and one that goes back to what it was given before."""

import asyncio

import pytest

from lg_streaming.errors import BadPositionError, GapError, LogUnavailableError
from lg_streaming.events import Position
from lg_streaming.hub import Gap, Page, StreamHub, Subscription
from lg_streaming.hub.subscription import OnGap
from lg_streaming.log.base import ReadResult
from lg_streaming.log.memory import MemoryLog
from tests.hub.helpers import MakeHub, Threads, collect, page, publish_many, seqs, soon, types, upto, waiting


def numbers(found: Page | None) -> list[int]:
    return [] if found is None else [record.seq for record in found.records]


class PausedLog(MemoryLog):
    """Each read has its answer at once and gives it when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.fails = False

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        if self.fails:
            raise LogUnavailableError
        found = self.read_now(execution_id, after, limit)
        await self.go_on.wait()
        return found


# ---------------------------------------------------------------- looking without waiting
async def test_a_poll_gives_what_is_there_and_then_nothing(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    assert await subscription.poll() is None
    publish_many(hub, "e", range(4))
    assert numbers(await subscription.poll(3)) == [1, 2, 3]
    assert numbers(await subscription.poll(3)) == [4, 5]
    assert await subscription.poll() is None
    publish_many(hub, "e", range(1))
    assert numbers(await page(subscription)) == [6]


async def test_a_poll_moves_over_what_is_filtered_out(hub: StreamHub) -> None:
    subscription = hub.subscribe("e", types=["note"])
    publish_many(hub, "e", range(30))
    assert await subscription.poll(7) is None
    assert subscription.position is not None
    assert subscription.position.seq == 31
    hub.publish("e", "note", "here")
    assert numbers(await subscription.poll(7)) == [32]


async def test_a_poll_tells_the_end_as_often_as_it_is_asked(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    publish_many(hub, "e", range(1))
    await hub.close("e")
    last = await subscription.poll()
    assert (numbers(last), last is not None and last.ended) == ([1, 2, 3], True)
    for _ in range(2):
        again = await subscription.poll()
        assert again is not None
        assert (numbers(again), again.ended) == ([], True)


async def test_a_poll_of_a_closed_or_finished_reader_is_its_end(hub: StreamHub) -> None:
    closed, finished = hub.subscribe("e"), hub.subscribe("e")
    closed.close()
    publish_many(hub, "e", range(1))
    finished.finish()
    found = await closed.poll()
    assert (numbers(found), found is not None and found.ended) == ([], True)
    assert numbers(await finished.poll()) == [1, 2]
    found = await finished.poll()
    assert found is not None
    assert found.ended


async def test_a_poll_says_what_is_missing(make_hub: MakeHub) -> None:
    hub = make_hub(max_updates=5)
    publish_many(hub, "e", range(9))
    found = await hub.subscribe("e").poll()
    assert found is not None
    assert (found.gap, numbers(found)) == (Gap(1, 5, "evicted"), [6, 7, 8, 9, 10])
    with pytest.raises(GapError):
        await hub.subscribe("e", on_gap="fail").poll()


async def test_a_poll_that_cannot_reach_the_log_loses_nothing(make_hub: MakeHub) -> None:
    log = PausedLog()
    hub = make_hub(log=log)
    publish_many(hub, "e", range(1))
    subscription = hub.subscribe("e")
    log.fails = True
    with pytest.raises(LogUnavailableError):
        await subscription.poll()
    log.fails = False
    assert numbers(await subscription.poll()) == [1, 2]


async def test_polls_while_threads_publish_miss_and_repeat_nothing(hub: StreamHub) -> None:
    threads = Threads(*[lambda: publish_many(hub, "e", range(500))] * 2).start()
    subscription = hub.subscribe("e")
    got: list[int] = []
    while len(got) < 1_001:
        got += numbers(await subscription.poll(23))
        await asyncio.sleep(0)
    await threads.join()
    assert got == upto(1_001)


async def test_how_far_behind_a_reader_is(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    assert subscription.lag == 0
    publish_many(hub, "e", range(9))
    await page(subscription, 4)
    assert subscription.lag == 6
    await page(subscription)
    assert subscription.lag == 0
    subscription.rewind(3)
    assert subscription.lag == 7
    late = hub.subscribe("e")
    await late.start()
    assert late.lag == 10


async def test_a_reader_that_has_ended_is_not_behind_the_next_run(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    await subscription.start()
    publish_many(hub, "e", range(1))
    await hub.close("e")
    hub.open("e")
    assert numbers(await page(subscription)) == [1, 2, 3]
    assert subscription.lag == 0


# ---------------------------------------------------------------- going back
async def test_what_follows_the_place_it_went_back_to_comes_again(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    publish_many(hub, "e", range(9))
    assert numbers(await page(subscription)) == upto(10)
    for seq in (10, 7, 3, 0):
        subscription.rewind(seq)
        assert subscription.position is not None
        assert subscription.position.seq == seq
        assert numbers(await subscription.poll()) == upto(10)[seq:]
    publish_many(hub, "e", range(1))
    assert numbers(await page(subscription)) == [11]


async def test_a_filtered_reader_gets_only_its_own_again(hub: StreamHub) -> None:
    subscription = hub.subscribe("e", types=["note"])
    for index in range(6):
        hub.publish("e", "note" if index % 2 else "token", index)
    first = numbers(await page(subscription))
    subscription.rewind(first[0])
    assert numbers(await page(subscription)) == first[1:]


@pytest.mark.parametrize("seq", [11, 12, 1_000])
async def test_nobody_goes_back_to_where_he_never_was(hub: StreamHub, seq: int) -> None:
    subscription = hub.subscribe("e")
    publish_many(hub, "e", range(12))
    await page(subscription, 10)
    with pytest.raises(BadPositionError):
        subscription.rewind(seq)
    assert numbers(await page(subscription)) == [11, 12, 13]


async def test_nobody_goes_back_before_his_start(hub: StreamHub) -> None:
    publish_many(hub, "e", range(9))
    state = await hub.describe("e")
    assert state is not None
    subscription = hub.subscribe("e", after=Position(state.epoch, 4))
    assert numbers(await page(subscription)) == [5, 6, 7, 8, 9, 10]
    subscription.rewind(2)
    assert numbers(await page(subscription)) == [5, 6, 7, 8, 9, 10]


async def test_before_anything_was_read_there_is_nothing_to_go_back_to(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    subscription.rewind(0)
    with pytest.raises(BadPositionError):
        subscription.rewind(1)
    publish_many(hub, "e", range(1))
    assert numbers(await page(subscription)) == [1, 2]


async def test_an_ended_reader_ends_again_at_the_same_update(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    await subscription.start()
    publish_many(hub, "e", range(3))
    await hub.close("e")
    hub.open("e")
    await hub.close("e")
    for seq in (0, 4, 5, 2):
        found = await page(subscription)
        assert (found.ended, subscription.position and subscription.position.seq) == (True, 5)
        subscription.rewind(seq)
    got = await collect(subscription)
    assert seqs(got) == [3, 4, 5]
    assert types(got)[-1] == "workflow_complete"


async def test_going_back_does_not_open_what_was_closed(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    publish_many(hub, "e", range(3))
    await page(subscription)
    subscription.close()
    subscription.rewind(1)
    found = await page(subscription)
    assert (numbers(found), found.ended) == ([], True)


@pytest.mark.parametrize(
    ("on_gap", "gap", "after"),
    [("oldest", Gap(3, 6, "evicted"), [7, 8, 9, 10, 11]), ("tail", Gap(3, 11, "evicted"), [])],
)
async def test_what_is_evicted_when_a_reader_goes_back_is_said(
    make_hub: MakeHub, on_gap: OnGap, gap: Gap, after: list[int]
) -> None:
    hub = make_hub(max_updates=5)
    publish_many(hub, "e", range(4))
    subscription = hub.subscribe("e", on_gap=on_gap)
    assert numbers(await page(subscription)) == upto(5)
    publish_many(hub, "e", range(6))
    subscription.rewind(2)
    found = await page(subscription)
    assert (found.gap, numbers(found), found.ended) == (gap, after, False)


@pytest.mark.parametrize("on_gap", ["oldest", "tail"])
async def test_an_ended_reader_does_not_get_into_the_next_run_when_its_end_is_evicted(
    make_hub: MakeHub, on_gap: OnGap
) -> None:
    hub = make_hub(max_updates=5)
    subscription = hub.subscribe("e", on_gap=on_gap)
    publish_many(hub, "e", range(2))
    await hub.close("e")
    assert numbers(await page(subscription)) == upto(4)
    hub.open("e")
    publish_many(hub, "e", range(20))
    subscription.rewind(1)
    found = await page(subscription)
    assert (numbers(found), found.ended) == ([], True)
    assert found.gap is not None
    assert (found.gap.first, found.gap.reason) == (2, "evicted")


async def test_a_new_life_of_the_log_is_the_new_start(make_hub: MakeHub) -> None:
    log = MemoryLog()
    hub = make_hub(log=log)
    publish_many(hub, "e", range(9))
    subscription = hub.subscribe("e", after="latest")
    await subscription.start()
    await log.drop("e")
    publish_many(hub, "e", range(3))
    first = await page(subscription)
    assert first.gap is not None
    assert first.gap.reason == "epoch_changed"
    got = numbers(first) or numbers(await page(subscription))
    subscription.rewind(0)
    assert numbers(await page(subscription)) == got


async def test_a_reader_that_waits_goes_on_at_once(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    publish_many(hub, "e", range(4))
    await page(subscription)
    task = await waiting(subscription)
    subscription.rewind(3)
    assert numbers(await soon(task)) == [4, 5]


async def test_what_was_being_read_when_a_reader_went_back_is_read_anew(make_hub: MakeHub) -> None:
    log = PausedLog()
    hub = make_hub(log=log)
    subscription = hub.subscribe("e")
    publish_many(hub, "e", range(4))
    await page(subscription)
    publish_many(hub, "e", range(4))
    log.go_on.clear()
    task = await _reading(subscription)
    subscription.rewind(2)
    log.go_on.set()
    assert numbers(await soon(task)) == upto(9)[2:]


async def _reading(subscription: Subscription) -> asyncio.Task[Page]:
    task = asyncio.create_task(subscription.next_page())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not task.done()
    return task
