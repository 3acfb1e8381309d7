"""New ids for messages and tool calls of a run that is replayed again in the same execution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from lg_streaming.events import Scope

__all__ = ["RenewedIds"]

_NAMES: Final = ("message_id", "tool_call_id", "request_id")
_TEXTS: Final = frozenset({"content", "text"})
"""Fields whose texts are never ids."""
_MESSAGE_FIELDS: Final = frozenset({"id", "type", "content"})


class RenewedIds:
    """Recorded ids with a suffix, so that a page does not take the second answer for the first one.

    An id is known from the first update that names it as the id of a message, a tool call or a request.

    Args:
        number: Number of the replay in the execution, from 1. The first one keeps its ids.
    """

    def __init__(self, number: int) -> None:
        self._suffix = f"-{number}" if number > 1 else ""
        self._known: set[str] = set()

    def scope(self, scope: Scope) -> Scope:
        """Return a scope with the new ids."""
        if not self._suffix:
            return scope
        found = {name: value for name in _NAMES if (value := getattr(scope, name)) is not None}
        self._known.update(found.values())
        return scope.derive(**{name: value + self._suffix for name, value in found.items()}) if found else scope

    def data(self, data: Any) -> Any:
        """Return data with the new ids. Data that nests deeper than Python can follow keeps its ids."""
        if not self._suffix:
            return data
        try:
            self._learn(data)
            return self._renew(data)
        except RecursionError:
            return data

    def _learn(self, value: object) -> None:
        if isinstance(value, Mapping):
            fields = cast("Mapping[str, object]", value)
            names = (*_NAMES, "id") if fields.keys() >= _MESSAGE_FIELDS else _NAMES
            self._known.update(found for name in names if isinstance(found := fields.get(name), str))
            for each in fields.values():
                self._learn(each)
        elif isinstance(value, list):
            for each in cast("list[object]", value):
                self._learn(each)

    def _renew(self, value: Any) -> Any:
        if isinstance(value, str):
            return value + self._suffix if value in self._known else value
        if isinstance(value, Mapping):
            fields = cast("Mapping[str, Any]", value)
            return {name: each if name in _TEXTS else self._renew(each) for name, each in fields.items()}
        if isinstance(value, list):
            return [self._renew(each) for each in cast("list[Any]", value)]
        return value
