"""Search for threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.dialects.langgraph.bodies import SearchThreads, parse_body
from lg_streaming.gateway.protocol.responses import json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from lg_streaming.gateway.dialects.langgraph.services import Services
    from lg_streaming.gateway.dialects.langgraph.threads import ThreadView
    from lg_streaming.gateway.session.session import Session

__all__ = ["ThreadSearch"]

_MOST: Final = 2_000
"""Threads that one search looks at."""


class ThreadSearch:
    """Search for the threads that a caller may read.

    Args:
        services: What the routes of the wire share.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def search(self, session: Session, body: object) -> Response:
        """Return a page of threads, with the headers of pagination."""
        query = parse_body(SearchThreads, body)
        found = await self._find(session, query)
        page = [each for _, each in found[query.offset : query.offset + query.limit]]
        if query.values is None and "values" in (query.select or ("values",)):
            views = [view for view, _ in found[query.offset : query.offset + query.limit]]
            page = [await self._services.threads.describe(view) for view in views]
        if query.select:
            page = [{name: each[name] for name in query.select if name in each} for each in page]
        response = json_response(page)
        response.headers["X-Pagination-Total"] = str(len(found))
        if query.offset + query.limit < len(found):
            response.headers["X-Pagination-Next"] = str(query.offset + query.limit)
        return response

    async def count(self, session: Session, body: object) -> Response:
        """Return the number of threads."""
        return json_response(len(await self._find(session, parse_body(SearchThreads, body))))

    async def _find(self, session: Session, query: SearchThreads) -> list[tuple[ThreadView, dict[str, Any]]]:
        threads = self._services.threads
        ids = query.ids if query.ids is not None else await self._candidates(session)
        found: list[tuple[ThreadView, dict[str, Any]]] = []
        for thread_id in dict.fromkeys(ids[:_MOST]):
            view = await threads.look(session, thread_id)
            if view is None or (query.status is not None and view.status != query.status):
                continue
            if view.record is None and view.state is None:
                continue
            shown = await threads.describe(view, with_values=query.values is not None)
            if _has(shown["metadata"], query.metadata) and _has(shown["values"] or {}, query.values):
                found.append((view, shown))
        by = query.sort_by or "updated_at"
        return sorted(found, key=lambda each: each[1][by], reverse=query.sort_order != "asc")

    async def _candidates(self, session: Session) -> list[str]:
        """Return the ids of threads that the caller may be able to read: made here, and executions of the log."""
        found = await self._services.threads.owned(session.principal.subject)
        log = session.hub.log
        for owner, prefix in session.policy.sources(session.principal, None):
            found += await log.list_ids(limit=_MOST, owner=owner, prefix=prefix)
        return [each for each in found if not each.startswith("room:")]


def _has(values: Mapping[str, Any], asked: Mapping[str, Any] | None) -> bool:
    return all(name in values and values[name] == value for name, value in (asked or {}).items())
