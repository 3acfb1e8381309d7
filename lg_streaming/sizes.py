"""Measure a value's JSON without encoding all of it at once.

`is_small` and `exceeds` compare it with a limit: `exceeds` reads a value only until it has found more than the limit.
`json_size` measures it.
"""

from __future__ import annotations

import codecs
import itertools
import re
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final, cast

import orjson
from pydantic import BaseModel

from lg_streaming.values import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    MAX_ITEMS,
    array_size,
    escape_line_separators,
    member_name,
    orjson_default,
    to_json,
)

__all__ = [
    "BYTES_TYPES",
    "LEAF_TYPES",
    "MAX_SMALL_MEMBERS",
    "MAX_SMALL_TEXT",
    "REST",
    "bytes_view",
    "exceeds",
    "is_small",
    "json_size",
    "lower_bound",
    "text_size",
    "to_container",
    "utf8_size",
]

MAX_SMALL_TEXT: Final = 4_096
MAX_SMALL_MEMBERS: Final = 32
LEAF_TYPES: Final = frozenset({int, float, bool, type(None)})
_WINDOW: Final = 16_384
REST: Final = "…"
"""Replacement for values that are nested too deep or cut."""
BYTES_TYPES: Final = (bytes, bytearray, memoryview)
_OPEN: Final = (str, *BYTES_TYPES, Mapping, list, tuple)
_COUNTED_LEAVES: Final = frozenset({str, int, bool, type(None)})
_COUNTED: Final = 10_000
"""Items whose size is measured; the size of further items is estimated from theirs."""


def is_small(value: object) -> bool:
    """Return whether a value is obviously small enough to be encoded at once. It is on the hot path."""
    kind = type(value)
    if kind is dict:
        members = cast("dict[object, object]", value)
        if len(members) > MAX_SMALL_MEMBERS:
            return False
        for each in members.values():
            kind = type(each)
            if kind is str:
                if len(cast("str", each)) > MAX_SMALL_TEXT:
                    return False
            elif kind not in LEAF_TYPES:
                return False
        return True
    return kind in LEAF_TYPES or (kind is str and len(cast("str", value)) <= MAX_SMALL_TEXT)


def exceeds(value: object, limit: int) -> bool:
    """Return whether a value's JSON probably has more than ``limit`` bytes. Never raises.

    Escapes in text can make the JSON up to 6 times as large as assumed here. It can also be smaller: a pydantic model
    may leave out fields that are counted here.
    """
    return not _fits_at_a_glance(value, limit) and lower_bound(value, limit, set()) > limit


def _fits_at_a_glance(value: object, limit: int) -> bool:
    """Return whether a quick count finds no more than ``limit`` bytes. A container in itself exceeds every limit."""
    pending: list[object] = [value]
    total = 0
    try:
        while pending and total <= limit:
            one = pending.pop()
            kind = type(one)
            if kind is dict:
                members = cast("dict[str, Any]", one)
                total += 5 * len(members) + sum(map(len, members))
                items = members.values()
            elif kind is list or kind is tuple:
                items = cast("list[Any]", one)
                total += 2 * len(items)
            elif kind is str:
                total += len(cast("str", one))
                continue
            else:
                total += lower_bound(one, limit - total, set())
                continue
            if total > limit:
                break
            for each in items:
                inner = cast("type[object]", type(each))
                if inner is str:
                    total += len(each)
                elif inner not in LEAF_TYPES:
                    pending.append(each)
    except (TypeError, RuntimeError):  # unusual keys; another thread changes it
        return False
    return total <= limit


def lower_bound(value: object, limit: int, inside: set[int]) -> int:  # noqa: PLR0911 (a table of types)
    """Return the least bytes of a value's JSON; any number over ``limit`` if it has more than that.

    ``inside`` are the ids of the containers around the value: a container in itself is not followed.
    """
    kind = type(value)
    if kind is str:
        return len(cast("str", value)) + 2
    if kind in LEAF_TYPES:
        return 1
    identity = id(value)
    if identity in inside or len(inside) >= MAX_DEPTH:
        return 3
    inside.add(identity)
    try:
        if kind is dict:
            return _lower_bound_of_members(cast("dict[object, object]", value), limit, inside)
        if kind is list or kind is tuple:
            return _lower_bound_of_items(cast("list[object]", value), limit, inside)
        return _lower_bound_of_other(value, limit, inside)
    except Exception:  # noqa: BLE001 (any method of a foreign object may raise anything; another thread may change it)
        return 2
    finally:
        inside.discard(identity)


def _lower_bound_of_members(members: Mapping[object, object], limit: int, inside: set[int]) -> int:
    total = 2
    for key, each in members.items():
        total += (len(key) if isinstance(key, str) else 1) + 4
        kind = type(each)
        if kind is str:
            total += len(cast("str", each))
        elif kind not in LEAF_TYPES:
            total += lower_bound(each, limit - total, inside)
        if total > limit:
            break
    return total


def _lower_bound_of_items(items: Iterable[object], limit: int, inside: set[int]) -> int:
    total = 1
    for each in items:
        kind = type(each)
        if kind is str:
            total += len(cast("str", each)) + 3
        elif kind in LEAF_TYPES:
            total += 2
        else:
            total += 1 + lower_bound(each, limit - total, inside)
        if total > limit:
            break
    return total


