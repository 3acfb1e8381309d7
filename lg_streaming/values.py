"""Convert any Python value to its nearest JSON value.

`to_json` never raises and never consumes an iterator. Plain values take one pass through orjson; a value that JSON
cannot hold exactly takes a second, slower pass. Both passes give the same JSON.

Text is safe inside one line: U+0085, U+2028 and U+2029 are escaped, because some readers split lines there.
"""

from __future__ import annotations

import base64
import itertools
import os
import re
from array import array
from collections import deque
from collections.abc import Iterable, Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import orjson
from pydantic import BaseModel

from lg_streaming.errors import describe_error

__all__ = [
    "MAX_DEPTH",
    "MAX_ELEMENTS",
    "MAX_ITEMS",
    "SAFE_INTEGER",
    "STRICT",
    "array_size",
    "escape_line_separators",
    "has_lone_surrogates",
    "jsonable",
    "member_name",
    "orjson_default",
    "replace_lone_surrogates",
    "to_json",
]

T = TypeVar("T")

SAFE_INTEGER: Final = 2**53 - 1
"""Largest whole number that every JSON reader keeps exactly; a larger one becomes a string."""

STRICT: Final = orjson.OPT_STRICT_INTEGER
"""Option with which orjson refuses whole numbers over `SAFE_INTEGER`."""

_MAX_REPR: Final = 1_000
MAX_DEPTH: Final = 64
MAX_ITEMS: Final = 200_000
MAX_ELEMENTS: Final = 1_000_000
_CUT: Final = "…"
_WINDOW: Final = 65_536
_SPLITTERS: Final = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def to_json(value: object) -> bytes:
    """Encode any ``value`` as JSON. Never raises."""
    try:
        json = orjson.dumps(value, orjson_default, STRICT)
    except TypeError:  # orjson's error is one: unusual keys, cycles, large numbers, lone surrogates
        json = orjson.dumps(jsonable(value))
    return json if json.isascii() else escape_line_separators(json)


def escape_line_separators(json: bytes) -> bytes:
    """Escape the characters at which some readers split lines."""
    for raw, escape in _SPLITTERS:
        if raw in json:
            json = json.replace(raw, escape)
    return json


