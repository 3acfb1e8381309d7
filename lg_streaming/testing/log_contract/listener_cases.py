"""Cases of listeners and of the index of executions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lg_streaming.events import Position
from lg_streaming.testing.log_contract.base import LogCases
from lg_streaming.testing.log_contract.producer import Producer, append, append_all

if TYPE_CHECKING:
    from lg_streaming.log import EventLog

__all__ = ["ListenerCases"]


class ListenerCases(LogCases):
    """Cases of `EventLog.listen`, `EventLog.listen_positions`, `EventLog.watch` and `EventLog.list_ids`."""

    async def test_a_listener_is_called_after_each_append_until_it_stops(self) -> None:
        log = self.new_log()
        notified: list[str] = []
        stop = log.listen(notified.append)
        producer = Producer(log)
        for _ in range(3):
            await producer.append("a")
            await self.settle(lambda: bool(notified))
            assert set(notified) == {"e"}
            notified.clear()
        await self._pass_notifications(log)
        stop()
        notified.clear()
        await producer.append("b")
        await self._pass_notifications(log)
        assert notified == []

    async def test_a_drop_is_notified(self) -> None:
        log = self.new_log()
        await Producer(log).append("a")
        notified: list[str] = []
        log.listen(notified.append)
        await log.drop("e")
        await self.settle(lambda: set(notified) == {"e"})

    async def test_an_append_that_stores_nothing_is_not_notified(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        batch = producer.batch("a=k")
        await append(log, batch)
        await self._pass_notifications(log)
        notified: list[str] = []
        log.listen(lambda execution_id: notified.append(execution_id) if execution_id == "e" else None)
        assert await producer.append("b=k") == 1
        await append(log, batch)
        await self._pass_notifications(log)
        assert notified == []

    async def test_updates_can_be_read_when_their_listener_is_called(self) -> None:
        log = self.new_log()
        notified: list[str] = []
        log.listen(notified.append)
        producer = Producer(log)
        for head in range(1, 30):
            notified.clear()
            await producer.append("a")
            await self.settle(lambda: bool(notified))
            assert await self.seqs(log, head - 1) == [head]

    async def test_several_listeners_are_called(self) -> None:
        log = self.new_log()
        first: list[str] = []
        second: list[str] = []
        stop = log.listen(first.append)
        log.listen(second.append)
        await append_all(log, [Producer(log, name).batch("a") for name in ("one", "two")])
        await self.settle(lambda: set(first) == set(second) == {"one", "two"})
        await self._pass_notifications(log)
        stop()
        first.clear()
        second.clear()
        await Producer(log, "three").append("a")
        await self.settle(lambda: "three" in second)
        assert first == []

    async def test_position_listeners_get_the_position_before(self) -> None:
        log = self.new_log()
        notified: list[tuple[str, Position | None]] = []
        stop = log.listen_positions(lambda execution_id, before: notified.append((execution_id, before)))
        await log.ready()
        producer = Producer(log)
        await producer.append("a", "b")
        await self.settle(lambda: bool(notified))
        assert set(notified) == {("e", None)}
        epoch = (await self.state(log)).epoch
        await self._pass_notifications(log)
        for head in (2, 3):
            notified.clear()
            await producer.append("c")
            await self.settle(lambda: bool(notified))
            assert {each for each in notified if each[0] == "e"} == {("e", Position(epoch, head))}
            await self._pass_notifications(log)
        stop()
        notified.clear()
        await producer.append("d")
        await self._pass_notifications(log)
        assert notified == []

    async def test_watching_is_counted(self) -> None:
        log = self.new_log()
        notified: list[str] = []
        log.listen(notified.append)
        stops = [await self.watch(log, "e") for _ in range(3)]
        for stop in stops:
            notified.clear()
            await Producer(log).append("a")
            await self.settle(lambda: "e" in notified)
            stop()
        notified.clear()
        await Producer(log).append("a")
        await self.settle(lambda: "e" in notified)  # own appends need no watch

    async def _pass_notifications(self, log: EventLog) -> None:
        """Wait until notifications of earlier appends have arrived, by one of a further execution."""
        arrived: list[str] = []
        stop, unwatch = log.listen(arrived.append), await self.watch(log, "barrier")
        await Producer(log, "barrier").append("a")
        await self.settle(lambda: "barrier" in arrived)
        stop()
        unwatch()

    # --- the index --------------------------------------------------------------------------------------------

    async def test_ids_are_listed_in_order(self) -> None:
        log = self.new_log()
        names = ["b", "a", "B", "aa", "ab", "a:b", "é", "z", "~", "0", "00", "🦊"]
        for name in names:
            await Producer(log, name).append("token")
        assert list(await log.list_ids()) == sorted(names)
        assert sorted(await log.executions()) == sorted(names)
        assert list(await log.list_ids(after="a")) == [each for each in sorted(names) if each > "a"]
        assert list(await log.list_ids(after="a0")) == [each for each in sorted(names) if each > "a0"]
        assert list(await log.list_ids(limit=3)) == sorted(names)[:3]

    async def test_ids_are_listed_page_by_page(self) -> None:
        log = self.new_log()
        names = [f"e{number:03}" for number in range(53)]
        await append_all(log, [Producer(log, name).batch("token") for name in reversed(names)])
        found: list[str] = []
        while page := await log.list_ids(after=found[-1] if found else "", limit=10):
            assert len(page) <= 10
            found += page
        assert found == names

    async def test_ids_are_listed_by_owner(self) -> None:
        log = self.new_log()
        for number in range(9):
            owner = ["alice", "bob", None][number % 3]
            await Producer(log, f"e{number}", owner=owner).append("token")
        await self.settle_ids(log, ["e0", "e3", "e6"], owner="alice")
        await self.settle_ids(log, ["e1", "e4", "e7"], owner="bob")
        assert list(await log.list_ids(owner="bob", after="e1", limit=1)) == ["e4"]
        assert list(await log.list_ids(owner="alice", prefix="e3")) == ["e3"]
        assert list(await log.list_ids(owner="ali")) == []
        assert len(await log.list_ids()) == 9

    async def test_an_owner_of_a_later_batch_is_listed(self) -> None:
        log = self.new_log()
        await Producer(log).append("token")
        assert list(await log.list_ids(owner="alice")) == []
        await Producer(log, owner="alice").append("token")
        await self.settle_ids(log, ["e"], owner="alice")

    @pytest.mark.parametrize("prefix", ["a", "ab", "*", "?", "[a", "{", "\u00e9", "🦊", "\x7f", "\uffff"])
    async def test_ids_are_listed_by_prefix(self, prefix: str) -> None:
        log = self.new_log()
        names = sorted(
            {f"{start}{end}" for start in ("a", "aa", "ab", "b", prefix) for end in ("", "1", "\uffff", "🦊", "~")}
        )
        for name in names:
            await Producer(log, name).append("token")
        expected = [each for each in names if each.startswith(prefix)]
        assert list(await log.list_ids(prefix=prefix)) == expected
        assert list(await log.list_ids(prefix=prefix, limit=2)) == expected[:2]
        assert list(await log.list_ids(prefix=prefix, after=expected[1])) == expected[2:]
        assert list(await log.list_ids(prefix=prefix, after=expected[-1])) == []

    async def test_dropped_executions_are_not_listed(self) -> None:
        log = self.new_log()
        for name in ("a", "b", "c"):
            await Producer(log, name, owner="alice").append("token")
        await self.settle_ids(log, ["a", "b", "c"], owner="alice")
        await log.drop("b")
        assert list(await log.list_ids()) == ["a", "c"]
        assert list(await log.list_ids(owner="alice")) == ["a", "c"]
        await Producer(log, "b", owner="bob").append("token")
        assert list(await log.list_ids()) == ["a", "b", "c"]
        await self.settle_ids(log, ["b"], owner="bob")
        assert list(await log.list_ids(owner="alice")) == ["a", "c"]
