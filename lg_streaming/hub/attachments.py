"""Attach sinks to executions, flush them and close them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Final, get_args

from typing_extensions import Unpack

from lg_streaming.errors import BadRequestError, HubClosedError, SinkError, SubscriberLimitError
from lg_streaming.eventloop import running_loop
from lg_streaming.filters import INTERRUPTED, FilterOptions
from lg_streaming.fork import new_rlock, restart_after_fork
from lg_streaming.hub.attachment import Attachment
from lg_streaming.hub.background_loop import BackgroundLoop
from lg_streaming.hub.sink import AnySink, OnError, PageSink, PolicySink, SendPolicy, Sink
from lg_streaming.hub.sink_claim import RELEASED, SinkClaim, claim_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from lg_streaming.events import Position
    from lg_streaming.filters import UpdateFilter
    from lg_streaming.hub.readers import SubscriptionRegistry
    from lg_streaming.hub.subscription import Subscription

__all__ = ["SinkManager"]

logger: logging.Logger = logging.getLogger(__name__)

_FINISH_TIMEOUT: Final = 5.0
_STOP_TIMEOUT: Final = 1.0
_MAX_UNREPORTED: Final = 1_000
"""Maximum of errors that `SinkManager.flush` has not raised yet; beyond it, the oldest is dropped."""


class SinkManager:
    """The sinks of one hub: the attachments of each execution.

    Args:
        readers: Opens a subscription for each attachment.
        flush: Returns when the log has everything published so far.
        position_ttl: Seconds for which the position of a claimed sink is kept.
    """

    def __init__(
        self, readers: SubscriptionRegistry, flush: Callable[[], Awaitable[None]], *, position_ttl: float = 86_400.0
    ) -> None:
        self._readers = readers
        self._fleet = readers.log.fleet
        self._position_ttl = position_ttl
        self._flush_log = flush
        self._lock = new_rlock()
        self.by_execution: dict[str, dict[str, Attachment]] = {}
        """The attachments of each execution, by the id of the sink."""
        self._attachments: set[Attachment] = set()  # also those whose sink is being closed
        self.by_sink: dict[int, set[Attachment]] = {}
        """The attachments by the identity of the sink, including those whose sink is being closed."""
        self._unreported: OrderedDict[Attachment, None] = OrderedDict()  # failed, and no caller got the error yet
        self._errors_before = 0  # of attachments that are done
        self._closing = False
        self._loop = BackgroundLoop("lg-streaming-delivery")
        if self._fleet is not None:
            self._fleet.on_claim_lost(self._on_claim_lost)
            self._fleet.on_message(RELEASED, self._on_released)
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the attachments of the parent process, which continue there."""
        for attachment in self._attachments:
            attachment.end_in_child()
        self._errors_before += sum(attachment.errors for attachment in self._attachments)
        self.by_execution, self._attachments, self.by_sink = {}, set(), {}
        self._unreported.clear()

    @property
    def open(self) -> int:
        """The number of attachments, including those whose sink is being closed."""
        return len(self._attachments)

    @property
    def errors(self) -> int:
        """The number of errors of sinks: each failed attempt to send to one, or to close one."""
        with self._lock:
            return self._errors_before + sum(attachment.errors for attachment in self._attachments)

    def attach(
        self,
        execution_id: str,
        sink: AnySink,
        *,
        after: Position | str | None = None,
        filter: UpdateFilter | None = None,
        types: Iterable[str] | None = None,
        follow: bool = False,
        on_error: OnError = "log",
        policy: SendPolicy | None = None,
        send_timeout: float | None = None,
        replace: bool = False,
        shared: bool = False,
        claim: bool | None = None,
        **conditions: Unpack[FilterOptions],
    ) -> Attachment:
        """Attach a sink to an execution. See `StreamHub.attach`."""
        _check(sink, on_error)
        if conditions.get("until") == INTERRUPTED:
            raise BadRequestError("a sink is served to the end of the run: until is a time here, not 'interrupted'")
        send_policy = _to_policy(sink, policy, send_timeout)
        with self._lock:
            if self._closing:
                raise HubClosedError
            before = self.by_execution.get(execution_id, {}).get(sink.id)
            if before is not None and before.sink is sink:
                return before
            if before is not None and not replace:
                raise BadRequestError(
                    f"another sink {sink.id!r} is attached: pass replace=True, or give it another id",
                    execution_id=execution_id,
                )
            self._check_shared(sink, shared=shared)
            _check_active(sink, execution_id)

            def subscribe() -> Subscription:
                return self._readers.subscribe(
                    execution_id, after=after, filter=filter, types=types, follow=follow, for_sink=True, **conditions
                )

            try:
                subscription = subscribe()
            except SubscriberLimitError:
                if before is None:
                    raise
                before.stop("replaced")
                subscription = subscribe()
            if before is not None:
                before.stop("replaced")
            attachment = Attachment(
                sink,
                subscription,
                log=self._readers.log,
                policy=send_policy,
                on_error=on_error,
                shared=shared,
                random=random.random,
                claim=self._claim(execution_id, sink, claim, explicit=after is not None),
                on_stop=self._on_stop,
                on_done=self._on_done,
            )
            self.by_execution.setdefault(execution_id, {})[sink.id] = attachment
            self._attachments.add(attachment)
            self.by_sink.setdefault(id(sink), set()).add(attachment)
        self._start(attachment)
        return attachment

    def _claim(
        self,
        execution_id: str,
        sink: AnySink,
        claim: bool | None,  # noqa: FBT001 (the option)
        *,
        explicit: bool,
    ) -> SinkClaim | None:
        if claim is None:
            claim = getattr(sink, "claim_by_default", True) is not False
        if self._fleet is None or not claim:
            return None
        name = claim_name(execution_id, sink.id)
        return SinkClaim(self._fleet, name, ttl=self._position_ttl, explicit=explicit)

    def _on_claim_lost(self, name: str) -> None:
        for attachment in self._claiming(name):
            attachment.lose_claim()

    def _on_released(self, name: str) -> None:
        for attachment in self._claiming(name):
            attachment.wake_claim()

    def _claiming(self, name: str) -> list[Attachment]:
        with self._lock:
            return [each for each in self._attachments if claim_name(each.execution_id, each.sink_id) == name]

    def _check_shared(self, sink: AnySink, *, shared: bool) -> None:
        for other in self.by_sink.get(id(sink), ()):
            if not (shared and other.shared):
                raise BadRequestError(
                    f"sink {sink.id!r} is attached to {other.execution_id!r}: pass shared=True for both, and close it"
                    " yourself when it is done"
                )

    def _start(self, attachment: Attachment) -> None:
        name = f"lg_streaming.sink {attachment.sink_id} of {attachment.execution_id}"
        loop = running_loop()
        if loop is None or self._loop.is_current():
            self._loop.start(attachment.run, attachment.done, name=name)
        else:
            loop.create_task(attachment.run(), name=name).add_done_callback(attachment.done)

    def detach(self, execution_id: str, sink: AnySink | str, *, strict: bool = False) -> bool:
        """Detach a sink; return whether it was attached. See `StreamHub.detach`."""
        sink_id = sink if isinstance(sink, str) else sink.id
        with self._lock:
            attachment = self.by_execution.get(execution_id, {}).get(sink_id)
        if attachment is None or not (isinstance(sink, str) or attachment.sink is sink):
            if strict:
                raise BadRequestError(f"no sink {sink_id!r} is attached", execution_id=execution_id)
            return False
        attachment.detach()
        return True

    def attached(self, execution_id: str) -> list[Attachment]:
        """Return the attachments of an execution, oldest first."""
        with self._lock:
            return list(self.by_execution.get(execution_id, {}).values())

    async def flush(self, execution_id: str) -> None:
        """Wait until each sink of the execution has received all present updates, or has ended.

        Sinks do not wait for their interval.

        Raises:
            SinkError: If sending to a sink failed, with ``on_error="raise"``, and this method has not raised the error
                before. All other sinks are served first. Of several errors, the others are notes of the first.
            LogUnavailableError: If the log cannot be reached.
        """
        await self._flush_log()
        state = await self._readers.log.state(execution_id)
        if state is not None:
            await asyncio.gather(*[attachment.flush_to(state.head) for attachment in self.attached(execution_id)])
        errors = self._pop_unreported(execution_id)
        if errors:
            for other in errors[1:]:
                errors[0].add_note(str(other))
            raise errors[0]

    def _pop_unreported(self, execution_id: str) -> list[SinkError]:
        with self._lock:
            failed = [attachment for attachment in self._unreported if attachment.execution_id == execution_id]
            for attachment in failed:
                del self._unreported[attachment]
        return [attachment.error for attachment in failed if attachment.error is not None]

    def _on_stop(self, attachment: Attachment) -> None:
        """Remove an attachment that has stopped sending."""
        with self._lock:
            of_execution = self.by_execution.get(attachment.execution_id, {})
            if of_execution.get(attachment.sink_id) is attachment:
                del of_execution[attachment.sink_id]
                if not of_execution:
                    del self.by_execution[attachment.execution_id]
            if attachment.error is not None:
                self._unreported[attachment] = None
                if len(self._unreported) > _MAX_UNREPORTED:
                    self._unreported.popitem(last=False)

    def _on_done(self, attachment: Attachment) -> None:
        """Drop an attachment whose sink is closed."""
        with self._lock:
            self._attachments.discard(attachment)
            holders = self.by_sink[id(attachment.sink)]
            holders.remove(attachment)
            if not holders:
                del self.by_sink[id(attachment.sink)]
            self._errors_before += attachment.errors

    def reopen(self) -> None:
        """Allow attachments again."""
        with self._lock:
            self._closing = False

    async def aclose(self) -> None:
        """Send the updates in the log, for up to 5 s, then close all sinks."""
        with self._lock:
            self._closing = True
            attachments = list(self._attachments)
        self._readers.finish_all()  # readers do not wait for sinks
        for attachment in attachments:
            attachment.finish()
        attachments = await _wait_done(attachments, _FINISH_TIMEOUT)
        for attachment in attachments:
            attachment.stop("hub_closed")
        attachments = await _wait_done(attachments, _STOP_TIMEOUT)
        for attachment in attachments:
            logger.warning("%s did not end in time and is dropped", attachment)
            attachment.drop()
        await _wait_done(attachments, _STOP_TIMEOUT)
        await self._loop.join(_STOP_TIMEOUT)
        self._unreported.clear()


