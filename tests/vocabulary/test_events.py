"""The words: types, kinds, positions, execution ids, priorities."""

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lg_streaming.errors import BadPositionError, BadRequestError
from lg_streaming.events import (
    FINAL_TYPES,
    PRIORITIES,
    Position,
    Scope,
    StreamEventType,
    StreamMetadata,
    StreamUpdate,
    check_execution_id,
    kind_of,
    parse_priority,
)
from tests.vocabulary.wire import update

epochs = st.text("0123456789abcdefXYZ_-", min_size=1, max_size=32)


@given(epochs, st.integers(0, 10**15 - 1))
def test_a_position_comes_back_from_its_text(epoch: str, seq: int) -> None:
    position = Position(epoch, seq)
    assert str(position) == f"{epoch}:{seq}"
    assert Position.parse(str(position)) == position


@given(st.text() | st.integers() | st.none() | st.binary())
def test_what_is_no_position_says_so(text: object) -> None:
    assume(not isinstance(text, str) or ":" not in text)
    with pytest.raises(BadPositionError) as caught:
        Position.parse(text)
    assert caught.value.code == 4001
    assert len(str(caught.value)) < 200


NEAR = ["a1", "a1:", ":1", "a1:-1", "a1:+1", "a1: 1", "a1:1\n", "a1:²", "a1:1_0", "a1:1e3", "ä:1", "a" * 33 + ":1"]


@pytest.mark.parametrize("text", [*NEAR, "a:" + "1" * 16])
def test_near_positions_are_refused(text: str) -> None:
    with pytest.raises(BadPositionError):
        Position.parse(text)


@given(st.text())
def test_an_execution_id_is_printable_and_whole_or_refused(text: str) -> None:
    good = 0 < len(text) <= 256 and text.isprintable() and " " not in text
    if good:
        assert check_execution_id(text) == text
    else:
        with pytest.raises(BadRequestError):
            check_execution_id(text)


@pytest.mark.parametrize(
    ("type", "kind"),
    [
        *((name, "token") for name in ("token", "thinking")),
        *((name, "progress") for name in ("progress", "milestone", "workflow_progress")),
        *((name, "status") for name in ("status", "workflow_start", "workflow_interrupted", *sorted(FINAL_TYPES))),
        *((name, "event") for name in ("values", "custom", "node_start", "error", "task:created", "TOKEN", "", "gap")),
    ],
)
def test_each_type_has_one_kind(type: str, kind: str) -> None:
    assert kind_of(type) == kind
    assert update(type=type).kind == kind


def test_exactly_four_types_end_a_run() -> None:
    final = {type for type in StreamEventType if update(type=type).is_final}  # noqa: A001
    assert final == FINAL_TYPES == {f"workflow_{end}" for end in ("complete", "error", "cancelled", "abandoned")}


def test_the_types_are_plain_text() -> None:
    assert StreamEventType.TOKEN == "token"
    assert str(StreamEventType.NODE_START) == "node_start"
    for type in StreamEventType:  # noqa: A001
        assert update(type=type).type == type.value


def test_priorities_are_read_and_checked() -> None:
    assert [parse_priority(name) for name in PRIORITIES] == list(PRIORITIES)
    assert parse_priority("normal") == "medium"
    for wrong in ("", "HIGH", "urgent"):
        with pytest.raises(BadRequestError):
            parse_priority(wrong)


@pytest.mark.parametrize(
    "thing", [update(), update().metadata, Position("a", 1), Scope()], ids=lambda each: type(each).__name__
)
def test_the_vocabulary_is_frozen_and_slotted(thing: Any) -> None:
    assert not hasattr(thing, "__dict__")
    with pytest.raises((FrozenInstanceError, AttributeError)):
        setattr(thing, fields(thing)[0].name, "other")


def test_a_position_is_a_value() -> None:
    assert len({Position("a", 1), Position("a", 1), Position("a", 2), Position("b", 1)}) == 3


def test_metadata_shows_its_scope() -> None:
    metadata: StreamMetadata = update(scope=Scope(run_id="r", node_id="n", extra={"mine": 1})).metadata
    assert (metadata.run_id, metadata.node_id, metadata.extra) == ("r", "n", {"mine": 1})
    empty: StreamUpdate = update()
    assert (empty.metadata.run_id, empty.metadata.extra) == (None, {})


def test_a_derived_scope_leaves_the_first_as_it_was() -> None:
    first = Scope(node_id="write")
    assert b"write" in first.fragment
    second = first.derive(node_id="plan", task_id="t")
    assert (first.node_id, first.task_id) == ("write", None)
    assert b"plan" in second.fragment
    assert first == Scope(node_id="write")
