"""Usage of the model calls of a run, each counted once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.codec import Encoded
from lg_streaming.log.usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from lg_streaming.events import Scope

__all__ = ["USAGE_TYPES", "CallUsage"]

USAGE_TYPES: Final = frozenset({"usage", "llm_complete"})
"""Types of updates that have the usage of a model call."""
_MAX_CALLS: Final = 1_000
_MOST: Final = 2**53

_Call = tuple[str, "int | None"]
_Place = tuple["str | None", "str | None", Usage]


class CallUsage:
    """Usage of the calls of one run, as its updates report it.

    A call may report its usage several times: so far, at its end, and by ``usage`` as well as by ``llm_complete``. A
    call is known by its request or its message, and by its attempt. Of each call the last report counts.
    `Emitter.usage` names no message. It may report what the end of a message reports too, as for the cost of a
    captured call: the numbers match them.
    """

    __slots__ = ("_calls", "_unmatched")

    def __init__(self) -> None:
        self._calls: dict[_Call, tuple[Usage, bool]] = {}
        """Last report of each of the newest 1,000 calls, and whether it was that of the call's end."""
        self._unmatched: dict[tuple[str, _Place], list[float | None]] = {}
        """Costs of reports that the other kind of update may repeat."""

    def note(self, type: str, data: object, scope: Scope) -> Usage | None:
        """Return what an update of one of `USAGE_TYPES` adds to the usage of its run; None if nothing."""
        usage = _usage_in(type, data)
        if usage is None:
            return None
        name = scope.request_id or scope.message_id
        ends = type == "llm_complete"
        call = None if name is None else (name, scope.attempt)
        before, ended = (NO_USAGE, False) if call is None else self._calls.get(call, (NO_USAGE, False))
        if (ends or call is None) and (ended or before is NO_USAGE):  # not what the request itself has reported so far
            costs = self._matching(type, usage, scope)
            if costs is not None:
                return _added_cost(usage.cost, costs)
        if call is None:
            return usage
        self._calls.pop(call, None)
        if ended and ends:
            before = NO_USAGE  # another call under the same id
        elif usage.cost is None:
            usage = usage._replace(cost=before.cost)  # the program knows it, and the model does not
        self._calls[call] = (usage, ends or ended)
        if len(self._calls) > _MAX_CALLS:
            del self._calls[next(iter(self._calls))]
        added = usage.minus(before)
        return added if any(added) else None

    def _matching(self, type: str, usage: Usage, scope: Scope) -> tuple[float | None] | None:
        """Return the cost in the other kind of update with the same usage of this node; None without such an update."""
        place = (scope.node_id, scope.namespace, usage._replace(cost=None))
        other = ("usage" if type == "llm_complete" else "llm_complete", place)
        costs = self._unmatched.get(other)
        if costs:
            cost = costs.pop(0)
            if not costs:
                del self._unmatched[other]
            return (cost,)
        if len(self._unmatched) > _MAX_CALLS:
            self._unmatched.clear()
        waiting = self._unmatched.setdefault((type, place), [])
        if len(waiting) < _MAX_CALLS:
            waiting.append(usage.cost)
        return None


def _added_cost(cost: float | None, costs: tuple[float | None]) -> Usage | None:
    """Return what the cost in a second report of a call adds to that in the first."""
    if cost is None or cost == costs[0]:
        return None
    return NO_USAGE._replace(cost=cost - (costs[0] or 0.0))


def _usage_in(type: str, data: object) -> Usage | None:
    if isinstance(data, Encoded):
        data = orjson.loads(data.json)
    elif isinstance(data, orjson.Fragment):  # a node with `@stream_event` has its events encoded already
        data = orjson.loads(orjson.dumps(data))
    if type == "llm_complete" and isinstance(data, Mapping):
        data = cast("Mapping[str, Any]", data).get("usage")
    if not isinstance(data, Mapping):
        return None
    fields = cast("Mapping[str, Any]", data)
    read = _count(fields, "input_tokens", "prompt_tokens")
    written = _count(fields, "output_tokens", "completion_tokens")
    total, cost = _count(fields, "total_tokens"), _amount(fields.get("cost"))
    if read is written is total is cost is None:
        return None
    read, written = read or 0, written or 0
    return Usage(read, written, read + written if total is None else total, cost)


def _count(fields: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        number = _amount(fields.get(name))
        if number is not None:
            return int(number)
    return None


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value < _MOST else None
