"""One prompt to a human."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from lg_streaming.events import NO_SCOPE, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ASKED", "PROMPT_TYPES", "TIMED_OUT", "Prompt", "PromptKind", "PromptType"]

PromptType = Literal["approval", "input", "choice", "confirmation"]
"""Type of a prompt. ``approval`` and ``confirmation``: yes or no. ``choice``: one of its choices. ``input``: a text, or
a value that fits its schema."""

PROMPT_TYPES: Final = frozenset[str](get_args(PromptType))

PromptKind = Literal["published", "interrupt", "asked", "review", "breakpoint"]
"""Origin of a prompt. ``published``: a ``human_prompt`` update of the program. ``interrupt``: LangGraph's
``interrupt()``. ``asked``: `human_prompt`. ``review``: tool calls that a middleware holds. ``breakpoint``: a stop
before or after a node."""

ASKED: Final = "human_prompt"
"""Key that marks the interrupt of `human_prompt`; its value is the version of the form."""

TIMED_OUT: Final = "human_prompt_timed_out"
"""Key that marks the answer to a prompt that had neither an answer in time nor a default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Question to a human."""

    prompt_id: str
    """Id of LangGraph's interrupt, or of a breakpoint."""
    data: Mapping[str, Any]
    """Data of its ``human_prompt`` update."""
    scope: Scope = NO_SCOPE
    kind: PromptKind = "published"
    tools: Mapping[str, Mapping[str, Any]] | None = None
    """JSON Schemas of the arguments of the graph's tools, by name; None if the tools are unknown."""

    @property
    def pauses(self) -> bool:
        """True if a graph waits for the answer."""
        return self.kind != "published"

    @property
    def is_breakpoint(self) -> bool:
        """True for a stop before or after a node, which takes no value."""
        return self.kind == "breakpoint"

    @property
    def expires_at(self) -> float | None:
        """Time of its timeout, in seconds since 1970; None without one."""
        return self.data.get("expires_at") if self.pauses else None

    @property
    def answer_after_timeout(self) -> Any:
        """Return its default, or else the mark that makes `human_prompt` raise `PromptTimeoutError`."""
        return self.data["default"] if "default" in self.data else {TIMED_OUT: self.data.get("timeout_s")}
