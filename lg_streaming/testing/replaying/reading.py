"""Read the JSON of recorded updates, which may have any shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

__all__ = ["items", "members"]


def members(value: object) -> Mapping[str, Any]:
    """Return the members of a JSON object; none for other values."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def items(value: object) -> list[object]:
    """Return the items of a JSON array; none for other values."""
    return cast("list[object]", value) if isinstance(value, list) else []
