"""Loops that report their progress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sized
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

__all__ = ["AsyncTracked", "TrackedIterator", "length_of"]

T = TypeVar("T")


class Reports(Protocol):
    """The receiver of a loop's reports."""

    def update(self, current: float, total: float | None) -> None:
        """Report that ``current`` of ``total`` is done."""
        ...

    def complete(self) -> None:
        """Report that all is done."""
        ...


def length_of(items: object) -> float | None:
    """Return ``len(items)``; None for items without a length."""
    try:
        return len(items) if isinstance(items, Sized) else None
    except Exception:  # noqa: BLE001 (a __len__ of the user's own may raise anything)
        return None


class _Count:
    __slots__ = ("_part", "_taken", "_total")

    def __init__(self, part: Reports, total: float | None) -> None:
        self._part = part
        self._total = total
        self._taken = 0

    def _next(self) -> None:
        """Report the previous items as done, because the loop asks for the next one."""
        if self._taken:
            self._part.update(self._taken, self._total)
        self._taken += 1

    def _end(self) -> None:
        self._taken -= 1
        if self._taken != self._total or not self._taken:
            self._part.complete()


class TrackedIterator(_Count, Iterator[T], Generic[T]):
    """Iterator over ``items`` that reports each one as done when the next one is requested, and the last at the end."""

    __slots__ = ("_items",)

    def __init__(self, part: Reports, items: Iterable[T], total: float | None) -> None:
        super().__init__(part, length_of(items) if total is None else total)
        self._items = iter(items)

    def __next__(self) -> T:
        self._next()
        try:
            return next(self._items)
        except StopIteration:
            self._end()
            raise


class AsyncTracked(_Count, AsyncIterator[T], Generic[T]):
    """Iterator like `TrackedIterator` for ``async for``."""

    __slots__ = ("_items",)

    def __init__(self, part: Reports, items: AsyncIterable[T], total: float | None) -> None:
        super().__init__(part, length_of(items) if total is None else total)
        self._items: Any = aiter(items)

    async def __anext__(self) -> T:
        self._next()
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            self._end()
            raise
