"""A drop or a list that is interrupted, wherever that is, leaves the log whole: what it counts, lists and locks."""

import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lg_streaming.log import Batch, MemoryLog
from tests.log.drafts import draft
from tests.log.interrupts import interrupted


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine of the log in memory, which never waits, and return its result."""
    try:
        work.send(None)
    except StopIteration as stopped:
        return stopped.value
    raise AssertionError("it waited")


def append(log: MemoryLog, execution_id: str, name: str = "t") -> None:
    """From another thread, so that a lock that is kept shows."""
    batch = Batch(execution_id, [draft(name)], f"p {execution_id} {name}", 1, "owner")
    thread = threading.Thread(target=log.append, args=(batch,), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def check(log: MemoryLog) -> None:
    ids = sorted(run(log.executions()))
    assert list(run(log.list_ids())) == ids
    assert list(run(log.list_ids(owner="owner"))) == ids
    assert log._total == sum(tape.memory for tape in log._streams.values())  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_drop_at_every_bytecode(error: type[BaseException]) -> None:
    log = MemoryLog()
    heard: list[str] = []
    log.listen(heard.append)
    append(log, "kept")

    def drop(at: int) -> None:
        append(log, f"e{at}")
        heard.clear()
        run(log.drop(f"e{at}"))

    for at in interrupted(drop, error, inside=("/lg_streaming/log/",)):
        assert heard or f"e{at}" in run(log.executions()), "it is gone, and nobody was told"
        append(log, f"e{at}", "again")
        check(log)
        run(log.drop(f"e{at}"))
        check(log)
    assert list(run(log.list_ids())) == ["kept"]


LISTS: dict[str, Callable[[MemoryLog], Any]] = {
    "all": lambda log: run(log.list_ids()),
    "an owner's": lambda log: run(log.list_ids(owner="owner", prefix="e")),
    "after a drop that was interrupted": lambda log: setattr(log, "_needs_rebuild", True) or run(log.list_ids()),
    "a listener": lambda log: log.listen(lambda _: None)(),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_at_every_bytecode(name: str) -> None:
    log = MemoryLog()
    for number in range(3):
        append(log, f"e{number}")

    def call(_: int) -> None:
        log._listeners = ()  # pyright: ignore[reportPrivateUsage]
        LISTS[name](log)

    every = 11 if "interrupted" in name else 1  # it makes all indexes anew
    for at in interrupted(call, KeyboardInterrupt, every=every, inside=("/lg_streaming/log/",)):
        append(log, f"e{at % 3}", f"t{at}")
        check(log)
