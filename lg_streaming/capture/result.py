"""What a node's result says about the graph's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from langchain_core.messages import BaseMessage
from langgraph.types import Command

__all__ = ["messages_of", "update_of"]


def update_of(result: object) -> object:
    """What a node's result changes in the state; None when it changes nothing.

    Of a ``Command`` that is its ``update``; of several results in a list, the list of theirs.
    """
    if isinstance(result, Command):
        return cast("Command[object]", result).update
    if isinstance(result, (list, tuple)):
        results: list[object] = list(cast("Iterable[object]", result))
        return [cast("Command[object]", each).update if isinstance(each, Command) else each for each in results]
    return result


def messages_of(result: object) -> list[BaseMessage]:
    """The messages in what a node's result changes, in order: one by itself, as a value, or in a list that is one."""
    values: list[object] = []
    for part in _several(update_of(result)):
        values += cast("Mapping[object, object]", part).values() if isinstance(part, Mapping) else (part,)
    return [each for value in values for each in _several(value) if isinstance(each, BaseMessage)]


def _several(value: object) -> Iterable[object]:
    return cast("Iterable[object]", value) if isinstance(value, (list, tuple)) else (value,)
