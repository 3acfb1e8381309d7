"""Publishing that is interrupted, wherever that is, leaves a hub that goes on."""

import asyncio
import threading
from pathlib import Path

import pytest

import lg_streaming
from lg_streaming.hub import StreamHub
from lg_streaming.log import MemoryLog
from lg_streaming.publisher import RunOutcome
from tests.hub.helpers import PATIENCE, MakeHub, collect, seqs, types
from tests.log.drafts import read_now
from tests.log.interrupts import interrupted

PACKAGE = Path(lg_streaming.__file__).parent
PARTS = ("runs", "run_opener", "status_writer", "registry", "execution", "writer")
STATE = [str(PACKAGE / f"hub/{name}.py") for name in PARTS] + [f"{PACKAGE}/log/"]
"""Files that have the state of runs."""
assert all(Path(each).exists() for each in STATE)


def publish_from_a_thread(hub: StreamHub, execution_id: str) -> None:
    thread = threading.Thread(target=hub.publish, args=(execution_id, "from_a_thread"), daemon=True)
    thread.start()
    thread.join(2 * PATIENCE)
    assert not thread.is_alive(), "no lock is left behind"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
async def test_a_publish_is_there_once_or_not_at_all(make_hub: MakeHub, error: type[BaseException]) -> None:
    hub = make_hub()
    hub.open("e")

    def publish(at: int) -> None:
        hub.publish("e", f"note_{at}", at)

    points = 0
    for at in interrupted(publish, error):
        hub.publish("e", f"after_{at}")
        points += 1
    assert points > 200
    publish_from_a_thread(hub, "e")
    await hub.close("e")
    got = await collect(hub.subscribe("e"))
    assert seqs(got) == list(range(1, len(got) + 1))
    assert len(set(types(got))) == len(got)
    after = [each for each in types(got) if each.startswith("after_")]
    assert after == [f"after_{at}" for at in range(points)]
    assert (got[-2].type, got[-1].type) == ("from_a_thread", "workflow_complete")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_a_run_is_open_if_and_only_if_the_log_has_its_start(
    make_hub: MakeHub, error: type[BaseException]
) -> None:
    hub = make_hub()
    log = hub.log
    assert isinstance(log, MemoryLog)

    def opening(at: int) -> None:
        hub.open(f"e{at}")

    for at in interrupted(opening, error, inside=STATE, every=3):
        found = read_now(log, f"e{at}", 0, 10)
        started = found is not None and [each.type for each in found.records] == ["workflow_start"]
        assert hub.registry.is_running(f"e{at}") == started
        publish_from_a_thread(hub, f"e{at}")
        await hub.close(f"e{at}")
        got = types(await collect(hub.subscribe(f"e{at}")))
        assert got == ["workflow_start", "from_a_thread", "workflow_complete"]
    assert hub.statistics().running == 1, "the one that was not interrupted"


async def test_an_end_is_there_once_and_the_run_is_over(make_hub: MakeHub) -> None:
    hub = make_hub()
    run_id = hub.runs.join_run("e0")

    def ending(at: int) -> None:
        hub.runs.leave_run(f"e{at}", run_id, RunOutcome("workflow_complete", {}))

    for at in interrupted(ending, KeyboardInterrupt, inside=STATE, every=3):
        await hub.close(f"e{at}")
        assert not hub.registry.is_running(f"e{at}")
        assert types(await collect(hub.subscribe(f"e{at}"))) == ["workflow_start", "workflow_complete"]
        run_id = hub.runs.join_run(f"e{at + 3}")
    assert hub.statistics().running == 0


async def test_a_reader_that_waits_gets_what_was_interrupted(make_hub: MakeHub) -> None:
    hub = make_hub()
    hub.open("e")
    reading = asyncio.create_task(collect(hub.subscribe("e")))
    await asyncio.sleep(0)

    def publish(at: int) -> None:
        hub.publish("e", f"note_{at}")

    for _ in interrupted(publish, KeyboardInterrupt, every=7):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await hub.close("e")
    got = await reading
    assert seqs(got) == list(range(1, len(got) + 1))
