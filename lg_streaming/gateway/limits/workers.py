"""Threads for functions of the application that may block, shared fairly between callers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from lg_streaming.errors import MessageRateError, ServerRestartError
from lg_streaming.fork import bury, new_lock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Workers"]

R = TypeVar("R")

_IDLE_LIFETIME: Final = 1.0


@dataclass(slots=True, eq=False)
class _Job:
    """A call, and the future of its result."""

    caller: str
    call: Callable[[], object]
    future: asyncio.Future[object]

    def run(self) -> tuple[object, BaseException | None]:
        """Run the call in a thread; set its result or error."""
        try:
            return self.call(), None
        except StopIteration as stopped:  # a future cannot carry it
            return None, RuntimeError(f"the function raised {stopped!r}")
        except BaseException as raised:  # noqa: BLE001 (it belongs to who waits, not to this thread)
            return None, raised

    def tell(self, result: object, error: BaseException | None) -> None:
        """Resolve the future, from any thread."""
        with contextlib.suppress(RuntimeError):  # the event loop is closed, so no task waits
            self.future.get_loop().call_soon_threadsafe(_settle, self.future, result, error)


def _settle(future: asyncio.Future[object], result: object, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class Workers:
    """A bounded pool of threads that start on demand and end when they are idle.

    A caller may use up to `per_caller` threads. When half of all are at work, only callers without one get a thread.
    Waiting calls start in turns, one call of each caller. The event loop's own executor is not used.

    Args:
        name: The prefix of the threads' names.
        threads: The maximum number of threads.
        per_caller: The maximum of threads that one caller may use at a time.
        waiting_per_caller: The maximum of waiting calls of one caller.
        idle_lifetime: Seconds after which an idle thread ends.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int = 64,
        per_caller: int = 8,
        waiting_per_caller: int = 256,
        idle_lifetime: float = _IDLE_LIFETIME,
    ) -> None:
        self._name = name
        self._threads = threads
        self._per_caller = per_caller
        self._waiting_per_caller = waiting_per_caller
        self._idle_lifetime = idle_lifetime
        self._lock = new_lock()
        self._reset()
        restart_after_fork(self)

    def _reset(self) -> None:
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._busy = 0
        self._idle = 0
        self._life = 0
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()

    def after_fork(self) -> None:
        """Drop the threads and calls of the parent process, which continue there."""
        bury(self._waiting, self._queue)
        self._reset()

    @property
    def busy(self) -> int:
        """Number of threads at work."""
        return self._busy

    @property
    def waiting(self) -> int:
        """Number of calls that wait for a thread."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    async def answer(self, caller: str, function: Callable[..., Any], *arguments: object) -> object:
        """Return the result of `function`: await a coroutine function, and call another one in a thread.

        Raises:
            MessageRateError: If too many calls of this caller wait.
        """
        if inspect.iscoroutinefunction(function):
            return await function(*arguments)
        answer = await self.call(caller, function, *arguments)
        return await answer if inspect.isawaitable(answer) else answer

    async def call(self, caller: str, function: Callable[..., R], *arguments: object) -> R:
        """Return the result of `function`, called in a thread, in a copy of the present context.

        When the wait is cancelled, a waiting call is withdrawn, and a running call keeps its thread.

        Raises:
            MessageRateError: If too many calls of this caller wait.
        """
        call = functools.partial(contextvars.copy_context().run, function, *arguments)
        job = _Job(caller, call, asyncio.get_running_loop().create_future())
        with self._lock:
            queue = self._waiting.get(caller)
            if queue is not None and len(queue) >= self._waiting_per_caller:
                raise MessageRateError("too many questions about your rights wait for an answer", retry_after=1.0)
            self._waiting.setdefault(caller, deque()).append(job)
            self._share_out()
        try:
            return cast("R", await job.future)
        finally:
            if not job.future.done() or job.future.cancelled():
                self._take_back(job)

    def _take_back(self, job: _Job) -> None:
        with self._lock:
            queue = self._waiting.get(job.caller)
            if queue is not None and job in queue:
                queue.remove(job)
                if not queue:
                    del self._waiting[job.caller]

    # ------------------------------------------------------------ with the lock
    def _share_out(self) -> None:
        """Start waiting calls, as far as the limits allow."""
        while (job := self._next()) is not None:
            self._busy += 1
            self._running[job.caller] += 1
            if self._idle:
                self._idle -= 1  # one of the waiting threads, no particular one
                self._queue.put(job)
            else:
                self._start(job)

    def _start(self, job: _Job) -> None:
        arguments = (job, self._life, self._queue)
        thread = threading.Thread(target=self._work, args=arguments, name=f"lg-streaming-{self._name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            self._count_out(job)
            job.tell(None, error)

    def _next(self) -> _Job | None:
        if self._busy >= self._threads:
            return None
        most = self._per_caller if self._busy < self._threads // 2 else 1
        for caller in self._waiting:  # those who are passed over have a thread, so they are no more than there are
            if self._running[caller] < most:
                break
        else:
            return None
        queue = self._waiting[caller]
        job = queue.popleft()
        if queue:
            self._waiting.move_to_end(caller)
        else:
            del self._waiting[caller]
        return job

    def _count_out(self, job: _Job) -> None:
        self._busy -= 1
        self._running[job.caller] -= 1
        if not self._running[job.caller]:
            del self._running[job.caller]

    # ------------------------------------------------------------ in a thread
    def _work(self, job: _Job | None, life: int, queue: SimpleQueue[_Job | None]) -> None:
        while job is not None:
            result, error = job.run()
            with self._lock:
                if queue is not self._queue:  # forked since then
                    return
                self._count_out(job)
                self._idle += 1
                self._share_out()
                ends = life != self._life and self._idle > 0  # closed since then
                self._idle -= ends
            job.tell(result, error)
            del job, result, error
            if ends:
                return
            job = self._wait(queue)

    def _wait(self, queue: SimpleQueue[_Job | None]) -> _Job | None:
        """Return the next call, or None if the thread has to end."""
        while True:
            try:
                return queue.get(timeout=self._idle_lifetime)
            except Empty:
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                        return None

    def close(self) -> None:
        """End idle threads now, and the others after their call. Waiting calls are refused.

        New calls start new threads.
        """
        with self._lock:
            waiting = [job for queue in self._waiting.values() for job in queue]
            self._waiting.clear()
            self._life += 1
            for _ in range(self._idle):
                self._queue.put(None)
            self._idle = 0
        for job in waiting:
            job.tell(None, ServerRestartError())
