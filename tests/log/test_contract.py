"""The contract suite for logs, on the memory log."""

import pytest

from lg_streaming.testing.log_contract import LogContract, LogHarness, check_random_steps
from tests.log.harness import MemoryHarness


@pytest.mark.row("HIVE-33", "PYEV-D11")
class TestMemoryLog(LogContract):
    random_examples = 100

    @pytest.fixture
    def harness(self) -> LogHarness:
        return MemoryHarness()


@pytest.mark.soak
def test_random_steps_for_long() -> None:
    check_random_steps(MemoryHarness(), examples=1_000, steps=100)
