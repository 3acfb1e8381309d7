"""Titles of runs for people: the first question of an input, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

__all__ = ["MAX_TITLE", "graph_name", "line_of", "title_of"]

MAX_TITLE: Final = 120
"""Most characters of a title."""
_READ: Final = 4_000
"""Characters of a text that are looked at, because white space becomes one space."""
_MESSAGES_READ: Final = 100
_FIELDS: Final = (
    *("question", "query", "input", "prompt", "topic", "task", "text"),
    *("request", "message", "instruction", "instructions", "goal", "subject", "title", "user_input"),
)
_HUMAN: Final = frozenset({"human", "user"})
_DEFAULT_NAME: Final = "LangGraph"
"""Name of a compiled graph that got no name."""


def graph_name(name: str | None) -> str | None:
    """Return the name of a graph; None for the one that LangGraph gives to all."""
    return None if name == _DEFAULT_NAME else name


def title_of(input: object) -> str | None:
    """Return the first question in a graph's input, in one line of at most 120 characters; None without one.

    It is the last message of a human in ``messages``, or else the first text among the usual fields for questions.
    The input may be a mapping, an object with fields, a list of messages or a text. Never raises.
    """
    try:
        return _title_of(input)
    except Exception:  # noqa: BLE001 (the fields of an input may be properties of the application)
        return None


def _title_of(input: object) -> str | None:
    if isinstance(input, str):
        return line_of(input)
    if isinstance(input, (list, tuple)):
        return _last_question(cast("Sequence[object]", input))
    found = _get(input, "messages")
    if isinstance(found, (list, tuple)):
        question = _last_question(cast("Sequence[object]", found))
    else:
        question = _question_in(found)
    if question is not None:
        return question
    return next((line for name in _FIELDS if (line := line_of(_get(input, name))) is not None), None)


def line_of(text: object) -> str | None:
    """Return a text in one line, at most 120 characters long; None for another object, or without a character."""
    if not isinstance(text, str):
        return None
    line = " ".join(text[:_READ].split())
    return (line if len(line) <= MAX_TITLE else line[: MAX_TITLE - 1].rstrip() + "…") or None


def _last_question(messages: Sequence[object]) -> str | None:
    newest = islice(reversed(messages), _MESSAGES_READ)
    return next((line for each in newest if (line := _question_in(each)) is not None), None)


def _question_in(message: object) -> str | None:
    """Return the text of a message of a human, in any form that LangGraph takes; None for another object."""
    if isinstance(message, str):
        return line_of(message)
    if isinstance(message, (list, tuple)):
        role, content, *_ = (*cast("Sequence[object]", message), None, None)
    else:
        role, content = _get(message, "type") or _get(message, "role"), _get(message, "content")
        if role not in _HUMAN:
            role = _get(message, "role")
    return _text_in(content) if isinstance(role, str) and role.lower() in _HUMAN else None


def _text_in(content: object) -> str | None:
    if not isinstance(content, (list, tuple)):
        return line_of(content)
    blocks = cast("Sequence[object]", content)
    texts = [each if isinstance(each, str) else _get(each, "text") for each in blocks]
    return line_of(" ".join(each for each in texts if isinstance(each, str)))


def _get(found: object, name: str) -> Any:
    return cast("Mapping[str, object]", found).get(name) if isinstance(found, Mapping) else getattr(found, name, None)
