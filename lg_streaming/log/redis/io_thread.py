"""A thread with an event loop, for the connections that all event loops and threads of a process share."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lg_streaming.errors import LogUnavailableError
from lg_streaming.fork import bury, new_lock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["IoThread"]

T = TypeVar("T")

logger: logging.Logger = logging.getLogger(__name__)

_CANCEL_AGAIN: Final = 1.0
"""Seconds after which a task that goes on is cancelled again: some code hides a cancellation."""


try:  # here, because two threads that import it wait for each other
    from uvloop import new_event_loop
except ImportError:  # as on Windows
    from asyncio import new_event_loop


class IoThread:
    """Event loop in a daemon thread that starts with its first coroutine, at first or after a `close`.

    All methods are thread-safe. Coroutines run in an empty context, without the context variables of their callers.
    A forked child has another thread; the coroutines of the parent do not run there.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str = "lg-streaming-redis") -> None:
        self._name = name
        self.on_close: Callable[[], Coroutine[Any, Any, None]] | None = None
        """Last coroutine of the loop, when all others have ended: it closes the connections."""
        self._lock = new_lock()
        self._here = threading.local()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Start without a thread and an event loop: the present ones belong to the parent."""
        bury(self._loop)
        self._here = threading.local()
        self._loop = self._thread = None

    def call(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the loop; return its future at once.

        The future's `cancel` cancels the coroutine. A `close` ends the future with `LogUnavailableError`.

        Raises:
            LogUnavailableError: If the interpreter ends: since Python 3.12 it then starts no thread.
        """
        with self._lock:
            try:
                loop = self._loop or (asyncio.get_running_loop() if self.is_current() else self._start())
            except LogUnavailableError:
                coroutine.close()
                raise
            # Under the lock, so that it precedes the end of the loop.
            return contextvars.Context().run(asyncio.run_coroutine_threadsafe, self._until_close(coroutine), loop)

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and return its result on the event loop of the caller.

        The cancellation of the caller cancels the coroutine. On the loop itself it is awaited directly.

        Raises:
            LogUnavailableError: If `close` ended the coroutine.
        """
        if self.is_current():
            return await coroutine
        return await asyncio.wrap_future(self.call(coroutine))

    def spawn(self, coroutine: Coroutine[Any, Any, object]) -> concurrent.futures.Future[object]:
        """Run a coroutine in the background until it ends, is cancelled, or the loop closes; log its exception."""
        try:
            future = self.call(coroutine)
        except LogUnavailableError as error:
            future = concurrent.futures.Future[object]()
            future.set_exception(error)
        future.add_done_callback(_log_exception)
        return future

    def is_current(self) -> bool:
        """Return whether the present thread runs the loop."""
        return getattr(self._here, "serves", False)

    def close(self, timeout: float = 5.0) -> bool:
        """Cancel all coroutines, and wait for their end and that of the thread.

        Args:
            timeout: Seconds to wait. On the loop itself it does not wait.

        Returns:
            Whether the thread has ended.
        """
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            if loop is None or thread is None:
                return True
            loop.call_soon_threadsafe(loop.stop)
        if thread is threading.current_thread():
            return False
        thread.join(timeout)
        return not thread.is_alive()

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = new_event_loop()
        thread = threading.Thread(target=self._serve, args=(loop,), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            loop.close()
            raise LogUnavailableError("the interpreter ends, and starts no thread") from error
        self._thread, self._loop = thread, loop
        return loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._here.serves = True
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop().run_forever()
            runner.run(_cancel_all())
            if self.on_close is not None:
                runner.run(self.on_close())

    async def _until_close(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            return await coroutine
        except asyncio.CancelledError:
            if self._loop is asyncio.get_running_loop():
                raise
            if task := asyncio.current_task():
                task.add_done_callback(_retrieve)  # where the future was cancelled as well, no one else does
            # The caller would take the cancellation by `close` for its own.
            raise LogUnavailableError("the connection to Redis was closed") from None


async def _cancel_all() -> None:
    """Cancel all other tasks, and those that they begin when they end."""
    await asyncio.sleep(0)  # a task that was cancelled before it begins would leave its coroutine unawaited
    while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CANCEL_AGAIN)


def _retrieve(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()


def _log_exception(future: concurrent.futures.Future[object]) -> None:
    if future.cancelled() or (error := future.exception()) is None or isinstance(error, LogUnavailableError):
        return
    logger.error("a background task of the log failed", exc_info=error)
