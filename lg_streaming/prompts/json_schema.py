"""Check of a value against a JSON Schema, as far as pydantic writes such schemas.

Checked are ``type``, ``enum``, ``const``, objects, lists, numbers, lengths, ``pattern``, ``anyOf``, ``oneOf``,
``allOf``, ``not`` and ``$ref`` inside the schema. Other keywords, such as ``format``, are left to the graph.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

__all__ = ["branches", "schema_errors"]

Schema = Mapping[str, Any]

_MAX_DEPTH: Final = 64
_MAX_ERRORS: Final = 5
_LONGEST_MATCHED: Final = 1_000
"""Most characters of a text that a pattern is matched with: some patterns take time that grows fast."""


def schema_errors(schema: Schema, value: object, *, name: str = "the answer", root: Schema | None = None) -> list[str]:
    """Return what does not fit, as up to five texts such as ``args.amount is an integer, not "3"``; none if it fits.

    Args:
        schema: The JSON Schema.
        value: The value, as JSON.
        name: The value's name in the texts.
        root: The schema that ``$ref`` refers to; ``schema`` when not given.
    """
    return _Checker(schema if root is None else root).check(schema, value, name, 0)[:_MAX_ERRORS]


def branches(schema: Schema) -> list[Schema]:
    """Return the alternatives of a schema, or the schema itself if it has none."""
    checker = _Checker(schema)
    schema = checker.resolve(schema)
    found = schema.get("oneOf") or schema.get("anyOf")
    return [checker.resolve(each) for each in cast("list[Schema]", found)] if isinstance(found, list) else [schema]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, tuple[str, Callable[[object], bool]]]] = {
    "string": ("a text", lambda value: isinstance(value, str)),
    "integer": ("a whole number", lambda value: _is_number(value) and cast("float", value) % 1 == 0),
    "number": ("a number", _is_number),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "null": ("null", lambda value: value is None),
    "array": ("a list", lambda value: isinstance(value, Sequence) and not isinstance(value, (str, bytes))),
    "object": ("an object", lambda value: isinstance(value, Mapping)),
}


class _Checker:
    """Check against the parts of one schema.

    Args:
        root: The whole schema.
    """

    def __init__(self, root: Schema) -> None:
        self._root = root

    def resolve(self, schema: Schema) -> Schema:
        """Follow ``$ref``."""
        for _ in range(_MAX_DEPTH):
            ref = schema.get("$ref")
            if not isinstance(ref, str) or not ref.startswith("#"):
                return schema
            found: Any = self._root
            for part in ref[1:].strip("/").split("/") if ref != "#" else ():
                key = part.replace("~1", "/").replace("~0", "~")
                found = cast("Schema", found).get(key) if isinstance(found, Mapping) else None
            if not isinstance(found, Mapping):
                return {}
            schema = {**cast("Schema", found), **{key: each for key, each in schema.items() if key != "$ref"}}
        return {}

    def check(self, schema: Any, value: object, name: str, depth: int) -> list[str]:
        """Return what does not fit."""
        if isinstance(schema, bool):
            return [] if schema else [f"{name} is not allowed"]
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return []
        found = self.resolve(cast("Schema", schema))
        errors = _check_kind(found, value, name)
        if errors:
            return errors
        return [
            *_check_bounds(found, value, name),
            *self._check_combined(found, value, name, depth + 1),
            *self._check_parts(found, value, name, depth + 1),
        ]

    def _check_combined(self, schema: Schema, value: object, name: str, depth: int) -> list[str]:
        errors = [error for each in _list(schema.get("allOf")) for error in self.check(each, value, name, depth)]
        for keyword in ("anyOf", "oneOf"):
            options = _list(schema.get(keyword))
            if options:
                found = [self.check(each, value, name, depth) for each in options]
                if all(found):
                    errors += min(found, key=len) if len(found) == 1 else [_none_of(found, name)]
                elif keyword == "oneOf" and found.count([]) > 1:
                    errors.append(f"{name} fits several alternatives")
        if "not" in schema and not self.check(schema["not"], value, name, depth):
            errors.append(f"{name} is not allowed")
        return errors

    def _check_parts(self, schema: Schema, value: object, name: str, depth: int) -> list[str]:
        if isinstance(value, Mapping):
            return self._check_object(schema, cast("Mapping[str, object]", value), name, depth)
        if _TYPES["array"][1](value):
            return self._check_list(schema, cast("Sequence[object]", value), name, depth)
        return []

    def _check_object(self, schema: Schema, value: Mapping[str, object], name: str, depth: int) -> list[str]:
        properties = cast("Schema", schema.get("properties") or {})
        missing = [each for each in _list(schema.get("required")) if each not in value]
        errors = [f"{name}.{each} is missing" for each in missing]
        others = schema.get("additionalProperties", True)
        for key, each in value.items():
            if key in properties:
                errors += self.check(properties[key], each, f"{name}.{key}", depth)
            elif others is False:
                errors.append(f"{name}.{key:.80} is unknown")
            else:
                errors += self.check(others, each, f"{name}.{key:.80}", depth)
        return errors

    def _check_list(self, schema: Schema, value: Sequence[object], name: str, depth: int) -> list[str]:
        first = _list(schema.get("prefixItems"))
        rest = schema.get("items", True)
        parts = [first[at] if at < len(first) else rest for at in range(len(value))]
        found = (self.check(part, each, f"{name}[{at}]", depth) for at, (part, each) in enumerate(zip(parts, value)))  # noqa: B905
        return [error for errors in found for error in errors]


def _check_kind(schema: Schema, value: object, name: str) -> list[str]:
    types = schema.get("type")
    names = [types] if isinstance(types, str) else _list(types)
    known = [_TYPES[each] for each in names if each in _TYPES]
    if known and not any(fits(value) for _, fits in known):
        return [f"{name} is {' or '.join(text for text, _ in known)}, not {_shown(value)}"]
    if "const" in schema and not _same(schema["const"], value):
        return [f"{name} is {_shown(schema['const'])}, not {_shown(value)}"]
    allowed = _list(schema.get("enum"))
    if allowed and not any(_same(each, value) for each in allowed):
        return [f"{name} is one of {', '.join(map(_shown, allowed))}, not {_shown(value)}"]
    return []


def _check_bounds(schema: Schema, value: object, name: str) -> list[str]:
    errors: list[str] = []
    if _is_number(value):
        number = cast("float", value)
        limits: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
            ("minimum", "at least", lambda limit: number >= limit),
            ("maximum", "at most", lambda limit: number <= limit),
            ("exclusiveMinimum", "above", lambda limit: number > limit),
            ("exclusiveMaximum", "below", lambda limit: number < limit),
            ("multipleOf", "a multiple of", lambda limit: limit == 0 or _is_multiple(number, limit)),
        )
        errors += [f"{name} is {word} {schema[key]}" for key, word, fits in limits if _breaks(schema, key, fits)]
    elif isinstance(value, (str, Sequence, Mapping)):
        size = len(cast("Sequence[object]", value))
        unit, kind = (
            ("characters", "Length") if isinstance(value, str)
            else ("fields", "Properties") if isinstance(value, Mapping) else ("items", "Items")
        )  # fmt: skip
        if _breaks(schema, f"min{kind}", lambda limit: size >= limit):
            errors.append(f"{name} has at least {schema[f'min{kind}']} {unit}")
        if _breaks(schema, f"max{kind}", lambda limit: size <= limit):
            errors.append(f"{name} has at most {schema[f'max{kind}']} {unit}")
        if isinstance(value, str) and not _matches(schema.get("pattern"), value):
            errors.append(f"{name} matches {schema['pattern']!r}")
    return errors


def _is_multiple(number: float, of: float) -> bool:
    if isinstance(number, int) and isinstance(of, int):
        return number % of == 0
    try:
        return math.isclose(number / of, round(number / of))
    except (OverflowError, ValueError):  # not finite, or too large for a float
        return False


def _breaks(schema: Schema, key: str, fits: Callable[[float], bool]) -> bool:
    limit = schema.get(key)
    return _is_number(limit) and not fits(cast("float", limit))


def _matches(pattern: object, text: str) -> bool:
    if not isinstance(pattern, str) or len(text) > _LONGEST_MATCHED:
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:  # a pattern of another language
        return True


def _none_of(found: list[list[str]], name: str) -> str:
    return f"{name} fits no alternative ({' / '.join(dict.fromkeys(errors[0] for errors in found))})"


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"  # noqa: PLR2004


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
