"""An append that is interrupted at any point is atomic."""

import threading
from collections.abc import Callable

import pytest

from lg_streaming.log import Batch, MemoryLog
from lg_streaming.settings import RetentionSettings
from tests.log.drafts import draft, read_now
from tests.log.interrupts import interrupted

ERRORS = [KeyboardInterrupt, SystemExit, MemoryError]


def new_log(**retention: int) -> MemoryLog:
    return MemoryLog(RetentionSettings.model_validate(retention))


def newest(log: MemoryLog) -> set[str]:
    found = read_now(log, "e", 0, 0)
    assert found is not None
    last = read_now(log, "e", found.state.head - 5, 5)
    assert last is not None
    return {record.type for record in last.records}


def check(log: MemoryLog, acknowledged: set[str], whole: list[set[str]]) -> None:
    """Numbers are 1..N, all that was acknowledged is there once, and no batch is there in part."""
    found = read_now(log, "e", 0, 100_000)
    if found is None:
        assert not acknowledged
        return
    seqs = [record.seq for record in found.records]
    assert seqs == list(range(found.state.oldest, found.state.head + 1))
    assert [record.update.metadata.sequence_number for record in found.records] == seqs
    types = [record.type for record in found.records]
    assert len(set(types)) == len(types)
    if found.state.oldest == 1:
        assert acknowledged <= set(types)
    for batch in whole:
        assert batch <= set(types) or not batch & set(types) or found.state.oldest > 1


def appends_from_a_thread(log: MemoryLog, name: str) -> None:
    """The lock is free for others."""
    batch = Batch("e", [draft(name)], f"thread {name}", 1)
    thread = threading.Thread(target=log.append, args=(batch,), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


CASES: dict[str, tuple[dict[str, int], Callable[[int], list[tuple[str, str | None]]]]] = {
    "one update": ({}, lambda n: [(f"t{n}", None)]),
    "three updates": ({}, lambda n: [(f"t{n}/{each}", None) for each in range(3)]),
    "with keys": ({}, lambda n: [(f"t{n}/{each}", f"k{n}/{each}") for each in range(2)]),
    "trimmed by number": ({"max_updates": 5}, lambda n: [(f"t{n}/{each}", f"k{n}/{each}") for each in range(2)]),
    "trimmed by bytes": ({"max_bytes": 3_000}, lambda n: [(f"t{n}/{each}", None) for each in range(2)]),
    "trimmed by the total": ({"total_bytes": 6_000}, lambda n: [(f"t{n}", None)]),
}


SUDDEN = [("one update", SystemExit), ("with keys", MemoryError)]


@pytest.mark.parametrize(("case", "error"), [*((case, KeyboardInterrupt) for case in CASES), *SUDDEN])
def test_at_every_bytecode(case: str, error: type[BaseException]) -> None:
    retention, updates = CASES[case]
    log = new_log(**retention)
    heard: list[str] = []
    log.listen(heard.append)
    acknowledged: set[str] = set()
    whole: list[set[str]] = []
    log.append(Batch("e", [draft("first")], "p", 1))
    acknowledged.add("first")
    number = 1

    def append(at: int) -> None:
        nonlocal number
        number += 1
        drafts = [draft(name, key=key) for name, key in updates(at)]
        whole.append({each.type for each in drafts})
        log.append(Batch("e", drafts, "p", number))

    points = 0
    for at in interrupted(append, error):
        points += 1
        there = updates(at)[0][0] in newest(log)
        assert heard or not there, "who waits is woken"
        heard.clear()
        names = {name for name, _ in updates(at)}
        if there:
            acknowledged |= names
        # A producer tries again under the same number: then it is there, once.
        again = Batch("e", [draft(name, key=key) for name, key in updates(at)], "p", number)
        assert log.append(again) == 0
        acknowledged |= names
        number += 1
        log.append(Batch("e", [draft(f"after {at}")], "p", number))
        acknowledged.add(f"after {at}")
        assert f"after {at}" in newest(log)
        heard.clear()
    assert points > 100, "bytecodes"
    appends_from_a_thread(log, "last")
    check(log, acknowledged | {"last"}, whole)
    found = read_now(log, "e", 0, 1)
    assert found is not None
    assert log.total_bytes == log._streams["e"].memory  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("error", ERRORS)
async def test_at_every_bytecode_of_the_first_and_the_last_append(error: type[BaseException]) -> None:
    log = new_log()

    def first(at: int) -> None:
        log.append(Batch(f"e{at}", [draft("workflow_start")], "p", 1, "alice"))

    for at in interrupted(first, error):
        state = await log.state(f"e{at}")
        assert state is None or (state.head, state.owner) == (1, "alice"), "there is no empty execution"
        log.append(Batch(f"e{at}", [draft("workflow_start")], "p", 1, "alice"))
        assert list(await log.list_ids(owner="alice")) == [f"e{at}"] == list(await log.executions())
        await log.drop(f"e{at}")

    def last(at: int) -> None:
        log.append(Batch(f"e{at}", [draft("workflow_complete")], "p", 2, "alice"))

    log = new_log()
    log.append(Batch("e0", [draft("workflow_start")], "p", 1, "alice"))
    at = 0
    for at in interrupted(last, error):
        log.append(Batch(f"e{at}", [draft("workflow_complete")], "p", 2, "alice"))
        state = await log.state(f"e{at}")
        assert state is not None
        assert (state.state, state.head, state.ended) == ("completed", 2, True)
        assert log.total_bytes == log._streams[f"e{at}"].memory  # pyright: ignore[reportPrivateUsage]
        await log.drop(f"e{at}")
        log.append(Batch(f"e{at + 1}", [draft("workflow_start")], "p", 1, "alice"))
    assert await log.executions() == (f"e{at + 1}",), "and that one was not interrupted"


def test_at_every_bytecode_of_a_trim_and_a_read() -> None:
    now = [0.0]
    retention = RetentionSettings(ttl=10, record_ttl=20)
    log = MemoryLog(retention, monotonic=lambda: now[0])
    ended = [draft("workflow_start"), draft("token"), draft("workflow_complete")]
    for at in range(60):
        log.append(Batch(f"e{at:04}", ended, "p", 1))

    def read(at: int) -> None:
        read_now(log, "e0059", 0, 10)

    assert list(interrupted(read, KeyboardInterrupt))
    now[0] += 10

    def trim(_: int) -> None:
        log.trim(1)

    for at in interrupted(trim, KeyboardInterrupt):
        assert log.append(Batch("new", [draft("note")], "q", at)) == 0, "the lock is free"
    while log.trim(100):
        pass
    appends_from_a_thread(log, "alone")
    assert read_now(log, "e0000", 0, 10) is not None
    now[0] += 20
    while log.trim(100):
        pass
    assert log.total_bytes == 0
