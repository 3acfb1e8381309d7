"""A background event loop for synchronous programs."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from lg_streaming.fork import bury, new_lock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Job = Callable[[], Coroutine[Any, Any, None]]
    OnDone = Callable[[asyncio.Task[None]], object]

__all__ = ["BackgroundLoop"]


class BackgroundLoop:
    """An event loop in a daemon thread that exists while it has jobs.

    A blocking portal of anyio is no substitute: its thread keeps a process from ending that never closes the hub.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = new_lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: set[threading.Thread] = set()
        self._jobs = 0
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Start without a thread and an event loop: the present ones belong to the parent."""
        bury(self._loop)
        self._loop, self._threads, self._jobs = None, set(), 0

    def start(self, job: Job, on_done: OnDone, *, name: str) -> None:
        """Run ``job()`` as a task called ``name``, then ``on_done(task)``. From any thread; returns at once."""
        with self._lock:
            if self._loop is None:
                self._loop = self._begin()
            self._jobs += 1
            self._loop.call_soon_threadsafe(self._run_job, job, on_done, name)

    def _begin(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run, args=(loop,), name=self._name, daemon=True)
        self._threads.add(thread)
        thread.start()
        return loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:  # it cancels what a sink began and did not await
                runner.get_loop().run_forever()
        finally:
            self._threads.discard(threading.current_thread())

    def _run_job(self, job: Job, on_done: OnDone, name: str) -> None:
        task = asyncio.get_running_loop().create_task(job(), name=name)
        task.add_done_callback(on_done)
        task.add_done_callback(self._done)

    def _done(self, _task: asyncio.Task[None]) -> None:
        with self._lock:
            self._jobs -= 1
            if self._jobs == 0 and self._loop is not None:
                self._loop.stop()
                self._loop = None

    def is_current(self) -> bool:
        """Return whether the present thread runs the loop."""
        return threading.current_thread() in self._threads

    async def join(self, timeout: float) -> None:  # noqa: ASYNC109 (a thread cannot be cancelled)
        """Wait up to ``timeout`` seconds for the end of the thread, which follows the end of its last job."""
        for thread in list(self._threads):
            await asyncio.to_thread(thread.join, timeout)
