"""From the query of an address to the payload that a message would have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request

__all__ = ["query_payload"]

_ALIASES: Final = {"filters": "events"}
_MAX_NUMBER: Final = 20


def query_payload(
    request: Request,
    *,
    lists: Collection[str] = (),
    texts: Collection[str] = (),
    flags: Collection[str] = (),
    numbers: Collection[str] = (),
) -> dict[str, object]:
    """What the query says, by name.

    Args:
        request: The request.
        lists: Options whose values are separated by commas, or given several times.
        texts: Options that are taken as they are; of several values the last one counts, here and below.
        flags: `true` or `false`.
        numbers: Whole, or with a decimal point.

    Raises:
        BadRequestError: An option is not among these, or no flag or number where it has to be one.
    """
    payload: dict[str, object] = {}
    for given in request.query_params:
        name, values = _ALIASES.get(given, given), request.query_params.getlist(given)
        if name in lists:
            payload[name] = [part for value in values for part in value.split(",")]
        elif name in texts:
            payload[name] = values[-1]
        elif name in flags:
            payload[name] = _flag(name, values[-1])
        elif name in numbers:
            payload[name] = _number(name, values[-1])
        else:
            raise BadRequestError(f"{given!r:.80}: there is no such option")
    return payload


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
