"""Lists of executions: by id or by start, with filters, a page at a time."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from cryptography.fernet import Fernet, InvalidToken

from lg_streaming.errors import BadRequestError
from lg_streaming.gateway.auth.shared_secret import shared_secret
from lg_streaming.gateway.session.session import format_time
from lg_streaming.log.base import Start, is_ordered_by_start
from lg_streaming.log.usage import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.gateway.protocol.http_models import ListQuery
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.log.base import EventLog, LogState
    from lg_streaming.log.fleet import Fleet

__all__ = ["Cursors", "execution_info", "list_executions"]

_MOST_LOOKED_AT: Final = 500
_MOST_ROUNDS: Final = 20
"""Lists of 500 ids that one request reads from the log."""
_AT_ONCE: Final = 50
"""Executions that are checked before other tasks of the event loop may run."""
_PATIENCE: Final = 2.0
"""Seconds; an application's `authorize` may be slow, and is called for each execution."""
_MOST_TOKENS: Final = 2**53 - 1
"""Largest whole number that JavaScript reads exactly. JSON for Python ends at 2**64."""
_CURSOR_KEY: Final = "cursor_key"
_BY_ID: Final = "i"
_BY_START: Final = "n"


class Cursors:
    """Encryption of places in a list as cursors.

    A page may end at an execution whose id its reader must not learn, so a cursor is encrypted. It is valid in all
    processes that share the log.

    Args:
        fleet: The processes, which share the key; None for this process alone.
    """

    def __init__(self, fleet: Fleet | None = None) -> None:
        self._fleet = fleet
        self._fernet: Fernet | None = Fernet(Fernet.generate_key()) if fleet is None else None

    async def _cipher(self) -> Fernet:
        if self._fernet is None and self._fleet is not None:
            self._fernet = Fernet(await shared_secret(self._fleet, _CURSOR_KEY))
        return cast("Fernet", self._fernet)

    async def _decrypt(self, cursor: str) -> str | None:
        try:
            return (await self._cipher()).decrypt(cursor).decode()
        except (InvalidToken, ValueError):
            return None

    async def encode(self, place: Start | str) -> str:
        """Return the cursor of the end of a page: a start or an id. Raises LogUnavailableError, like `decode`."""
        text = f"{_BY_ID}{place}" if isinstance(place, str) else f"{_BY_START}{place.at!r} {place.execution_id}"
        return (await self._cipher()).encrypt(text.encode()).decode()

    async def decode(self, cursor: str | None, order: str = "id") -> Start | str | None:
        """Return the place after which the next page begins; None for the first page.

        Raises:
            BadRequestError: If the cursor is not valid here, or is that of a list in another order.
        """
        if cursor is None:
            return None
        text = await self._decrypt(cursor)
        if text is None and self._fleet is not None:
            self._fernet = None  # another process may have made a key anew, if the log has lost its data
            text = await self._decrypt(cursor)
        if text is None:
            raise BadRequestError("this cursor is not known here: begin with the first page again")
        if text[:1] != (_BY_START if order == "newest" else _BY_ID):
            raise BadRequestError("this cursor is of a list in another order: begin with the first page again")
        if order == "id":
            return text[1:]
        at, _, execution_id = text[1:].partition(" ")
        return Start(float(at), execution_id)


async def list_executions(session: Session, query: ListQuery, cursors: Cursors) -> dict[str, Any]:
    """Return a page of the executions that the caller may read, in the order of their ids or the newest start first.

    Candidates are executions that the caller owns or that its grants may name; all, if the application decides. A call
    checks at most 500 candidates, for about two seconds: a page may be short or empty without being the last.

    Raises:
        BadRequestError: If the cursor is not valid here, or the log has no order by start.
        LogUnavailableError: If the log cannot be reached.
    """
    log, page = session.hub.log, _Page(session, query)
    if query.id is not None:
        await page.add(list(dict.fromkeys(query.id)))
        return {"executions": page.found, "next_cursor": None}
    if query.order == "newest" and not is_ordered_by_start(log):
        raise BadRequestError("the log of this server has no order by start, only order=id: it lacks `list_newest`")
    sources = session.policy.sources(session.principal, query.owner)
    place = await cursors.decode(query.cursor, query.order)
    for _ in range(_MOST_ROUNDS):
        if query.order == "newest":
            known = await _next_starts(log, sources, cast("Start | None", place))
        else:
            known = await _next_ids(log, sources, cast("str", place or ""))
        checked = await page.add(known.places)
        if checked < len(known.places) or known.end is None or page.is_full:
            at_end = checked == len(known.places) and known.end is None
            if checked == len(known.places):
                place = known.end
            elif checked:
                place = known.places[checked - 1]
            return {
                "executions": page.found,
                "next_cursor": None if at_end else await cursors.encode(cast("Any", place)),
            }
        place = known.end
    return {"executions": page.found, "next_cursor": await cursors.encode(cast("Any", place))}


