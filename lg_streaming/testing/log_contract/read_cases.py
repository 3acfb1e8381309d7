"""Cases of reading: limits, positions, contents, hostile ids, large and many updates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lg_streaming.codec import add_position
from lg_streaming.publisher import Scope
from lg_streaming.testing.log_contract.base import LogCases
from lg_streaming.testing.log_contract.producer import Producer, encode_update

if TYPE_CHECKING:
    from lg_streaming.events import Priority

__all__ = ["ReadCases"]

_HOSTILE_IDS = [
    *("e", "E", "e:", ":e", "e:u", "e:x", "e:k", "e:n", "{e}", "{e}:x", "e}", "{", "}", "{}", "{}e", "e{}", "{{e}}"),
    *("*", "?", "[", "]", "[e]", "[^e]", "e*", "\\", "\\*", "%", "%s", "%7B", "e%3Ax", "%25", "e%", "..e", "/", "e/x"),
    *("lg", "lg:index", "index", "room:e", "e\u0301", "\u00e9", "\u2028", "\u2029", "ид", "🦊", "e'", 'e"', "e\\u0301"),
    *("0", "00", "-1", "null", "nil", "true", "+inf", "(e", "-", "+", "$", "#", "~", "a" * 256, "a" * 255 + "b"),
    *("🦊" * 256, "{" * 256, "%" * 256),
]
"""Execution ids with characters that have a meaning in keys, patterns, escapes, ranges or JSON."""

_TEXTS = [
    "",
    "plain",
    'quotes " and \\ and \\" and \\n',
    "control \x00 \x01 \x1f \x7f \r\n \t",
    "separators \u2028 \u2029 \u0085",
    "accents \u00e9 e\u0301, ключ, 中文, 🦊👩‍👩‍👧",
    '"}}',
    ',"sequence_number":7,"epoch":"x"}}',
    ',"metadata":{"timestamp":"',
    "%d %s %% {0} {{}} $1 \\0",
    "\ufeff\uffff\U0010ffff",
]
"""Texts that a log must return byte by byte."""


class ReadCases(LogCases):
    """Cases of `EventLog.read`, and of the records that it returns."""

    @pytest.mark.parametrize(
        ("after", "limit", "expected"),
        [
            (0, 3, [1, 2, 3]),
            (3, 3, [4, 5, 6]),
            (4, 3, [5, 6, 7]),
            (9, 3, [10]),
            (10, 3, []),
            (99, 3, []),
            (4, 0, []),
            (0, 99, [*range(1, 11)]),
        ],
    )
    async def test_a_read_returns_the_records_after_a_number(self, after: int, limit: int, expected: list[int]) -> None:
        log = self.new_log()
        await Producer(log).append(*"abcdefghij")
        assert await self.seqs(log, after, limit=limit) == expected

    @pytest.mark.parametrize("sizes", [[1] * 12, [12], [5, 1, 6], [2, 3, 7]])
    async def test_batches_do_not_matter_to_a_reader(self, sizes: list[int]) -> None:
        log = self.new_log()
        producer = Producer(log)
        names = iter("abcdefghijkl")
        for size in sizes:
            await producer.append(*(next(names) for _ in range(size)))
        for after in range(13):
            for limit in (1, 2, 5, 12):
                found = await self.records(log, after, limit=limit)
                expected = list(enumerate("abcdefghijkl", start=1))[after : after + limit]
                assert [(record.seq, record.type) for record in found] == expected

    async def test_an_execution_without_updates_is_unknown(self) -> None:
        log = self.new_log()
        assert await log.read("e", 0, 10) is None
        assert await log.state("e") is None
        assert list(await log.executions()) == []
        await log.drop("e")
        assert await log.state("e") is None

    async def test_a_read_has_the_state_of_the_same_moment(self) -> None:
        log = self.new_log()
        await Producer(log, owner="alice").append("workflow_start", "b")
        found = await log.read("e", 0, 1)
        assert found is not None
        assert (found.state.oldest, found.state.head) == (1, 2)
        assert found.state == await log.state("e")

    # --- contents ---------------------------------------------------------------------------------------------

    async def test_a_record_has_its_position(self) -> None:
        log = self.new_log()
        await Producer(log).append("token", "workflow_complete")
        epoch = (await self.state(log)).epoch
        first, last = await self.records(log)
        assert first.update.metadata.sequence_number == 1
        assert first.update.metadata.epoch == epoch
        assert str(first.position) == f"{epoch}:1" == str(first.update.position)
        assert (first.kind, first.is_final) == ("token", False)
        assert (last.kind, last.is_final) == ("status", True)
        assert first.merged_from is None

    @pytest.mark.parametrize(
        "data",
        [
            *(None, True, 0, -1.5, 2**53 - 1, [], {}, [[], {}, None], {"": {"": ""}}),
            {"text": _TEXTS, **{text: text for text in _TEXTS}},
        ],
        ids=lambda data: repr(data)[:20].encode("ascii", "replace").decode(),
    )
    async def test_json_is_returned_byte_by_byte(self, data: Any) -> None:
        log = self.new_log()
        sent = encode_update("token", data)
        await Producer(log).append("first", sent, "last")
        record = (await self.records(log))[1]
        assert record.json == add_position(sent.body, 2, record.epoch)
        assert record.update.data == data
        assert record.to_update("e") == record.update

    @pytest.mark.parametrize("text", _TEXTS, ids=ascii)
    async def test_a_type_may_be_any_text(self, text: str) -> None:
        log = self.new_log()
        sent = encode_update(text, 1)
        await Producer(log).append(sent)
        (record,) = await self.records(log)
        assert record.type == record.update.type == text
        assert record.json == add_position(sent.body, 1, record.epoch)

    @pytest.mark.parametrize(
        "scope",
        [
            Scope(node_id="write"),
            Scope(
                run_id="r" * 32,
                node_id="write",
                namespace="agent:1|model:2",
                attempt=3,
                agent_type="planner",
                task_id="t",
                request_id="q",
                tool_call_id="c",
                message_id="m",
                category="news",
                traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
            Scope(node_id="ключ 🦊", extra={"a": [1, {"b": None}], "ключ": "\u2028", "sizes": 0.5}),
            Scope(namespace="", extra={text or "empty": text for text in _TEXTS}),
        ],
        ids=["node", "all fields", "extra", "texts"],
    )
    async def test_scopes_are_returned(self, scope: Scope) -> None:
        log = self.new_log()
        sent = encode_update("token", "x", scope=scope)
        await Producer(log).append("other", sent, encode_update("token", "y", scope=scope), "other")
        _, record, same, last = await self.records(log)
        assert record.scope == same.scope == scope
        assert record.json == add_position(sent.body, 2, record.epoch)
        assert record.update.metadata.scope == scope
        assert last.scope == Scope()

    async def test_priorities_keys_and_timestamps_are_returned(self) -> None:
        log = self.new_log()
        priorities: list[Priority] = ["low", "medium", "high", "critical"]
        timestamps = [0.0, 1_700_000_000.0, 1_700_000_000.987, 4_102_444_799.25]
        sent = [
            encode_update("token", None, priority=priority, timestamp=timestamp, key=f"key {priority}")
            for priority, timestamp in zip(priorities, timestamps, strict=True)
        ]
        await Producer(log).append(*sent)
        found = await self.records(log)
        assert [record.priority for record in found] == priorities
        assert [record.key for record in found] == [each.key for each in sent]
        for record, timestamp in zip(found, timestamps, strict=True):
            assert record.timestamp == pytest.approx(timestamp, abs=0.002)  # the JSON has milliseconds
            assert record.json == add_position(sent[record.seq - 1].body, record.seq, record.epoch)

    # --- hostile ids ------------------------------------------------------------------------------------------

    async def test_hostile_ids_do_not_mix_executions(self) -> None:
        log = self.new_log()
        for number, execution_id in enumerate(_HOSTILE_IDS):
            update = encode_update("token", number, execution_id=execution_id, key="k")
            assert await Producer(log, execution_id, owner=f"owner of {execution_id}").append(update) == 0
        assert list(await log.list_ids()) == sorted(_HOSTILE_IDS)
        for number, execution_id in enumerate(_HOSTILE_IDS):
            (record,) = await self.records(log, execution_id=execution_id)
            assert (record.seq, record.update.data, record.update.execution_id) == (1, number, execution_id)
            assert (await self.state(log, execution_id)).owner == f"owner of {execution_id}"
        for execution_id in _HOSTILE_IDS[::2]:
            await log.drop(execution_id)
        assert sorted(await log.executions()) == sorted(_HOSTILE_IDS[1::2])
        for number, execution_id in enumerate(_HOSTILE_IDS):
            assert (await log.state(execution_id) is None) == (number % 2 == 0)

    @pytest.mark.parametrize("execution_id", ["{}", "*", "%7Be%7D", "e\u0301", "\u2028", "🦊" * 256])
    async def test_listeners_get_hostile_ids(self, execution_id: str) -> None:
        log = self.new_log()
        notified: list[str] = []
        stop, unwatch = log.listen(notified.append), await self.watch(log, execution_id)
        await Producer(log, execution_id).append("token")
        await self.settle(lambda: bool(notified))
        assert set(notified) == {execution_id}
        stop()
        unwatch()

    # --- sizes ------------------------------------------------------------------------------------------------

    async def test_large_updates(self) -> None:
        log = self.new_log()
        text = "".join(chr(0x20 + number % 0x60) for number in range(255 * 1024))
        sent = [encode_update("token", text), encode_update("token", "🦊" * 60_000)]
        producer = Producer(log)
        await producer.append(*sent)
        await producer.append("small", sent[0])
        first, second, small, last = await self.records(log)
        assert first.update.data == last.update.data == text
        assert second.json == add_position(sent[1].body, 2, second.epoch)
        assert small.type == "small"
        assert await self.seqs(log, 1, limit=1) == [2]

    async def test_ten_thousand_updates(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        for start in range(0, 10_000, 500):
            await producer.append(*(encode_update("token", number) for number in range(start, start + 500)))
        read: list[Any] = []
        while page := await self.records(log, len(read), limit=777):
            assert [record.seq for record in page] == list(range(len(read) + 1, len(read) + len(page) + 1))
            read += [record.update.data for record in page]
        assert read == list(range(10_000))
