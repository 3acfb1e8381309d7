"""A thread for what would block the event loop: one call after another."""

from __future__ import annotations

import asyncio
import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lg_streaming.fork import new_lock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BlockingCallRunner"]

T = TypeVar("T")

_IDLE_TIMEOUT: Final = 1.0
"""Seconds the thread waits for another call."""


class BlockingCallRunner:
    """Runs calls in a thread of its own, in order, never two at once.

    Each sink has its own, so that one whose call hangs holds up nobody else. The thread begins with the first call and
    ends a second after the last one, or when the worker is closed. It does not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = new_lock()
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Start without a thread: the parent makes the calls that wait."""
        self._calls, self._thread = queue.SimpleQueue(), None

    async def run(self, call: Callable[[], T]) -> T:
        """What ``call()`` returns or raises. When this is cancelled, a call that has not begun is left out."""
        future: Future[T] = Future()
        with self._lock:
            self._calls.put((future, call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Ends the thread after the calls that wait. It begins again with another call."""
        with self._lock:
            if self._thread is not None:
                self._calls.put(None)

    def _work(self) -> None:
        while True:
            try:
                job = self._calls.get(timeout=_IDLE_TIMEOUT)
            except queue.Empty:
                job = None
            if job is None:
                with self._lock:
                    if self._calls.empty():
                        self._thread = None
                        return
                continue
            future, call = job
            if future.set_running_or_notify_cancel():
                _fulfil(future, call)
            del job, future, call  # while it waits for the next one it keeps nothing of the last


def _fulfil(future: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 (raised again where it is awaited)
        future.set_exception(error)
    else:
        future.set_result(result)
