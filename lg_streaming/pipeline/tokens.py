"""The text of a node: tokens, reasoning, and the arguments of tool calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

if TYPE_CHECKING:
    from lg_streaming.emitter import Emitter
    from lg_streaming.events import Scope

__all__ = ["TEXT_TYPES", "TokenFilter", "TokenFormat", "TokenOptions", "TokenPipeline", "TokenProcessor"]

TEXT_TYPES: Final = frozenset({"token", "thinking", "tool_args"})
"""The types that a :class:`TokenPipeline` takes."""

TokenFormat = Literal["text", "json", "structured"]
TokenProcessor = Callable[[str, Mapping[str, Any]], str]
"""``processor(token, metadata) -> token``."""


class TokenFilter(TypedDict, total=False):
    """Which tokens pass."""

    min_length: int
    max_length: int
    exclude_whitespace: bool
    pattern: str | re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOptions:
    """What ``@stream_token`` was given."""

    enabled: bool = True


class TokenPipeline:
    """The way of one try of a node from its text to the updates that leave."""

    def __init__(self, options: TokenOptions, emitter: Emitter) -> None:
        self._enabled = options.enabled
        self._emitter = emitter

    def take(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """One piece of text, of one of :data:`TEXT_TYPES`."""
        if self._enabled:
            self._emitter.send(type, data, scope)

    def close(self) -> None:
        """The node ends: what is held leaves now, before the node's end does."""
