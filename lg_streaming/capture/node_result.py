"""Read a node's result: state changes, messages, and text that was not published yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, cast
from uuid import uuid4

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.types import Command

from lg_streaming.capture.message_parts import parse_message

__all__ = ["ids_in", "messages_in", "to_update", "unpublished_parts"]

TextPart = tuple[str, dict[str, Any], str | None]
"""Piece of text: its type, its data, and its message's id."""


def to_update(result: object) -> object:
    """Return the state update in a node's result; None if there is no update.

    A ``Command`` has it as ``update``; a list of results gives the list of their updates.
    """
    if isinstance(result, Command):
        return cast("Command[object]", result).update
    if isinstance(result, (list, tuple)):
        results: list[object] = list(cast("Iterable[object]", result))
        return [cast("Command[object]", each).update if isinstance(each, Command) else each for each in results]
    return result


def messages_in(result: object) -> list[BaseMessage]:
    """Return the messages in the state update of a node's result, in order.

    A message may be the update, one of its values, or an item of a list that is a value.
    """
    values: list[object] = []
    for part in _to_items(to_update(result)):
        values += cast("Mapping[object, object]", part).values() if isinstance(part, Mapping) else (part,)
    return [each for value in values for each in _to_items(value) if isinstance(each, BaseMessage)]


def unpublished_parts(
    result: object,
    state: object,
    *,
    is_known: Callable[[str], bool],
    texts: Collection[str],
    received: int,
    from_models: int,
) -> Iterator[TextPart]:
    """Yield the text in a node's result that was not published: the node returned it, and no model wrote it.

    Args:
        result: The node's result.
        state: The state that the node was called with; its messages are published already.
        is_known: Function that returns whether the message of an id was published.
        texts: Texts that models wrote inside the node, which may put one into a new message.
        received: Number of published pieces of text, reasoning and tool arguments.
        from_models: Number of these that came from models; the node's emitter published the others.
    """
    if isinstance(result, Mapping):
        fields = cast("Mapping[object, object]", result)
        result = fields.get("content") if fields.keys() <= {"content", "role"} else fields
    if isinstance(result, str):
        if result and not received and result not in texts:
            yield "token", {"content": result, "index": 0, "role": "ai"}, None
        return
    returned = [each for each in messages_in(result) if isinstance(each, AIMessage)] if received <= from_models else []
    before = ids_in(state) if returned else set[str]()
    for message in returned:
        if message.text in texts or (message.id is not None and (message.id in before or is_known(message.id))):
            continue
        if message.id is None:
            message.id = str(uuid4())  # as LangGraph itself does when it streams messages
        for index, (kind, data) in enumerate(parse_message(message)):
            if kind != "tool_args":
                yield kind, {**data, "index": index, "role": "ai"}, message.id


def ids_in(state: object) -> set[str]:
    """Return the ids of the messages in a state."""
    return {each.id for each in messages_in(_as_mapping(state)) if each.id is not None}


def _as_mapping(state: object) -> object:
    """Return a state as a mapping, also if it is an object with fields."""
    if isinstance(state, (Mapping, list, tuple)):
        return cast("object", state)
    return getattr(state, "__dict__", state)


def _to_items(value: object) -> Iterable[object]:
    return cast("Iterable[object]", value) if isinstance(value, (list, tuple)) else (value,)