class _Page:
    """Page of a list while it is made: the executions that match and that the caller may read."""

    def __init__(self, session: Session, query: ListQuery) -> None:
        self._session = session
        self._query = query
        self._text = query.text.casefold() if query.text is not None else None
        self._clock = session.context.clock.monotonic
        self._until = self._clock() + _PATIENCE
        self._looked_at = 0
        self.found: list[dict[str, Any]] = []

    @property
    def is_full(self) -> bool:
        """True if no more executions are to be checked."""
        return (
            len(self.found) >= self._query.limit
            or self._looked_at >= _MOST_LOOKED_AT
            or (self._looked_at > 0 and self._clock() > self._until)
        )

    async def add(self, places: Sequence[Start | str]) -> int:
        """Add the executions at ``places`` until the page is full; return the number of checked ones."""
        session = self._session
        for first in range(0, len(places), _AT_ONCE):
            ids = [each if isinstance(each, str) else each.execution_id for each in places[first : first + _AT_ONCE]]
            states = await asyncio.gather(*(session.hub.describe(each) for each in ids))
            for at, (execution_id, state) in enumerate(zip(ids, states, strict=True)):
                if self.is_full:
                    return first + at
                self._looked_at += 1
                if state is None or not self._matches(execution_id, state):
                    continue
                if await session.policy.allows(
                    session.principal, "read", execution_id, state.owner, address=session.peer.address
                ):
                    self.found.append(execution_info(execution_id, state))
        return len(places)

    def _matches(self, execution_id: str, state: LogState) -> bool:
        query = self._query
        if (query.state and state.state not in query.state) or query.owner not in {None, state.owner}:
            return False
        if self._text is None:
            return True
        start = state.start_data
        texts = (execution_id, state.owner, start.get("title"), start.get("graph"))
        return any(isinstance(each, str) and self._text in each.casefold() for each in texts)


class _Candidates(NamedTuple):
    places: Sequence[Start | str]
    end: Start | str | None
    """Place up to which all candidates are known; None: these are the last."""


async def _next_ids(log: EventLog, sources: Sequence[tuple[str | None, str]], after: str) -> _Candidates:
    """Return up to 500 ids of all sources above `after`, in order."""
    found: set[str] = set()
    bound: str | None = None  # above it, a source may have ids that are not among the found ones
    for owner, prefix in sources:
        ids = await log.list_ids(after=after, limit=_MOST_LOOKED_AT, owner=owner, prefix=prefix)
        if len(ids) == _MOST_LOOKED_AT:
            bound = ids[-1] if bound is None else min(bound, ids[-1])
        found.update(ids)
    ordered = sorted(each for each in found if bound is None or each <= bound)
    return _cut(ordered, bound)


async def _next_starts(log: EventLog, sources: Sequence[tuple[str | None, str]], before: Start | None) -> _Candidates:
    """Return up to 500 starts of all sources before `before`, the latest first."""
    found: set[Start] = set()
    bound: Start | None = None  # before it, a source may have starts that are not among the found ones
    for owner in {owner for owner, _ in sources}:
        prefixes = tuple(prefix for each, prefix in sources if each == owner)
        starts = await log.list_newest(before=before, limit=_MOST_LOOKED_AT, owner=owner)
        if len(starts) == _MOST_LOOKED_AT:
            bound = starts[-1] if bound is None else max(bound, starts[-1])
        found.update(each for each in starts if each.execution_id.startswith(prefixes))
    ordered = sorted((each for each in found if bound is None or each >= bound), reverse=True)
    return _cut(ordered, bound)


def _cut(ordered: Sequence[Any], bound: Start | str | None) -> _Candidates:
    if len(ordered) > _MOST_LOOKED_AT:
        return _Candidates(ordered[:_MOST_LOOKED_AT], ordered[_MOST_LOOKED_AT - 1])
    return _Candidates(ordered, bound)


def execution_info(execution_id: str, state: LogState) -> dict[str, Any]:
    """Return the description of an execution."""
    start = state.start_data
    metadata: object = start.get("metadata")
    return {
        "execution_id": execution_id,
        "state": state.state,
        "title": _text_in(start, "title"),
        "graph": _text_in(start, "graph"),
        "owner": state.owner,
        "position": f"{state.epoch}:{state.head}",
        "oldest": state.oldest,
        "started_at": format_time(state.run_started_at),
        "updated_at": format_time(state.updated_at),
        "ended_at": None if state.ended_at is None else format_time(state.ended_at),
        "progress": state.progress,
        "usage": _usage_info(state.usage),
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def _text_in(data: Any, name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) else None


def _usage_info(usage: Usage | None) -> dict[str, int | float | None] | None:
    if usage is None:
        return None
    cost = usage.cost if usage.cost is None or math.isfinite(usage.cost) else None
    tokens = (min(max(each, 0), _MOST_TOKENS) for each in usage[:3])
    return {**Usage(*tokens)._asdict(), "cost": None if cost is None else round(cost, 9)}
