"""Take an excerpt of a value that is too large, without encoding all of it.

`excerpt` makes plain values of as much as a shortened update can have, and measures the cut fields. It takes memory for
the limit, not for the value.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from lg_streaming.sizes import BYTES_TYPES, REST, bytes_view, json_size, lower_bound, to_container, utf8_size
from lg_streaming.values import MAX_DEPTH, array_size, jsonable, member_name, replace_lone_surrogates, to_json

__all__ = ["MIN_SHARE", "divide_room", "excerpt"]

MIN_SHARE: Final = 24
"""Least bytes of a share: enough for any number."""


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
    plain = to_container(value)
    if lower_bound(plain, limit, set()) <= limit:
        return jsonable(plain, frozenset()), None
    if not isinstance(plain, Mapping):
        kept = fitting.excerpt(plain, room, frozenset())
        return kept, {whole: json_size(plain)} if fitting.cut else None
    plain = cast("Mapping[object, object]", plain)
    members = _members(plain, room)
    inside = frozenset({id(value), id(plain)})
    kept_members: dict[str, Any] = {}
    sizes: dict[str, int] = {}
    for (name, each), share in zip(members, _divide_among([each for _, each in members], room, inside), strict=True):
        fitting.cut = False
        kept_members[name] = fitting.excerpt(each, share, inside)
        if fitting.cut:
            sizes[name] = json_size(each)
    if len(members) < len(plain):
        sizes[REST] = max(0, json_size(plain) - sum(len(to_json(name)) + 2 for name, _ in members))
    return kept_members, sizes or None


class _Excerpt:
    """Conversion of parts of a value to plain values; `cut` is True once a part was left out."""

    def __init__(self) -> None:
        self.cut = False

    def excerpt(self, value: object, room: int, around: frozenset[int]) -> Any:
        """Return as much of ``value``, which lies inside the containers ``around``, as ``room`` bytes hold."""
        if lower_bound(value, room, set(around)) <= room:
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
        if isinstance(value, BYTES_TYPES):
            self.cut = True
            return _text_of_bytes(bytes_view(value), room)
        if id(value) in around or len(around) >= MAX_DEPTH or room < MIN_SHARE:
            self.cut = True
            return REST
        inside = around | {id(value)}
        size = array_size(value)
        if size is not None:
            return self._part_of_array(cast("Any", value), size, room, inside)
        value = to_container(value)
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
    return divide_room([lower_bound(each, most, set(inside)) for each in values], room)


def divide_room(costs: Sequence[int], room: int) -> list[int]:
    """Return the share of ``room`` of each: small costs in full, and equal shares for the large ones."""
    found = [0] * len(costs)
    for place, index in enumerate(sorted(range(len(costs)), key=costs.__getitem__)):
        found[index] = min(costs[index], room // (len(costs) - place))
        room -= found[index]
    return found


def _text_of_bytes(value: memoryview, room: int) -> str:
    """Return the beginning of the text of bytes: UTF-8, or else Base64."""
    if utf8_size(value) is None:
        return base64.b64encode(value[: room // 4 * 3]).decode()
    return bytes(value[:room]).decode(errors="ignore")
