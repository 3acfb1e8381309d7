"""A thread for calls that would block the event loop, one after another."""

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
"""Seconds that the thread waits for another call."""


class BlockingCallRunner:
    """Run calls in one thread, in order, never two at once.

    Each sink has its own runner, so that a call that hangs delays no other sink. The thread begins with the first call.
    It ends a second after the last one, or when the runner is closed. It does not keep the process from ending.

    `anyio.to_thread` with a limiter of 1 is no substitute. A cancelled wait frees the limiter while its call still
    runs, so that the next call would run at the same time. Threads of an executor keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = new_lock()
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Start without a thread: the parent runs the queued calls."""
        self._calls, self._thread = queue.SimpleQueue(), None

    async def run(self, call: Callable[[], T]) -> T:
        """Return the result of ``call()``. When this is cancelled, a call that has not begun is skipped."""
        future: Future[T] = Future()
        with self._lock:
            self._calls.put((future, call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread after the queued calls. Another call starts it again."""
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
            del job, future, call  # a waiting thread must not keep the last call alive


def _fulfil(future: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 (raised again where it is awaited)
        future.set_exception(error)
    else:
        future.set_result(result)
