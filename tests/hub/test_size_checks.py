"""A value that is much too large is neither encoded nor copied whole to be refused or shortened."""

from __future__ import annotations

import asyncio
import collections
import json
import re
import tracemalloc
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from lg_streaming.errors import UpdateTooLargeError
from lg_streaming.excerpt import excerpt
from lg_streaming.hub import StreamHub
from lg_streaming.settings import StreamingSettings
from lg_streaming.sizes import exceeds, is_small
from lg_streaming.values import to_json
from tests.hub.test_large_updates import DATA, records_of

LIMIT = 16_384
PEAK = 100 * LIMIT
"""Bytes that may be taken on the way; the values have 60 times the limit and more."""
SIZE = 4_000_000


class Model(BaseModel):
    name: str = "small"
    inner: Any = None
    left_out: Any = Field(default=None, exclude=True)


@dataclass
class Data:
    name: str
    inner: Any


class Colour(Enum):
    RED = "x" * SIZE


def shared(depth: int) -> Any:
    """Ten to the power of ``depth`` strings in JSON, and next to nothing in memory."""
    value: Any = "leaf"
    for _ in range(depth):
        value = [value] * 10
    return value


VALUES: dict[str, Callable[[], Any]] = {
    "text": lambda: "x" * SIZE,
    "wide text": lambda: "\u20ac\U0001f600" * (SIZE // 8),
    "controls": lambda: "\x00" * SIZE,
    "half characters": lambda: "x\ud800" + "x" * SIZE,
    "bytes that are text": lambda: b"x" * SIZE,
    "bytes": lambda: b"\xff\x00" * (SIZE // 2),
    "a view of bytes": lambda: memoryview(bytearray(SIZE)),
    "a field": lambda: {"id": "n", "text": "x" * SIZE},
    "a nested field": lambda: {"id": "n", "a": {"b": [{"c": "x" * SIZE}]}},
    "a key": lambda: [{"x" * SIZE: 1}],
    "numbers": lambda: list(range(600_000)),
    "fields": lambda: dict.fromkeys(map(str, range(150_000)), 1),
    "one text many times": lambda: ["x" * 50_000] * 100,
    "shared lists": lambda: shared(7),
    "shared dicts": lambda: {"a": {f"k{n}": shared(6) for n in range(3)}, "b": 1},
    "an array": lambda: np.arange(1_000_000, dtype=np.float64),
    "a matrix": lambda: np.zeros((1_000, 1_000), dtype=np.int8),
    "one row": lambda: np.zeros((1, 1_000_000), dtype=np.int8),
    "an array of texts": lambda: np.full(500_000, "abcdefgh"),
    "a model": lambda: Model(inner="x" * SIZE),
    "models": lambda: [Model(inner={"text": "x" * SIZE})],
    "a dataclass": lambda: Data("n", {"text": "x" * SIZE}),
    "a deque": lambda: collections.deque(["x" * 1_000] * 5_000),
    "a set": lambda: {"x" * SIZE, "y"},
    "an enum": lambda: Colour.RED,
    "a view of values": {1: "x" * SIZE}.values,
    "a pattern": lambda: re.compile("x" * (SIZE // 40)),
    "an odd key": lambda: {("a", 1): "x" * SIZE},
}


@contextmanager
def peak_of(found: list[int]) -> Generator[None]:
    tracemalloc.start()
    try:
        yield
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def hub_of(large: str, **options: Any) -> StreamHub:
    return StreamHub(
        StreamingSettings.model_validate({"limits": {"update_bytes": LIMIT, "large_updates": large}}), **options
    )


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("large", ["refuse", "shorten"])
def test_the_memory_is_for_the_limit_and_not_for_the_value(name: str, large: str) -> None:
    value = VALUES[name]()
    hub, peaks = hub_of(large), list[int]()
    hub.publish("e", "note", "first")
    with peak_of(peaks):
        if large == "refuse":
            with pytest.raises(UpdateTooLargeError, match=r"has \d{5,} bytes; limits"):
                hub.publish("e", "note", value)
        else:
            hub.publish("e", "note", value)
    assert peaks[0] < PEAK, f"{peaks[0]:,}"
    if large == "shorten":
        update = records_of(hub)[-1]
        assert LIMIT // 50 < len(update.json) <= LIMIT or name == "a key"
        assert update.update.data["truncated"]


@pytest.mark.parametrize(("letters", "type"), [("x", "token"), ("x", "tool_args"), ("\u20ac\u00e9", "thinking")])
def test_text_is_split_without_being_encoded_whole_first(letters: str, type: str) -> None:
    field = "args" if type == "tool_args" else "content"
    text = letters * (1_000_000 // len(letters) ** 2)
    hub, peaks = hub_of("shorten"), list[int]()
    hub.publish("e", "note", "first")
    whole = len(orjson.dumps(text))
    with peak_of(peaks):
        hub.publish("e", type, {field: text, "index": 3, "beside": "y" * SIZE})
    assert peaks[0] < 8 * whole + PEAK, "the log keeps all of it"
    pieces = [record.update.data for record in records_of(hub) if record.type == type]
    assert pieces, "the log keeps the newest"
    assert set().union(*(piece[field] for piece in pieces)) <= set(text)


@pytest.mark.parametrize("name", ["text", "wide text", "bytes that are text", "bytes", "a field", "a nested field"])
def test_the_sizes_are_those_of_the_whole(name: str) -> None:
    value: Any = VALUES[name]()
    fields = cast("dict[str, Any]", value if isinstance(value, dict) else {"value": value})
    hub = hub_of("shorten")
    hub.publish("e", "note", fields.get("value", fields))
    data: Any = records_of(hub)[-1].update.data
    large = {each: len(to_json(fields[each])) for each in fields if len(to_json(fields[each])) > 100}
    assert data["truncated"] == large


@settings(deadline=None)
@given(DATA, st.integers(64, 2_000))
@example({"a": None, "b": None, "c": None, "d": None}, 64)  # more members than shares, and all of them fit
def test_a_part_is_the_whole_where_it_fits_and_else_its_sizes_are_right(data: Any, limit: int) -> None:
    part, sizes = excerpt(data, limit, "value")
    whole = len(to_json(data))
    if sizes is None:
        assert part == data
    else:
        assert whole > limit
        fields = cast("dict[str, Any]", data if isinstance(data, dict) else {"value": data})
        assert {name: size for name, size in sizes.items() if name != "…"} == {
            name: len(to_json(fields[name])) for name in sizes if name != "…"
        }
    assert len(to_json(part)) <= 30 * limit
    if exceeds(cast("object", data), limit):
        assert whole > limit
    elif whole > 6 * limit:
        pytest.fail("it is larger, and that is not seen")


@given(DATA)
def test_what_is_small_at_first_sight_is_small(data: Any) -> None:
    if is_small(data):
        assert len(to_json(data)) < 32 * 6 * 4_200


def test_what_a_model_leaves_out_does_not_count() -> None:
    hub = hub_of("refuse")
    hub.publish("e", "note", Model(left_out="x" * SIZE))
    hub.publish("e", "note", [Model(left_out="x" * SIZE), {"more": 1}])
    assert [record.update.data for record in records_of(hub)[-2:]] == [
        {"name": "small", "inner": None},
        [{"name": "small", "inner": None}, {"more": 1}],
    ]


def test_what_contains_itself_does_not_look_large() -> None:
    value: dict[str, Any] = {"n": 1}
    value |= {"a": value, "b": value, "c": [value] * 50}
    hub = hub_of("refuse")
    hub.publish("e", "note", value)
    assert records_of(hub)[-1].update.data == {"n": 1, "a": "…", "b": "…", "c": ["…"] * 50}


def test_iterators_are_not_consumed() -> None:
    numbers = (number for number in range(10_000_000))
    hub_of("refuse").publish("e", "note", {"rows": numbers})
    assert next(numbers) == 0


@pytest.mark.parametrize("name", ["text", "a nested field", "one text many times", "numbers"])
def test_redact_gets_the_whole_value_and_its_answer_is_what_counts(name: str) -> None:
    value, seen = VALUES[name](), list[Any]()

    def redact(type: str, data: Any) -> Any:
        if type == "note":
            seen.append(data)
            return "small"
        return data

    hub = hub_of("refuse", redact=redact)
    hub.publish("e", "note", value)
    assert seen == [value]
    assert records_of(hub)[-1].update.data == "small"


def test_redact_answers_with_too_much() -> None:
    def redact(type: str, data: Any) -> Any:
        return {"x": "y" * SIZE} if data == "go" else data

    hub, peaks = hub_of("refuse", redact=redact), list[int]()
    hub.publish("e", "note", "first")
    with peak_of(peaks), pytest.raises(UpdateTooLargeError):
        hub.publish("e", "note", "go")
    assert peaks[0] < SIZE + PEAK


@given(st.integers(0, 3), st.booleans())
def test_a_value_that_changes_meanwhile_harms_nothing(depth: int, raises: bool) -> None:
    class Odd(collections.UserDict[str, Any]):
        def items(self) -> Any:
            if raises:
                raise RuntimeError("dictionary changed size during iteration")
            return [("a", "x" * 100_000)]

    value: Any = Odd()
    for _ in range(depth):
        value = [value, "x" * 100_000]
    hub = hub_of("shorten")
    hub.publish("e", "note", value)
    assert json.loads(records_of(hub)[-1].json)["type"] == "note"
    asyncio.run(hub.aclose())