def orjson_default(value: object) -> object:  # noqa: C901, PLR0911, PLR0912 (a table of types)
    """Return a replacement for a value that orjson cannot encode, to be used as orjson's ``default``."""
    match value:
        case BaseModel():
            return _model_fields(value)
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case bytes() | bytearray() | memoryview():
            return _decode_bytes(bytes(cast("bytes", value)))
        case Enum():
            return cast("object", value.value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal() | UUID() | Fraction():
            return str(value)
        case BaseException():
            return describe_error(value)
        case Mapping():
            return dict(cast("Mapping[object, object]", value))
        case Sequence() | AbstractSet() | MappingView() | deque() | array():
            return list(itertools.islice(cast("Iterable[object]", value), MAX_ITEMS))
        case os.PathLike():
            path = os.fspath(cast("os.PathLike[str] | os.PathLike[bytes]", value))
            return path if isinstance(path, str) else _decode_bytes(path)
        case re.Pattern():
            return cast("object", value.pattern)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _fields(value)
        case _:
            return _from_shape(value)


def _model_fields(value: BaseModel) -> object:
    try:
        return value.model_dump(mode="python", warnings=False)
    except Exception:  # noqa: BLE001 (a serializer of the model's own may raise anything)
        return dict(value.__dict__)


def _fields(value: Any) -> dict[str, object]:
    return {each.name: getattr(value, each.name) for each in fields(value) if not each.name.startswith("_")}


def _from_shape(value: object) -> object:
    """Convert a value that only its shape identifies: an array or a scalar as in NumPy, an IP address."""
    kind = type(value)
    if isinstance(value, type):
        return _short_repr(value)
    if (size := array_size(value)) is not None:
        return _array_items(value, size)
    if kind.__module__ == "ipaddress":
        return str(value)
    return _short_repr(value)


def array_size(value: Any) -> int | None:
    """Return the number of elements of a NumPy-like array; None for any other value."""
    kind = cast("type[object]", type(value))
    if not hasattr(kind, "tolist") or not hasattr(value, "dtype"):
        return None
    return int(value.numel() if callable(getattr(value, "numel", None)) else value.size)


def _array_items(value: Any, size: int) -> object:
    if size > MAX_ELEMENTS:
        return _short_repr(value)
    match getattr(value.dtype, "kind", None):
        case "M":  # moments: their own text, since a finer one than microseconds would be a bare number
            value = value.astype(str)
        case "m":
            value = value.astype("timedelta64[us]")
        case _:
            pass
    found: object = value.tolist()
    return _short_repr(value) if type(found) is type(value) else found


def _decode_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


def _short_repr(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (a __repr__ may raise anything)
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MAX_REPR else text[: _MAX_REPR - 1] + _CUT


def jsonable(value: object, around: frozenset[int] = frozenset(), *, max_items: int = MAX_ITEMS) -> Any:
    """Return any ``value`` as plain JSON values. Slower than `to_json`; never raises.

    ``"…"`` replaces a container in itself, values nested more than 64 levels deep, and items after the first
    ``max_items``. ``around`` are the ids of the containers that ``value`` lies in.
    """
    return _Plain(max_items).to_plain(value, around)


class _Plain:
    """Conversion of one value, bounded by a number of items."""

    def __init__(self, max_items: int) -> None:
        self._items = 0
        self._max_items = max_items

    def to_plain(self, value: object, around: frozenset[int]) -> Any:
        """Return ``value``, which lies inside the containers ``around``, as plain JSON values."""
        try:
            return self._convert(value, around)
        except Exception:  # noqa: BLE001 (any method of a foreign object may raise anything)
            return replace_lone_surrogates(f"<{type(value).__name__}>")

    def _convert(self, value: object, around: frozenset[int]) -> Any:  # noqa: PLR0911 (a table of types)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.to_plain(cast("object", value.value), around)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, int):
            return _whole_number(value)
        if isinstance(value, str):
            return replace_lone_surrogates(value)
        if id(value) in around or len(around) >= MAX_DEPTH:
            return _CUT
        return self._convert_container(value, around | {id(value)})

    def _convert_container(self, value: object, around: frozenset[int]) -> Any:
        match value:
            case Mapping():
                return self._convert_mapping(cast("Mapping[object, object]", value), around)
            case list() | tuple():
                return [
                    self.to_plain(each, around) for each in self._take_allowed(cast("Iterable[object]", value), _CUT)
                ]
            case orjson.Fragment():
                return orjson.loads(orjson.dumps(value))
            case _:
                return self.to_plain(orjson_default(value), around)

    def _convert_mapping(self, value: Mapping[object, object], around: frozenset[int]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, inner in self._take_allowed(value.items(), (_CUT, _CUT)):
            name = member_name(key)
            if name in made:  # 1 and "1" are two keys in Python
                name = f"{name} ({type(key).__name__})"
            made[name] = self.to_plain(inner, around)
        return made

    def _take_allowed(self, items: Iterable[T], rest: T) -> Iterable[T]:
        for item in list(items):
            if self._items >= self._max_items:
                yield rest
                return
            self._items += 1
            yield item


def member_name(key: object) -> str:
    """Return the name of a member for a key of a mapping."""
    key = cast("object", key.value) if isinstance(key, Enum) else key
    return replace_lone_surrogates(key if isinstance(key, str) else str(key))


def _whole_number(value: int) -> int | str:
    if -SAFE_INTEGER <= value <= SAFE_INTEGER:
        return int(value)
    return str(int(value)) if value.bit_length() < _MAX_REPR else "<huge int>"


def has_lone_surrogates(text: str) -> bool:
    """Return whether UTF-8 cannot encode ``text``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def replace_lone_surrogates(text: str) -> str:
    """Return ``text`` with surrogate pairs joined to one character, and U+FFFD for each lone surrogate."""
    text = str.__str__(text)
    try:
        if not text.isascii():
            for start in range(0, len(text), _WINDOW):  # not all at once: the text may be very long
                text[start : start + _WINDOW].encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
