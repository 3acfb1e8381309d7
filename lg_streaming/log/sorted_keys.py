"""Sorted set whose cost of an operation does not grow with its size."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

__all__ = ["SortedKeys"]

K = TypeVar("K", bound=Any)

_BUCKET_SIZE: Final = 512
"""Most keys of one bucket; a fuller bucket is split in two."""


class SortedKeys(Generic[K]):
    """Sorted set in buckets: a key is added, removed or found in a few microseconds, also among millions.

    Not thread-safe.

    Args:
        keys: The first keys, in any order.
    """

    __slots__ = ("_buckets", "_lasts")

    def __init__(self, keys: Iterable[K] = ()) -> None:
        ordered = sorted(set(keys))
        half = _BUCKET_SIZE // 2
        self._buckets: list[list[K]] = [ordered[at : at + half] for at in range(0, len(ordered), half)]
        self._lasts: list[K] = [bucket[-1] for bucket in self._buckets]

    def __bool__(self) -> bool:
        return bool(self._buckets)

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    @property
    def first(self) -> K | None:
        """Smallest key; None if there is no key."""
        return self._buckets[0][0] if self._buckets else None

    def add(self, key: K) -> None:
        """Add ``key``, unless it is there."""
        if not self._buckets:
            self._buckets.append([key])
            self._lasts.append(key)
            return
        number = min(bisect_left(self._lasts, key), len(self._buckets) - 1)
        bucket = self._buckets[number]
        at = bisect_left(bucket, key)
        if at < len(bucket) and bucket[at] == key:
            return
        bucket.insert(at, key)
        self._lasts[number] = bucket[-1]
        if len(bucket) > _BUCKET_SIZE:
            half = len(bucket) // 2
            self._buckets[number : number + 1] = [bucket[:half], bucket[half:]]
            self._lasts[number : number + 1] = [bucket[half - 1], bucket[-1]]

    def discard(self, key: K) -> None:
        """Remove ``key``, if it is there."""
        number = bisect_left(self._lasts, key)
        if number == len(self._buckets):
            return
        bucket = self._buckets[number]
        at = bisect_left(bucket, key)
        if bucket[at] != key:
            return
        del bucket[at]
        if bucket:
            self._lasts[number] = bucket[-1]
        else:
            del self._buckets[number], self._lasts[number]

    def after(self, key: K, limit: int) -> list[K]:
        """Return up to ``limit`` keys above ``key``, in order."""
        return self._collect(bisect_right(self._lasts, key), self._bisector(bisect_right, key), limit)

    def from_key(self, key: K, limit: int) -> list[K]:
        """Return up to ``limit`` keys from ``key`` on, in order."""
        return self._collect(bisect_left(self._lasts, key), self._bisector(bisect_left, key), limit)

    def before(self, key: K | None, limit: int) -> list[K]:
        """Return up to ``limit`` keys below ``key``, the greatest first; with None the greatest of all."""
        found: list[K] = []
        number = len(self._buckets) - 1 if key is None else min(bisect_left(self._lasts, key), len(self._buckets) - 1)
        while number >= 0 and len(found) < limit:
            bucket = self._buckets[number]
            end = len(bucket) if key is None else bisect_left(bucket, key)
            found += bucket[max(0, end - limit + len(found)) : end][::-1]
            key, number = None, number - 1
        return found

    @staticmethod
    def _bisector(bisect: Callable[[list[K], K], int], key: K) -> Callable[[list[K]], int]:
        return lambda bucket: bisect(bucket, key)

    def _collect(self, number: int, place: Callable[[list[K]], int], limit: int) -> list[K]:
        found: list[K] = []
        for bucket in self._buckets[number : number + 1]:
            found = bucket[place(bucket) :]
        while len(found) < limit and (number := number + 1) < len(self._buckets):
            found += self._buckets[number]
        return found[:limit]
