"""The contract suite for logs notices faults of a log, and runs in the tests of others."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from lg_streaming.log import Batch, EventLog, MemoryLog, ReadResult
from lg_streaming.settings import RetentionSettings
from lg_streaming.testing.log_contract import LogContract, LogHarness, check_random_steps
from tests.docs.fences import blocks_of


class Harness(LogHarness):
    def __init__(self, kind: type[MemoryLog]) -> None:
        self.kind = kind

    def make(self, retention: RetentionSettings) -> EventLog:
        return self.kind(retention)


class Doubling(MemoryLog):
    """Stores a repeated batch again."""

    def append(self, batch: Batch) -> int:
        return super().append(batch._replace(producer=f"{id(batch)}-{self.monotonic()}", number=1))


class Losing(MemoryLog):
    """Loses the last record of a page."""

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        found = await super().read(execution_id, after, limit)
        return found and ReadResult(found.state, found.records[:-1] if len(found.records) > 1 else found.records)


class Skipping(MemoryLog):
    """Begins a page one record too late."""

    async def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        found = await super().read(execution_id, after, limit)
        return found and ReadResult(found.state, found.records[1:] if len(found.records) > 1 else found.records)


class Silent(MemoryLog):
    """Does not notify of every second append."""

    def append(self, batch: Batch) -> int:
        listeners = self._listeners
        if batch.number % 2:
            self._listeners = ()
        try:
            return super().append(batch)
        finally:
            self._listeners = listeners


def test_the_random_test_passes_for_a_log_without_time() -> None:
    check_random_steps(Harness(MemoryLog), examples=5)


def results(pytester: pytest.Pytester, *arguments: str) -> dict[str, int]:
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-q", *arguments).parseoutcomes()


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        (Doubling, "test_a_repeated_batch_is_stored_once"),
        (Losing, "test_updates_are_numbered_from_one_in_order"),
        (Skipping, "test_batches_do_not_matter_to_a_reader"),
        (Silent, "test_a_listener_is_called_after_each_append_until_it_stops"),
    ],
)
def test_a_case_notices(pytester: pytest.Pytester, kind: type[MemoryLog], case: str) -> None:
    pytester.makepyfile(f"""
        import pytest
        from lg_streaming.testing.log_contract import LogContract
        from tests.testing.test_log_contract import Harness, {kind.__name__}

        class TestIt(LogContract):
            @pytest.fixture
            def harness(self):
                harness = Harness({kind.__name__})
                harness.patience = 0.1
                return harness
    """)
    outcome = results(pytester, "-k", case)
    assert outcome.get("failed", 0) >= 1
    assert "errors" not in outcome


def test_the_example_of_the_page_passes_without_a_plugin_for_async_tests(pytester: pytest.Pytester, root: Path) -> None:
    (block,) = (each for each in blocks_of(root / "docs/guide/own-log.md") if each.language == "python")
    pytester.makepyfile(block.code)
    outcome = results(pytester, "-p", "no:anyio")
    assert outcome["passed"] > 150
    assert outcome["skipped"] >= 20
    assert not {"failed", "errors"} & outcome.keys()


def test_a_class_without_a_harness_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("from lg_streaming.testing.log_contract import LogContract as TestIt")
    result = pytester.runpytest_inprocess("-k", "numbered_from_one", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*override the fixture 'harness'*"])


def test_all_cases_are_inherited() -> None:
    def cases(kind: type) -> Sequence[str]:
        return [name for name in dir(kind) if name.startswith("test_")]

    parents = [base for base in LogContract.__mro__[1:] if base is not object]
    assert len(cases(LogContract)) == 1 + sum(len([n for n in vars(base) if n.startswith("test_")]) for base in parents)
