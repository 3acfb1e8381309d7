"""Parts that the readers of the wires share."""

from __future__ import annotations

from typing import Any, Protocol

from tests.wires.conversation import Conversation

__all__ = ["Reader", "RefusedError", "check_keys", "content_text"]


class RefusedError(Exception):
    """The stock client would refuse this stream."""


class Reader(Protocol):
    """A small client of one wire. It keeps what a page keeps when it connects again."""

    conversation: Conversation

    def connect(self) -> None:
        """Begin to read another response."""
        ...

    def feed(self, part: bytes) -> None:
        """Read a part of the response; `RefusedError` if the client would."""
        ...


def check_keys(value: Any) -> None:
    """Refuse keys that clients in JavaScript take for attacks on their objects."""
    if isinstance(value, dict):
        for name, each in value.items():  # pyright: ignore[reportUnknownVariableType]
            if name == "__proto__" or (name == "constructor" and isinstance(each, dict) and "prototype" in each):
                raise RefusedError(f"the key {name!r}")
            check_keys(each)
    elif isinstance(value, list):
        for each in value:  # pyright: ignore[reportUnknownVariableType]
            check_keys(each)


def content_text(content: Any) -> str:
    """The text of a LangChain message's content."""
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content if block.get("type") == "text")
