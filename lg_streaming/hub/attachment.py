"""One sink at one execution: reads at its own pace and sends, and goes on or ends where sending fails."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import LogUnavailableError, SinkError, StreamingError
from lg_streaming.eventloop import forbid_running_loop
from lg_streaming.fork import bury, new_lock
from lg_streaming.hub.callbacks import is_external_cancellation
from lg_streaming.hub.notifier import Notifier
from lg_streaming.hub.sink import AnySink, ClosableSink, CloseReason, OnError, PageSink, SendPolicy, Sink
from lg_streaming.hub.subscription import Page
from lg_streaming.log.base import state_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lg_streaming.events import Position
    from lg_streaming.hub.subscription import Subscription
    from lg_streaming.log.base import EventLog

__all__ = ["Attachment"]

logger: logging.Logger = logging.getLogger(__name__)

_LOG_AWAY: Final = 0.5
"""Seconds until the log is asked again."""


class Attachment:
    """A sink at an execution, as `attach` returns it.

    Guarantees: the sink is never called twice at the same time; it gets the updates in the order of the log, without a
    hole except those the filter left out, those a gap names and those that `failed`; when it is over, the sink is told
    so once and then closed, whatever happened before.
    """

    def __init__(
        self,
        sink: AnySink,
        subscription: Subscription,
        *,
        log: EventLog,
        policy: SendPolicy,
        on_error: OnError,
        shared: bool,
        random: Callable[[], float],
        on_stop: Callable[[Attachment], None],
        on_done: Callable[[Attachment], None],
    ) -> None:
        self.sink = sink
        self.sink_id: str = sink.id
        self.execution_id: str = subscription.execution_id
        self.policy = policy
        self.on_error: OnError = on_error
        self.shared = shared
        """Whether the sink serves others too, and so is neither told the end nor closed."""
        self.delivered: int = 0
        """Updates the sink took."""
        self.failed: int = 0
        """Updates it did not take, although they were sent as often as the policy says."""
        self.errors: int = 0
        """How often the sink failed: each attempt to send, and to close it."""
        self.error: SinkError | None = None
        """What ended it, with ``on_error="raise"``."""
        self.reason: CloseReason | None = None
        """Why it ended; None while it has not."""
        self._pages = sink if isinstance(sink, PageSink) else None  # to ask a protocol takes long
        self._subscription = subscription
        self._log = log
        self._random = random
        self._on_stop = on_stop
        self._on_done = on_done
        self._position: Position | None = None
        self._moved = Notifier()
        self._lock = new_lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._delivering = False
        self._woken = asyncio.Event()
        self._hurried = False
        self._done: concurrent.futures.Future[None] = concurrent.futures.Future()

    # --- for its owner ------------------------------------------------------------------------------------

    @property
    def position(self) -> Position | None:
        """How far the sink was served, past what was filtered out; None before the first update."""
        return self._position

    @property
    def active(self) -> bool:
        """Whether more may be sent."""
        return self.reason is None

    def detach(self) -> None:
        """Ends it now, in the middle of a call if need be; what is in the log and was not sent is not sent any more.

        Returns at once, see `wait`. Harmless when repeated; from any thread, and from within the sink.
        """
        self.stop("detached")

    async def wait(self) -> None:
        """Returns when it is over and the sink is closed. On any event loop.

        Raises:
            SinkError: Sending failed, with ``on_error="raise"``; its cause is what the sink raised.
        """
        await self.ended()
        if self.error is not None:
            raise self.error

    def join(self, timeout: float | None = None) -> None:
        """Block like `wait`, on a thread without an event loop.

        Raises:
            SinkError: Like `wait`.
            BlockingCallError: If an event loop runs on this thread: the sink may need it.
            TimeoutError: It is not over after ``timeout`` seconds.
        """
        forbid_running_loop("Attachment.join()", "use `await attachment.wait()`")
        try:
            self._done.result(timeout)
        except TimeoutError:
            raise TimeoutError(f"sink {self.sink_id!r} is still attached after {timeout} s") from None
        if self.error is not None:
            raise self.error

    # --- for the hub --------------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether it has ended and the sink is closed, or the event loop it ran on is."""
        return self._done.done() or (self._loop is not None and self._loop.is_closed())

    async def ended(self) -> None:
        """Returns when it is over, however it ended."""
        await asyncio.shield(asyncio.wrap_future(self._done))

    def stop(self, reason: CloseReason, error: SinkError | None = None) -> None:
        """Ends it now, see `detach`."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason, self.error = reason, error
        self._on_stop(self)
        self._subscription.close()
        self._moved.notify()
        self._on_its_loop(self._interrupt)

    def finish(self) -> None:
        """Ends it once it has sent what is in the log. From any thread."""
        self._subscription.finish()
        self.hurry()

    def hurry(self) -> None:
        """Has what is there sent without waiting for more. From any thread."""
        self._hurried = True
        self._on_its_loop(self._woken.set)

    def abandon(self) -> None:
        """Ends it at once, also while the sink is being closed. From any thread."""
        if self._task is not None:
            self._on_its_loop(self._task.cancel)

    async def reach(self, seq: int) -> None:
        """Returns when the sink was served up to ``seq``, or it is over."""
        self.hurry()
        while True:
            generation = self._moved.generation
            if self.reason is not None or (self._position is not None and self._position.seq >= seq):
                return
            await self._moved.wait(generation)

    def end_in_child(self) -> None:
        """End it in a forked process, where the sink gets nothing more and is not closed: the parent does both."""
        bury(self._loop, self._task, self._done, self._woken)
        self.reason = self.reason or "detached"
        self._loop = self._task = None
        self._moved = Notifier()
        self._done = concurrent.futures.Future()
        self._done.set_result(None)

    def done(self, task: asyncio.Task[None]) -> None:
        """Called when `run` has returned, or was never begun."""
        self._task = None
        if not task.cancelled():
            task.exception()  # KeyboardInterrupt alone: the event loop has raised it already
        self.stop("detached")
        self._on_done(self)
        self._done.set_result(None)

    def _on_its_loop(self, call: Callable[[], object]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # that loop was closed
                self._loop.call_soon_threadsafe(call)

    def _interrupt(self) -> None:
        self._woken.set()
        if self._delivering and self._task is not None:
            self._task.cancel()

    # --- delivering ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Delivers until it is over, then tells and closes the sink."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._delivering = True
        reason: CloseReason = "detached"
        try:
            reason = await self._deliver()
        except asyncio.CancelledError:
            pass  # it was stopped, or the event loop ends: the sink is told either way
        except Exception:
            logger.exception("the delivery to %s broke", self)
            reason = "error"
        finally:
            self._delivering = False
        while self._task is not None and self._task.cancelling():
            self._task.uncancel()
        self.stop(reason)
        if not self.shared:
            await self._say_goodbye(self.reason or reason)

    async def _deliver(self) -> CloseReason:
        subscription, size = self._subscription, self.policy.batch_size
        while self.reason is None:
            try:
                page = await subscription.poll(size)
            except LogUnavailableError:
                await self._pause(_LOG_AWAY)
                continue
            if page is None:
                self._move_to(subscription.position)
                await subscription.ready()
                continue
            await self._give(page)
            if self.reason is not None:
                break
            self._move_to(page.position)
            if page.ended:
                return await self._ending()
            if len(page.records) < size:
                await self._pause(self.policy.interval, until_hurried=True)
            else:
                await asyncio.sleep(0)  # neither the log nor the sink may ever wait: others want to run, too
        return self.reason or "detached"

    def _move_to(self, position: Position | None) -> None:
        if position != self._position:
            self._position = position
            self._moved.notify()

    async def _ending(self) -> CloseReason:
        """How the run ended whose final update was reached, if it was."""
        position = self._position
        while position is not None and not self._subscription.follow:
            try:
                found = await self._log.read(self.execution_id, position.seq - 1, 1)
            except LogUnavailableError:
                await self._pause(_LOG_AWAY)
                continue
            if found is not None and found.records and found.records[0].is_final:
                return cast("CloseReason", state_after("running", found.records[0].type))
            break
        return "hub_closed"

    async def _give(self, page: Page) -> None:
        """Sends a page, as often as the policy says; stops where the sink is not to go on."""
        attempts = 0
        while (size := _size(page)) and self.reason is None:
            if not self._is_active():
                self.stop("inactive")
                return
            error = await self._send(page)
            if error is None:
                self.delivered += size
                return
            self.errors += 1
            if self.reason is not None:
                return
            sent = error.sent if isinstance(error, SinkError) else None
            if sent:
                self.delivered += min(sent, size)
                page, attempts = _after(page, sent), 0
                self._move_to(_before(page) or self._position)
            if not _size(page) or not self._is_active():
                continue  # it had taken all, or does not want more since it was called
            attempts += 1
            if attempts < self.policy.attempts and _may_help(error):
                await self._pause(self._wait_after(error, attempts - 1))
                continue
            page, attempts = self._gave_up(page, error, count=_size(page) if sent is None else 1), 0

    def _gave_up(self, page: Page, error: BaseException, *, count: int) -> Page:
        """Does what is to be done about ``count`` updates that were not sent; returns what is still to be."""
        self.failed += count
        told = SinkError(
            f"sink {self.sink_id!r} of execution {self.execution_id!r} failed: {error!r}",
            execution_id=self.execution_id,
            sink_id=self.sink_id,
        )
        told.__cause__ = error
        if self._is_worth_saying():
            then = "they are left out" if self.on_error == "log" else "it is detached"
            logger.warning("%s did not take %d updates; %s: %r", self, count, then, error, exc_info=self._trace(error))
        if self.on_error != "log":
            self.stop("error", told if self.on_error == "raise" else None)
        return _after(page, count)

    def _is_worth_saying(self) -> bool:
        """The first time and then ever more rarely: a sink may fail at each update of a long run."""
        return self.errors & (self.errors - 1) == 0

    def _trace(self, error: BaseException) -> BaseException | None:
        """What to show of it beside its message: once, and not of a failure whose message says it all."""
        error = error.__cause__ or error
        return error if self.errors == 1 and not isinstance(error, (StreamingError, OSError)) else None

    def _is_active(self) -> bool:
        try:
            return self.sink.is_active()
        except Exception as error:  # noqa: BLE001 (a sink may raise anything)
            self.errors += 1
            logger.warning("%s cannot say whether it is active, and is detached: %r", self, error)
            return False

    async def _send(self, page: Page) -> BaseException | None:
        """One call of the sink; returns what went wrong."""
        if self._pages is not None:
            return await self._guarded(self._pages.send_page(self.execution_id, page))
        return await self._guarded(cast("Sink", self.sink).send(page.updates(self.execution_id)))

    async def _guarded(self, call: Awaitable[None]) -> BaseException | None:
        limit = self.policy.limit
        timer = asyncio.timeout(limit if limit != math.inf else None)
        try:
            async with timer:
                await call
        except BaseException as error:
            if is_external_cancellation(error):
                raise
            return TimeoutError(f"not done after {limit} s") if timer.expired() else error
        return None

    def _wait_after(self, error: BaseException, attempt: int) -> float:
        pause = self.policy.backoff.seconds(attempt, self._random)
        asked = error.retry_after if isinstance(error, StreamingError) else None
        return pause if asked is None else max(pause, asked)

    async def _pause(self, seconds: float, *, until_hurried: bool = False) -> None:
        """Waits, but no longer than the attachment lasts, and than somebody is content to wait."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.reason is None and not (until_hurried and self._hurried) and deadline > loop.time():
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._woken.wait()
        if until_hurried:
            self._hurried = False

    async def _say_goodbye(self, reason: CloseReason) -> None:
        await self._closing(lambda: self.sink.closed(reason))
        if isinstance(self.sink, ClosableSink):
            await self._closing(self.sink.aclose)

    async def _closing(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            call = step()
        except Exception as error:  # noqa: BLE001 (a sink may raise anything)
            failure: BaseException | None = error
        else:
            failure = await self._guarded(call)
        if failure is not None:
            self.errors += 1
            logger.warning("%s could not be closed: %r", self, failure, exc_info=self._trace(failure))

    def __str__(self) -> str:
        return f"sink {self.sink_id!r} of execution {self.execution_id!r}"


def _size(page: Page) -> int:
    return len(page.records) + (page.gap is not None)


def _after(page: Page, count: int) -> Page:
    """What is left of a page without its first ``count`` updates; a gap is the first of them."""
    if page.gap is None:
        return Page(page.records[count:], page.position, None, page.ended)
    return Page(page.records[max(0, count - 1) :], page.position, page.gap if count == 0 else None, page.ended)


def _before(page: Page) -> Position | None:
    """Where a reader stands that has all before what is left of a page."""
    if not page.records:
        return page.position
    first = page.records[0].position
    return replace(first, seq=first.seq - 1)


def _may_help(error: BaseException) -> bool:
    """Whether to send the same again can succeed."""
    return error.retryable if isinstance(error, StreamingError) else True
