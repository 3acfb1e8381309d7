"""Reading what is in the log now, without waiting for more."""

import asyncio

import pytest

from lg_streaming.errors import GapError, LogUnavailableError
from lg_streaming.hub import Gap, Page, StreamHub
from lg_streaming.log.base import ReadResult
from lg_streaming.log.memory import MemoryLog
from tests.hub.helpers import MakeHub, Threads, page, publish_many, upto


def numbers(found: Page | None) -> list[int]:
    return [] if found is None else [record.seq for record in found.records]


class FailingLog(MemoryLog):
    """A log that cannot be read while ``fails`` is set."""

    fails = False

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        if self.fails:
            raise LogUnavailableError
        return await super().read(execution_id, after, limit)


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
    log = FailingLog()
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
