"""Shorten JSON to a number of bytes, so that an update over the limit can be published.

`shorten` keeps small fields whole and divides the rest among the large ones. Text keeps its beginning, a list its
first items, an object its fields, each within its share. The same JSON always gives the same result.

`split_text` splits a text that is too long; joining the pieces gives the same text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.excerpt import MIN_SHARE, divide_room
from lg_streaming.sizes import text_size
from lg_streaming.values import to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["TEXT_FIELDS", "TRUNCATED", "VALUE", "shorten", "shorten_object", "split_text"]

TEXT_FIELDS: Final[Mapping[str, str]] = {"token": "content", "thinking": "content", "tool_args": "args"}
"""Types whose updates readers join, with the field of the data that holds the text."""

TRUNCATED: Final = "truncated"
"""Field that names the cut fields: ``{field: bytes of its whole JSON}``."""

VALUE: Final = "value"
"""Field for shortened data that was no object."""

_REST: Final = "…"
"""Replacement for values nested too deep, and name of the sum of cut fields without room in ``truncated``."""
_IDENTITY: Final = frozenset(
    {
        *("node_id", "node_name", "attempt", "duration_s", "tool", "tool_call_id", "message_id", "model", "index"),
        *("prompt_id", "type", "code", "status", "name", "role", "run_id", "id", "task_id", "agent_id", "request_id"),
        *("progress", "milestone", "parent", "level", "finish_reason", "reason"),
    }
)
"""Fields that are kept before others."""
_CONTINUED: Final = frozenset({"index", "role", "tool_call_id", "message_id", "total_tokens"})
"""Fields that the second and later pieces of a text repeat."""
_MAX_DEPTH: Final = 32
_MAX_NAME: Final = 64
_MAX_PARTS: Final = 9_999_999


def shorten(json: bytes, room: int, sizes: Mapping[str, int] | None = None) -> bytes:
    """Return ``json`` in at most ``room`` bytes, which are at least 64.

    ``sizes`` has the fields that ``json`` contains only in part, with the bytes of the whole. The result is an object
    with a field ``truncated``. Data that is no object becomes its field ``value``.
    """
    data: Any = orjson.loads(json)
    whole: dict[str, Any] = cast("dict[str, Any]", data) if isinstance(data, dict) else {VALUE: data}
    kept, cut = shorten_object(whole, room, sizes)
    return to_json({**kept, TRUNCATED: cut})


def shorten_object(
    whole: Mapping[str, Any], room: int, parts: Mapping[str, int] | None = None
) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the kept part of ``whole`` and the sizes of the cut fields, together at most ``room`` bytes of JSON."""
    most = room // 4
    reserved = min(most, 2 * MIN_SHARE)
    fields = {name: value for name, value in whole.items() if name != TRUNCATED}
    while True:
        kept = _cut_object(fields, room - reserved - len(TRUNCATED) - 4, 0)
        shortened = [name for name in whole if name not in kept or kept[name] is not whole[name]]
        sizes = {name: _size(whole[name]) for name in shortened} | dict(parts or {})
        cut = _named(sizes, most)
        needed = len(to_json(cut))
        if needed <= reserved or reserved >= most:
            return kept, cut
        reserved = min(most, max(needed, reserved + MIN_SHARE))


def _named(sizes: Mapping[str, int], most: int) -> dict[str, int]:
    """Return the sizes of fields in at most ``most`` bytes: the largest by name, the others as one sum."""
    left = most - len(_REST.encode()) - MIN_SHARE
    listed: set[str] = set()
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        cost = len(to_json(name)) + len(str(sizes[name])) + 2
        if len(name) <= _MAX_NAME and cost <= left:
            left -= cost
            listed.add(name)
    named = {name: size for name, size in sizes.items() if name in listed}
    rest = sum(size for name, size in sizes.items() if name not in listed)
    return {**named, _REST: named.get(_REST, 0) + rest} if rest else named


def _size(value: Any) -> int:
    return text_size(value) if isinstance(value, str) else len(to_json(value))


def _cut(value: Any, room: int, depth: int) -> Any:
    """Return as much of ``value`` as fits into ``room`` bytes, which are at least 5."""
    if _size(value) <= room:
        return value
    match value:
        case str():
            return _prefix(value, lambda text: text_size(text) <= room)
        case dict() | list() if depth >= _MAX_DEPTH:
            return _REST
        case dict():
            return _cut_object(cast("dict[str, Any]", value), room, depth + 1)
        case list():
            return _cut_list(cast("list[Any]", value), room, depth + 1)
        case _:
            return None


