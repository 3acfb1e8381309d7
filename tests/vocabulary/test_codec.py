"""Any value in an update is encoded as JSON, once; JSON values come back unchanged."""

import json
import logging
import re
from array import array
from collections import OrderedDict, UserDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import ip_address
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel

from lg_streaming.codec import Codec, decode
from lg_streaming.errors import UpdateTooLargeError
from lg_streaming.events import NO_SCOPE, Position, Scope
from lg_streaming.log.base import PendingUpdate, StoredUpdate
from lg_streaming.values import jsonable
from tests.vocabulary.wire import loaded, update, wire


class Hostile:
    """Everything one can ask of it raises."""

    def __repr__(self) -> str:
        raise RuntimeError

    __str__ = __repr__


class HostileMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        return 3


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Card:
    name: str
    tags: set[str]


class Model(BaseModel):
    name: str
    when: datetime
    child: "Model | None" = None


class Color(Enum):
    RED = "red"


MOMENT = datetime(2026, 7, 1, tzinfo=UTC)

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)
keys = st.text() | st.integers() | st.none() | st.booleans() | st.floats() | st.binary() | st.tuples(st.integers())
odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**2000, max_value=2**2001)
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.text(st.characters(categories=["Cs"]))
    | st.binary()
    | st.binary().map(bytearray)
    | st.binary().map(memoryview)
    | st.decimals()
    | st.datetimes()
    | st.uuids()
    | st.sets(st.integers())
    | st.frozensets(st.text())
    | st.builds(Hostile)
    | st.builds(HostileMapping)
    | st.builds(MuteError)
    | st.builds(ValueError, st.text())
    | st.builds(object)
    | st.sampled_from([Color.RED, Hostile, len, MOMENT, Card, Model(name="a", when=MOMENT)])
    | st.builds(Card, st.text(), st.sets(st.text()))
    | st.builds(AIMessage, st.text())
    | st.builds(HumanMessage, st.text()),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(Point, inner, inner)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4).map(MappingProxyType)
        | st.dictionaries(st.text(), inner, max_size=4).map(UserDict)
    ),
    max_leaves=15,
)


@given(plain)
def test_what_is_json_comes_back_as_it_went(data: object) -> None:
    assert update(data).data == data
    assert loaded(data) == data


@given(odd)
def test_whatever_it_is_it_becomes_json(data: object) -> None:
    loaded(data)
    assert update(data).metadata.sequence_number == 7


@given(st.text(), st.text())
def test_a_type_can_be_any_text(type_: str, execution_id: str) -> None:
    got = update(type=type_, execution_id=execution_id)
    if type_.isprintable():
        assert (got.type, got.metadata.execution_id) == (type_, got.metadata.execution_id)


scopes = st.builds(
    Scope,
    run_id=st.none() | st.text(),
    node_id=st.none() | st.text(),
    attempt=st.none() | st.integers(1, 9),
    category=st.none() | st.text(),
    extra=st.none() | st.dictionaries(st.text(), odd, max_size=3),
)


@given(scopes, odd)
def test_whatever_a_scope_holds_it_becomes_json(scope: Scope, data: object) -> None:
    json.loads(wire(data, scope=scope))


@given(plain, scopes.filter(lambda scope: scope.extra is None), st.floats(0, 4e9), st.sampled_from(["medium", "high"]))
def test_a_reader_in_process_sees_what_a_reader_of_the_wire_sees(
    data: object, scope: Scope, timestamp: float, priority: Any
) -> None:
    codec = Codec()
    body = codec.encode("e", "note", data, scope=scope, priority=priority, timestamp=timestamp)
    record = StoredUpdate.from_pending(PendingUpdate("note", scope, priority, timestamp, body), 3, "a1")
    shared = record.to_update("e")
    assert shared.data == record.update.data == data
    assert shared.metadata.timestamp == record.update.metadata.timestamp
    assert shared.position == record.update.position == Position("a1", 3)


