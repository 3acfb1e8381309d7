"""Send the pages of one subscription to one sink, with the pace and the retries of its policy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import TYPE_CHECKING, cast

from lg_streaming.errors import SinkError, StreamingError
from lg_streaming.hub.callbacks import is_external_cancellation
from lg_streaming.hub.carry import carry, read_when_available
from lg_streaming.hub.sink import AnySink, ClosableSink, CloseReason, OnError, PageSink, SendPolicy, Sink
from lg_streaming.log.base import state_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lg_streaming.errors import LogUnavailableError
    from lg_streaming.events import Position
    from lg_streaming.hub.page import Page
    from lg_streaming.hub.subscription import Subscription
    from lg_streaming.log.base import EventLog

__all__ = ["SinkDelivery"]

logger: logging.Logger = logging.getLogger(__name__)


class SinkDelivery:
    """The source, the pace and the receiver of one sink's pages, see `carry`.

    Args:
        sink: The receiver of the updates.
        subscription: The source of the updates.
        log: The log of the subscription.
        policy: Size, pace and retries.
        on_error: The reaction to an update that was not sent after all retries.
        random: Source of the jitter of pauses.
        stop: Called when sending has to end.
        on_progress: Called with the position up to which the sink was served.
    """

    def __init__(
        self,
        sink: AnySink,
        subscription: Subscription,
        *,
        log: EventLog,
        policy: SendPolicy,
        on_error: OnError,
        random: Callable[[], float],
        stop: Callable[[CloseReason, SinkError | None], None],
        on_progress: Callable[[Position | None], None],
    ) -> None:
        self.sink = sink
        self.policy = policy
        self.on_error: OnError = on_error
        self.delivered: int = 0
        self.failed: int = 0
        self.errors: int = 0
        self.stopped = False
        """Set by the owner to end sending, before it calls `wake`."""
        self.flush_requested: bool = False
        """Set by the owner to send the updates in the log without the interval, before it calls `wake`."""
        self._pages = sink if isinstance(sink, PageSink) else None  # isinstance of a protocol is slow
        self._subscription = subscription
        self._execution_id = subscription.execution_id
        self._log = log
        self._random = random
        self._stop = stop
        self._on_progress = on_progress
        self._woken = asyncio.Event()
        self._full = False  # the last page was: more waits in the log

    def wake(self) -> None:
        """End a pause early, so that `stopped` and `flush_requested` take effect. On the event loop of `run`."""
        self._woken.set()

    async def run(self) -> CloseReason:
        """Send until the subscription ends; return the reason."""
        last = await carry(self, self, pace=self, limit=self.policy.batch_size)
        if self.stopped:
            return "detached"
        self._on_progress(last.position)
        return await self._reason_after(last.position)

    async def _reason_after(self, position: Position | None) -> CloseReason:
        """Return how the run ended whose final update is at ``position``; ``hub_closed`` where that is another one."""
        if position is not None and not self._subscription.follow:
            found = await read_when_available(self._log.read, self._execution_id, position.seq - 1, 1)
            if found is not None and found.records and found.records[0].is_final:
                return cast("CloseReason", state_after("running", found.records[0].type))
        return "hub_closed"

    # --- the source: the subscription, with reports of its progress ----------------------------------------------

    async def ready(self) -> None:
        """See `PageSource.ready`."""
        if not self.stopped:
            self._on_progress(self._subscription.position)
        await self._subscription.ready()

    async def poll(self, limit: int) -> Page | None:
        """See `PageSource.poll`."""
        return await self._subscription.poll(limit)

    # --- the pace -----------------------------------------------------------------------------------------------

    async def turn(self, sent_at: float) -> None:
        """Wait for the interval of the policy, unless the last page was full or a flush is requested."""
        if self._full:
            await asyncio.sleep(0)  # neither the log nor the sink may ever suspend: other tasks have to run
            return
        await self._pause_until(sent_at + self.policy.interval, may_flush=True)
        self.flush_requested = False

    async def _pause_until(self, moment: float, *, may_flush: bool = False) -> None:
        """Wait until a moment of the loop's clock; end early if the delivery is interrupted or has to flush."""
        now = asyncio.get_running_loop().time
        while not (self.stopped or (may_flush and self.flush_requested)) and moment > now():
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(moment):
                    await self._woken.wait()

    # --- the receiver: the sink, with its retries -----------------------------------------------------------------

    async def wait_writable(self) -> bool:
        """Return at once: a sink sets the pace by the time that its calls take."""
        return False

    async def log_unavailable(self, error: LogUnavailableError) -> None:
        """Wait for the log without a notice."""

    async def send(self, page: Page, *, waited: bool) -> None:  # noqa: ARG002 (part of the protocol)
        """Send a page, with the retries of the policy; stop if `on_error` requires that."""
        self._full = len(page.records) >= self.policy.batch_size
        attempts = 0
        while page.size and not self.stopped:
            if not self._is_active():
                self._stop("inactive", None)
                return
            error = await self._call_sink(page)
            if error is None:
                self.delivered += page.size
                return
            self.errors += 1
            if self.stopped:
                return
            sent = error.sent if isinstance(error, SinkError) else None
            if sent:
                self.delivered += min(sent, page.size)
                page, attempts = page.without(sent), 0
                self._on_progress(page.start)
            if not page.size or not self._is_active():
                continue  # the sink had taken all, or became inactive during the call
            attempts += 1
            if attempts < self.policy.attempts and _is_retryable(error):
                pause = self._pause_after(error, attempts - 1)
                await self._pause_until(asyncio.get_running_loop().time() + pause)
                continue
            page, attempts = self._on_failed(page, error, count=page.size if sent is None else 1), 0

    def _on_failed(self, page: Page, error: BaseException, *, count: int) -> Page:
        """Handle ``count`` unsent updates as `on_error` requires; return the rest of the page."""
        self.failed += count
        failure = SinkError(
            f"sink {self.sink.id!r} of execution {self._execution_id!r} failed: {error!r}",
            execution_id=self._execution_id,
            sink_id=self.sink.id,
        )
        failure.__cause__ = error
        if self._should_log():
            then = "they are left out" if self.on_error == "log" else "it is detached"
            logger.warning("%s did not take %d updates; %s: %r", self, count, then, error, exc_info=self._trace(error))
        if self.on_error != "log":
            self._stop("error", failure if self.on_error == "raise" else None)
        return page.without(count)

    def _should_log(self) -> bool:
        """Return whether to log a failure: the first, then ever fewer, because a sink may fail at each update."""
        return self.errors & (self.errors - 1) == 0

    def _trace(self, error: BaseException) -> BaseException | None:
        """Return the error whose traceback is logged: once, and not for errors with a complete message."""
        error = error.__cause__ or error
        return error if self.errors == 1 and not isinstance(error, (StreamingError, OSError)) else None

    def _is_active(self) -> bool:
        try:
            return self.sink.is_active()
        except Exception as error:  # noqa: BLE001 (a sink may raise anything)
            self.errors += 1
            logger.warning("%s raised in is_active() and is detached: %r", self, error)
            return False

    async def _call_sink(self, page: Page) -> BaseException | None:
        if self._pages is not None:
            return await self._guarded(self._pages.send_page(self._execution_id, page))
        return await self._guarded(cast("Sink", self.sink).send(page.updates(self._execution_id)))

    async def _guarded(self, call: Awaitable[None]) -> BaseException | None:
        """Await a call of the sink, within `policy.timeout`; return its error."""
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

    def _pause_after(self, error: BaseException, attempt: int) -> float:
        """Return the seconds before the next attempt: the policy's, or the error's `retry_after` if that is longer."""
        pause = self.policy.backoff.seconds(attempt, self._random)
        asked = error.retry_after if isinstance(error, StreamingError) else None
        return pause if asked is None else max(pause, asked)

    # --- the end ----------------------------------------------------------------------------------------------

    async def close_sink(self, reason: CloseReason) -> None:
        """Notify the sink of the end, then close it."""
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
        return f"sink {self.sink.id!r} of execution {self._execution_id!r}"


def _is_retryable(error: BaseException) -> bool:
    return error.retryable if isinstance(error, StreamingError) else True
