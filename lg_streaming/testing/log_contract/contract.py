"""The contract suite: all cases, and the random test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lg_streaming.testing.log_contract.append_cases import AppendCases
from lg_streaming.testing.log_contract.fleet_cases import FleetCases
from lg_streaming.testing.log_contract.listener_cases import ListenerCases
from lg_streaming.testing.log_contract.machine import check_random_steps
from lg_streaming.testing.log_contract.newest_cases import NewestCases
from lg_streaming.testing.log_contract.read_cases import ReadCases
from lg_streaming.testing.log_contract.retention_cases import RetentionCases
from lg_streaming.testing.log_contract.state_cases import StateCases

if TYPE_CHECKING:
    from lg_streaming.testing.log_contract.harness import LogHarness

__all__ = ["LogContract"]


class LogContract(AppendCases, ReadCases, RetentionCases, StateCases, NewestCases, ListenerCases, FleetCases):
    """Contract of `EventLog` as a class of tests: derive a class of tests, and override the fixture `harness`.

    A derived class may have more cases: an ``async def test_…`` needs no plugin. Cases that need a second process, an
    advanced clock or lost data are skipped if the harness has none. `check_random_steps` runs the random test longer.
    """

    random_examples: int = 15
    """Sequences of random steps in `test_random_steps`."""

    def test_random_steps(self, harness: LogHarness) -> None:
        """Check readers against a model, over random steps."""
        check_random_steps(harness, examples=self.random_examples)
