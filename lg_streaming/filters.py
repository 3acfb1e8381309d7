"""Which updates a reader wants: by kind, type, node, node path, agent, category, priority and time."""

from __future__ import annotations

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
    """What a reader may ask for, under these names on every transport and in Python. All conditions have to hold."""

    events: Iterable[str] | None
    """Kinds, types and globs such as ``task:*``, of which one has to match."""
    node_ids: Iterable[str] | None
    """Nodes, by their id in the graph: names, and globs such as ``review*``."""
    agent_types: Iterable[str] | None
    """Agents: names, and globs."""
    namespaces: Iterable[str] | None
    """Node paths such as ``supervisor/researcher``; ``*`` stands for anything within a segment, ``**`` across segments.

    ``agent`` is the node itself, ``agent/**`` all that runs inside it. A raw checkpoint namespace matches itself.
    """
    categories: Iterable[str] | None
    """Categories; an update without one is of category ``default``."""
    min_priority: str | None
    """The lowest priority that passes."""
    since: datetime | None
    """Updates at or after this time, which has a time zone."""
    until: datetime | Literal["interrupted"] | None
    """Updates at or before this time. In `subscribe` and `observe` also ``"interrupted"``: reading ends after the next
    ``workflow_interrupted``, as it does after a final update."""


INTERRUPTED: Final = "interrupted"
"""The value of ``until`` that ends reading when the run waits for a human."""
FILTER_LISTS: Final = ("events", "node_ids", "agent_types", "namespaces", "categories")
"""The conditions that are lists of names."""
FILTER_TEXTS: Final = ("min_priority", "since", "until")
"""The conditions that are one value."""
FILTER_FIELDS: Final = (*FILTER_LISTS, *FILTER_TEXTS)
"""All conditions, by the names that they have on the wire and in Python."""

_KINDS: Final = frozenset({"token", "progress", "status", "event"})
_MAX_NAMES: Final = 128
_MAX_NAME_LENGTH: Final = 256
_MAX_MEMO: Final = 512
_MAX_GLOB_LETTERS: Final = 4_096
DEFAULT_CATEGORY: Final = "default"
"""The category of an update without one, for filters."""


