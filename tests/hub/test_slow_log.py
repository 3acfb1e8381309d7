"""With a log that takes its time everything works as with one that does not."""

import asyncio
from functools import partial

import pytest

from lg_streaming.hub import StreamHub
from lg_streaming.publisher import RunOutcome
from tests.hub.faulty import FaultyLog
from tests.hub.helpers import MakeHub, Threads, collect, contents, page, publish_many, seqs, types, until, upto, waiting


@pytest.fixture
def log() -> FaultyLog:
    return FaultyLog(delay=0.003)


@pytest.fixture
def hub(make_hub: MakeHub, log: FaultyLog) -> StreamHub:
    return make_hub(log=log)


async def test_publishing_does_not_wait_for_the_log(hub: StreamHub, log: FaultyLog) -> None:
    log.hold()
    publish_many(hub, "e", range(5_000))
    assert log.stored() == ()
    assert hub.statistics().waiting == 5_001
    log.release()
    await hub.writer.flush()
    assert [record.seq for record in log.stored()] == upto(5_001)
    assert hub.statistics().waiting == 0


async def test_order_is_kept_and_nothing_is_lost_or_doubled(hub: StreamHub) -> None:
    reader = asyncio.create_task(collect(hub.subscribe("e")))
    publish_many(hub, "e", range(2_000))
    await hub.close("e")
    got = await reader
    assert seqs(got) == upto(2_002)
    assert contents(got) == list(range(2_000))


async def test_a_reader_sees_updates_while_the_run_goes_on(hub: StreamHub) -> None:
    subscription = hub.subscribe("e")
    for index in range(10):
        task = await waiting(subscription)
        hub.publish("e", "token", index)
        records = (await task).records
        while records[-1].update.data != index:
            records = (await page(subscription)).records


async def test_a_reader_whose_notifications_are_lost_looks_by_itself(make_hub: MakeHub) -> None:
    hub = make_hub(log=FaultyLog(mute=True))
    reader = asyncio.create_task(collect(hub.subscribe("e")))
    await until(lambda: hub.statistics().subscriptions == 1)
    hub.publish("e", "token", 1)
    await hub.close("e")
    assert seqs(await reader) == upto(3)


async def test_close_returns_when_the_log_has_the_end(hub: StreamHub, log: FaultyLog) -> None:
    publish_many(hub, "e", range(300))
    await hub.close("e", "done")
    assert log.stored()[-1].type == "workflow_complete"
    state = await hub.describe("e")
    assert state is not None
    assert state.ended


async def test_close_waits_as_long_as_the_log_takes(hub: StreamHub, log: FaultyLog) -> None:
    log.hold()
    hub.open("e")
    closing = asyncio.create_task(hub.close("e"))
    await until(log.entered.is_set)
    assert not closing.done()
    log.release()
    await closing
    assert log.stored()[-1].is_final


async def test_giving_up_the_wait_for_close_harms_nobody(hub: StreamHub, log: FaultyLog) -> None:
    log.hold()
    hub.open("e")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hub.close("e"), 0.01)
    log.release()
    hub.publish("f", "token", 1)
    await hub.close("f")
    assert [record.type for record in log.stored()] == ["workflow_start", "workflow_complete"]
    assert [record.seq for record in log.stored("f")] == upto(3)


async def test_threads_write_to_several_executions_each_in_its_order(hub: StreamHub, log: FaultyLog) -> None:
    names = ["a", "b", "c"]
    await Threads(*(partial(publish_many, hub, name, range(500)) for name in names)).start().join()
    for name in names:
        await hub.close(name)
        assert [record.update.data for record in log.stored(name)][1:-1] == list(range(500))


async def test_updates_of_an_execution_share_a_batch(hub: StreamHub, log: FaultyLog) -> None:
    publish_many(hub, "e", range(1_000))
    await hub.writer.flush()
    assert len(log.tried) < 20
    assert [batch.number for batch in log.tried] == upto(len(log.tried))


async def test_a_run_ends_once_and_a_new_one_begins_before_the_log_knows(hub: StreamHub, log: FaultyLog) -> None:
    log.hold()
    for _ in range(3):
        run_id = hub.runs.join_run("e")
        hub.publish("e", "token")
        hub.runs.leave_run("e", run_id, RunOutcome("workflow_complete", {}))
        hub.publish("e", "token", "late")
    log.release()
    await hub.writer.flush()
    assert [record.type for record in log.stored()] == ["workflow_start", "token", "workflow_complete"] * 3
    assert hub.statistics().dropped_late == 3


async def test_the_owner_goes_with_the_first_batch(hub: StreamHub) -> None:
    hub.open("e", owner="alice")
    await hub.writer.flush()
    state = await hub.describe("e")
    assert state is not None
    assert state.owner == "alice"


async def test_closing_the_hub_brings_what_waits_to_the_log(log: FaultyLog, make_hub: MakeHub) -> None:
    hub = make_hub(log=log)
    kept: list[int] = []
    log.memory.listen(lambda _: kept.append(len(log.stored())))
    log.hold()
    publish_many(hub, "e", range(700))
    closing = asyncio.create_task(hub.aclose())
    await until(log.entered.is_set)
    log.release()
    await closing
    assert kept[-1] == 701
    assert hub.statistics().waiting == 0


async def test_flushing_an_idle_hub_returns_at_once(hub: StreamHub) -> None:
    await hub.writer.flush()
    hub.publish("e", "token")
    await hub.writer.flush()
    await hub.writer.flush()
    await hub.aclose()
    await hub.writer.flush()


async def test_observers_hear_all_of_it(hub: StreamHub) -> None:
    got: list[str] = []
    ended = asyncio.Event()
    hub.observe("e").subscribe(lambda update: got.append(update.type), on_completed=ended.set)
    publish_many(hub, "e", range(100))
    await hub.close("e")
    await asyncio.wait_for(ended.wait(), 10)
    assert got == ["workflow_start", *["token"] * 100, "workflow_complete"]


async def test_late_readers_begin_at_the_beginning(hub: StreamHub) -> None:
    publish_many(hub, "e", range(10))
    await hub.close("e")
    assert types(await collect(hub.subscribe("e")))[0] == "workflow_start"
