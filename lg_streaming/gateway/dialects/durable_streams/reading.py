"""Requests of Durable Streams, and the answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from starlette.responses import Response

from lg_streaming.errors import BadPositionError, BadRequestError, GapError
from lg_streaming.events import Position
from lg_streaming.filters import FILTER_LISTS, FILTER_TEXTS
from lg_streaming.gateway.dialects.durable_streams.encoder import gap_item
from lg_streaming.gateway.dialects.durable_streams.offsets import cursor, offset_of, parse_offset
from lg_streaming.gateway.http.query_params import query_payload
from lg_streaming.gateway.protocol.http_models import HistoryQuery
from lg_streaming.gateway.protocol.registry import parse

if TYPE_CHECKING:
    from starlette.requests import Request

    from lg_streaming.gateway.http.queries import HistoryPage
    from lg_streaming.log.base import LogState
    from lg_streaming.types import GapReason

__all__ = ["ReadRequest", "head_response", "page_response"]

Live = Literal["long-poll", "sse"]

_JSON: Final = "application/json"
_PAGE: Final = 1_000
"""Most updates that one answer reads."""
_NO_CONTENT: Final = 204
_NOT_MODIFIED: Final = 304


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """A request to read."""

    live: Live | None
    cursor: str | None
    query: HistoryQuery
    start: Position | Literal["latest"] | None

    @classmethod
    def parse(cls, request: Request, execution_id: str, *, wait: float) -> Self:
        """Parse a request. Unknown options are ignored, as the protocol requires.

        Args:
            request: The request.
            execution_id: The execution.
            wait: Seconds that a long poll may wait.

        Raises:
            BadPositionError: If the offset is malformed.
            BadRequestError: If another option cannot be used.
        """
        given = request.query_params
        offsets, live = given.getlist("offset"), given.get("live")
        if len(offsets) > 1:
            raise BadRequestError("offset: give it once")
        if live is not None and not offsets:
            raise BadRequestError("live: give the offset too")
        if live not in {None, "long-poll", "sse"}:
            raise BadRequestError(f"live is 'long-poll' or 'sse', not {live!r:.20}")
        start = parse_offset(offsets[0] if offsets else None)
        known = query_payload(request, lists=FILTER_LISTS, texts=FILTER_TEXTS, flags={"follow"}, ignore_others=True)
        if known.get("until") == "interrupted":
            raise BadRequestError("until is a time: a stream that waits for a human stays open")
        payload = {
            **known,
            "execution_id": execution_id,
            "after": None if start is None else str(start),
            "limit": _PAGE,
            "wait": wait if live == "long-poll" else 0,
        }
        return cls(live=live, cursor=given.get("cursor"), query=parse(HistoryQuery, payload), start=start)  # pyright: ignore[reportArgumentType] (checked above)

    def check_gap(self, reason: GapReason | None) -> None:
        """Refuse an offset after which updates are missing.

        Raises:
            GapError: If they are no longer kept.
            BadPositionError: If the offset is past the end.
        """
        if reason is None or not isinstance(self.start, Position):
            return
        if reason == "future_position":
            raise BadPositionError("the offset is past the end of the stream")
        raise GapError("the updates after this offset are no longer kept: begin again at offset=-1")

    def is_closed(self, state: LogState | None) -> bool:
        """Return whether the stream has no more messages to come."""
        return state is not None and state.ended and not self.query.follow


def head_response(asked: ReadRequest, state: LogState | None) -> Response:
    """Return the headers of the stream's end."""
    tail = None if state is None else Position(state.epoch, state.head)
    headers = {"Stream-Next-Offset": offset_of(tail), "Cache-Control": "no-store"}
    if asked.is_closed(state):
        headers["Stream-Closed"] = "true"
    return Response(headers=headers, media_type=_JSON)


def page_response(asked: ReadRequest, page: HistoryPage, if_none_match: str) -> Response:
    """Return a page of messages, or the headers alone.

    Raises:
        StreamingError: If updates after the offset are missing, see `ReadRequest.check_gap`.
    """
    gap, state, position = page.gap, page.state, page.position
    asked.check_gap(None if gap is None else gap.reason)
    at_tail = state is None or (position is not None and (position.epoch, position.seq) == (state.epoch, state.head))
    closed = at_tail and asked.is_closed(state)
    items = [*([] if gap is None else [gap_item(gap.to_dict())]), *(record.json for record in page.records)]
    headers = {"Stream-Next-Offset": offset_of(position), "Cache-Control": "private, no-cache"}
    if at_tail:
        headers["Stream-Up-To-Date"] = "true"
    if closed:
        headers["Stream-Closed"] = "true"
    if asked.live is not None and not closed:
        headers["Stream-Cursor"] = str(cursor(asked.cursor))
    if asked.live is not None and not items:
        return Response(status_code=_NO_CONTENT, headers=headers)
    if asked.start == "latest" and asked.live is None:
        headers["Cache-Control"] = "no-store"
    else:
        first = page.records[0].seq if page.records else 0
        headers["ETag"] = f'"{first}-{offset_of(position)}"'  # the end of a stream is an update too
        if _matches(if_none_match, headers["ETag"]):
            return Response(status_code=_NOT_MODIFIED, headers=headers)
    return Response(b"[%b]" % b",".join(items), headers=headers, media_type=_JSON)


def _matches(if_none_match: str, etag: str) -> bool:
    return etag in {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
