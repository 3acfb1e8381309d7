"""The one place where producers and readers of executions meet."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from lg_streaming.fork import restart_after_fork
from lg_streaming.hub.attachments import Sinks
from lg_streaming.hub.control import Control
from lg_streaming.hub.overview import Overview
from lg_streaming.hub.statistics import HubStatistics
from lg_streaming.log.memory import MemoryLog
from lg_streaming.pipeline import OpenTokenStreams
from lg_streaming.publisher import new_id, publishers
from lg_streaming.settings import settings_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from lg_streaming.codec import Redact
    from lg_streaming.log.base import EventLog
    from lg_streaming.settings import StreamingSettings

__all__ = ["StreamHub"]

_CLOSE_TIMEOUT: Final = 5.0
_READ_TIMEOUT: Final = 1.0


class StreamHub(Overview):
    """Where executions are written and read.

    Args:
        settings: Limits and retention, or a mapping of the settings; the defaults and the environment when not given.
        log: Where executions are kept; a `MemoryLog` when not given.
        redact: ``redact(type, data) -> data``, applied to every update before it is encoded.
        clock: Seconds since 1970, for timestamps.
        monotonic: Seconds that never go back, for durations: retention, rates, sweeps.
        new_id: Makes the ids of runs, and of executions that are created without one; a UUID when not given.

    Publishing is synchronous, thread-safe, and never waits for I/O. Order: the updates of an execution have
    one order, given when the log takes them; every reader sees it. Readers never slow a producer down.
    """

    def __init__(
        self,
        settings: StreamingSettings | Mapping[str, Any] | None = None,
        *,
        log: EventLog | None = None,
        redact: Redact | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = new_id,
    ) -> None:
        settings = settings_from(settings)
        log = log or MemoryLog(settings.retention, clock=clock, monotonic=monotonic)
        Control.__init__(self, settings, log, redact, clock, monotonic)
        self._new_id = new_id
        Sinks.__init__(self, log, settings.limits.max_subscribers_per_execution, self.flush)
        self.token_streams: OpenTokenStreams = OpenTokenStreams(monotonic)
        self.lifecycle.add(self.token_streams)
        self.companions: dict[type, object] = {}
        """What parts above keep with this hub, one of each type."""
        publishers.count += 1
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Leave runs, readers and sinks to the parent process. What this process publishes starts runs of its own."""
        self._forget_readers()
        self._forget_runs()

    def statistics(self) -> HubStatistics:
        """Counts since the hub was made, and what is there now."""
        self._sweep_now_and_then()
        writer = self._appender.writer
        published = dict(self._tally.published)
        dropped = self._tally.drops.counts
        return HubStatistics(
            executions=len(self._executions),
            running=self._running,
            subscriptions=len(self._subscriptions),
            published=sum(published.values()),
            published_by_kind=published,
            delivered=self._delivered(),
            publish_seconds=self._tally.publishing.snapshot(),
            dropped=dropped,
            shortened=self._tally.drops.shortened,
            dropped_late=dropped["late"] + dropped["foreign_run"] + dropped["no_run"],
            dropped_too_large=dropped["too_large"],
            dropped_over_rate=dropped["over_rate"],
            dropped_at_most_once=dropped["at_most_once"],
            repeated=self._tally.repeated.value,
            lost=dropped["lost"],
            waiting=writer.waiting if writer is not None else 0,
            append_failures=writer.failures if writer is not None else 0,
            encode_fallbacks=self._drafts.codec.fallbacks,
            observer_errors=self._observers.errors,
            callable_errors=self._tally.callables.value,
            sinks=len(self._attachments),
            sink_errors=self._errors_of_sinks(),
        )

    async def shutdown(self, reason: str = "shutdown") -> None:
        """Ends all open runs, then closes the hub. Harmless when repeated.

        Every open run is cancelled, as `cancel` does it: those that handle it have ``limits.cancel_grace`` seconds to
        come to their own end, all at the same time, and the others end at once with ``workflow_cancelled`` and the
        reason. No run begins any more. Readers in this process have a second to read to the end. What goes wrong with
        one execution is logged and holds up no other. Afterwards the hub raises `HubClosedError`.

        The end of a process is no reason for this where the log outlives it: that is what `aclose` is for.
        """
        if not self._closed:
            await self._cancel_all(reason)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.flush(), _CLOSE_TIMEOUT)
            await self._let_finish(_READ_TIMEOUT)
        await self.aclose()

    async def restart(self) -> None:
        """Closes the hub as `aclose` does, then opens it again without any execution, as in a new process.

        Settings, `redact`, tracing, the statistics and `StreamingModule.activate` stay as they are. A hub that was
        closed before is opened. What still runs of a run from before is dropped, as are its late updates.
        """
        activations = publishers.activations(self)
        await self.aclose()
        activations -= publishers.activations(self)
        self.reopen()
        for _ in range(activations):
            publishers.activate(self)

    def reopen(self) -> None:
        """Opens a closed hub again, without any execution; a no-op while it is open."""
        if not self._closed:
            return
        self._open_again()
        self._read_again()
        publishers.count += 1

    async def aclose(self) -> None:
        """Empties the buffer into the log (for up to 5 s), ends all readers, and frees everything.

        Sinks get what is in the log first, for up to 5 s, and are closed.
        Open runs are left as they are: they are not over because this process is. Harmless when repeated.
        """
        self.lifecycle.close()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            publishers.count -= 1
        self._idle.close()
        publishers.deactivate(self)
        await self._handler_calls.aclose()
        if self._appender.writer is not None:
            await asyncio.to_thread(self._appender.writer.close, _CLOSE_TIMEOUT)
        if self._appender.logger is not None:
            await asyncio.to_thread(self._appender.logger.close, _CLOSE_TIMEOUT)
        if self.trace is not None:
            self.trace.close()
        await self._stop_reading()
        await self.log.aclose()
