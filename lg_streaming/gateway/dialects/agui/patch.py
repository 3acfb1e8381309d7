"""Changes of a state as JSON Patch (RFC 6902), by its top-level fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["is_equal", "json_patch"]


def json_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the operations that change ``before`` to ``after``; none if they are equal."""
    changed: list[dict[str, Any]] = [
        {"op": "replace" if name in before else "add", "path": _path(name), "value": value}
        for name, value in after.items()
        if name not in before or not is_equal(before[name], value)
    ]
    return changed + [{"op": "remove", "path": _path(name)} for name in before if name not in after]


def _path(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def is_equal(one: object, other: object) -> bool:
    """Return whether two JSON values are equal; true and 1 are not."""
    if isinstance(one, dict) and isinstance(other, dict):
        these, those = cast("dict[str, object]", one), cast("dict[str, object]", other)
        return these.keys() == those.keys() and all(is_equal(these[name], those[name]) for name in these)
    if isinstance(one, list) and isinstance(other, list):
        first, second = cast("list[object]", one), cast("list[object]", other)
        return len(first) == len(second) and all(map(is_equal, first, second))
    return one == other and isinstance(one, bool) == isinstance(other, bool)
