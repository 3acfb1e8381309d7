"""Measure a value's JSON, and take an excerpt of a value that is too large, without encoding all of it.

`exceeds` reads a value only until it has found more than a number of bytes. `excerpt` makes plain values of as much as
is needed, and measures the cut fields. Both take memory for the limit, not for the value.
"""

from __future__ import annotations

import base64
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
    jsonable,
    member_name,
    orjson_default,
    replace_lone_surrogates,
    to_json,
)

__all__ = [
    "LEAF_TYPES",
    "MAX_SMALL_MEMBERS",
    "MAX_SMALL_TEXT",
    "MIN_SHARE",
    "divide_room",
    "exceeds",
    "excerpt",
    "is_small",
    "text_size",
]

MIN_SHARE: Final = 24
"""Least bytes of a share: enough for any number."""

MAX_SMALL_TEXT: Final = 4_096
MAX_SMALL_MEMBERS: Final = 32
LEAF_TYPES: Final = frozenset({int, float, bool, type(None)})
_WINDOW: Final = 16_384
_REST: Final = "…"
_BYTES: Final = (bytes, bytearray, memoryview)
_OPEN: Final = (str, *_BYTES, Mapping, list, tuple)
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
    return not _fits_at_a_glance(value, limit) and _lower_bound(value, limit, set()) > limit


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
                total += _lower_bound(one, limit - total, set())
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


def _lower_bound(value: object, limit: int, inside: set[int]) -> int:  # noqa: PLR0911 (a table of types)
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
            total += _lower_bound(each, limit - total, inside)
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
            total += 1 + _lower_bound(each, limit - total, inside)
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
            return _lower_bound(cast("object", value.value), limit, inside)
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


# --- excerpts --- -----------------------------------------------------------------------------------------------


def excerpt(value: object, limit: int, whole: str) -> tuple[Any, dict[str, int] | None]:
    """Return a value as plain JSON values, without most of the parts that `shorten` to ``limit`` bytes would cut.

    Args:
        value: Any value.
        limit: Most bytes that will be kept of its JSON.
        whole: The name, among the sizes, of a value without fields.

    Returns:
        The plain value, and the bytes of the JSON of each cut field; None if no field was cut. The size of a field
        with more than 10,000 items is estimated.
    """
    fitting = _Excerpt()
    room = limit
    plain = _to_container(value)
    if not isinstance(plain, Mapping):
        kept = fitting.excerpt(plain, room, frozenset())
        return kept, {whole: _size(plain)} if fitting.cut else None
    plain = cast("Mapping[object, object]", plain)
    members = _members(plain, room)
    inside = frozenset({id(value), id(plain)})
    kept_members: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for (name, each), share in zip(members, _divide_among([each for _, each in members], room, inside), strict=True):
        fitting.cut = False
        kept_members[name] = fitting.excerpt(each, share, inside)
        if fitting.cut:
            sizes[name] = _size(each)
    if len(members) < len(plain):
        sizes[_REST] = max(0, _size(plain) - sum(len(to_json(name)) + 2 for name, _ in members))
    return kept_members, sizes or None


