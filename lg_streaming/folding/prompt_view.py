"""Prompts of a run in a client, folded from its updates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

__all__ = ["AnswerError", "PromptView", "as_list", "as_mapping", "prompts_in_interruption", "question_of"]


class AnswerError(Exception):
    """A typed answer that cannot be sent; the message has what to type."""


@dataclass(slots=True, kw_only=True, eq=False)
class PromptView:
    """One question to a human."""

    prompt_id: str
    text: Any
    """The question; a text, or any value of an interrupt."""
    node_id: str | None = None
    choices: Sequence[Any] = field(default_factory=tuple[Any, ...])
    is_verdict: bool = False
    """True for a yes or no."""
    has_schema: bool = False
    expires_at: float | None = None
    default: Any = None
    error: str | None = None
    """Reason why an earlier answer did not fit."""
    pauses: bool = False
    """True if the run waits for the answer."""
    state: Literal["open", "answered", "closed"] = "open"
    answer: Any = None
    responded_by: str | None = None
    timed_out: bool = False

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> PromptView:
        """Return the prompt of a ``human_prompt`` update."""
        return cls(
            prompt_id=str(data.get("prompt_id", "")),
            text=data.get("prompt", ""),
            node_id=data.get("node_id"),
            choices=tuple(as_list(data.get("choices"))),
            is_verdict=data.get("type") in {"approval", "confirmation"},
            has_schema=data.get("schema") is not None,
            expires_at=data.get("expires_at"),
            default=data.get("default"),
            error=data.get("error"),
        )

    @property
    def options(self) -> list[str]:
        """Keys to type and their answers, such as ``1 publish``; empty for a text."""
        if self.choices:
            return [f"{number} {choice}" for number, choice in enumerate(self.choices, start=1)]
        return ["y yes", "n no"] if self.is_verdict else []

    def close(self, data: Mapping[str, Any]) -> None:
        """Record the answer of a ``human_response`` update."""
        self.state, self.answer = "answered", data.get("response")
        self.responded_by, self.timed_out = data.get("responded_by"), data.get("timed_out") is True

    def parse(self, typed: str) -> Any:
        """Return the answer that a person typed: the number of a choice, y or n, or a text.

        Raises:
            AnswerError: If it is none of the choices.
        """
        if self.choices:
            if typed.isdecimal() and 0 < int(typed) <= len(self.choices):
                return self.choices[int(typed) - 1]
            named = [choice for choice in self.choices if str(choice).casefold() == typed.casefold()]
            if not named:
                raise AnswerError(f"type a number from 1 to {len(self.choices)}")
            return named[0]
        if not self.has_schema or self.is_verdict:
            return typed
        try:
            return json.loads(typed)
        except ValueError:
            return typed


def prompts_in_interruption(data: Mapping[str, Any]) -> list[PromptView]:
    """Return the prompts of a ``workflow_interrupted`` update."""
    prompts = [PromptView.from_data(as_mapping(each)) for each in as_list(data.get("prompts"))]
    if prompts:
        return prompts
    interrupts = as_list(data.get("interrupts"))
    return [PromptView(prompt_id=str(as_mapping(each).get("id", "")), text=question_of(each)) for each in interrupts]


def question_of(interrupt: Any) -> Any:
    """Return the question of an interrupt: the text of a `human_prompt`, or the value."""
    value = as_mapping(interrupt).get("value", interrupt)
    asked = as_mapping(value)
    return asked.get("prompt", value) if "human_prompt" in asked else value


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object unchanged, and an empty one for any other value."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """Return a JSON array unchanged, and an empty one for any other value."""
    return cast("list[Any]", value) if isinstance(value, list) else []
