"""Which updates a reader wants: by kind, type, glob, node, agent, category, priority and time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol, Self

from lg_streaming.aliases import ALIASES
from lg_streaming.errors import BadRequestError
from lg_streaming.events import PRIORITIES, Priority, StreamUpdate, kind_of, parse_priority

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

__all__ = ["About", "UpdateFilter"]

_KINDS: Final = frozenset({"token", "progress", "status", "event"})
_MAX_NAMES: Final = 128
_MAX_NAME_LENGTH: Final = 256
_MAX_MEMO: Final = 512
DEFAULT_CATEGORY: Final = "default"
"""The category of an update without one, for filters."""


class About(Protocol):
    """What a filter looks at beside the type; a scope and an update's metadata both have it."""

    @property
    def node_id(self) -> str | None:
        """The node it is about."""
        ...

    @property
    def agent_type(self) -> str | None:
        """The kind of agent it is about."""
        ...

    @property
    def category(self) -> str | None:
        """Its category."""
        ...


def _names(what: str, values: Iterable[str] | None) -> frozenset[str]:
    if values is None:
        return frozenset()
    if isinstance(values, str):
        raise BadRequestError(f"{what} is a list of names: write [{values!r}]")
    names = frozenset(values)
    if len(names) > _MAX_NAMES:
        raise BadRequestError(f"{what} has {len(names)} names; at most {_MAX_NAMES} are allowed")
    for name in names:
        if not name or len(name) > _MAX_NAME_LENGTH:
            raise BadRequestError(f"a name in {what} has 1 to {_MAX_NAME_LENGTH} characters, not {len(name)}")
    return names


def _with_aliased(types: frozenset[str], globs: frozenset[str]) -> frozenset[str]:
    """``types``, and those that they and ``globs`` stand for as names of other systems.

    A glob is read so when it begins with a namespace, as ``llm:*`` does: ``n*`` is a glob of our types alone.
    """
    named = [ALIASES.get(name, ()) for name in types]
    spaces = [glob for glob in globs if ":" in glob.partition("*")[0]]
    if spaces:
        named += [meant for alias, meant in ALIASES.items() if any(_glob(glob, alias) for glob in spaces)]
    return types.union(*named)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFilter:
    """A condition on updates. Each part that is empty lets everything through; all parts must agree.

    Build one with `of`. Filters are values: equal filters compare and hash equal.
    """

    kinds: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    globs: frozenset[str] = frozenset()
    node_ids: frozenset[str] = frozenset()
    agent_types: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    min_priority: Priority = "low"
    since: datetime | None = None
    """Updates at or after this moment."""
    until: datetime | None = None
    """Updates at or before this moment."""
    _memo: dict[str, bool] = field(default_factory=dict[str, bool], init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        *,
        events: Iterable[str] | None = None,
        types: Iterable[str] | None = None,
        node_ids: Iterable[str] | None = None,
        agent_types: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        min_priority: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Self:
        """Makes a filter from plain lists.

        Args:
            events: Kinds (``token`` is the kind, with ``thinking``), types and globs such as ``task:*``; any may match.
            types: Exact types and globs only: ``types=["token"]`` leaves ``thinking`` out.
            node_ids: Nodes the update must be about.
            agent_types: Agents the update must be about.
            categories: Categories the update must have; an update without one counts as ``default``.
            min_priority: The lowest priority that passes.
            since: The earliest time, inclusive.
            until: The latest time, inclusive.

        In ``events`` and ``types`` the names of other systems (`ALIASES`) are read too: ``node:end`` lets
        ``node_complete`` through, and ``llm:*`` all that names beginning with ``llm:`` stand for.

        Raises:
            BadRequestError: A list is a bare string or too long, a name is empty or too long, the priority is
                unknown, or a time has no time zone.
        """
        for name, moment in (("since", since), ("until", until)):
            if moment is not None and moment.tzinfo is None:
                raise BadRequestError(f"{name} needs a time zone: write datetime(…, tzinfo=UTC)")
        wanted = _names("events", events)
        exact = _names("types", types)
        globs = frozenset(name for name in wanted | exact if "*" in name)
        return cls(
            kinds=(wanted & _KINDS),
            types=_with_aliased(((wanted - _KINDS) | exact) - globs, globs),
            globs=globs,
            node_ids=_names("node_ids", node_ids),
            agent_types=_names("agent_types", agent_types),
            categories=_names("categories", categories),
            min_priority="low" if min_priority is None else parse_priority(min_priority),
            since=since,
            until=until,
        )

    @property
    def lets_all_through(self) -> bool:
        """Whether no part of the filter is set."""
        return self == ALL

    @property
    def by_type_alone(self) -> bool:
        """Whether `accepts_type` decides."""
        return self == replace(ALL, kinds=self.kinds, types=self.types, globs=self.globs)

    def matches(self, update: StreamUpdate) -> bool:
        """Whether ``update`` passes."""
        metadata = update.metadata
        return self.accepts(update.type, metadata, metadata.priority, metadata.timestamp)

    def accepts(self, type: str, about: About, priority: Priority, timestamp: datetime | None = None) -> bool:
        """The same as `matches`, of an update's parts. ``timestamp`` matters only to ``since`` and ``until``."""
        return (
            self.accepts_type(type)
            and (not self.node_ids or about.node_id in self.node_ids)
            and (not self.agent_types or about.agent_type in self.agent_types)
            and (not self.categories or (about.category or DEFAULT_CATEGORY) in self.categories)
            and (self.min_priority == "low" or PRIORITIES.index(priority) >= PRIORITIES.index(self.min_priority))
            and self._accepts_time(timestamp)
        )

    def accepts_type(self, type: str) -> bool:
        """Whether kinds, types and globs let a type through."""
        known = self._memo.get(type)
        if known is not None:
            return known
        if not (self.kinds or self.types or self.globs):
            verdict = True
        else:
            verdict = type in self.types or kind_of(type) in self.kinds or any(_glob(g, type) for g in self.globs)
        if len(self._memo) >= _MAX_MEMO:
            self._memo.clear()
        self._memo[type] = verdict
        return verdict

    def _accepts_time(self, timestamp: datetime | None) -> bool:
        if timestamp is None or (self.since is None and self.until is None):
            return True
        return (self.since is None or timestamp >= self.since) and (self.until is None or timestamp <= self.until)


def _glob(pattern: str, name: str) -> bool:
    """``*`` stands for any run of characters; everything else for itself.

    Not a regular expression: a reader chooses the pattern, and must not be able to choose one that takes for ever.
    """
    first, *parts = pattern.split("*")
    if not parts:
        return pattern == name
    *middle, last = parts
    start, end = len(first), len(name) - len(last)
    if start > end or not (name.startswith(first) and name.endswith(last)):
        return False
    for part in middle:
        found = name.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return True


ALL: Final = UpdateFilter()
"""Lets everything through."""
