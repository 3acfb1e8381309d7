"""Guarantees of the log in memory in addition to the contract."""

from lg_streaming.log import MemoryLog
from lg_streaming.log.run_state import memory_of
from lg_streaming.settings import RetentionSettings
from tests.log.drafts import Producer, read_now
from tests.log.factories import Clock


def test_its_size_is_that_of_the_records_it_keeps() -> None:
    log = MemoryLog(RetentionSettings(max_updates=2))
    assert log.size("e") == 0
    Producer(log).append("a", "b", "c")
    found = read_now(log, "e", 0, 10)
    assert found is not None
    assert log.size("e") == sum(memory_of(record) for record in found.records)


def test_aging_frees_the_bytes() -> None:
    clock = Clock()
    log = MemoryLog(RetentionSettings(ttl=10), monotonic=clock)
    Producer(log).append("workflow_start", "token", "workflow_complete")
    full = log.size("e")
    clock.now += 10
    log.trim()
    assert 0 < log.size("e") < full


def test_the_epoch_can_be_given() -> None:
    log = MemoryLog(new_epoch=lambda: "E1")
    Producer(log).append("a")
    found = read_now(log, "e", 0, 1)
    assert found is not None
    assert str(found.records[0].position) == "E1:1"
