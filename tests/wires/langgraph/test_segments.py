"""Segments of runs: what the log has decides their ids and their status, in each process and after a restart."""

from typing import Any

import pytest

from lg_streaming.codec import Codec
from lg_streaming.events import Scope
from lg_streaming.gateway.dialects.langgraph.segments import SegmentIndex, SegmentTable, segment_id
from lg_streaming.gateway.dialects.langgraph.store import RecordStore
from lg_streaming.log import Batch, MemoryLog
from lg_streaming.log.base import PendingUpdate, StoredUpdate

EPOCH = "1645bb62"
RUN, LATER = "01a22745-df7d-7425-ba04-fd9f3f02dc7c", "01a22745-df7d-7425-ba04-fd9f3f02dc7d"
CODEC = Codec()


def pending(type: str, data: Any = None, run: str = RUN) -> PendingUpdate:
    scope = Scope(run_id=run)
    body = CODEC.encode("t", type, data or {}, scope, "medium", 1.0)
    return PendingUpdate(type=type, scope=scope, priority="medium", timestamp=1.0, body=body)


def asks(*prompts: str) -> PendingUpdate:
    return pending("workflow_interrupted", {"prompts": [{"prompt_id": each} for each in prompts], "interrupts": []})


def answers(prompt: str) -> PendingUpdate:
    return pending("human_response", {"prompt_id": prompt, "response": "yes"})


START, RESUMED, TOKEN = (
    pending("workflow_start", {"name": "agent"}),
    pending("status", {"status": "resumed"}),
    pending("token"),
)


def table_of(*updates: PendingUpdate, first: int = 1) -> SegmentTable:
    table = SegmentTable(EPOCH)
    table.feed([StoredUpdate.from_pending(each, seq, EPOCH) for seq, each in enumerate(updates, first)])
    return table


def shown(table: SegmentTable) -> list[tuple[str, int, int | None, str]]:
    return [(each.run_id, each.begin, each.end, each.status) for each in table.segments]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("workflow_complete", "success"),
        ("workflow_error", "error"),
        ("workflow_cancelled", "interrupted"),
        ("workflow_abandoned", "timeout"),
    ],
)
def test_a_run_without_questions_is_one_segment(end: str, status: str) -> None:
    assert shown(table_of(START, TOKEN)) == [(RUN, 0, None, "running")]
    assert shown(table_of(START, TOKEN, pending(end, {"error": {"message": "boom"}}))) == [(RUN, 0, 3, status)]


def test_each_answer_begins_a_segment() -> None:
    table = table_of(START, asks("a"), answers("a"), RESUMED, TOKEN, asks("b"))
    second, third = segment_id(RUN, EPOCH, 2), segment_id(RUN, EPOCH, 6)
    assert shown(table) == [(RUN, 0, 2, "interrupted"), (second, 2, 6, "interrupted")]
    assert (table.next_id, set(table.prompts)) == (third, {"b"})
    table = table_of(START, asks("a"), answers("a"), RESUMED, TOKEN, asks("b"), answers("b"), RESUMED)
    assert [each.run_id for each in table.segments] == [RUN, second, third]
    assert (table.next_id, table.prompts) == (None, {})


def test_some_of_several_answers_begin_no_segment() -> None:
    table = table_of(START, asks("a", "b"), answers("a"))
    assert shown(table) == [(RUN, 0, 2, "interrupted")]
    assert set(table.prompts) == {"b"}
    # Another process takes the run over, and asks again for what is left.
    assert table_of(START, asks("a", "b"), answers("a"), asks("b")).next_id == table.next_id


def test_a_pause_of_an_operator_is_no_end() -> None:
    paused = pending("workflow_interrupted", {"paused": True})
    assert shown(table_of(START, paused)) == [(RUN, 0, None, "running")]
    assert shown(table_of(START, paused, RESUMED, TOKEN)) == [(RUN, 0, None, "running")]


def test_a_run_that_is_cancelled_while_it_waits_has_no_further_segment() -> None:
    table = table_of(START, asks("a"), pending("workflow_cancelled"))
    assert shown(table) == [(RUN, 0, 2, "interrupted")]
    assert (table.next_id, table.prompts) == (None, {})


def test_a_run_whose_start_is_no_longer_kept() -> None:
    table = table_of(TOKEN, TOKEN, pending("workflow_complete"), first=40)
    assert shown(table) == [(RUN, 39, 42, "success")]
    assert shown(table_of(pending("workflow_complete"), first=40)) == [(RUN, 39, 40, "success")]


def test_runs_follow_each_other() -> None:
    later = pending("workflow_start", {"resumed_from": "lost"}, run=LATER)
    table = table_of(START, pending("workflow_complete"), later, pending("token", run=LATER))
    assert shown(table) == [(RUN, 0, 2, "success"), (LATER, 2, None, "running")]
    assert table.aliases == {"lost": LATER}
    assert [each.run_id for each in table.of_run(RUN)] == [RUN]
    found = [table.at(seq) for seq in (1, 2, 3, 9)]
    assert [each.run_id if each else None for each in found] == [RUN, RUN, LATER, LATER]


@pytest.mark.anyio
async def test_the_index_reads_only_what_is_new() -> None:
    log = MemoryLog()
    index, fresh = SegmentIndex(log), SegmentIndex(log)
    assert await index.load("t") is None
    for number, update in enumerate([START, asks("a"), answers("a"), RESUMED], 1):
        log.append(Batch("t", [update], "p", number))
        found = await index.load("t")
        assert found is not None
        assert (found[0].seq, found[1].head) == (number, number)
    known, again = await index.load("t"), await fresh.load("t")
    assert known is not None
    assert again is not None
    assert shown(known[0]) == shown(again[0])
    # Another life of the log begins anew.
    await log.drop("t")
    assert await index.load("t") is None
    log.append(Batch("t", [pending("workflow_start", run=LATER)], "q", 1))
    found = await index.load("t")
    assert found is not None
    assert [each.run_id for each in found[0].segments] == [LATER]
    await log.aclose()


@pytest.mark.anyio
async def test_records_expire_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.gateway.dialects.langgraph.store._MOST", 3)
    now = 0.0
    store = RecordStore(None, 10.0, lambda: now)
    for number in range(4):
        await store.put("kind", f"k{number}", {"n": number})
    assert await store.values("kind") == {f"k{number}": {"n": number} for number in (1, 2, 3)}
    await store.remove("kind", "k1")
    await store.remove("kind", "k1")
    assert await store.get("kind", "k1") is None
    now = 11.0
    assert await store.values("kind") == {}
    await store.put("other", "k", 1)
    assert (await store.get("other", "k"), await store.get("kind", "k2")) == (1, None)
