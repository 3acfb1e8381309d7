"""Guarantees of the log in memory in addition to the contract."""

from lg_streaming.log import MemoryLog
from lg_streaming.log.run_state import memory_of
from lg_streaming.settings import RetentionSettings
from tests.log.drafts import Producer, read_now
from tests.log.harness import Clock


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


def test_it_evicts_no_more_than_it_must() -> None:
    log = MemoryLog(RetentionSettings(max_bytes=10_000))
    producer = Producer(log)
    sizes: list[int] = []
    for _ in range(100):
        producer.append("token")
        found = read_now(log, "e", 0, 1_000)
        assert found is not None
        sizes = [memory_of(record) for record in found.records]
        assert sum(sizes) <= 10_000
    assert sum(sizes) + sizes[0] > 10_000


def test_a_listener_can_read_new_updates_when_it_is_called() -> None:
    log, heads = MemoryLog(), list[int]()

    def look(execution_id: str) -> None:
        found = read_now(log, execution_id, 0, 0)
        heads.append(0 if found is None else found.state.head)

    log.listen(look)
    producer = Producer(log)
    producer.append("a")
    producer.append("b", "c")
    assert heads == [1, 3]


def test_appends_to_a_watched_execution_are_notified_once() -> None:
    log, notified = MemoryLog(), list[str]()
    log.listen(notified.append)
    unwatch = log.watch("e")
    Producer(log).append("a", "b")
    unwatch()
    assert notified == ["e"]
