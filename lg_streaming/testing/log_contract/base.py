"""Base of the cases of the contract suite."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any, cast

import pytest

from lg_streaming.settings import RetentionSettings
from lg_streaming.testing.log_contract.producer import trim

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from lg_streaming.log import EventLog, LogState, StoredUpdate
    from lg_streaming.testing.log_contract.harness import LogHarness

__all__ = ["LogCases"]


class LogCases:
    """Base of classes with cases. Each ``async def test_…`` runs in an event loop that the class makes.

    So the cases need no plugin for async tests. After a case all its logs are closed, and no task may be left.
    """

    _harness: LogHarness
    _runner: asyncio.Runner
    _logs: list[EventLog]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, member in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(member):
                setattr(cls, name, _run_in_loop(member))

    @pytest.fixture
    def harness(self) -> LogHarness:
        """Provide the harness of the log under test. Override this fixture."""
        raise NotImplementedError("override the fixture 'harness': return a LogHarness for your log")

    @pytest.fixture(autouse=True)
    def _event_loop_and_logs(self, harness: LogHarness) -> Generator[None]:
        self._harness, self._logs = harness, []
        with asyncio.Runner() as self._runner:
            yield
            self._runner.run(self._close())

    async def _close(self) -> None:
        for log in self._logs:
            await log.aclose()
        left = asyncio.all_tasks() - {cast("asyncio.Task[Any]", asyncio.current_task())}
        if left:
            _, left = await asyncio.wait(left, timeout=self._harness.patience)
        assert not left, f"the log left tasks behind: {left}"

    # --- logs -------------------------------------------------------------------------------------------------

    def new_log(self, **retention: float) -> EventLog:
        """Return a new empty log with these retention settings."""
        self._logs.append(self._harness.make(RetentionSettings.model_validate(retention)))
        return self._logs[-1]

    def connect(self) -> EventLog:
        """Return a second log object on the data of the newest log, or skip the case."""
        log = self._harness.connect()
        if log is None:
            pytest.skip("a log of one process")
        self._logs.append(log)
        return log

    async def advance(self, log: EventLog, seconds: float) -> None:
        """Let time pass, and remove expired updates and executions; or skip the case."""
        if not await self._harness.advance(seconds):
            pytest.skip("the harness does not let time pass")
        for _ in range(100):
            if not await trim(log):
                return
        raise AssertionError("`trim` reports more expired executions than there are")

    async def lose_data(self) -> None:
        """Remove all data behind the log, or skip the case."""
        if not await self._harness.lose_data():
            pytest.skip("the harness does not remove the log's data")

    @staticmethod
    async def watch(log: EventLog, execution_id: str) -> Callable[[], None]:
        """Watch an execution as a reader does, which reads next; return a function that ends that."""
        unwatch = log.watch(execution_id)
        await log.state(execution_id)
        return unwatch

    async def settle(self, condition: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until a condition holds."""
        await self._harness.settle(condition)

    async def settle_ids(self, log: EventLog, ids: Sequence[str], *, owner: str) -> None:
        """Wait until the executions of an owner are ``ids``. An index may follow the append."""

        async def are_listed() -> bool:
            return list(await log.list_ids(owner=owner)) == list(ids)

        await self.settle(are_listed)

    # --- reads ------------------------------------------------------------------------------------------------

    @staticmethod
    async def records(
        log: EventLog, after: int = 0, *, limit: int = 100_000, execution_id: str = "e"
    ) -> Sequence[StoredUpdate]:
        """Return the records after a sequence number."""
        found = await log.read(execution_id, after, limit)
        assert found is not None, f"execution {execution_id!r} is unknown"
        return found.records

    async def seqs(self, log: EventLog, after: int = 0, *, limit: int = 100_000, execution_id: str = "e") -> list[int]:
        """Return the sequence numbers of the records after one."""
        return [record.seq for record in await self.records(log, after, limit=limit, execution_id=execution_id)]

    async def types(self, log: EventLog, execution_id: str = "e") -> list[str]:
        """Return the types of all kept records."""
        return [record.type for record in await self.records(log, execution_id=execution_id)]

    @staticmethod
    async def state(log: EventLog, execution_id: str = "e") -> LogState:
        """Return the state of an execution that is known."""
        state = await log.state(execution_id)
        assert state is not None, f"execution {execution_id!r} is unknown"
        return state


def _run_in_loop(case: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(case)
    def test(self: LogCases, *arguments: Any, **named: Any) -> None:
        self._runner.run(cast("Any", case(self, *arguments, **named)))  # pyright: ignore[reportPrivateUsage]

    return test
