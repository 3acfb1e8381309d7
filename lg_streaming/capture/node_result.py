"""What a node's result says about the graph's state."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, cast
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.types import Command

from lg_streaming.capture.message_parts import parse_message

__all__ = ["find_unpublished_parts", "get_message_ids", "get_messages", "to_update"]

Said = tuple[str, dict[str, Any], str | None]
"""A piece of text: its type, its data, and its message's id."""


def to_update(result: object) -> object:
    """What a node's result changes in the state; None when it changes nothing.

    Of a ``Command`` that is its ``update``; of several results in a list, the list of theirs.
    """
    if isinstance(result, Command):
        return cast("Command[object]", result).update
    if isinstance(result, (list, tuple)):
        results: list[object] = list(cast("Iterable[object]", result))
        return [cast("Command[object]", each).update if isinstance(each, Command) else each for each in results]
    return result


def get_messages(result: object) -> list[BaseMessage]:
    """The messages in what a node's result changes, in order: one by itself, as a value, or in a list that is one."""
    values: list[object] = []
    for part in _to_items(to_update(result)):
        values += cast("Mapping[object, object]", part).values() if isinstance(part, Mapping) else (part,)
    return [each for value in values for each in _to_items(value) if isinstance(each, BaseMessage)]


def find_unpublished_parts(
    result: object,
    state: object,
    *,
    is_known: Callable[[str], bool],
    texts: Collection[str],
    received: int,
    heard: int,
) -> Iterator[Said]:
    """The text in a node's result that its readers do not have: the node returned it, and no model wrote it.

    Args:
        result: What the node returned.
        state: What it was called with: messages that were there before are known.
        is_known: Whether the readers have the message of an id.
        texts: The texts that models wrote inside the node: it may put one into a message of its own.
        received: How many pieces the node's readers got, of text, reasoning and the arguments of tools.
        heard: How many of these came from models; the others the node wrote itself, through its emitter.
    """
    if isinstance(result, Mapping):
        fields = cast("Mapping[object, object]", result)
        result = fields.get("content") if fields.keys() <= {"content", "role"} else fields
    if isinstance(result, str):
        if result and not received and result not in texts:
            yield "token", {"content": result, "index": 0, "role": "ai"}, None
        return
    returned = [each for each in get_messages(result) if isinstance(each, AIMessage)] if received <= heard else []
    before = get_message_ids(state) if returned else set[str]()
    for message in returned:
        if message.text in texts or (message.id is not None and (message.id in before or is_known(message.id))):
            continue
        if message.id is None:
            message.id = str(uuid4())  # as LangGraph itself does when it streams messages
        for index, (kind, data) in enumerate(parse_message(message)):
            if kind != "tool_args":
                yield kind, {**data, "index": index, "role": "ai"}, message.id


def get_message_ids(state: object) -> set[str]:
    """The ids of the messages in a state."""
    return {each.id for each in get_messages(_as_mapping(state)) if each.id is not None}


def _as_mapping(state: object) -> object:
    """A state as a mapping, also where it is an object with fields."""
    if isinstance(state, (Mapping, list, tuple)):
        return cast("object", state)
    return getattr(state, "__dict__", state)


def _to_items(value: object) -> Iterable[object]:
    return cast("Iterable[object]", value) if isinstance(value, (list, tuple)) else (value,)