async def _wait_done(attachments: list[Attachment], at_most: float) -> list[Attachment]:
    """Wait for up to ``at_most`` seconds until all are done; return those that are not."""
    waits = [asyncio.ensure_future(attachment.ended()) for attachment in attachments if not attachment.is_done]
    if waits:
        _, late = await asyncio.wait(waits, timeout=at_most)
        for wait in late:
            wait.cancel()
    return [attachment for attachment in attachments if not attachment.is_done]


def _check_active(sink: AnySink, execution_id: str) -> None:
    """Refuse an inactive sink. A sink whose `is_active` raises is attached, and fails there."""
    try:
        active = sink.is_active()
    except Exception:  # noqa: BLE001 (a sink may raise anything)
        return
    if not active:
        raise BadRequestError(f"sink {sink.id!r} is closed: make another one", execution_id=execution_id)


def _check(sink: AnySink, on_error: OnError) -> None:
    if isinstance(sink, type) or not isinstance(sink, (Sink, PageSink)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadRequestError(f"{sink!r:.200} is no sink: it needs id, send(updates), closed(reason) and is_active()")
    if not isinstance(sink.id, str) or not sink.id:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadRequestError(f"the id of a sink is a text, not {sink.id!r:.80}")
    if on_error not in get_args(OnError):
        raise BadRequestError(f"on_error is one of {', '.join(get_args(OnError))}, not {on_error!r:.80}")


def _to_policy(sink: AnySink, argument: SendPolicy | None, timeout: float | None) -> SendPolicy:
    policy = argument or (sink.policy if isinstance(sink, PolicySink) else SendPolicy())
    try:
        return policy if timeout is None else changed(policy, timeout=timeout)
    except ValueError as error:
        raise BadRequestError(f"send_{error}") from None