@pytest.mark.parametrize("text", [',"data":', ',"metadata":{"timestamp":"', '"}}', "\\"])
def test_data_that_looks_like_the_envelope_is_data(text: str) -> None:
    data = {"data": text, "metadata": {"timestamp": text, "data": [text]}, text: {"metadata": {"timestamp": ""}}}
    scope = Scope(node_id=text, message_id=text)
    body = Codec().encode("e", text, data, scope=scope, priority="medium", timestamp=1.0)
    record = StoredUpdate.from_pending(PendingUpdate(text, scope, "medium", 1.0, body), 3, "a1")
    assert record.to_update("e") == record.update
    assert record.update.data == data


@pytest.mark.row("HIVE-82")
def test_an_update_on_the_wire() -> None:
    scope = Scope(node_id="write", agent_type="writer", attempt=1, extra={"tenant": 7})
    assert json.loads(wire({"content": "hi"}, type="token", scope=scope, priority="high")) == {
        "type": "token",
        "data": {"content": "hi"},
        "metadata": {
            "timestamp": "2023-11-14T22:13:20.250Z",
            "execution_id": "e",
            "priority": "high",
            "node_id": "write",
            "agent_type": "writer",
            "attempt": 1,
            "tenant": 7,
            "sequence_number": 7,
            "epoch": "a1",
        },
    }


def test_what_is_not_known_is_left_out() -> None:
    assert set(json.loads(wire())["metadata"]) == {"timestamp", "execution_id", "sequence_number", "epoch"}


def test_the_users_keys_never_replace_reserved_ones() -> None:
    reserved = ["timestamp", "sequence_number", "execution_id", "epoch", "priority", "node_id", "run_id", "category"]
    scope = Scope(node_id="write", extra=dict.fromkeys(reserved, "forged") | {"mine": 1})
    metadata = update(scope=scope).metadata
    assert (metadata.sequence_number, metadata.execution_id, metadata.epoch) == (7, "e", "a1")
    assert (metadata.node_id, metadata.run_id, metadata.priority) == ("write", None, "medium")
    assert metadata.extra == {"mine": 1}


