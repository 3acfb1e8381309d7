"""An update as a value of Python: its short names, and the way to the wire and back."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming import StreamMetadata, StreamUpdate
from lg_streaming.codec import add_position, decode
from lg_streaming.errors import BadRequestError
from lg_streaming.events import NAMES, Position, Scope
from tests.vocabulary.wire import update, wire

TEXT = st.text()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
ANYTHING = JSON | st.binary() | st.dates() | st.decimals() | st.sets(st.integers()) | st.just(object())
SCOPES = st.builds(
    Scope,
    **{name: st.none() | TEXT for name in NAMES if name != "attempt"},
    attempt=st.none() | st.integers(0, 2**31),
    extra=st.none() | st.dictionaries(TEXT, JSON, max_size=3),
)
PRIORITIES = st.sampled_from(["low", "medium", "high", "critical"])


@given(data=ANYTHING, type=TEXT, scope=SCOPES, priority=PRIORITIES, timestamp=st.floats(0, 4e9))
def test_the_way_to_the_wire_and_back(data: object, type: str, scope: Scope, priority: Any, timestamp: float) -> None:
    sent = wire(data, type=type, scope=scope, priority=priority, timestamp=timestamp)
    here = decode(sent)
    assert here.to_json().encode() == sent
    assert here.to_dict() == json.loads(sent)
    assert StreamUpdate.from_dict(here.to_dict()) == here
    assert StreamUpdate.from_json(here.to_json()) == here
    assert StreamUpdate.from_json(sent) == here


@given(data=ANYTHING, extra=st.dictionaries(TEXT, ANYTHING, max_size=3))
def test_an_update_that_a_program_made_becomes_json_whatever_it_holds(data: object, extra: dict[str, Any]) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
    about = StreamMetadata(
        timestamp=moment, sequence_number=1, execution_id="e", epoch="a", scope=Scope(node_id="write", extra=extra)
    )
    text = StreamUpdate(type="note", data=data, metadata=about).to_json()
    there = StreamUpdate.from_json(text)
    assert (there.type, there.node_id, there.timestamp) == ("note", "write", moment)
    assert there.to_json() == text


def test_line_separators_and_large_numbers_leave_as_the_wire_has_them() -> None:
    sent = wire({"text": "a\u2028b", "large": 2**60})
    assert decode(sent).to_json().encode() == sent
    assert "\u2028" not in decode(sent).to_json()


def test_a_merged_update_keeps_where_it_began() -> None:
    body = wire({"content": "ab"}, type="token")[:-2] + b',"merged_from":3}}'
    assert decode(body).metadata.merged_from == 3
    assert decode(body).to_json().encode() == body


def test_short_names_are_those_of_the_metadata() -> None:
    scope = Scope(**{name: 2 if name == "attempt" else f"the {name}" for name in NAMES})  # pyright: ignore[reportArgumentType]
    one = update({"content": "Hi"}, type="token", scope=scope, priority="high")
    for name in (*NAMES, "execution_id", "priority", "sequence_number", "timestamp"):
        if name != "traceparent":
            assert getattr(one, name) == getattr(one.metadata, name), name
    assert (one.kind, one.seq, one.position, one.is_final) == ("token", 7, Position("a1", 7), False)


@pytest.mark.parametrize(
    ("type", "data", "text"),
    [
        ("token", {"content": "Hi"}, "Hi"),
        ("thinking", {"content": "Hm"}, ""),
        ("message", {"content": "Hi"}, ""),
        ("token", {"content": None}, ""),
        ("token", {}, ""),
        ("token", "Hi", ""),
        ("token", None, ""),
    ],
)
def test_the_text_of_an_update(type: str, data: object, text: str) -> None:
    assert update(data, type=type).text == text


GOOD: dict[str, Any] = json.loads(wire({"content": "Hi"}, type="token"))


def without(*path: str) -> Any:
    return changed(*path)


def changed(*path: str, **to: Any) -> Any:
    copy: Any = json.loads(json.dumps(GOOD))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if to:
        inner[path[-1]] = to["to"]
    else:
        del inner[path[-1]]
    return copy


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "an update is an object, not None"),
        ([GOOD], "an update is an object, not \\["),
        ("text", "an update is an object, not 'text'"),
        ({}, "type is a string, not None"),
        (without("type"), "type is a string, not None"),
        (changed("type", to=7), "type is a string, not 7"),
        (without("data"), "data is missing"),
        (without("metadata"), "metadata is an object, not None"),
        (changed("metadata", to="x"), "metadata is an object, not 'x'"),
        (without("metadata", "timestamp"), "metadata.timestamp is a string, not None"),
        (changed("metadata", "timestamp", to="noon"), "metadata.timestamp is a time in ISO 8601"),
        (changed("metadata", "timestamp", to=12), "metadata.timestamp is a string, not 12"),
        (changed("metadata", "sequence_number", to="7"), "metadata.sequence_number is a whole number, not '7'"),
        (changed("metadata", "sequence_number", to=True), "metadata.sequence_number is a whole number, not True"),
        (without("metadata", "execution_id"), "metadata.execution_id is a string, not None"),
        (without("metadata", "epoch"), "metadata.epoch is a string, not None"),
        (changed("metadata", "node_id", to=7), "metadata.node_id is a string, not 7"),
        (changed("metadata", "attempt", to="1"), "metadata.attempt is a whole number, not '1'"),
        (changed("metadata", "priority", to="urgent"), "metadata.priority is one of low, medium, high, critical"),
        (changed("metadata", "priority", to=["low"]), "metadata.priority is one of low, medium, high, critical"),
        (changed("metadata", "merged_from", to="3"), "metadata.merged_from is a whole number, not '3'"),
    ],
)
def test_what_is_no_update_is_refused(value: Any, why: str) -> None:
    with pytest.raises(BadRequestError, match="not an update: " + why):
        StreamUpdate.from_dict(value)


@pytest.mark.parametrize("text", ["", "{", b"\xff", "nonsense"])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadRequestError, match=r"not an update: .* is not JSON"):
        StreamUpdate.from_json(text)


@given(JSON)
def test_any_json_is_an_update_or_one_clear_error(value: Any) -> None:
    for each in (value, changed("metadata", to=value), changed("type", to=value)):
        try:
            StreamUpdate.from_dict(each)
        except BadRequestError as error:
            assert str(error).startswith("not an update: ")  # noqa: PT017 (both outcomes are allowed)


def test_seal_makes_the_same_bytes() -> None:
    body = wire({"a": 1}).rpartition(b',"sequence_number"')[0]
    assert decode(add_position(body, 9, "b2")).to_json().encode() == add_position(body, 9, "b2")
