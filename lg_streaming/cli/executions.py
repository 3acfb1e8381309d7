"""Executions of a server, newest first."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import BadRequestError, MessageRateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.client.rest import RestClient

__all__ = ["OPEN_STATES", "list_newest", "patient_request", "timestamp_of"]

OPEN_STATES: Final = ("running", "interrupted")
"""States of an execution with an open run."""
_MAX_PAGE: Final = 200
_PAUSE: Final = 0.5


async def patient_request(rest: RestClient, path: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Send a GET request, and wait where the server limits the rate.

    Raises:
        StreamingError: If the server refuses the request or does not answer.
    """
    while True:
        try:
            return await rest.request("GET", path, query=query)
        except MessageRateError as error:
            await asyncio.sleep(error.retry_after or _PAUSE)


async def list_newest(
    rest: RestClient,
    *,
    limit: int,
    states: str | None = None,
    owner: str | None = None,
    text: str | None = None,
) -> list[dict[str, Any]]:
    """Return executions that the caller may read, newest start first.

    A server without ``order`` sends all executions, which are sorted and selected here.

    Args:
        rest: Client of the server.
        limit: Largest number of executions.
        states: Only these states, with commas between.
        owner: Only executions of this owner.
        text: Only executions whose id, title, graph or owner has this text.

    Raises:
        StreamingError: If the server refuses the request or does not answer.
    """
    conditions = {name: value for name, value in (("state", states), ("owner", owner)) if value}
    try:
        return await _read_pages(rest, {**conditions, "order": "newest", **({"text": text} if text else {})}, limit)
    except BadRequestError as error:
        if error.code != BadRequestError.code:
            raise
    found = await _read_pages(rest, conditions, None)
    selected = [each for each in found if text is None or _has_text(each, text)]
    return sorted(selected, key=lambda each: str(each.get("started_at")), reverse=True)[:limit]


def timestamp_of(value: object) -> float | None:
    """Return a time of the wire in seconds since 1970; None for a text that is none."""
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return None


async def _read_pages(rest: RestClient, query: Mapping[str, str], limit: int | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        size = _MAX_PAGE if limit is None else min(_MAX_PAGE, limit - len(found))
        page = await patient_request(rest, "/executions", {**query, **cursor, "limit": str(size)})
        found += cast("list[dict[str, Any]]", page["executions"])
        if page["next_cursor"] is None or (limit is not None and len(found) >= limit):
            return found
        cursor = {"cursor": str(page["next_cursor"])}


def _has_text(execution: Mapping[str, Any], text: str) -> bool:
    fields = (execution.get(name) for name in ("execution_id", "title", "graph", "owner"))
    return any(text.casefold() in str(value).casefold() for value in fields if value is not None)
