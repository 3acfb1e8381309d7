"""A shared log refuses updates: their run has ended in another process, or the execution has another owner."""

import asyncio
import threading

import pytest

from lg_streaming import StreamingModule
from lg_streaming.hub import StreamHub
from tests.hub.faulty import FaultyLog
from tests.hub.helpers import MakeHub, contents, publish_many, until
from tests.hub.test_drops import dropped, warned


@pytest.fixture
def log() -> FaultyLog:
    return FaultyLog()


@pytest.fixture
def hub(make_hub: MakeHub, log: FaultyLog) -> StreamHub:
    return make_hub(log=log)


def types_of(log: FaultyLog, execution_id: str = "e") -> list[str]:
    return [record.type for record in log.stored(execution_id)]


async def end_elsewhere(hub: StreamHub, log: FaultyLog, execution_id: str = "e") -> None:
    await hub.writer.flush()
    run_id = hub.runs.current_run_id(execution_id)
    assert run_id is not None
    log.ended.add(run_id)


async def test_the_run_is_closed_here_and_its_updates_are_counted(
    hub: StreamHub, log: FaultyLog, caplog: pytest.LogCaptureFixture
) -> None:
    hub.open("e", metadata={"a": 1})
    await end_elsewhere(hub, log)
    publish_many(hub, "e", range(3))
    await hub.writer.flush()
    assert types_of(log) == ["workflow_start"]
    info = hub.info("e")
    assert info is not None
    assert (info.run_id, info.state, hub.statistics().running) == (None, "abandoned", 0)
    hub.publish("e", "token", "late")
    assert dropped(hub) == {"refused": 3, "late": 1}
    assert "ended in another process" in warned(caplog)[0]
    assert hub.health().status == "ok"
    assert hub.statistics().waiting == 0


async def test_what_waits_of_the_run_is_refused_with_it_and_a_later_run_is_not(hub: StreamHub, log: FaultyLog) -> None:
    hub.open("e")
    await end_elsewhere(hub, log)
    log.hold()
    publish_many(hub, "e", range(1))
    await until(log.entered.is_set)
    publish_many(hub, "e", range(1, 600))
    hub.publish("e", "token", "spare", delivery="at-most-once")
    ending = asyncio.create_task(hub.close("e"))
    await asyncio.sleep(0)
    hub.open("e")
    publish_many(hub, "e", ["of the second run"])
    log.release()
    await ending
    await hub.close("e")
    assert types_of(log) == ["workflow_start", "workflow_start", "token", "workflow_complete"]
    assert dropped(hub) == {"refused": 602}
    assert len(log.tried) < 6
    assert hub.statistics().waiting == 0


async def test_a_flush_includes_what_was_refused(hub: StreamHub, log: FaultyLog) -> None:
    hub.open("e")
    await end_elsewhere(hub, log)
    log.hold()
    hub.publish("e", "token", 1)
    await until(log.entered.is_set)
    flushes = [asyncio.create_task(hub.writer.flush())]
    for value in range(3):
        hub.publish("e", "token", value)
        flushes.append(asyncio.create_task(hub.writer.flush()))
        await asyncio.sleep(0)
    log.release()
    await asyncio.wait_for(asyncio.gather(*flushes), 10)
    assert dropped(hub) == {"refused": 4}


async def test_a_later_open_works(hub: StreamHub, log: FaultyLog) -> None:
    hub.open("e")
    await end_elsewhere(hub, log)
    hub.publish("e", "token")
    await hub.writer.flush()
    hub.open("e")
    hub.publish("e", "token", 2)
    await hub.close("e")
    assert types_of(log) == ["workflow_start", "workflow_start", "token", "workflow_complete"]
    assert contents(record.update for record in log.stored()) == [2]


async def test_handlers_are_called_once_so_that_the_graph_stops(hub: StreamHub, log: FaultyLog) -> None:
    reasons: list[str | None] = []
    called = threading.Event()
    hub.open("e")
    hub.on_cancel("e", lambda reason: (reasons.append(reason), called.set()))
    await end_elsewhere(hub, log)
    publish_many(hub, "e", range(5))
    await until(called.is_set)
    await hub.writer.flush()
    assert len(reasons) == 1
    assert "another process" in (reasons[0] or "")
    assert types_of(log) == ["workflow_start"]


