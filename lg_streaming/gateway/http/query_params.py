"""Convert the query of an address to the payload of the corresponding message."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from starlette.datastructures import QueryParams
    from starlette.requests import Request

__all__ = ["last_event_id", "query_payload"]

_ALIASES: Final = {"filters": "events"}
_MAX_NUMBER: Final = 20
_LAST_EVENT_ID: Final = "last-event-id"


def query_payload(
    request: Request,
    *,
    lists: Collection[str] = (),
    texts: Collection[str] = (),
    flags: Collection[str] = (),
    numbers: Collection[str] = (),
    repeated: Collection[str] = (),
    ignore_others: bool = False,
) -> dict[str, object]:
    """Return the query's options, by name.

    Args:
        request: The request.
        lists: Options whose values are separated by commas, or repeated.
        texts: Options with a text; of several values the last one counts, here and below. If they include `after`, a
            last event id counts as `after`.
        flags: Options with `true` or `false`.
        numbers: Options with a number, whole or with a decimal point.
        repeated: Options that may be repeated; a comma is part of a value.
        ignore_others: Whether other options are ignored.

    Raises:
        BadRequestError: If the query has another option, or a value that is not the flag or number it has to be.
    """
    payload: dict[str, object] = {}
    for given in request.query_params:
        name, values = _ALIASES.get(given, given), request.query_params.getlist(given)
        if _is_last_event_id(given) and "after" in texts:
            continue  # it replaces `after` below
        if name in lists:
            payload[name] = [part for value in values for part in value.split(",")]
        elif name in repeated:
            payload[name] = values
        elif name in texts:
            payload[name] = values[-1]
        elif name in flags:
            payload[name] = _flag(name, values[-1])
        elif name in numbers:
            payload[name] = _number(name, values[-1])
        elif not ignore_others:
            raise BadRequestError(f"{given!r:.80}: there is no such option")
    if "after" in texts and (last := last_event_id(request.headers, request.query_params)):
        payload["after"] = last
    return payload


def last_event_id(headers: Mapping[str, str], query: QueryParams) -> str:
    """Return the position from which a returning reader resumes, or an empty string.

    The header ``Last-Event-ID`` wins. A client that cannot send it may use a parameter of the address: `lastEventId`,
    `Last-Event-ID` or `last_event_id`, in any case. Both win over `after`: they are the reader's progress, and
    `after` is where its page began.
    """
    header = headers.get(_LAST_EVENT_ID, "").strip()
    named = [value.strip() for name, value in query.multi_items() if _is_last_event_id(name) and value.strip()]
    return header or (named[-1] if named else "")


def _is_last_event_id(name: str) -> bool:
    return name.lower().replace("-", "").replace("_", "") == "lasteventid"


def _flag(name: str, value: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}.get(value.lower())
    if known is None:
        raise BadRequestError(f"{name} is 'true' or 'false', not {value!r:.20}")
    return known


def _number(name: str, value: str) -> int | float:
    try:
        number = float(value) if len(value) <= _MAX_NUMBER and value.isascii() else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or "_" in value:
        raise BadRequestError(f"{name} is a number, not {value!r:.20}")
    return int(number) if number.is_integer() else number
