"""Titles: the first question of an input."""

from dataclasses import dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langgraph.types import Command
from pydantic import BaseModel

from lg_streaming.titles import line_of, title_of


class Form(BaseModel):
    topic: str


@dataclass
class Task:
    text: str


class Broken:
    @property
    def messages(self) -> Any:
        raise RuntimeError("no")


LONG = "word " * 100
INPUTS: dict[str, tuple[Any, str | None]] = {
    "the last message of a human": (
        {"messages": [SystemMessage("You"), HumanMessage("first"), HumanMessage("What?"), AIMessage("That.")]},
        "What?",
    ),
    "messages as dicts": (
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "x"}]},
        "Hi",
    ),
    "messages as pairs": ({"messages": [("human", "Hi"), ("ai", "x")]}, "Hi"),
    "content blocks": (
        {"messages": [HumanMessage([{"type": "image", "url": "data:"}, {"type": "text", "text": "What is it?"}])]},
        "What is it?",
    ),
    "one message": ({"messages": HumanMessage("Hi")}, "Hi"),
    "a list of messages": ([HumanMessage("Hi"), AIMessage("x")], "Hi"),
    "a field for questions": ({"style": "short", "topic": "T", "question": "Q"}, "Q"),
    "messages before fields": ({"topic": "T", "messages": [("user", "M")]}, "M"),
    "a field without a text": ({"question": {"a": 1}, "task": "T"}, "T"),
    "a model": (Form(topic="T"), "T"),
    "a data class": (Task("T"), "T"),
    "a text": ("Why?", "Why?"),
    "several lines": ({"query": " a\n\tb  c "}, "a b c"),
    "an empty text": ({"question": "  ", "topic": "T"}, "T"),
    "a long text": (LONG, LONG[:119].rstrip() + "…"),
    "messages of others": ({"messages": [AIMessage("x")]}, None),
    "other fields": ({"secret": "s"}, None),
    "nothing": (None, None),
    "a number": (7, None),
    "a command": (Command(resume="yes"), None),
    "an object whose fields raise": (Broken(), None),
}


@pytest.mark.parametrize(("input", "title"), INPUTS.values(), ids=list(INPUTS))
def test_the_title_is(input: Any, title: str | None) -> None:
    assert title_of(input) == title
    assert title is None or len(title) <= 120


def test_a_line_is_of_a_text_only() -> None:
    assert line_of(7) is line_of(None) is line_of("") is None
