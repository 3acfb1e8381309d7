"""Data of updates as folds read it: known fields have the types of the wire."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from lg_streaming.folding.prompt_view import as_mapping

__all__ = ["fitted"]

_TYPES: Final = re.compile(
    r"(workflow|node|tool|llm|human)_.*|token|thinking|message|progress|milestone|status|usage", re.DOTALL
)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def _is_label(value: object) -> bool:
    return _is_text(value) or _is_number(value)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, Mapping) for each in cast("list[object]", value))


_FIELDS: Final[Mapping[Callable[[object], bool], str]] = {
    _is_text: """
        prompt_id message_id tool_call_id node_id namespace node_name agent_type current_node current_node_name tool
        model prompt type title graph name reason role status text message responded_by content
    """,
    _is_label: "milestone",
    _is_number: """
        progress total current eta_s rate elapsed_s duration_s total_nodes completed_nodes batch_size place expires_at
        timeout_s
    """,
    _is_list: "choices blocks interrupts still_running",
    _is_object: "metadata schema usage",
    _is_list_of_objects: "prompts",
}
_CHECKS: Final = {name: fits for fits, names in _FIELDS.items() for name in names.split()}


def fitted(kind: str, data: object) -> Mapping[str, Any]:
    """Return the data of an update without known fields of another type than on the wire.

    The server passes on all that a program publishes. A field of another type then counts as missing, so that the fold
    and the views need not check each of them.
    """
    fields = as_mapping(data)
    if _TYPES.fullmatch(kind) is None or all(_fits(name, value) for name, value in fields.items()):
        return fields
    return {name: value for name, value in fields.items() if _fits(name, value)}


def _fits(name: str, value: object) -> bool:
    check = _CHECKS.get(name)
    return check is None or check(value)