def _cut_object(fields: dict[str, Any], room: int, depth: int) -> dict[str, Any]:
    left = room - 2
    names = {name: len(to_json(name)) + 2 for name in fields}
    costs = {name: names[name] + _size(value) for name, value in fields.items()}
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _IDENTITY and costs[name] <= left // 4:
            kept[name] = value
            left -= costs[name]
    others = [name for name in fields if name not in kept and names[name] + MIN_SHARE <= left][
        : max(0, left // MIN_SHARE)
    ]
    for name, share in zip(others, divide_room([costs[name] for name in others], left), strict=True):
        if share == costs[name]:
            kept[name] = fields[name]
        elif share - names[name] >= MIN_SHARE // 4:
            kept[name] = _cut(fields[name], share - names[name], depth)
    return {name: kept[name] for name in fields if name in kept}


def _cut_list(items: list[Any], room: int, depth: int) -> list[Any]:
    left = room - 2
    first = items[: left // MIN_SHARE]
    costs = [_size(item) + 1 for item in first]
    return [_cut(item, share - 1, depth) for item, share in zip(first, divide_room(costs, left), strict=True)]


def _prefix(text: str, fits: Callable[[str], bool], least: int = 0) -> str:
    """Return the longest beginning of ``text`` that fits, of at least ``least`` characters."""
    low, high = least, len(text)
    guess = 64
    while low < high:  # first in growing steps, since the text may be much longer than what fits
        middle = min(low + guess, (low + high + 1) // 2)
        if fits(text[:middle]):
            low = middle
            guess *= 4
        else:
            high = middle - 1
            guess = high
    return text[:low]


# --- text -----------------------------------------------------------------------------------------------------


def split_text(
    type: str, json: bytes, room: int, text: str | None = None, sizes: Mapping[str, int] | None = None
) -> list[bytes]:
    """Return the data of a text update as pieces of at most ``room`` bytes, which are at least 256.

    ``text`` is the whole text where ``json`` has only a part of it; ``sizes`` is as for `shorten`.

    Each piece has the field ``part``, from 1, and ``parts``, their number, and the ``index`` of the whole. The other
    fields are in the first piece, shortened where they are large. Data without text is shortened.
    """
    data: Any = orjson.loads(json)
    if isinstance(data, str):
        return [
            _compact(to_json(piece)) for piece in _pieces(text or data, room, lambda text, _: text_size(text) <= room)
        ]
    field = TEXT_FIELDS[type]
    if not isinstance(data, dict):
        return [shorten(json, room, sizes)]
    fields = cast("dict[str, Any]", data)
    whole = text or fields.get(field)
    if not isinstance(whole, str) or not whole:
        return [shorten(json, room, sizes)]
    frame = _PieceTemplate(fields, field, room, sizes or {})
    pieces = _pieces(whole, room, lambda piece, part: len(frame.render(piece, part, _MAX_PARTS)) <= room)
    if len(pieces) == 1:  # another field was too large
        return [frame.render(pieces[0], 1, 1)]
    return [_compact(frame.render(piece, part, len(pieces))) for part, piece in enumerate(pieces, 1)]


def _compact(json: bytes) -> bytes:
    """Return a copy without the memory that orjson reserves: eight bytes for each byte of a text."""
    return bytes(memoryview(json))


class _PieceTemplate:
    """Fields around the text of each piece."""

    def __init__(self, fields: dict[str, Any], field: str, room: int, sizes: Mapping[str, int]) -> None:
        self._field = field
        others = {name: value for name, value in fields.items() if name not in {field, "json"}}
        continued = {name: value for name, value in others.items() if name in _CONTINUED}
        self._first = _within(others, room // 2, sizes)
        self._later = _within(continued, room // 4, sizes)
        self._nested = isinstance(fields.get("json"), str)
        if self._nested and len(self.render(text=_REST * 8, part=1, parts=_MAX_PARTS)) > room:
            self._nested = False

    def render(self, text: str, part: int, parts: int) -> bytes:
        """Return the JSON of one piece."""
        data = {self._field: text, **(self._first if part == 1 else self._later)}
        if parts > 1:
            data |= {"part": part, "parts": parts}
        if self._nested:
            data["json"] = to_json(data).decode()
        return to_json(data)


def _within(fields: dict[str, Any], room: int, sizes: Mapping[str, int]) -> dict[str, Any]:
    json = to_json(fields)
    parts = {name: size for name, size in sizes.items() if name in fields}
    return fields if len(json) <= room and not parts else orjson.loads(shorten(json, room, parts))


def _pieces(text: str, room: int, fits: Callable[[str, int], bool]) -> list[str]:
    pieces: list[str] = []
    start = 0
    while start < len(text):
        part = len(pieces) + 1
        window = text[start : start + room]  # a character has a byte at least
        piece = _prefix(window, lambda beginning, part=part: fits(beginning, part), least=1)
        pieces.append(piece)
        start += len(piece)
    return pieces
