"""Prompts of a waiting run as AG-UI's interrupts."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.codec import Codec
from lg_streaming.gateway.dialects.agui.messages import Json, as_list, id_of, members

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["custom_values", "interrupts_of"]

_JSON: Final = Codec()
_REASON: Final = "langgraph:interrupt"
_SHOWN: Final = ("type", "choices", "required", "default", "metadata", "error", "node_id")


def interrupts_of(data: Json) -> list[Json]:
    """Return the interrupts of a `workflow_interrupted` update; none for a pause without a question."""
    prompts = [members(each) for each in as_list(data.get("prompts"))]
    return [_interrupt(each) for each in prompts if id_of(each.get("prompt_id"))]


def _interrupt(prompt: Json) -> Json:
    found: Json = {"id": prompt["prompt_id"], "reason": _REASON}
    if text := id_of(prompt.get("prompt")):
        found["message"] = text
    if call_id := id_of(prompt.get("tool_call_id")):
        found["toolCallId"] = call_id
    if isinstance(schema := prompt.get("schema"), dict):
        found["responseSchema"] = schema
    if isinstance(expires_at := prompt.get("expires_at"), (int, float)):
        with contextlib.suppress(ValueError, OverflowError):  # after the year 9999
            found["expiresAt"] = datetime.fromtimestamp(expires_at, UTC).isoformat().replace("+00:00", "Z")
    shown = {name: prompt[name] for name in _SHOWN if prompt.get(name) is not None}
    return {**found, "metadata": {"value": _value(prompt), **shown}}


def _value(prompt: Json) -> Any:
    """Return the argument of ``interrupt()``; of `human_prompt` its question, and what may be answered."""
    if "value" in prompt:
        return {} if prompt["value"] is None else prompt["value"]
    return {name: prompt[name] for name in ("prompt", "type", "choices") if prompt.get(name) is not None}


def custom_values(data: Json) -> Iterator[str]:
    """Yield the values of the events ``on_interrupt`` of older pages: a text, or JSON as text."""
    for prompt in (members(each) for each in as_list(data.get("prompts"))):
        value = _value(prompt)
        yield value if isinstance(value, str) else _JSON.to_json(value).decode()
