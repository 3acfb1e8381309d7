"""Queries of the HTTP routes: pages of updates, and lists of executions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from cryptography.fernet import Fernet, InvalidToken

from lg_streaming.errors import BadRequestError
from lg_streaming.events import Position
from lg_streaming.gateway.auth.shared_secret import shared_secret
from lg_streaming.gateway.http.endpoint import wait_disconnected
from lg_streaming.gateway.session.session import attach, format_time
from lg_streaming.hub import Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive

    from lg_streaming.gateway.protocol.http_models import HistoryQuery, ListQuery
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.hub import FleetStatistics, Gap, Subscription
    from lg_streaming.log.base import EventLog, LogState, StoredUpdate
    from lg_streaming.log.fleet import Fleet

__all__ = ["Cursors", "HistoryPage", "HistoryReader", "execution_info", "fleet_info", "list_executions"]

_PAGE_BYTES: Final = 1_048_576
_MOST_LOOKED_AT: Final = 500
_AT_ONCE: Final = 50
"""Executions that are checked before other tasks of the event loop may run."""
_PATIENCE: Final = 2.0
"""Seconds; an application's `authorize` may be slow, and is called for each execution."""
_CURSOR_KEY: Final = "cursor_key"


# ---------------------------------------------------------------- updates
class HistoryReader:
    """Reader of pages of updates, with a list of the requests that wait for one."""

    def __init__(self) -> None:
        self._open: set[Subscription] = set()

    def shutdown(self) -> None:
        """End all waits; their requests get the present page."""
        for subscription in list(self._open):
            subscription.close()

    async def read(self, session: Session, query: HistoryQuery, receive: Receive) -> bytes:
        """Read a page, and return it as JSON. Raises like `page`."""
        page = await self.page(session, query, receive)
        return _page_json(query.execution_id, page)

    async def page(self, session: Session, query: HistoryQuery, receive: Receive) -> HistoryPage:
        """Read a page; if it is empty, wait for `query.wait` seconds.

        Raises:
            StreamingError: If the caller may not read the execution, or its token was revoked during the wait. If the
                filter is wrong, a limit is reached, or the log cannot be reached.
        """
        fails = query.on_gap == "fail"
        lenient = query.model_copy(update={"on_gap": "oldest"}) if fails else query
        subscription, _ = await attach(session, lenient, query.filter())
        self._open.add(subscription)
        try:
            page = await subscription.poll(query.limit)
            if page is None and query.wait and not session.context.lifecycle.draining:
                page = await _wait(session, subscription, query, receive)
                await session.recheck_token()
            page = page or Page((), subscription.position)
        finally:
            self._open.discard(subscription)
            subscription.close()
        state = await session.hub.describe(query.execution_id)
        if state is not None and not subscription.is_vetted(state):
            state = None  # it is another's by now
        records, position = _cut(page)
        if fails and page.gap is not None and query.after != "latest":  # the reader stays at its position
            records, position = (), None if query.after is None else Position.parse(query.after)
        stopped = subscription.at_interruption and len(records) == len(page.records)
        return HistoryPage(records, position, page.gap, state, stopped=stopped)


