"""Queries of the HTTP routes: pages of updates, and the processes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.events import Position
from lg_streaming.gateway.http.endpoint import wait_disconnected
from lg_streaming.gateway.session.session import attach, format_time
from lg_streaming.hub import Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive

    from lg_streaming.gateway.protocol.http_models import HistoryQuery
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.hub import FleetStatistics, Gap, Subscription
    from lg_streaming.log.base import LogState, StoredUpdate

__all__ = ["HistoryPage", "HistoryReader", "fleet_info"]

_PAGE_BYTES: Final = 1_048_576


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


# ---------------------------------------------------------------- processes
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
