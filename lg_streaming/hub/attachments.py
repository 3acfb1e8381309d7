"""The sinks of a hub: which are attached to which execution."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Final, get_args

from typing_extensions import Unpack

from lg_streaming.errors import BadRequestError, HubClosedError, SinkError, SubscriberLimitError
from lg_streaming.filters import INTERRUPTED, FilterOptions
from lg_streaming.fork import new_rlock
from lg_streaming.hub.attachment import Attachment
from lg_streaming.hub.background_loop import BackgroundLoop
from lg_streaming.hub.readers import Readers
from lg_streaming.hub.sink import AnySink, OnError, PageSink, PolicySink, SendPolicy, Sink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from lg_streaming.events import Position
    from lg_streaming.filters import UpdateFilter
    from lg_streaming.hub.subscription import Subscription
    from lg_streaming.log.base import EventLog

__all__ = ["Sinks"]

logger: logging.Logger = logging.getLogger(__name__)

_PATIENCE: Final = 5.0
_GRACE: Final = 1.0
_MAX_UNTOLD: Final = 1_000


class Sinks(Readers):
    """Everything that reads, and the sinks among them: see `StreamHub`.

    Args:
        log: Where executions are.
        max_per_execution: Subscriptions one execution may have, sinks included; None for no limit.
        flush: Returns when everything published so far is in the log.
    """

    def __init__(self, log: EventLog, max_per_execution: int | None, flush: Callable[[], Awaitable[None]]) -> None:
        super().__init__(log, max_per_execution)
        self._flush_log = flush
        self._sinks_lock = new_rlock()
        self._attached: dict[str, dict[str, Attachment]] = {}
        self._attachments: set[Attachment] = set()  # the attached ones, and those whose sink is being closed
        self._holders: dict[int, set[Attachment]] = {}  # the same by the sink's identity
        self._untold: OrderedDict[Attachment, None] = OrderedDict()  # failed, and nobody was told yet
        self._sink_errors = 0  # of attachments that are over
        self._no_more_sinks = False
        self._delivery = BackgroundLoop()

    def _forget_readers(self) -> None:
        super()._forget_readers()
        for attachment in self._attachments:
            attachment.end_in_child()
        self._sink_errors += sum(attachment.errors for attachment in self._attachments)
        self._attached, self._attachments, self._holders = {}, set(), {}
        self._untold.clear()

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
        **wanted: Unpack[FilterOptions],
    ) -> Attachment:
        """Sends an execution to a sink: history first, then live. Allowed before the execution starts.

        The sink has a cursor and a task of its own, so a slow, hanging or failing one delays neither another one nor
        who publishes. It is called on the running event loop; where none is running, on one that all such sinks of the
        hub share, in a thread. After the final update it is told ``closed(reason)`` and closed.

        Args:
            execution_id: The execution.
            sink: Where to. The same object again changes nothing: the attachment there is, is returned.
            after: As in `subscribe`, like ``filter``, ``types``, ``follow`` and ``wanted``.
            filter: What to let through.
            types: Exact types and globs.
            follow: Stay after a run's final update and go on with the next run.
            on_error: What to do when sending failed as often as ``policy`` says. ``"log"``: log it, leave out what
                failed and go on; ``"detach"``: log it and detach the sink; ``"raise"``: the same, and raise
                `SinkError` from `Attachment.wait` and `flush_sinks`.
            policy: How large, how often and how long to send; the sink's own when not given.
            send_timeout: ``policy.timeout`` in seconds, in place of the policy's, which is 10 unless the sink says
                otherwise.
            replace: Detach another sink with the same id first, in place of an error.
            shared: The sink serves other executions as well: at the end it is neither told nor closed.
            wanted: ``events``, ``node_ids``, ``agent_types``, ``namespaces``, ``categories``, ``min_priority``,
                ``since`` and ``until``, see `FilterOptions`. ``until`` is a time here: a sink is not left when the run
                waits for a human.

        Raises:
            BadRequestError: The id, the filter, ``on_error`` or ``send_timeout`` cannot be used; it is no sink, or a
                closed one; another sink with its id is attached, and ``replace`` is not set; or it is attached to
                another execution, and ``shared`` is not set at both.
            BadPositionError: ``after`` is not a position.
            SubscriberLimitError: ``limits.max_subscribers_per_execution`` are reading.
            HubClosedError: The hub was closed.
        """
        _check(sink, on_error)
        if wanted.get("until") == INTERRUPTED:
            raise BadRequestError("a sink is served to the end of the run: until is a time here, not 'interrupted'")
        chosen = _policy_of(sink, policy, send_timeout)
        with self._sinks_lock:
            if self._no_more_sinks:
                raise HubClosedError
            before = self._attached.get(execution_id, {}).get(sink.id)
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
                return self.subscribe(execution_id, after=after, filter=filter, types=types, follow=follow, **wanted)

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
                log=self._source,
                policy=chosen,
                on_error=on_error,
                shared=shared,
                random=random.random,
                on_stop=self._on_stop,
                on_done=self._on_done,
            )
            self._attached.setdefault(execution_id, {})[sink.id] = attachment
            self._attachments.add(attachment)
            self._holders.setdefault(id(sink), set()).add(attachment)
        self._start(attachment)
        return attachment

    def _check_shared(self, sink: AnySink, *, shared: bool) -> None:
        for other in self._holders.get(id(sink), ()):
            if not (shared and other.shared):
                raise BadRequestError(
                    f"sink {sink.id!r} is attached to {other.execution_id!r}: pass shared=True for both, and close it"
                    " yourself when it is done"
                )

    def _start(self, attachment: Attachment) -> None:
        name = f"lg_streaming.sink {attachment.sink_id} of {attachment.execution_id}"
        try:
            loop = None if self._delivery.runs_here() else asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if loop is None:
            self._delivery.start(attachment.run, attachment.done, name=name)
        else:
            loop.create_task(attachment.run(), name=name).add_done_callback(attachment.done)

    def detach(self, execution_id: str, sink: AnySink | str, *, strict: bool = False) -> bool:
        """Detaches a sink, given itself or its id; returns whether it was attached. See `Attachment.detach`.

        Raises:
            BadRequestError: It is not attached, and ``strict`` is set.
        """
        sink_id = sink if isinstance(sink, str) else sink.id
        with self._sinks_lock:
            attachment = self._attached.get(execution_id, {}).get(sink_id)
        if attachment is None or not (isinstance(sink, str) or attachment.sink is sink):
            if strict:
                raise BadRequestError(f"no sink {sink_id!r} is attached", execution_id=execution_id)
            return False
        attachment.detach()
        return True

    def sinks(self, execution_id: str) -> list[Attachment]:
        """What is attached to an execution, in the order in which it came."""
        with self._sinks_lock:
            return list(self._attached.get(execution_id, {}).values())

    async def flush_sinks(self, execution_id: str) -> None:
        """Returns when each sink of the execution was sent what is published now, or has ended.

        Sinks do not wait for their interval meanwhile.

        Raises:
            SinkError: Sending to a sink failed, with ``on_error="raise"``, and it was not told yet. It is raised when
                all others were served; where several failed, the others are its notes.
            LogUnavailableError: The log cannot be reached.
        """
        await self._flush_log()
        state = await self._source.state(execution_id)
        if state is not None:
            await asyncio.gather(*[attachment.flush_to(state.head) for attachment in self.sinks(execution_id)])
        errors = self._take_untold(execution_id)
        if errors:
            for other in errors[1:]:
                errors[0].add_note(str(other))
            raise errors[0]

    def _take_untold(self, execution_id: str) -> list[SinkError]:
        with self._sinks_lock:
            failed = [attachment for attachment in self._untold if attachment.execution_id == execution_id]
            for attachment in failed:
                del self._untold[attachment]
        return [attachment.error for attachment in failed if attachment.error is not None]

    def _on_stop(self, attachment: Attachment) -> None:
        """It gets nothing more."""
        with self._sinks_lock:
            of_execution = self._attached.get(attachment.execution_id, {})
            if of_execution.get(attachment.sink_id) is attachment:
                del of_execution[attachment.sink_id]
                if not of_execution:
                    del self._attached[attachment.execution_id]
            if attachment.error is not None:
                self._untold[attachment] = None
                if len(self._untold) > _MAX_UNTOLD:
                    self._untold.popitem(last=False)

    def _on_done(self, attachment: Attachment) -> None:
        """Its sink is closed."""
        with self._sinks_lock:
            self._attachments.discard(attachment)
            holders = self._holders[id(attachment.sink)]
            holders.remove(attachment)
            if not holders:
                del self._holders[id(attachment.sink)]
            self._sink_errors += attachment.errors

    def _errors_of_sinks(self) -> int:
        with self._sinks_lock:
            return self._sink_errors + sum(attachment.errors for attachment in self._attachments)

    def _read_again(self) -> None:
        super()._read_again()
        with self._sinks_lock:
            self._no_more_sinks = False

    async def _stop_reading(self) -> None:
        with self._sinks_lock:
            self._no_more_sinks = True
            attachments = list(self._attachments)
        for subscription in list(self._subscriptions):
            subscription.finish()  # nobody else waits for sinks
        for attachment in attachments:
            attachment.finish()
        attachments = await _not_over(attachments, _PATIENCE)
        for attachment in attachments:
            attachment.stop("hub_closed")
        attachments = await _not_over(attachments, _GRACE)
        for attachment in attachments:
            logger.warning("%s did not end in time and is given up", attachment)
            attachment.drop()
        await _not_over(attachments, _GRACE)
        await self._delivery.join(_GRACE)
        self._untold.clear()
        await super()._stop_reading()


async def _not_over(attachments: list[Attachment], patience: float) -> list[Attachment]:
    """Waits for up to ``patience`` seconds until all are over; returns those that are not."""
    waits = [asyncio.ensure_future(attachment.ended()) for attachment in attachments if not attachment.is_done]
    if waits:
        _, late = await asyncio.wait(waits, timeout=patience)
        for wait in late:
            wait.cancel()
    return [attachment for attachment in attachments if not attachment.is_done]


def _check_active(sink: AnySink, execution_id: str) -> None:
    """Refuse a sink that takes nothing any more. One that cannot tell is attached, and fails there."""
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


def _policy_of(sink: AnySink, given: SendPolicy | None, timeout: float | None) -> SendPolicy:
    policy = given or (sink.policy if isinstance(sink, PolicySink) else SendPolicy())
    try:
        return policy if timeout is None else changed(policy, timeout=timeout)
    except ValueError as error:
        raise BadRequestError(f"send_{error}") from None
