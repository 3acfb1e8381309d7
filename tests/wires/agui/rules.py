"""The order of events that both generations of `@ag-ui/client` accept, checked in Python."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from ag_ui.core import Event
from pydantic import TypeAdapter

__all__ = ["Event", "OrderError", "checked", "events_in"]

_MODELS: TypeAdapter[Any] = TypeAdapter(Event)
_OPENING = {
    "TEXT_MESSAGE_START": ("text", "messageId"),
    "REASONING_START": ("span", "messageId"),
    "REASONING_MESSAGE_START": ("reasoning", "messageId"),
    "TOOL_CALL_START": ("call", "toolCallId"),
    "STEP_STARTED": ("step", "stepName"),
}
_INSIDE = {
    "TEXT_MESSAGE_CONTENT": ("text", "messageId"),
    "REASONING_MESSAGE_CONTENT": ("reasoning", "messageId"),
    "TOOL_CALL_ARGS": ("call", "toolCallId"),
}
_CLOSING = {
    "TEXT_MESSAGE_END": ("text", "messageId"),
    "REASONING_END": ("span", "messageId"),
    "REASONING_MESSAGE_END": ("reasoning", "messageId"),
    "TOOL_CALL_END": ("call", "toolCallId"),
    "STEP_FINISHED": ("step", "stepName"),
}
_LAST = ("RUN_FINISHED", "RUN_ERROR")
_NEW_OUTCOMES = ("cancelled",)


class OrderError(AssertionError):
    """A client would reject these events."""


def events_in(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream. Comments are left out; everything else has to be one line of data and an empty line."""
    text = body.decode()
    if "\r" in text or not text.endswith("\n\n"):
        raise OrderError(f"frames end with LF LF: {text[-80:]!r}")
    frames = [each for each in text.split("\n\n")[:-1] if each.strip("\n") != ":"]
    return [json.loads(each.removeprefix("data: ")) for each in frames]


def checked(events: Iterable[dict[str, Any]], *, is_modern: bool) -> list[dict[str, Any]]:
    """Return the events of one run, if a client accepts them.

    Raises:
        OrderError: If it does not.
    """
    seen: list[dict[str, Any]] = []
    is_open: set[tuple[str, str]] = set()
    for event in events:
        try:
            _check(event, seen, is_open, is_modern=is_modern)
            _MODELS.validate_python(event)
        except AssertionError as error:
            raise OrderError(f"{error}: {event} after {seen[-5:]}") from None
        seen.append(event)
    if not seen or seen[-1]["type"] not in _LAST:
        raise OrderError(f"the end is missing after {seen[-3:]}")
    return seen


def _check(
    event: dict[str, Any], seen: list[dict[str, Any]], is_open: set[tuple[str, str]], *, is_modern: bool
) -> None:
    type_ = event["type"]
    if not seen:
        assert type_ in {"RUN_STARTED", "RUN_ERROR"}, "the first event"
    else:
        assert type_ != "RUN_STARTED", "a start inside"
        assert seen[-1]["type"] not in _LAST, "something after the end"
    assert "timestamp" not in event or isinstance(event["timestamp"], int), "a timestamp is an integer"
    _check_nulls(event, ())
    for table, wanted in ((_OPENING, False), (_INSIDE, True), (_CLOSING, True)):
        if type_ in table:
            kind, name = table[type_]
            assert ((kind, event[name]) in is_open) is wanted, "not open" if wanted else "open already"
    if type_ in _OPENING:
        is_open.add((_OPENING[type_][0], event[_OPENING[type_][1]]))
    if type_ in _CLOSING:
        is_open.discard((_CLOSING[type_][0], event[_CLOSING[type_][1]]))
    if type_ == "RUN_FINISHED":
        assert not is_open, f"open at the end: {is_open}"
        assert is_modern or event["outcome"]["type"] not in _NEW_OUTCOMES, "an outcome of 1.0"
        assert is_modern or "usage" not in event
    if type_ == "MESSAGES_SNAPSHOT":
        assert not any(kind in {"text", "call", "reasoning"} for kind, _ in is_open), "a snapshot inside a message"


def _check_nulls(value: Any, path: tuple[str, ...]) -> None:
    """Refuse nulls outside of what an application has put into its values."""
    if path and path[-1] in {"value", "snapshot", "result", "delta", "metadata", "responseSchema"}:
        return
    if isinstance(value, dict):
        for name, each in cast("dict[str, Any]", value).items():
            assert each is not None, f"null in {'.'.join((*path, name))}"
            _check_nulls(each, (*path, name))
    elif isinstance(value, list):
        for each in cast("list[Any]", value):
            _check_nulls(each, path)
