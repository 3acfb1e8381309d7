"""Positions of readers: each update once, in order, and a gap for each missing one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.client.events import GapDetected
from lg_streaming.client.position_tracker import PositionTracker
from lg_streaming.events import Position, StreamMetadata, StreamUpdate

NOW = datetime(2026, 11, 20, 20, tzinfo=UTC)


def update(seq: int, epoch: str = "a") -> StreamUpdate:
    metadata = StreamMetadata(timestamp=NOW, sequence_number=seq, execution_id="e", epoch=epoch)
    return StreamUpdate(type="token", data={}, metadata=metadata)


class Reader:
    def __init__(self, after: Position | None = None, *, complete: bool = True) -> None:
        self.gaps: list[GapDetected] = []
        self.place = PositionTracker("e", after, complete=complete, now=lambda: NOW, notify=self.gaps.append)

    def take(self, *seqs: int, epoch: str = "a") -> list[Any]:
        return self.shown(self.place.accept([update(seq, epoch) for seq in seqs]))

    @staticmethod
    def shown(updates: list[StreamUpdate]) -> list[Any]:
        return [each.data if each.type == "gap" else each.metadata.sequence_number for each in updates]


def gap(first: int, last: int | None, reason: str) -> dict[str, Any]:
    return {"from": first, "to": last, "reason": reason}


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 10)), max_size=12))
def test_overlapping_pieces_of_one_stream_give_each_update_once(pieces: list[tuple[int, int]]) -> None:
    """Each connection begins at or before where the one before ended, as resuming does."""
    reader, taken, end = Reader(), list[int](), 0
    for start, length in pieces:
        begin = min(start, end + 1)
        taken += reader.take(*range(begin, begin + length))
        end = max(end, begin + length - 1)
    assert taken == list(range(1, end + 1))
    assert reader.gaps == []


@given(st.lists(st.integers(1, 40), max_size=30))
def test_nothing_is_missing_without_a_word(seqs: list[int]) -> None:
    reader = Reader(Position("a", 0))
    shown = reader.take(*seqs)
    covered: list[int] = []
    for each in shown:
        covered += [each] if isinstance(each, int) else range(each["from"], each["to"] + 1)
    assert covered == list(range(1, max(seqs, default=0) + 1))


def test_a_filter_leaves_numbers_out() -> None:
    assert Reader(Position("a", 0), complete=False).take(2, 5, 9) == [2, 5, 9]


def test_the_first_update_may_stand_anywhere() -> None:
    assert Reader().take(7, 8) == [7, 8]


def test_a_hole_is_told_with_its_reason() -> None:
    reader = Reader(Position("a", 3))
    assert reader.take(6, 7) == [gap(4, 5, "missing"), 6, 7]
    assert reader.gaps == [GapDetected(execution_id="e", first=4, last=5, reason="missing")]


def test_a_new_epoch_nobody_told_of_is_a_gap() -> None:
    reader = Reader(Position("a", 3))
    assert reader.take(1, 2, epoch="b") == [gap(4, None, "epoch_changed"), 1, 2]
    assert reader.place.position == Position("b", 2)


@pytest.mark.parametrize(
    ("told", "then", "epoch"),
    [
        (gap(4, 9, "evicted"), [10, 11], "a"),
        (gap(4, None, "epoch_changed"), [1, 2], "b"),
        (gap(2, 3, "future_position"), [2, 3], "a"),
    ],
    ids=["evicted", "epoch_changed", "future_position"],
)
def test_after_a_gap_that_was_told_reading_goes_on(told: dict[str, Any], then: list[int], epoch: str) -> None:
    reader = Reader(Position("a", 3))
    assert Reader.shown([reader.place.gap_from_payload(told)]) == [told]
    assert reader.take(*then, epoch=epoch) == then
    assert reader.take(*then, epoch=epoch) == []
    assert len(reader.gaps) == 1
    assert reader.place.duplicates == len(then)


def test_a_reader_that_resumes_within_a_told_gap_is_not_told_twice() -> None:
    reader = Reader(Position("a", 3))
    reader.place.gap_from_payload(gap(4, 9, "evicted"))
    assert reader.place.position == Position("a", 9)


@pytest.mark.parametrize("told", [{}, gap("x", 3, "evicted"), {"from": 1, "to": "y", "reason": "evicted"}])  # pyright: ignore[reportArgumentType]
def test_nonsense_in_place_of_a_gap_is_an_error(told: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Reader(Position("a", 3)).place.gap_from_payload(told)