def _lower_bound_of_other(value: object, limit: int, inside: set[int]) -> int:  # noqa: PLR0911 (a table of types)
    match value:
        case str():
            return str.__len__(value) + 2
        case int() | float() | BaseException() | orjson.Fragment():
            return 1
        case bytes() | bytearray() | memoryview():
            return memoryview(cast("bytes", value)).nbytes + 2
        case BaseModel():
            return _lower_bound_of_members(cast("dict[object, object]", value.__dict__), limit, inside)
        case Enum():
            return lower_bound(cast("object", value.value), limit, inside)
        case Mapping():
            return _lower_bound_of_members(cast("Mapping[object, object]", value), limit, inside)
        case Sequence() | AbstractSet() | MappingView() | deque() | array():
            return _lower_bound_of_items(itertools.islice(cast("Iterable[object]", value), MAX_ITEMS), limit, inside)
        case re.Pattern():
            return len(cast("str", value.pattern)) + 2
        case _ if is_dataclass(value) and not isinstance(value, type):
            members = {one.name: getattr(value, one.name) for one in fields(value) if not one.name.startswith("_")}
            return _lower_bound_of_members(cast("dict[object, object]", members), limit, inside)
        case _:
            size = array_size(value)
            return 2 if size is None or size > MAX_ELEMENTS else 2 * size + 1


def to_container(value: object) -> object:
    """Return a container as a mapping, a list or a tuple, with its items unchanged."""
    for _ in range(MAX_DEPTH):
        if isinstance(value, _OPEN) or type(value) in LEAF_TYPES or array_size(value) is not None:
            break
        try:
            value = orjson_default(value)
        except Exception:  # noqa: BLE001 (any method of a foreign object may raise anything)
            return f"<{type(value).__name__}>"
    return cast("object", value)


def bytes_view(value: Any) -> memoryview:
    """Return a flat view of the bytes of a bytes-like value."""
    view = memoryview(value)
    return (view if view.c_contiguous else memoryview(view.tobytes())).cast("B")  # a cast takes no slice with steps


def utf8_size(value: memoryview) -> int | None:
    """Return the length of the JSON of bytes of UTF-8; None if they are no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    total = 2
    try:
        for start in range(0, len(value), _WINDOW):
            final = start + _WINDOW >= len(value)
            total += len(to_json(decoder.decode(value[start : start + _WINDOW], final))) - 2
    except UnicodeDecodeError:
        return None
    return total


# --- sizes ------------------------------------------------------------------------------------------------------


def json_size(value: object) -> int:
    """Return the bytes of a value's JSON, measured piece by piece; estimated for very many items. Never raises."""
    return _Size().measure(value, frozenset())


class _Size:
    def __init__(self) -> None:
        self._left = _COUNTED

    def measure(self, value: object, around: frozenset[int]) -> int:  # noqa: PLR0911 (a table of types)
        """Return the bytes of ``value``, which lies inside the containers ``around``."""
        if isinstance(value, str):
            return text_size(value)
        if isinstance(value, BYTES_TYPES):
            view = bytes_view(value)
            return utf8_size(view) or 2 + (len(view) + 2) // 3 * 4
        if type(value) in LEAF_TYPES:
            return len(to_json(value))
        if id(value) in around or len(around) >= MAX_DEPTH:
            return len(to_json(REST))
        inside = around | {id(value)}
        try:
            if (size := array_size(value)) is not None:
                return _size_of_array(value, size)
            opened = to_container(value)
            if isinstance(opened, Mapping):
                return self._of_members(cast("Mapping[object, object]", opened), inside)
            if isinstance(opened, (list, tuple)):
                return self._of_items(cast("Sequence[object]", opened), inside)
            return self.measure(opened, inside)
        except Exception:  # noqa: BLE001 (any method of a foreign object may raise anything)
            return len(to_json(f"<{type(value).__name__}>"))

    def _of_members(self, members: Mapping[object, object], inside: frozenset[int]) -> int:
        total = 1
        for count, (key, each) in enumerate(members.items()):
            if self._left <= 0 and count:
                return total * len(members) // count
            self._left -= 1
            total += _size_of_leaf(member_name(key))
            total += 2 + (_size_of_leaf(each) if type(each) in _COUNTED_LEAVES else self.measure(each, inside))
        return max(2, total)

    def _of_items(self, items: Sequence[object], inside: frozenset[int]) -> int:
        total = 1
        for count, each in enumerate(items):
            if self._left <= 0 and count:
                return total * len(items) // count
            self._left -= 1
            total += 1 + (_size_of_leaf(each) if type(each) in _COUNTED_LEAVES else self.measure(each, inside))
        return max(2, total)


def _size_of_leaf(leaf: object) -> int:
    """Return the bytes of the JSON of a text, a whole number, a bool or None."""
    if type(leaf) is str:
        if len(leaf) > _WINDOW:
            return text_size(leaf)
        if leaf.isalnum() and leaf.isascii():  # nothing to escape
            return len(leaf) + 2
        return 2 + _size_of_window(leaf)
    return len(to_json(leaf))


def text_size(text: str) -> int:
    """Return the bytes of a text's JSON, encoding a small part at a time: an encoder reserves eight times the text."""
    return 2 + sum(_size_of_window(text[start : start + _WINDOW]) for start in range(0, len(text), _WINDOW))


def _size_of_window(text: str) -> int:
    try:
        return len(escape_line_separators(orjson.dumps(text))) - 2
    except TypeError:  # lone surrogates: each becomes a character of three bytes
        return len(text.encode(errors="surrogatepass"))


def _size_of_array(value: Any, size: int) -> int:
    """Return an estimate from the first elements."""
    if size > MAX_ELEMENTS or not value.shape:
        return len(to_json(value))
    row, rows = value, 1
    while len(row.shape) > 1 and len(row):
        rows *= len(row)
        row = row[0]
    some = row[:1_000]
    return rows * len(row) * len(to_json(some)) // max(1, len(some)) + 2