async def _wait(session: Session, subscription: Subscription, query: HistoryQuery, receive: Receive) -> Page | None:
    """Wait for the next page; None if the time or the token expires, or the client leaves.

    A waiting request counts as a connection.
    """
    expires_in = session.expires_in
    patience = query.wait if expires_in is None else max(0.0, min(query.wait, expires_in))
    admission, caller = session.context.admission, (session.peer.address, session.principal.account)
    lease = admission.connections.enter(*caller)
    try:
        fleet_lease = None if admission.fleet is None else await admission.fleet.enter(*caller)
    except BaseException:
        lease.release()
        raise
    reading = asyncio.create_task(subscription.next_page(query.limit), name="lg_streaming.poll")
    leaving = asyncio.create_task(wait_disconnected(receive), name="lg_streaming.poll.leaving")
    try:
        await asyncio.wait({reading, leaving}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        return reading.result() if reading.done() else None
    finally:
        lease.release()
        if fleet_lease is not None:
            fleet_lease.release()
        for task in (reading, leaving):
            task.cancel()
        await asyncio.gather(reading, leaving, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of updates, up to about 1 MiB."""

    records: Sequence[StoredUpdate]
    position: Position | None
    """The position after the page."""
    gap: Gap | None
    """The updates that are missing before the page."""
    state: LogState | None
    """The state of the execution, after the page was read."""
    stopped: bool
    """True if reading ended because the run waits for a human."""


def _cut(page: Page) -> tuple[Sequence[StoredUpdate], Position | None]:
    """Return the records that fit in one response, and the position after them."""
    size = 0
    for index, record in enumerate(page.records):
        size += len(record.json)
        if size > _PAGE_BYTES and index:
            return page.records[:index], page.records[index - 1].position
    return page.records, page.position


def _page_json(execution_id: str, page: HistoryPage) -> bytes:
    state, gap = page.state, page.gap
    position = None if page.position is None else str(page.position)
    more = state is not None and position != f"{state.epoch}:{state.head}"
    head: dict[str, Any] = {
        "execution_id": execution_id,
        "state": state.state if state is not None else "unknown",
        "position": position,
        "recovered": gap is None,
        **({"gap": gap.to_dict()} if gap is not None else {}),
        "ended": page.stopped or (state is not None and state.ended and not more),
        "more": more,
    }
    return b'%b,"updates":[%b]}' % (orjson.dumps(head)[:-1], b",".join([record.json for record in page.records]))


# ---------------------------------------------------------------- executions
class Cursors:
    """Encryption of execution ids as cursors.

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

    async def encode(self, execution_id: str) -> str:
        """Return the cursor of the end of a page. Raises LogUnavailableError, like `decode`."""
        return (await self._cipher()).encrypt(execution_id.encode()).decode()

    async def decode(self, cursor: str | None) -> str:
        """Return the id after which the next page starts; an empty one is before all others.

        Raises:
            BadRequestError: If the cursor is not valid here.
        """
        if cursor is None:
            return ""
        try:
            return (await self._cipher()).decrypt(cursor).decode()
        except (InvalidToken, ValueError):
            raise BadRequestError("this cursor is not known here: begin with the first page again") from None


async def list_executions(session: Session, query: ListQuery, cursors: Cursors) -> dict[str, Any]:
    """Return a page of the executions that the caller may read, in the order of their ids.

    Candidates are executions that the caller owns or that its grants may name; all, if the application decides. A call
    checks at most 500 candidates, for about two seconds: a page may be short or empty without being the last.

    Raises:
        BadRequestError: If the cursor is not valid here.
        LogUnavailableError: If the log cannot be reached.
    """
    sources = session.policy.sources(session.principal, query.owner)
    known, complete = await _next_ids(session.hub.log, sources, await cursors.decode(query.cursor))
    until = session.context.clock.monotonic() + _PATIENCE
    found: list[dict[str, Any]] = []
    looked_at = 0
    for execution_id in known:
        if len(found) >= query.limit or (looked_at and session.context.clock.monotonic() > until):
            break
        looked_at += 1
        if not looked_at % _AT_ONCE:
            await asyncio.sleep(0)
        state = await session.hub.describe(execution_id)
        if state is None or not _matches(state, query):
            continue
        if await session.policy.allows(
            session.principal, "read", execution_id, state.owner, address=session.peer.address
        ):
            found.append(execution_info(execution_id, state))
    at_end = complete and looked_at == len(known)
    return {
        "executions": found,
        "next_cursor": None if at_end else await cursors.encode(known[looked_at - 1]),
    }


async def _next_ids(log: EventLog, sources: Sequence[tuple[str | None, str]], after: str) -> tuple[list[str], bool]:
    """Return up to 500 ids of all sources above `after`, in order, and whether these are the last."""
    found: set[str] = set()
    bound: str | None = None  # above it, a source may have ids that are not among the found ones
    for owner, prefix in sources:
        ids = await log.list_ids(after=after, limit=_MOST_LOOKED_AT, owner=owner, prefix=prefix)
        if len(ids) == _MOST_LOOKED_AT:
            bound = ids[-1] if bound is None else min(bound, ids[-1])
        found.update(ids)
    ordered = sorted(each for each in found if bound is None or each <= bound)
    return ordered[:_MOST_LOOKED_AT], bound is None and len(ordered) <= _MOST_LOOKED_AT


def _matches(state: LogState, query: ListQuery) -> bool:
    return (not query.state or state.state in query.state) and query.owner in {None, state.owner}


def execution_info(execution_id: str, state: LogState) -> dict[str, Any]:
    """Return the description of an execution."""
    return {
        "execution_id": execution_id,
        "state": state.state,
        "owner": state.owner,
        "position": f"{state.epoch}:{state.head}",
        "oldest": state.oldest,
        "started_at": format_time(state.started_at),
        "updated_at": format_time(state.updated_at),
        "progress": state.progress,
        "metadata": state.metadata,
    }


def fleet_info(statistics: FleetStatistics) -> dict[str, Any]:
    """Return the description of the processes that share the log."""
    return {
        "processes": [
            {
                "process_id": process.process_id,
                "host": process.host,
                "pid": process.pid,
                "version": process.version,
                "started_at": format_time(process.started_at),
                "seen_at": format_time(process.seen_at),
                "counts": process.report,
            }
            for process in statistics.processes
        ],
        "totals": statistics.totals,
    }