class _Excerpt:
    """Conversion of parts of a value to plain values; `cut` is True once a part was left out."""

    def __init__(self) -> None:
        self.cut = False

    def excerpt(self, value: object, room: int, around: frozenset[int]) -> Any:
        """Return as much of ``value``, which lies inside the containers ``around``, as ``room`` bytes hold."""
        if _lower_bound(value, room, set(around)) <= room:
            return jsonable(value, around)
        try:
            return self._part(value, room, around)
        except Exception:  # noqa: BLE001 (any method of a foreign object may raise anything)
            self.cut = True
            return f"<{type(value).__name__}>"

    def _part(self, value: object, room: int, around: frozenset[int]) -> Any:  # noqa: PLR0911 (a table of types)
        if isinstance(value, str):
            self.cut = True
            return replace_lone_surrogates(str.__str__(value)[:room])
        if isinstance(value, _BYTES):
            self.cut = True
            return _text_of_bytes(_view(value), room)
        if id(value) in around or len(around) >= MAX_DEPTH or room < MIN_SHARE:
            self.cut = True
            return _REST
        inside = around | {id(value)}
        size = array_size(value)
        if size is not None:
            return self._part_of_array(cast("Any", value), size, room, inside)
        value = _to_container(value)
        if isinstance(value, Mapping):
            members = _members(cast("Mapping[object, object]", value), room)
            self.cut = self.cut or len(members) < len(cast("Mapping[object, object]", value))
            parts = _divide_among([each for _, each in members], room, inside)
            return {name: self.excerpt(each, share, inside) for (name, each), share in zip(members, parts, strict=True)}
        if isinstance(value, (list, tuple)):
            items = cast("Sequence[object]", value)[: room // MIN_SHARE + 1]
            self.cut = self.cut or len(items) < len(cast("Sequence[object]", value))
            return [
                self.excerpt(each, part, inside)
                for each, part in zip(items, _divide_among(items, room, inside), strict=True)
            ]
        return self.excerpt(value, room, inside)

    def _part_of_array(self, value: Any, size: int, room: int, inside: frozenset[int]) -> Any:
        rows = len(value)
        count = min(rows, max(1, room // MIN_SHARE * rows // size))
        self.cut = self.cut or count < rows
        if count == 1 and size > rows:
            return [self.excerpt(value[0], room, inside)]
        return jsonable(value[:count])


def _to_container(value: object) -> object:
    """Return a container as a mapping, a list or a tuple, with its items unchanged."""
    for _ in range(MAX_DEPTH):
        if isinstance(value, _OPEN) or type(value) in LEAF_TYPES or array_size(value) is not None:
            break
        try:
            value = orjson_default(value)
        except Exception:  # noqa: BLE001 (any method of a foreign object may raise anything)
            return f"<{type(value).__name__}>"
    return cast("object", value)


def _members(members: Mapping[object, object], room: int) -> list[tuple[str, object]]:
    """Return the first members with their names, as many as can have a share of ``room``."""
    named: dict[str, object] = {}
    for key, each in itertools.islice(members.items(), room // MIN_SHARE + 1):
        name = member_name(key)
        if len(name) <= room:
            named[f"{name} ({type(key).__name__})" if name in named else name] = each
    return list(named.items())


def _divide_among(values: Sequence[object], room: int, inside: frozenset[int]) -> list[int]:
    """Return the share of ``room`` of each value. A value is measured only as far as its share can reach."""
    most = min(room, max(256, 4 * room // max(1, len(values))))
    return divide_room([_lower_bound(each, most, set(inside)) for each in values], room)


def divide_room(costs: Sequence[int], room: int) -> list[int]:
    """Return the share of ``room`` of each: small costs in full, and equal shares for the large ones."""
    found = [0] * len(costs)
    for place, index in enumerate(sorted(range(len(costs)), key=costs.__getitem__)):
        found[index] = min(costs[index], room // (len(costs) - place))
        room -= found[index]
    return found


def _view(value: Any) -> memoryview:
    view = memoryview(value)
    return (view if view.c_contiguous else memoryview(view.tobytes())).cast("B")  # a cast takes no slice with steps


def _text_of_bytes(value: memoryview, room: int) -> str:
    """Return the beginning of the text of bytes: UTF-8, or else Base64."""
    if _length_as_text(value) is None:
        return base64.b64encode(value[: room // 4 * 3]).decode()
    return bytes(value[:room]).decode(errors="ignore")


def _length_as_text(value: memoryview) -> int | None:
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


def _size(value: object) -> int:
    """Return the bytes of a value's JSON, measured piece by piece; estimated for very many items. Never raises."""
    return _Size().measure(value, frozenset())


class _Size:
    def __init__(self) -> None:
        self._left = _COUNTED

    def measure(self, value: object, around: frozenset[int]) -> int:  # noqa: PLR0911 (a table of types)
        """Return the bytes of ``value``, which lies inside the containers ``around``."""
        if isinstance(value, str):
            return text_size(value)
        if isinstance(value, _BYTES):
            view = _view(value)
            return _length_as_text(view) or 2 + (len(view) + 2) // 3 * 4
        if type(value) in LEAF_TYPES:
            return len(to_json(value))
        if id(value) in around or len(around) >= MAX_DEPTH:
            return len(to_json(_REST))
        inside = around | {id(value)}
        try:
            if (size := array_size(value)) is not None:
                return _size_of_array(value, size)
            opened = _to_container(value)
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
