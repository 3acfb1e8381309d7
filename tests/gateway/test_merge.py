"""Merged updates have the same content as the updates they replace, at any break of the connection."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_streaming.codec import Codec
from lg_streaming.events import Priority, Scope
from lg_streaming.filters import ALL
from lg_streaming.gateway.delivery.frames import CHUNK_BYTES, FrameCache, Frames
from lg_streaming.gateway.delivery.merge import merge, merged_frames
from lg_streaming.gateway.transports.packets import EncodeBatch, EncodeEach, Packets
from lg_streaming.log.base import Batch, PendingUpdate, StoredUpdate
from lg_streaming.log.memory import MemoryLog
from tests.log.drafts import read_now

CODEC = Codec()
WRITE, CHECK = Scope(node_id="write", attempt=1), Scope(node_id="check", attempt=1)
BIG = "x" * 30_000


def draft(
    type: str, data: object, scope: Scope = WRITE, *, priority: Priority = "medium", at: float = 0.0
) -> PendingUpdate:
    body = CODEC.encode("e", type, data, scope=scope, priority=priority, timestamp=at)
    return PendingUpdate(type, scope, priority, at, body)


def token(content: object, index: int = 0, scope: Scope = WRITE, *, type: str = "token", **more: Any) -> PendingUpdate:
    return draft(type, {"content": content, "index": index, **more}, scope)


def progress(percent: float, scope: Scope = WRITE, **more: Any) -> PendingUpdate:
    return draft("progress", {"progress": percent}, scope, **more)


def records_of(drafts: Sequence[PendingUpdate]) -> Sequence[StoredUpdate]:
    log = MemoryLog(new_epoch=lambda: "k3f9")
    if not drafts:
        return ()
    log.append(Batch("e", drafts, "p", 1))
    found = read_now(log, "e", 0, len(drafts))
    assert found is not None
    return found.records


def merged(*drafts: PendingUpdate, atomic: bool = False) -> list[dict[str, Any]]:
    return [orjson.loads(record.json) for record in merge(records_of(drafts), atomic=atomic)]


def shown(updates: Sequence[dict[str, Any]]) -> list[tuple[int, int, object]]:
    """Return the first and last number of each update, and its content."""
    return [
        (
            update["metadata"].get("merged_from", update["metadata"]["sequence_number"]),
            update["metadata"]["sequence_number"],
            update["data"].get("content", update["data"].get("progress")),
        )
        for update in updates
    ]


# ---------------------------------------------------------------- what a merged update looks like
@pytest.mark.parametrize("extra", [None, {"tenant": "acme", "metadata": {"timestamp": "mine"}}])
def test_joined_text_has_the_first_index_and_the_last_of_everything_else(extra: dict[str, Any] | None) -> None:
    scope = WRITE.derive(message_id="m", extra=extra)
    records = records_of(
        [
            draft("token", {"content": 'Hé"', "index": 4, "role": "ai", "total_tokens": 5}, scope, at=1.0),
            draft("token", {"content": "l\n", "index": 5, "role": "ai", "total_tokens": 6}, scope, at=2.0),
            draft(
                "token", {"content": "lo", "index": 6, "role": "ai", "total_tokens": 9, "batch_size": 3}, scope, at=3.5
            ),
        ]
    )
    (record,) = merge(records, atomic=False)
    assert orjson.loads(record.json) == {
        "type": "token",
        "data": {"content": 'Hé"l\nlo', "index": 4, "role": "ai", "total_tokens": 9, "batch_size": 5},
        "metadata": {**orjson.loads(records[2].json)["metadata"], "merged_from": 1},
    }
    assert (record.merged_from, record.seq, record.epoch, record.kind) == (1, 3, "k3f9", "token")
    assert record.scope is scope
    assert str(record.position) == "k3f9:3"
    assert not record.is_final
    metadata = record.to_update("e").metadata
    assert (metadata.merged_from, metadata.scope, metadata.timestamp.second) == (1, scope, 3)


def test_the_newest_progress_of_a_scope_stands_for_those_before_it() -> None:
    records = records_of([progress(1), progress(2, CHECK), progress(3), progress(4)])
    second, last = merge(records, atomic=False)
    assert second is records[1]
    assert last.json == records[3].json[:-2] + b',"merged_from":1}}'


def test_what_is_alone_is_the_record_itself() -> None:
    records = records_of([token("a"), draft("note", {}), progress(1), token("b", scope=CHECK)])
    for atomic in (False, True):
        assert all(a is b for a, b in zip(merge(records, atomic=atomic), records, strict=True))


# ---------------------------------------------------------------- what is merged and what is not
def test_text_and_thinking_stay_apart() -> None:
    parts = [token("a"), token("T", type="thinking"), token("b"), token("U", type="thinking")]
    assert shown(merged(*parts)) == [(1, 1, "a"), (2, 2, "T"), (3, 3, "b"), (4, 4, "U")]
    assert shown(merged(*parts, atomic=True)) == [(1, 3, "ab"), (2, 4, "TU")]


def test_messages_in_turn_are_joined_only_where_all_arrives_at_once() -> None:
    parts = [token("a"), token("1", scope=CHECK), token("b"), token("2", scope=CHECK), token("3", scope=CHECK)]
    assert shown(merged(*parts)) == [(1, 1, "a"), (2, 2, "1"), (3, 3, "b"), (4, 5, "23")]
    assert shown(merged(*parts, atomic=True)) == [(1, 3, "ab"), (2, 5, "123")]


def test_progress_that_vanishes_is_not_in_the_way_of_text_and_progress_that_stays_is() -> None:
    parts = [token("a"), progress(1), token("b"), progress(2), token("c")]
    assert shown(merged(*parts)) == [(1, 3, "ab"), (2, 4, 2), (5, 5, "c")]
    assert shown(merged(*parts, atomic=True)) == [(2, 4, 2), (1, 5, "abc")]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    "other",
    ["milestone", "workflow_progress", "status", "note", "node_start", "tool_args", "workflow_complete", "task:done"],
)
def test_nothing_is_merged_across_any_other_update(other: str, atomic: bool) -> None:
    parts = [token("a"), progress(1), draft(other, {}), progress(2), token("b")]
    assert shown(merged(*parts, atomic=atomic)) == [(1, 1, "a"), (2, 2, 1), (3, 3, None), (4, 4, 2), (5, 5, "b")]


@pytest.mark.parametrize("other", ["milestone", "workflow_progress", "status", "tool_args", "values", "note"])
def test_no_other_type_is_merged(other: str) -> None:
    parts = [draft(other, {"content": "a", "progress": 1}), draft(other, {"content": "b", "progress": 2})]
    assert shown(merged(*parts, atomic=True)) == [(1, 1, "a"), (2, 2, "b")]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    "second",
    [
        token("b", scope=WRITE.derive(attempt=2)),
        token("b", scope=WRITE.derive(message_id="m")),
        token("b", scope=WRITE.derive(extra={"mine": 1})),
        token("b", role="tool"),
        token("b", message_id="m"),
        token("b", message_id=["odd"]),
        token("b", metadata={"model": "big"}),
        draft("token", {"content": "b"}, priority="high"),
    ],
)
def test_pieces_of_different_messages_are_not_joined(second: PendingUpdate, atomic: bool) -> None:
    assert shown(merged(token("a"), second, atomic=atomic)) == [(1, 1, "a"), (2, 2, "b")]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    "odd",
    [
        draft("token", "b"),
        draft("token", None),
        draft("token", ["b"]),
        draft("token", {}),
        token(7),
        token("b", blocks=[{"type": "text"}]),
        token("b", json='{"content":"b"}'),
    ],
)
def test_text_of_another_shape_is_left_alone(odd: PendingUpdate, atomic: bool) -> None:
    records = records_of([token("a"), odd, odd, token("c"), token("d")])
    first, *left, last = merge(records, atomic=atomic)
    assert (first is records[0], left) == (True, list(records[1:3]))
    assert (last.seq, orjson.loads(last.json)["data"]["content"]) == (5, "cd")


def test_progress_of_another_priority_or_scope_replaces_nothing() -> None:
    parts = [progress(1, priority="critical"), progress(2), progress(3, CHECK)]
    assert [line[2] for line in shown(merged(*parts, atomic=True))] == [1, 2, 3]


def test_pieces_that_differ_under_one_message_id_stay_in_order() -> None:
    one, other = (Scope(message_id="m", category=name) for name in ("one", "other"))
    parts = [token("a", scope=one), token("b", scope=other), token("c", scope=one)]
    assert shown(merged(*parts, atomic=True)) == [(1, 1, "a"), (2, 2, "b"), (3, 3, "c")]


# ---------------------------------------------------------------- frames
@dataclass
class Listed:
    """Keeps what it is given to wrap."""

    pieces: list[Sequence[StoredUpdate]] = field(default_factory=list[Sequence[StoredUpdate]])

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        self.pieces.append(list(records))
        return Frames(b"".join(record.json for record in records), count=len(records))


def test_merged_updates_are_wrapped_like_any_other() -> None:
    records = records_of([token("a"), token("b"), progress(1)])
    packets = Packets("/")
    (each,) = merged_frames("e", records, EncodeEach(packets), atomic=False)
    assert [text.partition(",")[0] for text in each.texts()] == ['42["token"', '42["progress"']
    (batch,) = merged_frames("e", records, EncodeBatch(packets), atomic=True)
    (text,) = batch.texts()
    assert shown(orjson.loads(text[2:])[1]["updates"]) == [(1, 2, "ab"), (3, 3, 1)]


@pytest.mark.parametrize("atomic", [False, True])
def test_frames_stay_small_however_much_is_merged(atomic: bool) -> None:
    parts = [token(BIG, scope=scope) for scope in (WRITE, WRITE, CHECK) * 7]
    frames = list(merged_frames("e", records_of(parts), Listed(), atomic=atomic))
    assert len(frames) >= 7
    assert max(frame.size for frame in frames) < CHUNK_BYTES + len(BIG) + 1_000


def test_merged_pieces_never_get_into_the_cache_of_those_that_are_not() -> None:
    records, chunks, encode = (
        records_of([token("a"), token("b"), draft("note", {})]),
        FrameCache(),
        EncodeEach(Packets("/")),
    )
    list(merged_frames("e", records, encode, atomic=False))
    (plain,) = chunks.frames("e", records[1:], ALL, encode)
    assert b"merged_from" not in plain.wire
    assert plain.count == 2


# ---------------------------------------------------------------- whatever happens
@dataclass
class Reader:
    """A client's view of its updates: it drops repeated ones by their number."""

    seq: int = 0
    text: dict[object, str] = field(default_factory=dict[object, str])
    progress: dict[object, object] = field(default_factory=dict[object, object])
    others: list[int] = field(default_factory=list[int])

    def hear(self, records: Sequence[StoredUpdate]) -> None:
        for record in records:
            update = orjson.loads(record.json)
            kind, data, metadata = update["type"], update["data"], update["metadata"]
            assert metadata["sequence_number"] == record.seq
            if record.seq <= self.seq:
                continue
            self.seq = record.seq
            about = (metadata.get("node_id"), metadata.get("attempt"))
            if kind == "progress":
                self.progress[about] = data
            elif kind in {"token", "thinking"} and "blocks" not in data:
                key = (kind, metadata.get("message_id") or about)
                self.text[key] = self.text.get(key, "") + data["content"]
            else:
                self.others.append(record.seq)


