"""Reset in the child of `os.fork()` the locks, threads and event loops of the parent.

A forked process has the parent's objects, but only one of its threads. A lock that another thread held stays locked for
ever. A queue loses its reader. An event loop shares its descriptors with the parent. Objects with such
state register themselves here. The child resets every lock, then calls their `after_fork` methods in the order of
registration. Registered objects are referenced weakly. On platforms without `os.fork` nothing happens.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import Any, Final, Protocol, TypeVar

from lg_streaming.errors import ForkedError

__all__ = [
    "ForkGuard",
    "Restartable",
    "bury",
    "new_condition",
    "new_event",
    "new_lock",
    "new_rlock",
    "release_owned",
    "restart_after_fork",
]

logger: logging.Logger = logging.getLogger(__name__)

L = TypeVar("L")


class Restartable(Protocol):
    """Object with state that does not survive a fork."""

    def after_fork(self) -> None:
        """Drop the parent's state. Called in the child, which has one thread."""
        ...


class _Ref(weakref.ref[Any]):
    """Weak reference with its key in a table."""

    __slots__ = ("key", "table")

    key: int
    table: dict[int, _Ref]


_locks: Final[dict[int, _Ref]] = {}
_objects: Final[dict[int, _Ref]] = {}
_buried: Final[list[object]] = []
_generation = 0
_RLOCK: Final[type] = type(threading.RLock())


def _remove(ref: _Ref) -> None:
    if ref.table.get(ref.key) is ref:
        del ref.table[ref.key]


def _remember(table: dict[int, _Ref], what: object) -> None:
    ref = _Ref(what, _remove)
    ref.key, ref.table = id(what), table
    table[ref.key] = ref


def _locked(lock: L) -> L:
    _remember(_locks, lock)
    return lock


def new_lock() -> threading.Lock:
    """Return a lock that is free in a forked child."""
    return _locked(threading.Lock())


def new_rlock() -> threading.RLock:
    """Return a reentrant lock that is free in a forked child, unless the thread that forked holds it."""
    return _locked(threading.RLock())


def release_owned(lock: threading.RLock) -> None:  # pyright: ignore[reportInvalidTypeForm]
    """Release `lock` if this thread holds it, once.

    For the `except BaseException` around a `with lock:`. An exception that comes between two bytecodes, such as
    `KeyboardInterrupt`, may skip the end of the block.
    """
    if lock._is_owned():  # pyright: ignore[reportAttributeAccessIssue]  # noqa: SLF001 (there is no public name)
        lock.release()


def new_condition() -> threading.Condition:
    """Return a condition that has no waiters and a free lock in a forked child."""
    return _locked(threading.Condition(threading.Lock()))


def new_event() -> threading.Event:
    """Return an event that has no waiters in a forked child, and keeps its flag."""
    return _locked(threading.Event())


def restart_after_fork(what: Restartable) -> None:
    """Call `what.after_fork()` in every forked child, as long as `what` lives."""
    _remember(_objects, what)


def bury(*what: object) -> None:
    """Keep objects of the parent alive in this child, so that their destructors do not run here.

    A transport that closes, for example, would remove its descriptor from a selector that the parent still uses.
    """
    _buried.extend(what)


class ForkGuard:
    """Guard that refuses an object of the parent process in a forked child.

    Args:
        what: The object, as the message names it.
        instead: Advice for the child, for the message.
    """

    __slots__ = ("_generation", "_instead", "_what")

    def __init__(self, what: str, instead: str) -> None:
        self._what = what
        self._instead = instead
        self._generation = _generation

    @property
    def forked(self) -> bool:
        """True if the process was forked after the object was made."""
        return self._generation != _generation

    def check(self) -> None:
        """Raise in a child.

        Raises:
            ForkedError: If the process was forked after the object was made.
        """
        if self.forked:
            raise ForkedError(f"{self._what} belongs to the process before os.fork(): {self._instead}")


def _reset(lock: Any) -> None:
    # A reentrant lock that the forking thread holds is released later, by that thread.
    if not (isinstance(lock, _RLOCK) and lock._is_owned()):  # noqa: SLF001 (see below)
        lock._at_fork_reinit()  # noqa: SLF001 (what the standard library does with its own locks)


def _after_fork() -> None:
    global _generation  # noqa: PLW0603 (one number of the process)
    _generation += 1
    for ref in list(_locks.values()):
        if (lock := ref()) is not None:
            _reset(lock)
    for ref in list(_objects.values()):
        if (what := ref()) is not None:
            try:
                what.after_fork()
            except Exception:
                logger.exception("%r could not be restarted after a fork", what)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
