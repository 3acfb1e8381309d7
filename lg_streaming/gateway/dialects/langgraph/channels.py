"""Filters of a thread's events by channel, namespace and depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, cast

from lg_streaming.errors import BadRequestError

__all__ = ["CHANNELS", "Selection"]

CHANNELS: Final = frozenset(
    {"values", "updates", "checkpoints", "messages", "tools", "custom", "lifecycle", "input", "tasks"}
)
_CUSTOM: Final = "custom:"
_MOST: Final = 1_000
"""Most channels or namespaces of one filter, and segments of one namespace."""

Namespace = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Filter of events."""

    channels: frozenset[str]
    prefixes: tuple[Namespace, ...] = ()
    """Namespaces that an event's has to begin with one of; empty: all."""
    depth: int | None = None
    """Most segments of an event's namespace after the prefix."""

    @classmethod
    def parse(cls, params: Mapping[str, object]) -> Self:
        """Return the filter in the body of a request, or in the parameters of a command.

        Raises:
            BadRequestError: If there is no channel, or a field has the wrong form.
        """
        channels = params.get("channels")
        if not isinstance(channels, list) or not channels:
            raise BadRequestError("channels is a list of at least one channel")
        names = cast("list[object]", channels)[: _MOST + 1]
        if len(names) > _MOST or not all(_is_channel(each) for each in names):
            raise BadRequestError(f"a channel is one of {', '.join(sorted(CHANNELS))} or custom:<name>")
        depth = params.get("depth")
        if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 0):
            raise BadRequestError("depth is a whole number, at least 0")
        return cls(frozenset(cast("list[str]", names)), _prefixes(params.get("namespaces")), depth)

    def has(self, channel: str) -> bool:
        """Return whether events of a channel pass; `custom:<name>` is the channel of a named custom event."""
        channels = self.channels
        return channel in channels or ("custom" in channels and channel.startswith(_CUSTOM))

    def covers(self, namespace: Namespace) -> bool:
        """Return whether events of a namespace pass."""
        if not self.prefixes:
            return True
        return any(
            _begins(namespace, prefix) and (self.depth is None or len(namespace) - len(prefix) <= self.depth)
            for prefix in self.prefixes
        )


def _is_channel(value: object) -> bool:
    return isinstance(value, str) and (value in CHANNELS or (value.startswith(_CUSTOM) and len(value) > len(_CUSTOM)))


def _prefixes(value: object) -> tuple[Namespace, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(cast("list[object]", value)) > _MOST:
        raise BadRequestError("namespaces is a list of lists of texts")
    prefixes: list[Namespace] = []
    for each in cast("list[object]", value):
        segments = cast("list[object]", each) if isinstance(each, list) else None
        if segments is None or len(segments) > _MOST or not all(isinstance(part, str) for part in segments):
            raise BadRequestError("a namespace is a list of texts")
        prefixes.append(tuple(cast("list[str]", segments)))
    return tuple(dict.fromkeys(prefixes))


def _begins(namespace: Namespace, prefix: Namespace) -> bool:
    """Compare segment by segment; a segment of the prefix without ``:`` matches any instance of its name."""
    if len(prefix) > len(namespace):
        return False
    return all(
        part == asked or (":" not in asked and part.partition(":")[0] == asked)
        for part, asked in zip(namespace, prefix, strict=False)
    )