async def test_a_block_is_cancelled(log: FaultyLog) -> None:
    streaming = StreamingModule(log=log)
    entered = asyncio.Event()

    async def work() -> None:
        async with streaming.execution("e"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    await end_elsewhere(streaming.hub, log)
    streaming.hub.publish("e", "token")
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    await streaming.hub.writer.flush()
    assert types_of(log) == ["workflow_start"]
    await streaming.aclose()


async def test_buffered_text_of_the_run_is_dropped_and_its_streams_are_closed(log: FaultyLog) -> None:
    streaming = StreamingModule(log=log)
    streaming.hub.open("e")
    await end_elsewhere(streaming.hub, log)
    streaming.tokens.stream_token("e", "node", "text")
    streaming.hub.publish("e", "note")
    await streaming.hub.writer.flush()
    assert streaming.hub.statistics().running == 0
    assert types_of(log) == ["workflow_start"]
    await streaming.aclose()


async def test_the_owner_of_the_log_replaces_a_refused_one(hub: StreamHub, log: FaultyLog) -> None:
    log.owners["e"] = "alice"
    log.hold()
    hub.open("e", owner="mallory")
    publish_many(hub, "e", range(3))
    log.release()
    await hub.writer.flush()
    assert types_of(log) == []
    assert dropped(hub) == {"refused": 4}
    assert hub.registry.executions["e"].owner is None
    hub.open("e", owner="alice")
    await hub.close("e")
    assert types_of(log) == ["workflow_start", "workflow_complete"]


async def test_a_refused_owner_is_refused_also_at_a_run_that_has_begun_since(hub: StreamHub, log: FaultyLog) -> None:
    log.owners["e"] = "alice"
    log.hold()
    hub.open("other")
    await until(log.entered.is_set)
    hub.open("e", owner="mallory")
    ending = asyncio.create_task(hub.close("e"))
    await asyncio.sleep(0)
    hub.open("e", owner="mallory")
    hub.publish("e", "token", 1)
    log.release()
    await ending
    await hub.writer.flush()
    assert types_of(log) == []
    assert dropped(hub) == {"refused": 4}
    assert hub.registry.executions["e"].owner is None


async def test_a_run_before_a_refused_one_is_kept(hub: StreamHub, log: FaultyLog) -> None:
    log.owners["e"] = "alice"
    hub.open("e")
    await hub.writer.flush()
    log.hold()
    hub.open("other")
    await until(log.entered.is_set)
    publish_many(hub, "e", range(3))
    ending = asyncio.create_task(hub.close("e"))
    await asyncio.sleep(0)
    hub.open("e", owner="mallory")
    log.release()
    await ending
    await hub.writer.flush()
    assert types_of(log) == ["workflow_start", "token", "token", "token", "workflow_complete"]
    assert dropped(hub) == {"refused": 1}


async def test_others_are_not_touched(hub: StreamHub, log: FaultyLog) -> None:
    for name in "ef":
        hub.open(name)
    await end_elsewhere(hub, log)
    publish_many(hub, "e", [1])
    publish_many(hub, "f", [1, 2])
    await hub.close("f")
    assert types_of(log, "f") == ["workflow_start", "token", "token", "workflow_complete"]
    assert hub.statistics().lost == 0


async def test_a_hub_that_closes_calls_no_handler(hub: StreamHub, log: FaultyLog) -> None:
    called: list[object] = []
    hub.open("e")
    hub.on_cancel("e", called.append)
    await end_elsewhere(hub, log)
    log.hold()
    hub.publish("e", "token")
    closing = asyncio.create_task(hub.aclose())
    await until(log.entered.is_set)
    await until(lambda: hub.registry.closed)
    log.release()
    await closing
    assert called == []
    assert dropped(hub) == {"refused": 1}


async def test_an_async_handler_runs_on_the_loop_of_its_registration(hub: StreamHub, log: FaultyLog) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def stop(_: str | None) -> None:
        loops.append(asyncio.get_running_loop())

    hub.open("e")
    hub.on_cancel("e", stop)
    await end_elsewhere(hub, log)
    hub.publish("e", "token")
    await until(lambda: len(loops) == 1)
    assert loops == [asyncio.get_running_loop()]
