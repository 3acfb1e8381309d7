"""The handle of one sink at one execution."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from lg_streaming.eventloop import forbid_running_loop
from lg_streaming.fork import bury, new_lock
from lg_streaming.hub.notifier import Notifier
from lg_streaming.hub.sink_delivery import SinkDelivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.errors import SinkError
    from lg_streaming.events import Position
    from lg_streaming.hub.sink import AnySink, CloseReason, OnError, SendPolicy
    from lg_streaming.hub.sink_claim import SinkClaim
    from lg_streaming.hub.subscription import Subscription
    from lg_streaming.log.base import EventLog

__all__ = ["Attachment"]

logger: logging.Logger = logging.getLogger(__name__)


class Attachment:
    """A sink that is attached to an execution, as `attach` returns it.

    Guarantees: calls of the sink never overlap. The sink gets updates in the order of the log. Missing are only updates
    that the filter excludes, that a gap names, or that count as `failed`. At the end, and after any error, the sink is
    notified once and then closed.
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
        claim: SinkClaim | None = None,
        on_stop: Callable[[Attachment], None],
        on_done: Callable[[Attachment], None],
    ) -> None:
        self.sink = sink
        self.sink_id: str = sink.id
        self.execution_id: str = subscription.execution_id
        self.policy = policy
        self.on_error: OnError = on_error
        self.shared = shared
        """The sink serves other executions too: it is neither notified of the end nor closed."""
        self.error: SinkError | None = None
        """The cause of the end, with ``on_error="raise"``."""
        self.reason: CloseReason | None = None
        """The reason of the end; None before the end."""
        self._subscription = subscription
        self._delivery = SinkDelivery(
            sink,
            subscription,
            log=log,
            policy=policy,
            on_error=on_error,
            random=random,
            stop=self.stop,
            on_progress=self._advance_to,
        )
        self._claim = claim
        self._on_stop = on_stop
        self._on_done = on_done
        self._position: Position | None = None
        self._moved = Notifier()
        self._lock = new_lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._delivering = False
        self._done: concurrent.futures.Future[None] = concurrent.futures.Future()

    # --- for its owner ------------------------------------------------------------------------------------

    @property
    def delivered(self) -> int:
        """The number of updates that the sink took."""
        return self._delivery.delivered

    @property
    def failed(self) -> int:
        """The number of updates that the sink did not take after all attempts of the policy."""
        return self._delivery.failed

    @property
    def errors(self) -> int:
        """The number of failed calls of the sink: attempts to send, and to close it."""
        return self._delivery.errors

    @property
    def position(self) -> Position | None:
        """The position up to which the sink was served, filtered updates included; None before the first update."""
        return self._position

    @property
    def active(self) -> bool:
        """True until the end: more may be sent."""
        return self.reason is None

    def detach(self) -> None:
        """End the attachment now, and cancel a running call of the sink. Unsent updates stay unsent.

        Return at once, see `wait`. Harmless when repeated; may be called from any thread, and from within the sink.
        """
        self.stop("detached")

    async def wait(self) -> None:
        """Return when the sink is closed. On any event loop.

        Raises:
            SinkError: If sending failed, with ``on_error="raise"``; its cause is the error of the sink.
        """
        await self.ended()
        if self.error is not None:
            raise self.error

    def join(self, timeout: float | None = None) -> None:
        """Block like `wait`, on a thread without an event loop.

        Raises:
            SinkError: If `wait` raises it.
            BlockingCallError: If an event loop runs on this thread: the sink may need it.
            TimeoutError: If the sink is still attached after ``timeout`` seconds.
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
    def is_done(self) -> bool:
        """True when the sink is closed, or the event loop that served it is."""
        return self._done.done() or (self._loop is not None and self._loop.is_closed())

    async def ended(self) -> None:
        """Return when the sink is closed, with and without an error."""
        await asyncio.shield(asyncio.wrap_future(self._done))

    def stop(self, reason: CloseReason, error: SinkError | None = None) -> None:
        """End the attachment now, see `detach`."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason, self.error = reason, error
        self._delivery.stopped = True
        self._on_stop(self)
        self._subscription.close()
        self._moved.notify()
        self._on_its_loop(self._interrupt)

    @property
    def waiting(self) -> bool:
        """True while another process serves the sink: see the option ``claim`` of `StreamHub.attach`."""
        return self._claim is not None and not self._claim.held and self.reason is None

    def wake_claim(self) -> None:
        """Try to claim the sink again at once. From any thread."""
        if self._claim is not None:
            self._claim.wake()

    def lose_claim(self) -> None:
        """End the attachment at once: another process has taken its claim. From any thread."""
        if self._claim is not None and self._claim.held:
            self._claim.lose()
            self.stop("replaced")

    def finish(self) -> None:
        """End the attachment once all updates in the log are sent. From any thread."""
        if self.waiting:
            self.stop("hub_closed")
            return
        self._subscription.finish()
        self.request_flush()

    def request_flush(self) -> None:
        """Send the updates in the log without waiting for the interval. From any thread."""
        self._delivery.flush_requested = True
        self._on_its_loop(self._delivery.wake)

    def drop(self) -> None:
        """Cancel the task, also while the sink is being closed. From any thread."""
        if self._task is not None:
            self._on_its_loop(self._task.cancel)

    async def flush_to(self, seq: int) -> None:
        """Return when the sink was served up to ``seq``, or has ended."""
        self.request_flush()
        while True:
            generation = self._moved.generation
            if self.reason is not None or self.waiting or (self._position is not None and self._position.seq >= seq):
                return
            await self._moved.wait(generation)

    def end_in_child(self) -> None:
        """End the attachment in a forked child: the parent continues to send to the sink, and closes it."""
        bury(self._loop, self._task, self._done, self._delivery)
        self.reason = self.reason or "detached"
        self._loop = self._task = None
        self._moved = Notifier()
        self._done = concurrent.futures.Future()
        self._done.set_result(None)

    def done(self, task: asyncio.Task[None]) -> None:
        """Handle the end of the task of `run`, also of one that never began."""
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
        self._delivery.wake()
        if self._delivering and self._task is not None:
            self._task.cancel()

    def _advance_to(self, position: Position | None) -> None:
        if position != self._position:
            self._position = position
            self._moved.notify()
            if self._claim is not None:
                self._claim.advance(position)

    async def _begin(self) -> None:
        """Wait for the claim, and begin where the process that held it before has ended."""
        if self._claim is not None and self.reason is None:
            start = await self._claim.acquire()
            if start is not None:
                self._subscription.start_after(start)

    async def run(self) -> None:
        """Send until the end, then notify and close the sink."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._delivering = True
        reason: CloseReason = "detached"
        try:
            await self._begin()
            reason = await self._delivery.run()
        except asyncio.CancelledError:
            pass  # the attachment was stopped, or the event loop ends: the sink is notified of both
        except Exception:
            logger.exception("the delivery to %s broke", self)
            reason = "error"
        finally:
            self._delivering = False
        while self._task is not None and self._task.cancelling():
            self._task.uncancel()
        self.stop(reason)
        if self._claim is not None:
            await self._claim.release(self._position)
        if not self.shared:
            await self._delivery.close_sink(self.reason or reason)

    def __str__(self) -> str:
        return str(self._delivery)
