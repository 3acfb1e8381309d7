"""A function as a sink."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from lg_streaming.errors import SinkError, StreamingConfigError
from lg_streaming.hub.callbacks import is_external_cancellation
from lg_streaming.hub.sink import SendPolicy
from lg_streaming.sinks.worker import BlockingCallRunner

if TYPE_CHECKING:
    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub.sink import CloseReason

__all__ = ["CallbackSink"]


class CallbackSink:
    """A sink that calls a function with each update.

    A plain function is called in a thread of the sink, where it may block; a coroutine function is called on the event
    loop. If it raises, only that update has failed, and the next one follows. A call that takes longer than the
    policy's timeout fails with the rest of its batch. A plain function cannot be cancelled: while it hangs, all later
    updates fail.

    Args:
        function: ``function(update)``, sync or async; its result is ignored.
        on_closed: ``on_closed(reason)``, sync or async, called once at the end, where ``function`` is called.
        id: The name of the sink; a new one when not given.
        in_thread: False calls a plain function on the event loop; it must not block.
        policy: The rules for sending, see `SendPolicy`.

    Raises:
        StreamingConfigError: If an argument is not callable.
    """

    def __init__(
        self,
        function: Callable[[StreamUpdate], object],
        *,
        on_closed: Callable[[CloseReason], object] | None = None,
        id: str | None = None,
        in_thread: bool = True,
        policy: SendPolicy | None = None,
    ) -> None:
        if not callable(function) or (on_closed is not None and not callable(on_closed)):
            raise StreamingConfigError(f"a callback is a function, not {function!r:.80}")
        self.id: str = id or f"callback-{secrets.token_hex(4)}"
        self.claim_by_default: bool = id is not None
        """True if one process of several serves the sink: see the option ``claim`` of `StreamHub.attach`."""
        self.policy: SendPolicy = policy or SendPolicy()
        self._function = function
        self._on_closed = on_closed
        self._worker = BlockingCallRunner(f"lg-streaming-{self.id}")
        self._in_thread = in_thread
        self._closed = False

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        """Call the function with each update.

        Raises:
            SinkError: If it raised; ``sent`` counts the updates before that one.
        """
        calls = _BatchCalls(self._function, updates)
        try:
            while calls.index < len(updates):
                if self._is_async(self._function):
                    calls.call_next()
                else:
                    await self._worker.run(calls.call_all)
                if (awaitable := calls.awaitable) is not None:
                    await awaitable
                    calls.awaitable = None
                    calls.index += 1
        except BaseException as error:
            calls.abandoned = True
            if is_external_cancellation(error):
                raise
            raise SinkError(f"the function raised {error!r}", sink_id=self.id, sent=calls.index) from error

    def _is_async(self, function: Callable[..., object]) -> bool:
        return (
            not self._in_thread
            or inspect.iscoroutinefunction(function)
            or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 (an object with an async one)
        )

    async def closed(self, reason: CloseReason) -> None:
        """Call ``on_closed``."""
        self._closed = True
        on_closed = self._on_closed
        if on_closed is None:
            return
        result = on_closed(reason) if self._is_async(on_closed) else await self._worker.run(lambda: on_closed(reason))
        if inspect.isawaitable(result):
            await result

    def is_active(self) -> bool:
        """Return whether it is open."""
        return not self._closed

    async def aclose(self) -> None:
        """End the thread."""
        self._closed = True
        self._worker.close()


class _BatchCalls:
    """The calls of one batch. They run in the thread of the sink and on its event loop, never in both at once."""

    def __init__(self, function: Callable[[StreamUpdate], object], updates: Sequence[StreamUpdate]) -> None:
        self._function = function
        self._updates = updates
        self.index = 0
        self.awaitable: Awaitable[object] | None = None
        """An awaitable that the last call returned; the event loop awaits it."""
        self.abandoned = False
        """True once the batch has failed: the rest is skipped."""

    def call_next(self) -> None:
        """Call the function once."""
        result = self._function(self._updates[self.index])
        if inspect.isawaitable(result):
            self.awaitable = result
        else:
            self.index += 1

    def call_all(self) -> None:
        """Call the function until a result has to be awaited."""
        while self.index < len(self._updates) and self.awaitable is None and not self.abandoned:
            self.call_next()