def reader_of(*parts: Sequence[StoredUpdate]) -> Reader:
    reader = Reader()
    for part in parts:
        reader.hear(part)
    return reader


RIVALS = [
    WRITE,
    WRITE.derive(category="odd"),
    WRITE.derive(extra={"tenant": "acme"}),
    WRITE.derive(attempt=2),
    WRITE.derive(message_id="m"),
    WRITE.derive(message_id="m", category="odd"),
    CHECK,
    CHECK.derive(message_id="m"),
]
"""Some of them a client takes for the same message, and some not."""
CONTENTS = st.one_of(st.text(min_size=1, max_size=3), st.sampled_from(["a", "b", "c", "", BIG]))


def drafts(scopes: Sequence[Scope]) -> st.SearchStrategy[PendingUpdate]:
    about = st.sampled_from(scopes)
    text = st.builds(token, CONTENTS, st.integers(0, 99), about, type=st.sampled_from(["token", "token", "thinking"]))
    bar = st.builds(progress, st.integers(0, 100), about)
    return st.one_of(
        text,
        text,
        text,
        bar,
        bar,
        st.builds(token, CONTENTS, st.integers(0, 99), about, role=st.sampled_from(["ai", "tool"])),
        st.builds(token, st.just("b"), scope=about, blocks=st.just([{"type": "image"}])),
        st.builds(draft, st.sampled_from(["node_start", "milestone", "status", "note"]), st.just({}), about),
    )


