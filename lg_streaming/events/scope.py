"""Scope of updates: the run, node, agent and message that they are about."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

from lg_streaming.errors import BadRequestError
from lg_streaming.values import to_json

__all__ = ["METADATA_NAMES", "NAMES", "NO_SCOPE", "RESERVED", "Scope", "node_path", "validate_scope"]

RESERVED: Final = frozenset({"timestamp", "sequence_number", "execution_id", "epoch", "priority", "merged_from"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Subject of updates: run, node, agent, message and so on. Many updates share one scope, and its cached JSON.

    Fields with ``None`` are unknown, and left out of the JSON.
    """

    run_id: str | None = None
    node_id: str | None = None
    namespace: str | None = None
    """LangGraph's checkpoint namespace; it distinguishes parallel ``Send`` branches of one node."""
    attempt: int | None = None
    """1 for a node's first attempt; when it rises, readers discard the node's text."""
    agent_type: str | None = None
    task_id: str | None = None
    request_id: str | None = None
    tool_call_id: str | None = None
    message_id: str | None = None
    category: str | None = None
    traceparent: str | None = None
    """Span of a traced run or node, on the update that starts it, in the format of W3C Trace Context."""
    extra: Mapping[str, Any] | None = None
    """User-defined metadata; keys of the fields above and of the log's fields are ignored."""
    encoded: bytes | None = field(default=None, init=False, repr=False, compare=False)
    """Cached `fragment`."""

    def derive(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    @property
    def fragment(self) -> bytes:
        """Set fields as JSON members, each with a comma before it: ``,"node_id":"write"``."""
        if self.encoded is None:
            members = {name: value for name in NAMES if (value := getattr(self, name)) is not None}
            encoded = to_json(members | self.user_metadata)
            object.__setattr__(self, "encoded", b"," + encoded[1:-1] if len(encoded) > len(b"{}") else b"")
        return self.encoded or b""

    @property
    def user_metadata(self) -> dict[str, Any]:
        """`extra` with text keys, without reserved ones."""
        return {str(key): value for key, value in (self.extra or {}).items() if key not in METADATA_NAMES}


NAMES: Final = tuple(f.name for f in fields(Scope) if f.name not in {"extra", "encoded"})
"""Fields of a scope, in the wire's order."""

METADATA_NAMES: Final = RESERVED.union(NAMES)
"""Names in an update's metadata that no user-defined key may have."""

_SCOPE_FIELDS: Final = frozenset({*NAMES, "extra"}) - {"run_id"}


def validate_scope(fields: Mapping[str, object]) -> None:
    """Check that a program may set these fields of a scope. The hub assigns `run_id`.

    Raises:
        BadRequestError: If a field is unknown or is `run_id`.
    """
    if not fields.keys() <= _SCOPE_FIELDS:
        unknown = ", ".join(sorted(fields.keys() - _SCOPE_FIELDS))
        allowed = ", ".join(name for name in NAMES if name in _SCOPE_FIELDS)
        raise BadRequestError(
            f"{unknown} cannot be set of a scope: there are {allowed}, and extra={{…}} for keys of your own"
        )


NO_SCOPE: Final = Scope()
"""Scope of updates about the execution as a whole."""


@functools.lru_cache(maxsize=4_096)
def node_path(namespace: str) -> str:
    """Return a checkpoint namespace as the names of its nodes, from the outermost inwards, joined by ``/``.

    ``agent:<task id>|model:<task id>`` gives ``agent/model``. Parts of digits, which count the calls of one subgraph,
    are left out, as LangGraph itself does.
    """
    parts = namespace.replace("/", "|").split("|")
    return "/".join(name for part in parts if not part.isdigit() and (name := part.partition(":")[0]))