class UpdateInfo(Protocol):
    """What a filter looks at beside the type; a scope and an update's metadata both have it."""

    @property
    def node_id(self) -> str | None:
        """The node it is about."""
        ...

    @property
    def namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of that node."""
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


def _patterns(what: str, values: Iterable[str] | None) -> frozenset[str]:
    """Names and globs. Their length has a bound: each is held against every node, agent or namespace there is."""
    names = _names(what, values)
    letters = sum(len(name) for name in names if "*" in name)
    if letters > _MAX_GLOB_LETTERS:
        raise BadRequestError(f"the globs in {what} have {letters} characters; at most {_MAX_GLOB_LETTERS} are allowed")
    return names


class _Patterns:
    """Names and globs of which one has to fit; remembers what it was asked."""

    __slots__ = ("_globs", "_memo")

    def __init__(self, names: frozenset[str]) -> None:
        self._globs = Globs(names)
        self._memo: dict[str, bool] = {}

    def matches(self, name: str | None) -> bool:
        if name is None:
            return False
        known = self._memo.get(name)
        if known is None:
            if len(self._memo) >= _MAX_MEMO:
                self._memo.clear()
            known = self._memo[name] = self._globs.fit(name)
        return known


def _resolve_aliases(types: frozenset[str], globs: frozenset[str]) -> frozenset[str]:
    """``types``, and those that they and ``globs`` stand for as names of other systems.

    A glob is read so when it begins with a namespace, as ``llm:*`` does: ``n*`` is a glob of our types alone.
    """
    named = [ALIASES.get(name, ()) for name in types]
    spaces = [glob for glob in globs if ":" in glob.partition("*")[0]]
    if spaces:
        named += [meant for alias, meant in ALIASES.items() if any(_matches_glob(glob, alias) for glob in spaces)]
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
    namespaces: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    min_priority: Priority = "low"
    since: datetime | None = None
    """Updates at or after this moment."""
    until: datetime | None = None
    """Updates at or before this moment."""
    _memo: dict[str, bool] = field(default_factory=dict[str, bool], init=False, repr=False, compare=False)
    _nodes: _Patterns | None = field(default=None, init=False, repr=False, compare=False)
    _agents: _Patterns | None = field(default=None, init=False, repr=False, compare=False)
    _paths: _Patterns | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (("_nodes", self.node_ids), ("_agents", self.agent_types), ("_paths", self.namespaces))
        for name, patterns in parts:
            if patterns:
                object.__setattr__(self, name, _Patterns(patterns))

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
        """Makes a filter from plain lists.

        Args:
            events: Kinds (``token`` is the kind, with ``thinking``), types and globs such as ``task:*``; any may match.
            types: Exact types and globs only: ``types=["token"]`` leaves ``thinking`` out.
            node_ids: Nodes the update must be about: names, and globs such as ``review*``.
            agent_types: Agents the update must be about: names, and globs.
            namespaces: Node paths the update must be at, such as ``supervisor/researcher`` (see `node_path`). ``*``
                stands for anything within a segment, ``**`` for anything across segments: ``agent`` is the node
                itself, ``agent/**`` all that runs inside it. A raw namespace also matches itself.
            categories: Categories the update must have; one without a category is of category ``default``.
            min_priority: The lowest priority that passes.
            since: The earliest time, inclusive.
            until: The latest time, inclusive.

        In ``events`` and ``types`` the names of other systems (`ALIASES`) are read too: ``node:end`` lets
        ``node_complete`` through, and ``llm:*`` all that names beginning with ``llm:`` stand for.

        Raises:
            BadRequestError: A list is a bare string or too long, a name is empty or too long, the globs of a list have
                more than 4,096 characters, the priority is unknown, or a time is none or has no time zone.
        """
        for name, moment in (("since", since), ("until", until)):
            if moment is not None and not isinstance(moment, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
                other = " or 'interrupted'" if name == "until" else ""
                raise BadRequestError(f"{name} is a datetime with a time zone{other}, not {moment!r:.80}")
            if moment is not None and moment.tzinfo is None:
                raise BadRequestError(f"{name} needs a time zone: write datetime(…, tzinfo=UTC)")
        wanted = _names("events", events)
        exact = _names("types", types)
        globs = frozenset(name for name in wanted | exact if "*" in name)
        return cls(
            kinds=(wanted & _KINDS),
            types=_resolve_aliases(((wanted - _KINDS) | exact) - globs, globs),
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
        """Whether no part of the filter is set."""
        return self == ALL

    @property
    def checks_type_only(self) -> bool:
        """Whether `accepts_type` decides."""
        return self == replace(ALL, kinds=self.kinds, types=self.types, globs=self.globs)

    @property
    def name_count(self) -> int:
        """How many names and globs it has."""
        lists = (self.kinds, self.types, self.globs, self.node_ids, self.agent_types, self.namespaces, self.categories)
        return sum(map(len, lists))

    def matches(self, update: StreamUpdate) -> bool:
        """Whether ``update`` passes."""
        metadata = update.metadata
        return self.accepts(update.type, metadata, metadata.priority, metadata.timestamp)

    def accepts(self, type: str, about: UpdateInfo, priority: Priority, timestamp: datetime | None = None) -> bool:
        """The same as `matches`, of an update's parts. ``timestamp`` matters only to ``since`` and ``until``."""
        return (
            self.accepts_type(type)
            and (self._nodes is None or self._nodes.matches(about.node_id))
            and (self._agents is None or self._agents.matches(about.agent_type))
            and (self._paths is None or self._accepts_namespace(self._paths, about.namespace))
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
            verdict = (
                type in self.types or kind_of(type) in self.kinds or any(_matches_glob(g, type) for g in self.globs)
            )
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


def _matches_glob(pattern: str, name: str) -> bool:
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


def filter_payload(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`FilterOptions` as the payload of a message: times as text, without what is not set.

    Raises:
        BadRequestError: A list is a bare string.
        TypeError: There is no condition of that name.
    """
    validate_names(wanted)
    payload: dict[str, Any] = {}
    for name, value in wanted.items():
        if value is None:
            continue
        if name in FILTER_LISTS and isinstance(value, str):
            raise BadRequestError(f"{name} is a list of names: write [{value!r}]")
        payload[name] = list(value) if name in FILTER_LISTS else value
        if isinstance(value, datetime):
            payload[name] = value.isoformat()
    return payload


def validate_names(wanted: Mapping[str, Any]) -> None:
    """Sees that a filter has these conditions.

    Raises:
        TypeError: One is none of them, as Python says it of any argument that a function does not have.
    """
    unknown = next((name for name in wanted if name not in FILTER_FIELDS), None)
    if unknown is not None:
        raise TypeError(f"there is no argument {unknown!r}: updates are chosen by {', '.join(FILTER_FIELDS)}")
