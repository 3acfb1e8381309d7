"""Operators on updates: batches, groups, filters. They are given to ``pipe`` of any ``Observable`` of updates."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypedDict, TypeVar, cast

import reactivex
from reactivex import Observable
from reactivex import operators as ops

from lg_streaming.checks import count, seconds
from lg_streaming.errors import BadRequestError
from lg_streaming.events import StreamUpdate
from lg_streaming.filters import UpdateFilter
from lg_streaming.fork import new_event
from lg_streaming.pipeline.timed_buffer import FixedWindow, buffer

if TYPE_CHECKING:
    from reactivex import GroupedObservable
    from reactivex.abc import SchedulerBase

__all__ = [
    "EventCriteria",
    "TokenAggregate",
    "aggregate_tokens",
    "batched",
    "buffer_updates",
    "by_type",
    "filter_updates",
    "map_updates",
]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_SHORTEST: Final = 1e-9
"""Seconds: the shortest pause of `batched`."""


class EventCriteria(TypedDict, total=False):
    """Conditions of `filter_updates`. All must be met; one that is left out is always met."""

    types: Sequence[str]
    """Exact types, and globs such as ``task:*``."""
    execution_id: str
    node_id: str
    start_time: datetime
    """The earliest time, inclusive; with a time zone."""
    end_time: datetime
    """The latest time, inclusive; with a time zone."""


def batched(
    size: int = 10, debounce: float = 0.1, *, scheduler: SchedulerBase | None = None
) -> Callable[[Observable[T]], Observable[list[T]]]:
    """Return items as lists of up to ``size``, in order: a full list at once, the rest after a pause.

    Each item is in exactly one list; no list is empty. Items may come from several threads, lists leave one at a time.

    Args:
        size: Items in a list, at most.
        debounce: Seconds without an item after which a partial list is passed on. An end or an error of the source
            passes it on at once.
        scheduler: The timer of ``debounce``, which also passes on the partial lists. When not given, they are passed on
            on the event loop of the subscriber. Without a loop, on a thread of the library, which should not block.

    Raises:
        BadRequestError: If ``size`` is below 1, or ``debounce`` below 0.
    """
    count("items").check("size", size, BadRequestError)
    seconds(zero="waits for no other").check("debounce", debounce, BadRequestError)

    # a pause of 0 waits for the timer, so that items that come in one go make one list
    window = FixedWindow(size, max(debounce, _SHORTEST))
    return buffer(window, policy="pause", scheduler=scheduler, on_loop=True)


def by_type(
    *, per_execution: bool = False
) -> Callable[[Observable[StreamUpdate]], Observable[GroupedObservable[str, StreamUpdate]]]:
    """Return one observable for each type. Its ``key`` is the type, or ``<execution_id>_<type>``."""
    return ops.group_by(
        lambda update: f"{update.metadata.execution_id}_{update.type}" if per_execution else update.type
    )


def buffer_updates(
    execution_id: str,
) -> Callable[[Observable[StreamUpdate]], Observable[dict[str, list[StreamUpdate]]]]:
    """Return the updates of one execution by type, in order: one mapping, when the source ends."""

    def operator(source: Observable[StreamUpdate]) -> Observable[dict[str, list[StreamUpdate]]]:
        def start(_: object) -> Observable[dict[str, list[StreamUpdate]]]:
            found: dict[str, list[StreamUpdate]] = {}

            def add(found: dict[str, list[StreamUpdate]], update: StreamUpdate) -> dict[str, list[StreamUpdate]]:
                found.setdefault(update.type, []).append(update)
                return found

            mine = source.pipe(ops.filter(lambda update: update.metadata.execution_id == execution_id))
            return mine.pipe(ops.reduce(add, found))

        return reactivex.defer(start)

    return operator


def filter_updates(
    criteria: EventCriteria | Mapping[str, Any],
) -> Callable[[Observable[StreamUpdate]], Observable[StreamUpdate]]:
    """Return the updates that meet ``criteria``, see `EventCriteria`.

    Raises:
        BadRequestError: If a name or a value cannot be used: a time without a time zone, for instance.
    """
    if unknown := criteria.keys() - EventCriteria.__annotations__.keys():
        raise BadRequestError(
            f"criteria have {', '.join(sorted(unknown))}; they can be {', '.join(EventCriteria.__annotations__)}"
        )
    node_id = criteria.get("node_id")
    conditions = UpdateFilter.of(
        types=criteria.get("types"),
        node_ids=None if node_id is None else [node_id],
        since=criteria.get("start_time"),
        until=criteria.get("end_time"),
    )
    execution_id = criteria.get("execution_id")
    return ops.filter(
        lambda update: execution_id in (None, update.metadata.execution_id) and conditions.matches(update),
    )


def map_updates(
    function: Callable[[StreamUpdate], R | None],
) -> Callable[[Observable[StreamUpdate]], Observable[R | StreamUpdate]]:
    """Return the results of ``function``; None drops an update.

    An update on which it raises is passed on unchanged; the first such error is logged.
    """

    def operator(source: Observable[StreamUpdate]) -> Observable[R | StreamUpdate]:
        def start(_: object) -> Observable[R | StreamUpdate]:
            failed = new_event()

            def apply(update: StreamUpdate) -> R | StreamUpdate | None:
                try:
                    return function(update)
                except Exception:
                    if not failed.is_set():
                        failed.set()
                        logger.exception("a function for updates raised; the update passes as it was")
                    return update

            shaped = source.pipe(ops.map(apply), ops.filter(lambda result: result is not None))
            return cast("Observable[R | StreamUpdate]", shaped)

        return reactivex.defer(start)

    return operator


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAggregate:
    """The pieces of text that came between two pauses."""

    execution_id: str
    tokens: tuple[str, ...]
    """The new pieces, in order; none is repeated."""
    total_count: int
    """Pieces of the execution so far."""

    @property
    def text(self) -> str:
        """The pieces joined."""
        return "".join(self.tokens)


def aggregate_tokens(
    quiet: float = 0.5, *, size: int = 1_000, scheduler: SchedulerBase | None = None
) -> Callable[[Observable[StreamUpdate]], Observable[TokenAggregate]]:
    """Return the ``token`` updates of each execution, joined after ``quiet`` seconds without one, or ``size`` of them.

    Raises:
        BadRequestError: If ``quiet`` is no number of seconds from 0 on, or ``size`` is below 1.
    """
    seconds(zero="waits for no other").check("quiet", quiet, BadRequestError)
    count("updates").check("size", size, BadRequestError)

    def of_execution(tokens: GroupedObservable[str, StreamUpdate]) -> Observable[TokenAggregate]:
        def extend(last: TokenAggregate, batch: list[StreamUpdate]) -> TokenAggregate:
            pieces = tuple(str(update.data["content"]) for update in batch)
            return TokenAggregate(execution_id=tokens.key, tokens=pieces, total_count=last.total_count + len(pieces))

        nothing = TokenAggregate(execution_id=tokens.key, tokens=(), total_count=0)
        return tokens.pipe(batched(size, quiet, scheduler=scheduler), ops.scan(extend, nothing))

    def operator(source: Observable[StreamUpdate]) -> Observable[TokenAggregate]:
        tokens = source.pipe(ops.filter(lambda update: update.type == "token"))
        grouped: Observable[GroupedObservable[str, StreamUpdate]] = tokens.pipe(
            ops.group_by(lambda update: update.metadata.execution_id)
        )
        return grouped.pipe(ops.flat_map(of_execution))

    return operator
