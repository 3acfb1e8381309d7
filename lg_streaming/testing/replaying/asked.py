"""Prompts of recorded runs, which can be answered again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.prompts import PROMPT_TYPES, Prompt
from lg_streaming.prompts.reviews import read_review

if TYPE_CHECKING:
    from lg_streaming.events import Scope
    from lg_streaming.prompts.prompt import PromptKind

__all__ = ["recorded_prompt"]

_BREAKPOINT: Final = "breakpoint-"


def recorded_prompt(data: Mapping[str, Any], scope: Scope, *, expires_in: Callable[[float], float] | None) -> Prompt:
    """Return the prompt of a recorded ``human_prompt``, which takes the same answers.

    Args:
        data: Data of the update.
        scope: Scope of the update.
        expires_in: Returns the seconds that are left until a recorded time; None for a prompt that never expires.
    """
    shown = dict(data)
    expires_at = shown.pop("expires_at", None)
    if expires_in is None:
        shown.pop("timeout_s", None)
    elif isinstance(expires_at, (int, float)) and not isinstance(expires_at, bool):
        shown["expires_at"] = time.time() + max(0.0, expires_in(expires_at))
    return Prompt(prompt_id=str(data["prompt_id"]), data=shown, scope=scope, kind=_kind(data))


def _kind(data: Mapping[str, Any]) -> PromptKind:
    if str(data["prompt_id"]).startswith(_BREAKPOINT):
        return "breakpoint"
    if "value" not in data and data.get("type") in PROMPT_TYPES:
        return "asked"
    return "review" if read_review(data.get("value")) is not None else "interrupt"
