"""Cases of the order by start, and of the usage and the end in the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lg_streaming.log import Usage
from lg_streaming.log.base import Start
from lg_streaming.publisher import NO_SCOPE
from lg_streaming.testing.log_contract.base import LogCases
from lg_streaming.testing.log_contract.producer import Producer, append_all, encode_update

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.log import EventLog, PendingUpdate

__all__ = ["NewestCases"]


def _start(execution_id: str, at: float, run_id: str = "r1") -> PendingUpdate:
    scope = NO_SCOPE.derive(run_id=run_id)
    return encode_update("workflow_start", {}, execution_id=execution_id, scope=scope, timestamp=at)


def _spent(run_id: str = "r1", *, type: str = "llm_complete", key: str | None = None, usage: Usage) -> PendingUpdate:
    return encode_update(type, {}, scope=NO_SCOPE.derive(run_id=run_id), key=key)._replace(usage=usage)


class NewestCases(LogCases):
    """Cases of `EventLog.list_newest`, and of `LogState.usage` and `LogState.ended_at`."""

    async def _settle_newest(self, log: EventLog, ids: Sequence[str], owner: str | None = None) -> None:
        """Wait until the order is ``ids``. An index may follow the append."""

        async def is_order() -> bool:
            return [each.execution_id for each in await log.list_newest(owner=owner)] == list(ids)

        await self.settle(is_order)

    async def test_the_latest_start_is_listed_first(self) -> None:
        log = self.new_log()
        for name, at in (("b", 2_000.25), ("a", 3_000.0), ("c", 1_000.0), ("é", 2_500.5)):
            await Producer(log, name, run_id="r1").append(_start(name, at), "token")
        await self._settle_newest(log, ["a", "é", "b", "c"])
        assert (await log.list_newest(limit=1))[0] == Start(3_000.0, "a")
        state = await self.state(log, "b")
        assert state.run_started_at == 2_000.25

    async def test_another_run_is_a_later_start(self) -> None:
        log = self.new_log()
        for name, at in (("a", 1_000.0), ("b", 2_000.0)):
            await Producer(log, name, owner="alice", run_id="r1").append(_start(name, at), "workflow_complete")
        await self._settle_newest(log, ["b", "a"], "alice")
        await Producer(log, "a", owner="alice", run_id="r2").append(_start("a", 3_000.0, "r2"))
        await self._settle_newest(log, ["a", "b"])
        await self._settle_newest(log, ["a", "b"], "alice")

    async def test_a_start_that_joins_an_open_run_changes_no_order(self) -> None:
        log, other = self.new_log(), self.connect()
        for name, at in (("a", 1_000.0), ("b", 2_000.0)):
            await Producer(log, name, run_id="r1").append(_start(name, at))
        await self._settle_newest(log, ["b", "a"])
        await Producer(other, "a", run_id="r2").append(_start("a", 3_000.0, "r2"), "token")
        await Producer(log, "c", run_id="r1").append(_start("c", 4_000.0))
        await self._settle_newest(log, ["c", "b", "a"])

    async def test_starts_are_listed_page_by_page(self) -> None:
        log = self.new_log()
        starts = [Start(1_000.0 + number // 4, f"e{number:02}") for number in range(30)]
        producers = [Producer(log, each.execution_id, run_id="r1") for each in starts]
        await append_all(
            log,
            [
                producer.batch(_start(each.execution_id, each.at))
                for producer, each in zip(producers, starts, strict=True)
            ],
        )
        expected = sorted(starts, reverse=True)
        await self._settle_newest(log, [each.execution_id for each in expected])
        for limit in (1, 3, 7):
            found: list[Start] = []
            while page := await log.list_newest(before=found[-1] if found else None, limit=limit):
                assert len(page) <= limit
                found += page
            assert found == expected
        assert list(await log.list_newest(before=Start(1_003.0, "e14x"), limit=2)) == [
            Start(1_003.0, "e14"),
            Start(1_003.0, "e13"),
        ]

    async def test_starts_are_listed_by_owner(self) -> None:
        log = self.new_log()
        for number in range(6):
            name, owner = f"e{number}", ["alice", None][number % 2]
            await Producer(log, name, owner=owner, run_id="r1").append(_start(name, 1_000.0 + number))
        await self._settle_newest(log, ["e4", "e2", "e0"], "alice")
        assert list(await log.list_newest(before=Start(1_004.0, "e4"), owner="alice", limit=1)) == [
            Start(1_002.0, "e2")
        ]
        assert list(await log.list_newest(owner="bob")) == []

    async def test_a_dropped_execution_has_no_place_in_the_order(self) -> None:
        log = self.new_log()
        for name, at in (("a", 1_000.0), ("b", 2_000.0)):
            await Producer(log, name, owner="alice", run_id="r1").append(_start(name, at))
        await self._settle_newest(log, ["b", "a"], "alice")
        await log.drop("b")
        await self._settle_newest(log, ["a"])
        await self._settle_newest(log, ["a"], "alice")
        await Producer(log, "b", run_id="r2").append(_start("b", 500.0, "r2"))
        await self._settle_newest(log, ["a", "b"])

    async def test_an_expired_execution_has_no_place_in_the_order(self) -> None:
        log = self.new_log(ttl=10.0, record_ttl=20.0)
        await Producer(log, run_id="r1").append(_start("e", 1_000.0), "workflow_complete")
        await self._settle_newest(log, ["e"])
        await self.advance(log, 30.0)
        await self._settle_newest(log, [])

    # --- the state of the run ---------------------------------------------------------------------------------

    async def test_the_state_has_the_sum_of_the_usage(self) -> None:
        log = self.new_log()
        producer = Producer(log, run_id="r1")
        await producer.append("workflow_start")
        assert (await self.state(log)).usage is None
        await producer.append("token", _spent(usage=Usage(10, 2, 12)), "token")
        assert (await self.state(log)).usage == Usage(10, 2, 12)
        await producer.append(_spent(type="usage", usage=Usage(-1, 3, 2, 0.1)), _spent(usage=Usage(1, 1, 2, 0.2)))
        state = await self.state(log)
        assert state.usage is not None
        assert state.usage[:3] == (10, 6, 16)
        assert state.usage.cost is not None
        assert abs(state.usage.cost - 0.3) < 1e-12
        await producer.append("token", "workflow_complete")
        assert (await self.state(log)).usage == state.usage

    async def test_the_usage_is_that_of_the_last_run(self) -> None:
        log = self.new_log()
        first, second = Producer(log, run_id="r1"), Producer(log, run_id="r2")
        await first.append("workflow_start", _spent(usage=Usage(10, 2, 12, 1.5)), "workflow_complete")
        await second.append("workflow_start", _spent("r2", usage=Usage(1, 1, 2)))
        assert (await self.state(log)).usage == Usage(1, 1, 2)

    async def test_an_update_that_is_skipped_adds_no_usage(self) -> None:
        log = self.new_log()
        producer = Producer(log, run_id="r1")
        await producer.append("workflow_start")
        spent = _spent(key="k", usage=Usage(5, 5, 10))
        batch = producer.batch(spent)
        await append_all(log, [batch])
        await append_all(log, [batch])
        await producer.append(spent)
        assert (await self.state(log)).usage == Usage(5, 5, 10)

    async def test_guests_add_to_the_usage_of_the_run(self) -> None:
        log, other = self.new_log(), self.connect()
        holder, guest = Producer(log, run_id="r1"), Producer(other, run_id="r2")
        await holder.append("workflow_start")
        unwatch = await self.watch(log, "e")
        await guest.append("workflow_start", _spent("r2", usage=Usage(3, 4, 7)))
        await holder.append(_spent(usage=Usage(1, 1, 2)))

        async def is_known() -> bool:
            return (await self.state(log)).usage == (await self.state(other)).usage == Usage(4, 5, 9)

        await self.settle(is_known)
        unwatch()

    async def test_the_state_has_the_end_of_the_run(self) -> None:
        log = self.new_log()
        producer = Producer(log, run_id="r1")
        scope = NO_SCOPE.derive(run_id="r1")
        unwatch = await self.watch(log, "e")
        await producer.append("workflow_start", "token")
        assert (await self.state(log)).ended_at is None
        await producer.append(encode_update("workflow_error", {}, scope=scope, timestamp=1_234.5))

        async def is_known() -> bool:
            return (await self.state(log)).ended_at == 1_234.5

        await self.settle(is_known)
        unwatch()
        await Producer(log, run_id="r2").append("workflow_start")
        assert (await self.state(log)).ended_at is None
