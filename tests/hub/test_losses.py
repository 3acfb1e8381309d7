"""Through any faults a log has exactly what was published, or `updates_lost` counts what is missing."""

import asyncio
import random
from collections import Counter
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_streaming.codec import add_position
from lg_streaming.hub import StreamHub
from lg_streaming.hub.execution import Execution
from lg_streaming.log.base import PendingUpdate
from tests.hub.faulty import Fault, FaultyLog
from tests.hub.helpers import Threads, settings_of

NAMES = ("a", "b", "c")
EACH = 60


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._FIRST_DELAY", 0.0002)
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._LAST_DELAY", 0.0005)
    monkeypatch.setattr("lg_streaming.hub.buffered_writer._SPACING", 0.0005)


class Published:
    """Drafts that reached the hub's writer, in order: it is called under the execution's lock."""

    def __init__(self, hub: StreamHub) -> None:
        self.drafts: dict[str, list[PendingUpdate]] = {name: [] for name in NAMES}
        self._append = hub.writer.append
        hub.writer.append = self  # pyright: ignore[reportAttributeAccessIssue]

    def __call__(self, execution: Execution, drafts: list[PendingUpdate]) -> None:
        self.drafts[execution.execution_id] += drafts
        self._append(execution, drafts)


def publish_some(hub: StreamHub, log: FaultyLog, thread: int, seed: int, breaks: bool) -> None:
    dice = random.Random(seed * 10 + thread)
    for number in range(EACH):
        options: dict[str, Any] = dice.choice(
            [{}, {}, {"delivery": "at-most-once"}, {"key": f"{thread}-{number}"}, {"key": f"k{dice.randrange(5)}"}]
        )
        hub.publish(dice.choice(NAMES), "note", [thread, number], **options)
        if number % 10 == 0:
            log.away = dice.random() < 0.3
            log.unreachable = {name for name in NAMES if dice.random() < 0.3}
            log.broken = {name for name in NAMES if breaks and dice.random() < 0.3}


def key_of(draft: PendingUpdate) -> tuple[str, str]:
    data: Any = orjson.loads(add_position(draft.body, 0, ""))["data"]
    return draft.type, orjson.dumps(data if draft.type == "note" else draft.scope.run_id).decode()


async def check(seed: int, faults: list[Fault], capacity: int, breaks: bool) -> None:
    log = FaultyLog()
    hub = StreamHub(settings_of(producer_buffer_updates=capacity), log=log)
    published = Published(hub)
    try:
        for name in NAMES:
            hub.open(name)
        log.fail_next(*faults)
        jobs = [partial(publish_some, hub, log, thread, seed, breaks) for thread in range(4)]
        await Threads(*jobs).start().join()
        log.away, log.unreachable, log.broken = False, set(), set()
        await hub.writer.flush()
        for name in NAMES:
            hub.publish(name, "note", "last")  # a notice precedes it
            await hub.close(name)
        statistics = hub.statistics()
        lost = at_most_once = 0
        for name in NAMES:
            missing, counted = compare(log, name, published.drafts[name])
            at_most_once += missing.pop("at-most-once", 0)
            assert sum(missing.values()) == counted + log.skipped[name]
            lost += counted
        assert (lost, statistics.waiting) == (statistics.lost, 0)
        if "reply lost" in faults:  # such an update may be counted, and be in the log
            assert at_most_once <= statistics.dropped_at_most_once
        else:
            assert at_most_once == statistics.dropped_at_most_once
    finally:
        await hub.aclose()


def compare(log: FaultyLog, name: str, drafts: list[PendingUpdate]) -> tuple[Counter[str], int]:
    """Count the missing drafts by delivery, and those that notices count; the order has to be that of the drafts."""
    missing: Counter[str] = Counter()
    counted, following = 0, iter(drafts)
    stored = log.stored(name)
    assert [record.seq for record in stored] == list(range(1, len(stored) + 1))
    for record in stored:
        if record.type == "updates_lost":
            counted += record.update.data["count"]
            continue
        wanted = (
            record.type,
            orjson.dumps(record.update.data if record.type == "note" else record.scope.run_id).decode(),
        )
        for draft in following:
            if key_of(draft) == wanted:
                break
            missing[draft.delivery] += 1
        else:
            raise AssertionError(f"{wanted} is out of order, or is there twice")
        assert missing["at-least-once"] + missing["exactly-once"] >= counted  # no notice precedes the loss
    assert next(following, None) is None
    return missing, counted


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1_000_000),
    faults=st.lists(st.sampled_from(["away", "reply lost"]), max_size=12),
    strange=st.integers(0, 9),
    capacity=st.sampled_from([8, 30, 1_000]),
)
def test_faults_that_pass(seed: int, faults: list[Fault], strange: int, capacity: int) -> None:
    more: list[Fault] = ["strange"]
    mixed: list[Fault] = [*faults, *more * strange]
    random.Random(seed).shuffle(mixed)
    asyncio.run(check(seed, mixed, capacity, breaks=False))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1_000_000),
    faults=st.lists(st.sampled_from(["away", "strange"]), max_size=12),
    capacity=st.sampled_from([8, 30, 1_000]),
)
def test_faults_at_which_batches_are_given_up(seed: int, faults: list[Fault], capacity: int) -> None:
    asyncio.run(check(seed, faults, capacity, breaks=True))
