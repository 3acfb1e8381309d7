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
    """Calls a function with each update.

    A plain function is called in a thread of the sink's own, so that one that blocks holds up nobody; a coroutine
    function is called on the event loop. Where it raises, that update alone has failed, and the next one follows.
    An update whose call takes longer than the policy's timeout fails together with those of the same batch that
    follow it. A plain function cannot be cancelled: as long as it hangs, all that follows fails.

    Args:
        function: ``function(update)``, sync or async; what it returns is ignored.
        on_closed: ``on_closed(reason)``, sync or async, called once at the end, where ``function`` is called.
        id: Names the sink; made up when not given.
        in_thread: Set it to False for a plain function that uses what belongs to the event loop, and never blocks.
        policy: How it is sent to.

    Raises:
        StreamingConfigError: What is to be called is no function.
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
        self.policy: SendPolicy = policy or SendPolicy()
        self._function = function
        self._on_closed = on_closed
        self._worker = BlockingCallRunner(f"lg-streaming-{self.id}")
        self._in_thread = in_thread
        self._closed = False

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        """Calls the function with each of ``updates``.

        Raises:
            SinkError: It raised; its ``sent`` says at which update.
        """
        calls = _Calls(self._function, updates)
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
        """Calls ``on_closed``."""
        self._closed = True
        on_closed = self._on_closed
        if on_closed is None:
            return
        result = on_closed(reason) if self._is_async(on_closed) else await self._worker.run(lambda: on_closed(reason))
        if inspect.isawaitable(result):
            await result

    def is_active(self) -> bool:
        """Until it is closed."""
        return not self._closed

    async def aclose(self) -> None:
        """Ends the thread."""
        self._closed = True
        self._worker.close()


class _Calls:
    """The calls for one batch: how far they are. In the thread of the sink and on its event loop, never at once."""

    def __init__(self, function: Callable[[StreamUpdate], object], updates: Sequence[StreamUpdate]) -> None:
        self._function = function
        self._updates = updates
        self.index = 0
        self.awaitable: Awaitable[object] | None = None
        """What the last call returned, and the event loop has to await."""
        self.abandoned = False
        """Nobody waits for the rest."""

    def call_next(self) -> None:
        """Calls the function once."""
        result = self._function(self._updates[self.index])
        if inspect.isawaitable(result):
            self.awaitable = result
        else:
            self.index += 1

    def call_all(self) -> None:
        """Calls the function as long as nothing has to be awaited."""
        while self.index < len(self._updates) and self.awaitable is None and not self.abandoned:
            self.call_next()
