"""Memory of the log in memory: of one execution, of all together, and among a hundred thousand."""

import gc
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from lg_streaming.codec import Codec
from lg_streaming.log import Batch, MemoryLog
from lg_streaming.log.sorted_keys import SortedKeys
from lg_streaming.publisher import Scope
from lg_streaming.settings import RetentionSettings
from tests.log.drafts import draft
from tests.log.harness import Clock
from tests.support.heap import young_heap

MIB = 1024 * 1024


class Writer:
    """Appends updates of a size, dated in the order in which they come."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.number = 0
        self.codec = Codec()  # not shared: it caches names

    def write(self, execution_id: str, type: str = "token", size: int = 0, **more: str) -> None:
        self.number += 1
        made = draft(type, "x" * size, execution_id=execution_id, codec=self.codec)._replace(
            timestamp=float(self.number)
        )
        self.log.append(Batch(execution_id, [made], "p", self.number, more.get("owner")))


@pytest.fixture(scope="module", autouse=True)
def heap() -> Iterator[None]:
    """Guard against objects left in memory by earlier tests."""
    with young_heap():
        yield


@pytest.fixture
def traced() -> Iterator[Callable[[], int]]:
    """The bytes that were taken since the test began."""
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()

    def taken() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    yield taken
    tracemalloc.stop()


def log_of(**retention: float | None) -> MemoryLog:
    return MemoryLog(RetentionSettings.model_validate(retention))


@pytest.mark.parametrize("size", [20, 2_000, 100_000])
def test_one_execution_takes_no_more_than_max_bytes(traced: Callable[[], int], size: int) -> None:
    log = log_of(max_bytes=2 * MIB, max_updates=1_000_000)
    writer = Writer(log)
    for _ in range(6 * MIB // (size + 400)):
        writer.write("e", size=size)
    assert traced() <= 2.2 * MIB + size
    assert log.size("e") > 2 * MIB - size - 1_000, "and no less than it may"


def test_scopes_and_keys_count(traced: Callable[[], int]) -> None:
    log, codec = log_of(max_bytes=2 * MIB), Codec()
    for number in range(400):
        scope = Scope(extra={"notes": [str(number) * 2_000 for _ in range(4)]})
        body = codec.encode("e", "token", None, scope=scope, priority="medium", timestamp=0.0)
        made = draft("token", key=f"{number}" * 100)._replace(scope=scope, body=body)
        log.append(Batch("e", [made], "p", number + 1))
    assert traced() <= 2.4 * MIB


async def test_all_executions_take_no_more_than_total_bytes(traced: Callable[[], int]) -> None:
    log = log_of(total_bytes=4 * MIB)
    writer = Writer(log)
    for execution in range(100):
        for _ in range(10):
            writer.write(f"running-{execution}", size=10_000)
    assert traced() <= 4.4 * MIB
    assert log.total_bytes <= 4 * MIB
    assert len(await log.executions()) == 100, "of each, the newest update stays"


async def oldest(log: MemoryLog, execution_id: str) -> int | None:
    state = await log.state(execution_id)
    return None if state is None else state.oldest


async def test_ended_executions_go_first_the_oldest_first() -> None:
    log = log_of(total_bytes=200_000)
    writer = Writer(log)
    writer.write("running", size=1_000)
    for name in ("first", "second", "third"):
        for _ in range(5):
            writer.write(name, size=8_000)
        writer.write(name, "workflow_complete")
    writer.write("running", size=60_000)
    assert [await oldest(log, name) for name in ("first", "second", "third", "running")] == [1, 1, 1, 1]
    writer.write("running", size=30_000)
    assert [await oldest(log, name) for name in ("first", "second", "third", "running")] == [6, 1, 1, 1]
    state = await log.state("first")
    assert state is not None
    assert (state.state, state.head, state.ended) == ("completed", 6, True)
    writer.write("running", size=40_000)
    assert [await oldest(log, name) for name in ("first", "second", "third", "running")] == [6, 6, 1, 1]


async def test_then_the_oldest_updates_of_running_ones() -> None:
    log = log_of(total_bytes=100_000)
    writer = Writer(log)
    for _ in range(5):
        writer.write("old", size=8_000)
    for _ in range(5):
        writer.write("young", size=8_000)
    for _ in range(2):
        writer.write("young", size=8_000)
        assert await oldest(log, "young") == 1
    for _ in range(10):
        writer.write("old", size=8_000)
        assert log.total_bytes <= 100_000
    assert (await oldest(log, "old") or 0) > 5
    assert (await oldest(log, "young") or 0) > 2


def test_no_bound_is_no_bound() -> None:
    log = log_of(total_bytes=None, max_bytes=100 * MIB)
    writer = Writer(log)
    for number in range(60):
        writer.write(f"e{number}", size=200_000)
    assert log.total_bytes > 60 * 200_000


async def test_what_is_past_its_time_costs_nothing(traced: Callable[[], int]) -> None:
    clock = Clock()
    log = MemoryLog(RetentionSettings(), monotonic=clock)
    writer = Writer(log)
    left = 0
    for wave in range(2):  # tables grow once
        before = traced()
        for number in range(1_000):
            name = f"e{number}"
            writer.write(name, "workflow_start", owner=f"owner {number}")
            for _ in range(5):
                writer.write(name, size=500)
            writer.write(name, "workflow_complete")
        clock.now += 900
        log.trim()
        assert wave == 0 or (traced() - before) / 1_000 <= 2_500, "bytes of an ended run, until record_ttl"
        clock.now += 86_400
        log.trim()
        left = traced() - before
    assert left <= 20_000
    assert log.total_bytes == 0
    assert await log.executions() == ()
    assert await log.list_ids(owner="owner 7") == ()


def best(work: Callable[[], object], *, times: int = 200) -> float:
    taken: list[float] = []
    for _ in range(times):
        began = time.process_time_ns()
        work()
        taken.append(time.process_time_ns() - began)
    return sorted(taken)[times // 4]


async def test_among_a_hundred_thousand_everything_costs_as_before() -> None:
    async def costs(count: int) -> dict[str, float]:
        clock = Clock()
        log = MemoryLog(RetentionSettings(total_bytes=None), monotonic=clock)
        made = draft("workflow_start")
        for number in range(count):
            log.append(Batch(f"e{number:06}", [made], "p", 1, f"owner {number % (count // 10)}"))
        names, appends, drops = iter(range(10**6)), iter(range(2, 10**6)), iter(range(count // 2, count))

        def step(call: Coroutine[Any, Any, object]) -> None:
            with pytest.raises(StopIteration):
                next(call.__await__())

        return {
            "append": best(lambda: log.append(Batch("e000007", [made], "p", next(appends)))),
            "begin": best(lambda: log.append(Batch(f"new {next(names)}", [made], "p", 1))),
            "list": best(lambda: step(log.list_ids(after="e000300", limit=50))),
            "of an owner": best(lambda: step(log.list_ids(owner="owner 3", limit=50))),
            "with a prefix": best(lambda: step(log.list_ids(prefix="e0009", limit=50))),
            "drop": best(lambda: step(log.drop(f"e{next(drops):06}"))),
            "trim": best(lambda: log.trim(100)),
        }

    few, many = await costs(1_000), await costs(100_000)
    slower = {name: many[name] / few[name] for name in few if many[name] > 4 * few[name] + 20_000}
    assert not slower


def test_sorted_keys_are_a_sorted_set() -> None:
    keys: SortedKeys[int] = SortedKeys()
    known: set[int] = set()
    for number in range(6_000):
        key = number * 7_919 % 2_003
        if number % 3:
            keys.add(key)
            known.add(key)
        else:
            keys.discard(key)
            known.discard(key)
    ordered = sorted(known)
    assert keys.after(-1, 10_000) == ordered
    assert keys.from_key(ordered[5], 3) == ordered[5:8]
    assert keys.after(ordered[5], 700) == ordered[6:706]
    assert (keys.first, len(keys)) == (ordered[0], len(ordered))
    for key in ordered:
        keys.discard(key)
    assert not keys
    assert keys.first is None
