"""An event loop in a thread, for what a program without one wants to have done meanwhile."""

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
    """Runs coroutines on an event loop of its own. The thread is there while there is something to run."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads: set[threading.Thread] = set()
        self._jobs = 0
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Start without a thread and an event loop: those there are belong to the parent."""
        bury(self._loop)
        self._loop, self._threads, self._jobs = None, set(), 0

    def start(self, job: Job, on_done: OnDone, *, name: str) -> None:
        """Runs ``job()`` as a task called ``name``, then ``on_done(task)``. From any thread; returns at once."""
        with self._lock:
            if self._loop is None:
                self._loop = self._begin()
            self._jobs += 1
            self._loop.call_soon_threadsafe(self._run_job, job, on_done, name)

    def _begin(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._run, args=(loop,), name="lg-streaming-delivery", daemon=True)
        self._threads.add(thread)
        thread.start()
        return loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)  # what a sink began and did not await
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
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
        """Whether this thread is the one."""
        return threading.current_thread() in self._threads

    async def join(self, patience: float) -> None:
        """Waits for up to ``patience`` seconds until the thread has ended; it does when its last job has."""
        for thread in list(self._threads):
            await asyncio.to_thread(thread.join, patience)
