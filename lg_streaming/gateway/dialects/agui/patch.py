"""Changes of a state as JSON Patch (RFC 6902), by its top-level fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["json_patch"]


def json_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the operations that change ``before`` to ``after``; none if they are equal."""
    changed: list[dict[str, Any]] = [
        {"op": "replace" if name in before else "add", "path": _path(name), "value": value}
        for name, value in after.items()
        if name not in before or not _equal(before[name], value)
    ]
    return changed + [{"op": "remove", "path": _path(name)} for name in before if name not in after]


def _path(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _equal(one: object, other: object) -> bool:
    """Compare JSON values; ``True`` and ``1`` differ there."""
    if isinstance(one, dict) and isinstance(other, dict):
        these, those = cast("dict[str, object]", one), cast("dict[str, object]", other)
        return these.keys() == those.keys() and all(_equal(these[name], those[name]) for name in these)
    if isinstance(one, list) and isinstance(other, list):
        first, second = cast("list[object]", one), cast("list[object]", other)
        return len(first) == len(second) and all(map(_equal, first, second))
    return one == other and isinstance(one, bool) == isinstance(other, bool)