# A stream is about few things, so that they meet often.
STREAMS = (
    st.sets(st.integers(0, len(RIVALS) - 1), min_size=2, max_size=3)
    .flatmap(lambda chosen: st.lists(drafts([RIVALS[index] for index in sorted(chosen)]), min_size=10, max_size=30))
    .map(records_of)
)


def check_order(records: Sequence[StoredUpdate], answer: Sequence[StoredUpdate]) -> None:
    numbers = [record.seq for record in answer]
    assert numbers == sorted(set(numbers))
    told: set[int] = set()
    for record in answer:
        told.update(range(record.merged_from or record.seq, record.seq + 1))
    assert told == {record.seq for record in records}


@settings(max_examples=120)
@given(STREAMS)
def test_a_reader_resumed_between_any_two_updates_has_what_it_would_have(records: Sequence[StoredUpdate]) -> None:
    expected = reader_of(records)
    answer = merge(records, atomic=False)
    check_order(records, answer)
    for cut in range(len(answer) + 1):
        seq = answer[cut - 1].seq if cut else 0
        assert reader_of(answer[:cut], [record for record in records if record.seq > seq]) == expected


@settings(max_examples=120)
@given(STREAMS)
def test_a_reader_resumed_between_any_two_frames_has_what_it_would_have(records: Sequence[StoredUpdate]) -> None:
    expected = reader_of(records)
    listed = Listed()
    list(merged_frames("e", records, listed, atomic=True))
    check_order(records, [record for piece in listed.pieces for record in piece])
    for cut in range(len(listed.pieces) + 1):
        seq = listed.pieces[cut - 1][-1].seq if cut else 0
        rest = [record for record in records if record.seq > seq]
        assert reader_of(*listed.pieces[:cut], rest) == expected


@settings(max_examples=120)
@given(STREAMS, st.booleans())
def test_joining_the_pages_of_a_stream_one_after_another_gives_the_same(
    records: Sequence[StoredUpdate], atomic: bool
) -> None:
    pages = [merge(records[start : start + 7], atomic=atomic) for start in range(0, len(records), 7)]
    assert reader_of(*pages) == reader_of(records)
