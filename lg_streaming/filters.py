"""Filter updates by kind, type, node, node path, agent, category, priority and time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, Protocol, Self

from typing_extensions import TypedDict

from lg_streaming.aliases import ALIASES
from lg_streaming.errors import BadRequestError
from lg_streaming.events import PRIORITIES, Priority, StreamUpdate, kind_of, node_path, parse_priority
from lg_streaming.globs import Globs

__all__ = [
    "FILTER_FIELDS",
    "FILTER_LISTS",
    "FILTER_TEXTS",
    "INTERRUPTED",
    "FilterOptions",
    "UpdateFilter",
    "UpdateInfo",
    "filter_payload",
]


class FilterOptions(TypedDict, total=False):
    """Conditions of a reader, by their names in Python and on every transport. All of them have to hold."""

    events: Iterable[str] | None
    """Kinds, types and globs such as ``task:*``; one of them has to match."""
    node_ids: Iterable[str] | None
    """Nodes, by their id in the graph: names, and globs such as ``review*``."""
    agent_types: Iterable[str] | None
    """Agents: names, and globs."""
    namespaces: Iterable[str] | None
    """Node paths such as ``supervisor/researcher``; ``*`` matches anything within a segment, ``**`` across segments.

    ``agent`` matches the node itself, ``agent/**`` all that runs inside it. A raw checkpoint namespace matches itself.
    """
    categories: Iterable[str] | None
    """Categories; an update without a category is of category ``default``."""
    min_priority: str | None
    """Lowest priority that matches."""
    since: datetime | None
    """Earliest time, inclusive, with a time zone."""
    until: datetime | Literal["interrupted"] | None
    """Latest time, inclusive. `subscribe` and `observe` also take ``"interrupted"``: reading then ends after the next
    ``workflow_interrupted``, as it does after a final update."""


INTERRUPTED: Final = "interrupted"
"""Value of ``until`` that ends reading when the run waits for a human."""
FILTER_LISTS: Final = ("events", "node_ids", "agent_types", "namespaces", "categories")
"""Conditions that are lists of names."""
FILTER_TEXTS: Final = ("min_priority", "since", "until")
"""Conditions that are one value."""
FILTER_FIELDS: Final = (*FILTER_LISTS, *FILTER_TEXTS)
"""All conditions, by their names on the wire and in Python."""

_KINDS: Final = frozenset({"token", "progress", "status", "event"})
_MAX_NAMES: Final = 128
_MAX_NAME_LENGTH: Final = 256
_MAX_MEMO: Final = 512
_MAX_GLOB_LETTERS: Final = 4_096
DEFAULT_CATEGORY: Final = "default"
"""Category of an update without one, for filters."""


class UpdateInfo(Protocol):
    """Fields that a filter reads in addition to the type; a scope and an update's metadata both have them."""

    @property
    def node_id(self) -> str | None:
        """Node of the update."""
        ...

    @property
    def namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of that node."""
        ...

    @property
    def agent_type(self) -> str | None:
        """Agent of the update."""
        ...

    @property
    def category(self) -> str | None:
        """Category of the update."""
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


def _patterns(what: str, values: Iterable[str] | None) -> frozenset[str]:
    """Check names and globs. Their length is bounded: each is matched against every node, agent or namespace."""
    names = _names(what, values)
    letters = sum(len(name) for name in names if "*" in name)
    if letters > _MAX_GLOB_LETTERS:
        raise BadRequestError(f"the globs in {what} have {letters} characters; at most {_MAX_GLOB_LETTERS} are allowed")
    return names


class _Patterns:
    """Names and globs of which one has to match, with a cache of results."""

    __slots__ = ("_globs", "_memo")

    def __init__(self, names: frozenset[str]) -> None:
        self._globs = Globs(names)
        self._memo: dict[str, bool] = {}

    def matches(self, name: str | None) -> bool:
        if name is None:
            return False
        cached = self._memo.get(name)
        if cached is None:
            if len(self._memo) >= _MAX_MEMO:
                self._memo.clear()
            cached = self._memo[name] = self._globs.matches(name)
        return cached


def _type_globs(globs: Iterable[str]) -> Globs:
    """Compile globs over types, in which ``*`` matches any run of characters."""
    return Globs([re.sub(r"\*+", "**", glob) for glob in globs])


_NO_GLOBS: Final = Globs(())


def _resolve_aliases(types: frozenset[str], globs: frozenset[str]) -> frozenset[str]:
    """Return ``types`` with the canonical types of which they, or matches of ``globs``, are aliases.

    Only globs that begin with a prefix, such as ``llm:*``, match aliases; ``n*`` matches canonical types alone.
    """
    resolved = [ALIASES.get(name, ()) for name in types]
    prefixed = [glob for glob in globs if ":" in glob.partition("*")[0]]
    if prefixed:
        compiled = _type_globs(prefixed)
        resolved += [canonical for alias, canonical in ALIASES.items() if compiled.matches(alias)]
    return types.union(*resolved)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFilter:
    """Condition on updates. All of its parts have to match; an empty part matches every update.

    Build one with `of`. Equal filters compare and hash equal.
    """

    kinds: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    globs: frozenset[str] = frozenset()
    node_ids: frozenset[str] = frozenset()
    agent_types: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    min_priority: Priority = "low"
    since: datetime | None = None
    """Earliest time, inclusive."""
    until: datetime | None = None
    """Latest time, inclusive."""
    _memo: dict[str, bool] = field(default_factory=dict[str, bool], init=False, repr=False, compare=False)
    _type_globs: Globs = field(default=_NO_GLOBS, init=False, repr=False, compare=False)
    _nodes: _Patterns | None = field(default=None, init=False, repr=False, compare=False)
    _agents: _Patterns | None = field(default=None, init=False, repr=False, compare=False)
    _paths: _Patterns | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (("_nodes", self.node_ids), ("_agents", self.agent_types), ("_paths", self.namespaces))
        for name, patterns in parts:
            if patterns:
                object.__setattr__(self, name, _Patterns(patterns))
        if self.globs:
            object.__setattr__(self, "_type_globs", _type_globs(self.globs))

    @classmethod
    def of(
        cls,
        *,
        events: Iterable[str] | None = None,
        types: Iterable[str] | None = None,
        node_ids: Iterable[str] | None = None,
        agent_types: Iterable[str] | None = None,
        namespaces: Iterable[str] | None = None,
        categories: Iterable[str] | None = None,
        min_priority: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Self:
        """Return a filter of plain lists.

        Args:
            events: Kinds (``token`` is the kind, with ``thinking``), types and globs such as ``task:*``; any may match.
            types: Exact types and globs only: ``types=["token"]`` does not match ``thinking``.
            node_ids: Nodes of the update: names, and globs such as ``review*``.
            agent_types: Agents of the update: names, and globs.
            namespaces: Node paths of the update, such as ``supervisor/researcher`` (see `node_path`). ``*`` matches
                anything within a segment, ``**`` across segments. ``agent`` matches the node itself, ``agent/**`` all
                that runs inside it. A raw namespace also matches itself.
            categories: Categories of the update; an update without a category is of category ``default``.
            min_priority: Lowest priority that matches.
            since: Earliest time, inclusive.
            until: Latest time, inclusive.

        ``events`` and ``types`` also take the names of other systems (`ALIASES`). ``node:end`` matches
        ``node_complete``; ``llm:*`` matches every type that has an alias with the prefix ``llm:``.

        Raises:
            BadRequestError: If a list is a bare string or too long, or a name is empty or too long. If the globs of a
                list have more than 4,096 characters, the priority is unknown, or a time has no time zone.
        """
        for name, moment in (("since", since), ("until", until)):
            if moment is not None and not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
                other = " or 'interrupted'" if name == "until" else ""
                raise BadRequestError(f"{name} is a datetime with a time zone{other}, not {moment!r:.80}")
            if moment is not None and moment.tzinfo is None:
                raise BadRequestError(f"{name} needs a time zone: write datetime(…, tzinfo=UTC)")
        names = _names("events", events)
        exact = _names("types", types)
        globs = frozenset(name for name in names | exact if "*" in name)
        return cls(
            kinds=(names & _KINDS),
            types=_resolve_aliases(((names - _KINDS) | exact) - globs, globs),
            globs=globs,
            node_ids=_patterns("node_ids", node_ids),
            agent_types=_patterns("agent_types", agent_types),
            namespaces=_patterns("namespaces", namespaces),
            categories=_names("categories", categories),
            min_priority="low" if min_priority is None else parse_priority(min_priority),
            since=since,
            until=until,
        )

    @property
    def is_empty(self) -> bool:
        """True if no part of the filter is set."""
        return self == ALL

    @property
    def checks_type_only(self) -> bool:
        """True if `accepts_type` alone decides."""
        return self == replace(ALL, kinds=self.kinds, types=self.types, globs=self.globs)

    @property
    def name_count(self) -> int:
        """Number of names and globs."""
        lists = (self.kinds, self.types, self.globs, self.node_ids, self.agent_types, self.namespaces, self.categories)
        return sum(map(len, lists))

    def matches(self, update: StreamUpdate) -> bool:
        """Return whether ``update`` matches."""
        metadata = update.metadata
        return self.accepts(update.type, metadata, metadata.priority, metadata.timestamp)

    def accepts(self, type: str, info: UpdateInfo, priority: Priority, timestamp: datetime | None = None) -> bool:
        """Return whether an update with these parts matches. ``since`` and ``until`` alone use ``timestamp``."""
        return (
            self.accepts_type(type)
            and (self._nodes is None or self._nodes.matches(info.node_id))
            and (self._agents is None or self._agents.matches(info.agent_type))
            and (self._paths is None or self._accepts_namespace(self._paths, info.namespace))
            and (not self.categories or (info.category or DEFAULT_CATEGORY) in self.categories)
            and (self.min_priority == "low" or PRIORITIES.index(priority) >= PRIORITIES.index(self.min_priority))
            and self._accepts_time(timestamp)
        )

    def accepts_type(self, type: str) -> bool:
        """Return whether kinds, types and globs match a type."""
        cached = self._memo.get(type)
        if cached is not None:
            return cached
        if not (self.kinds or self.types or self.globs):
            verdict = True
        else:
            verdict = type in self.types or kind_of(type) in self.kinds or self._type_globs.matches(type)
        if len(self._memo) >= _MAX_MEMO:
            self._memo.clear()
        self._memo[type] = verdict
        return verdict

    def _accepts_namespace(self, paths: _Patterns, namespace: str | None) -> bool:
        return namespace is not None and (namespace in self.namespaces or paths.matches(node_path(namespace)))

    def _accepts_time(self, timestamp: datetime | None) -> bool:
        if timestamp is None or (self.since is None and self.until is None):
            return True
        return (self.since is None or timestamp >= self.since) and (self.until is None or timestamp <= self.until)


ALL: Final = UpdateFilter()
"""Filter that matches every update."""


def filter_payload(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return `FilterOptions` as the payload of a message: the conditions that are set, times as text.

    Raises:
        BadRequestError: If a list is a bare string.
        TypeError: If there is no condition of that name.
    """
    validate_names(conditions)
    payload: dict[str, Any] = {}
    for name, value in conditions.items():
        if value is None:
            continue
        if name in FILTER_LISTS and isinstance(value, str):
            raise BadRequestError(f"{name} is a list of names: write [{value!r}]")
        payload[name] = list(value) if name in FILTER_LISTS else value
        if isinstance(value, datetime):
            payload[name] = value.isoformat()
    return payload


def validate_names(conditions: Mapping[str, Any]) -> None:
    """Check that a filter has these conditions.

    Raises:
        TypeError: If a condition is unknown: the same error as for a function's unknown argument.
    """
    unknown = next((name for name in conditions if name not in FILTER_FIELDS), None)
    if unknown is not None:
        raise TypeError(f"there is no argument {unknown!r}: updates are chosen by {', '.join(FILTER_FIELDS)}")