@pytest.mark.parametrize("timestamp", [0.0, 0.9999, 1_700_000_000.0, 1_700_000_000.9996, 1_699_999_999.001])
def test_time_is_shown_in_whole_milliseconds(timestamp: float) -> None:
    codec = Codec()
    for moment in (timestamp, timestamp + 61, timestamp):
        shown = update(timestamp=moment, codec=codec).metadata.timestamp
        assert shown.tzinfo is UTC
        assert 0 <= moment - shown.timestamp() < 0.001_001


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ((1, 2), [1, 2]),
        (Point(1, 2), [1, 2]),
        ({3}, [3]),
        (frozenset({3}), [3]),
        (b"text", "text"),
        (bytearray(b"text"), "text"),
        (b"\xff\x00", "/wA="),
        (float("nan"), None),
        (float("inf"), None),
        (2**70, str(2**70)),
        (-(2**70), str(-(2**70))),
        ("a\ud800b", "a\ufffdb"),
        ("a\ud83d\ude00b", "a😀b"),
        (2**53, str(2**53)),
        (-(2**53), str(-(2**53))),
        (2**53 - 1, 2**53 - 1),
        (Decimal("1.50"), "1.50"),
        (timedelta(minutes=1.5), 90.0),
        (time(1, 2, tzinfo=UTC), "01:02:00+00:00"),
        (deque([1, 2]), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        (range(3), [0, 1, 2]),
        (array("i", [1, 2]), [1, 2]),
        (memoryview(b"text"), "text"),
        (re.compile("a+"), "a+"),
        (ip_address("127.0.0.1"), "127.0.0.1"),
        ({Color.RED: 1}, {"red": 1}),
        ({1: "a", "1": "b"}, {"1": "a", "1 (str)": "b"}),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.int64(2**60), str(2**60)),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1, 2], [3, 4]])[:, 0], [1, 3]),
        (np.array(1.5), 1.5),
        (np.datetime64("2026-07-01T00:00:00.123456789"), "2026-07-01T00:00:00.123456789"),
        (np.timedelta64(1500, "ms"), 1.5),
        (np.array([b"a"]), ["a"]),
        ({np.int64(1): "a"}, {"1": "a"}),
        ({1: "a", None: "b", (2, 3): "c"}, {"1": "a", "None": "b", "(2, 3)": "c"}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (OrderedDict([("a", 1)]), {"a": 1}),
        (ValueError("no"), {"type": "ValueError", "message": "no"}),
        (MOMENT, "2026-07-01T00:00:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Color.RED, "red"),
        (Card("a", {"b"}), {"name": "a", "tags": ["b"]}),
        (Model(name="a", when=MOMENT), {"name": "a", "when": "2026-07-01T00:00:00+00:00", "child": None}),
        (PurePosixPath("/a"), "/a"),
        (Hostile(), "<Hostile>"),
        (MuteError(), {"type": "MuteError", "message": "MuteError"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_becomes_the_nearest_thing(data: object, expected: object) -> None:
    assert loaded(data) == expected
    assert loaded({"inside": [data]}) == {"inside": [expected]}


@pytest.mark.parametrize(
    "data",
    [MOMENT, UUID(int=1), Color.RED, Card("a", {"b"}), Model(name="a", when=MOMENT), Point(1, 2), b"text"],
    ids=lambda value: type(value).__name__,
)
def test_something_odd_elsewhere_changes_nothing(data: object) -> None:
    assert loaded({"a": data, 1: 2**70})["a"] == loaded({"a": data})["a"]


SPLITTERS = ["\u2028", "\u2029", "\x85", "\n", "\r\n", "\x0b", "\x1c"]


@given(
    st.recursive(
        st.text() | st.sampled_from(SPLITTERS), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_an_update_is_one_line_whoever_splits_it(data: object) -> None:
    sent = wire(data, scope=Scope(node_id="\u2028", extra={"\x85": "\u2029"}))
    assert len(sent.decode().splitlines()) == 1
    assert decode(sent).data == data


@given(st.integers())
def test_a_whole_number_is_exact_for_every_reader(number: int) -> None:
    got = loaded([number])[0]
    assert (got if abs(number) < 2**53 else int(got)) == number
    assert isinstance(got, int) == (abs(number) < 2**53)
    assert loaded({1: number})["1"] == got


@given(st.text(st.characters(min_codepoint=0x10000), min_size=1))
def test_halves_of_characters_come_together(text: str) -> None:
    halves = "".join(chr(unit) for each in text for unit in (0xD7C0 + (ord(each) >> 10), 0xDC00 + (ord(each) & 0x3FF)))
    assert loaded(halves) == text


@pytest.mark.parametrize(
    "data", [np.float32(0.5), Decimal("1.5"), PurePosixPath("/a"), timedelta(1), deque([1]), np.array([1.5]), {1.5}]
)
def test_a_scope_s_own_keys_have_the_nearest_json_value_too(data: object) -> None:
    assert update(scope=Scope(extra={"mine": data})).metadata.extra == {"mine": loaded(data)}


def test_nothing_is_consumed() -> None:
    items = iter([1, 2, 3])
    numbers = (each for each in [1, 2])
    assert isinstance(loaded({"items": items, "numbers": numbers})["items"], str)
    assert (list(items), list(numbers)) == ([1, 2, 3], [1, 2])


def test_a_very_large_array_is_described() -> None:
    assert loaded(np.zeros(1_000_001)).startswith("array([0., 0.")


def test_what_is_left_out_of_a_very_long_value_is_marked() -> None:
    assert jsonable({1: list(range(300_000))})["1"][-2:] == [199_998, "…"]


def test_a_model_that_cannot_dump_itself_keeps_its_fields() -> None:
    class Broken(BaseModel):
        name: str

        def model_dump(self, **_: Any) -> Any:
            raise RuntimeError

    assert loaded(Broken(name="a")) == {"name": "a"}


def test_messages_and_documents_keep_their_fields() -> None:
    answer = AIMessage("hi", id="m1", tool_calls=[{"name": "search", "args": {"q": "x"}, "id": "t1"}])
    message = loaded({"messages": [answer, ToolMessage("found", tool_call_id="t1")]})["messages"][0]
    assert (message["type"], message["content"], message["id"]) == ("ai", "hi", "m1")
    assert message["tool_calls"][0]["args"] == {"q": "x"}
    assert loaded(Document("text", metadata={"page": 1}))["metadata"] == {"page": 1}


def test_a_cycle_ends() -> None:
    cycle: dict[str, object] = {"name": "a"}
    cycle["self"] = cycle
    assert loaded(cycle)["name"] == "a"


def test_a_tree_whose_children_know_their_parents_ends() -> None:
    root: dict[str, Any] = {"name": "root", "children": []}
    for index in range(5):
        root["children"].append({"name": index, "parent": root, "children": []})
    got = loaded(root)
    assert [child["name"] for child in got["children"]] == list(range(5))


def test_what_is_shared_is_no_cycle() -> None:
    shared = {"a": {1}}
    assert loaded({1: shared, 2: shared}) == {"1": {"a": [1]}, "2": {"a": [1]}}


def test_what_is_nested_very_deep_is_cut() -> None:
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    assert len(wire(deep)) < 1_000


def test_a_long_representation_is_cut() -> None:
    class Long:
        def __repr__(self) -> str:
            return "x" * 100_000

    assert len(loaded(Long())) == 1_000


def test_odd_updates_are_counted() -> None:
    codec = Codec()
    for data in ({1: 2}, 2**70, "\ud800"):
        wire(data, codec=codec)
    wire({"fine": {1, 2}}, codec=codec)
    assert codec.fallbacks == 3


@pytest.mark.parametrize("extra", [0, 1])
def test_the_size_is_capped(extra: int) -> None:
    def encode(codec: Codec, data: str) -> bytes:
        return codec.encode("e", "note", data, scope=NO_SCOPE, priority="medium", timestamp=0.0)

    size = len(encode(Codec(), "x" * 500))
    codec = Codec(max_bytes=size)
    if not extra:
        assert len(encode(codec, "x" * 500)) == size
        return
    with pytest.raises(UpdateTooLargeError, match="update_bytes") as caught:
        encode(codec, "x" * 501)
    assert caught.value.execution_id == "e"


def test_redaction_sees_plain_values_and_its_answer_is_sent() -> None:
    seen: list[tuple[str, Any]] = []

    def redact(type_: str, data: Any) -> Any:
        seen.append((type_, data))
        return {**data, "password": "…"}

    secret = {"password": "hunter2", "tags": {"a"}}
    codec = Codec(redact=redact)
    assert loaded(secret, codec=codec) == {"password": "…", "tags": ["a"]}
    assert seen == [("note", {"password": "hunter2", "tags": ["a"]})]
    assert secret["password"] == "hunter2"
    assert b"hunter2" not in wire(secret, codec=codec)


def test_when_redaction_raises_the_data_is_withheld(caplog: pytest.LogCaptureFixture) -> None:
    def redact(type_: str, data: Any) -> Any:
        raise KeyError("oops")

    sent = wire({"password": "hunter2"}, codec=Codec(redact=redact))
    assert b"hunter2" not in sent
    assert decode(sent).data == {"message": "withheld: redaction failed"}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b"null", b'{"type":"a"}', b"\xff", b'{"type":"a","data":1,"metadata":{}}']
)
def test_what_is_no_update_is_refused(text: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(text)
