"""Base of the subscriptions to an execution in another process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from lg_streaming.client.events import ParseFailed
from lg_streaming.client.position_tracker import PositionTracker
from lg_streaming.codec import parse_update
from lg_streaming.deadline import Deadline
from lg_streaming.fork import ForkGuard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
    from datetime import datetime

    from lg_streaming.client.events import ClientState, Listeners
    from lg_streaming.client.request import SubscriptionRequest
    from lg_streaming.events import Position, StreamUpdate

__all__ = ["ClientContext", "ClientSubscription"]

_MAX_SHOWN: Final = 1_000


@dataclass(slots=True, kw_only=True)
class ClientContext:
    """State shared by the subscriptions of one client: listeners and counters."""

    listeners: Listeners
    now: Callable[[], datetime]
    """Returns the time, in UTC."""
    updates: int = 0
    """Updates delivered to readers."""
    duplicates: int = 0
    gaps: int = 0
    parse_errors: int = 0

    def parse(self, contents: Iterable[Any], execution_id: str) -> list[StreamUpdate]:
        """Return the updates in parsed JSON. Other content is skipped, and reported as `parse_error`."""
        updates: list[StreamUpdate] = []
        for content in contents:
            try:
                updates.append(_validate(parse_update(content), execution_id))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self.report_unreadable(content, error, execution_id)
        return updates

    def report_unreadable(self, content: object, error: Exception, execution_id: str | None) -> None:
        """Count and report content that cannot be parsed."""
        self.parse_errors += 1
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else repr(content)
        self.listeners.notify(ParseFailed(execution_id=execution_id, content=text[:_MAX_SHOWN], reason=repr(error)))

    def dispatch(self, updates: list[StreamUpdate]) -> None:
        """Count updates, and pass them to the listeners, before their reader receives them."""
        self.updates += len(updates)
        self.listeners.notify_updates(updates)


def _up_to_interruption(batch: list[StreamUpdate]) -> tuple[list[StreamUpdate], bool]:
    """Return the updates up to an interruption, and whether there was one.

    The server ends the subscription there itself, unless the connection broke at that moment.
    """
    for index, update in enumerate(batch):
        if update.type == "workflow_interrupted":
            return batch[: index + 1], True
    return batch, False


def _validate(update: StreamUpdate, execution_id: str) -> StreamUpdate:
    """Return the update if it belongs to the execution.

    Raises:
        TypeError: If a field has the wrong type.
        ValueError: If the update belongs to another execution.
    """
    metadata = update.metadata
    if (type(update.type), type(metadata.epoch), type(metadata.sequence_number)) != (str, str, int):
        raise TypeError("an update has a type, a sequence number and an epoch")
    if metadata.execution_id != execution_id:
        raise ValueError(f"an update of {execution_id!r} was asked for, and this is of {metadata.execution_id!r:.300}")
    return update


class ClientSubscription(ABC):
    """A subscription to one execution: history first, then live updates.

    Iterate once, with one reader: `async for update in subscription` or `async for batch in subscription.batches()`.
    The iteration ends after the final update of the open run, or of the last run if none is open. With `follow=True` it
    does not end; with `until="interrupted"` it also ends after the first `workflow_interrupted`. Leaving the loop
    closes the subscription. To resume later, subscribe again with `after=subscription.position`.

    Guarantees: every update is delivered once and in order, over any number of connections. Missing updates are
    reported as an update of the type `gap`, with `data` `{from, to, reason}`. Back-pressure of a slow reader reaches
    the server, so memory here is bounded.
    """

    def __init__(self, request: SubscriptionRequest, context: ClientContext) -> None:
        self._request = request
        self._context = context
        after = request.after if request.after != "latest" else None
        self._tracker = PositionTracker(
            request.execution_id,
            after,
            complete=request.complete,
            tail=request.options.get("on_gap") == "tail",
            now=context.now,
            notify=context.listeners.notify,
        )
        self._position = after
        self._begun = False
        self._guard = ForkGuard(f"this subscription of {request.execution_id!r}", "subscribe again in this process")
        self._starts_at_latest = request.after == "latest"
        self._ended = False
        """True once the server has announced the end."""

    @property
    def execution_id(self) -> str:
        """The execution's id."""
        return self._request.execution_id

    @property
    def position(self) -> Position | None:
        """Position of the last delivered update; None before the first. Resume with `after=subscription.position`."""
        return self._position

    @property
    @abstractmethod
    def state(self) -> ClientState:
        """State of the connection."""

    @property
    def connected(self) -> bool:
        """True if the server has accepted the connection, and it is not known to be lost."""
        return self.state == "connected"

    @property
    def waiting(self) -> int:
        """Received updates that wait for the reader; 0 where they wait in the network."""
        return 0

    @property
    def duplicates(self) -> int:
        """Updates that arrived a second time and were dropped."""
        return self._tracker.duplicates

    @property
    def gaps(self) -> int:
        """Number of gaps so far."""
        return self._tracker.gaps

    @abstractmethod
    async def connect(self) -> None:
        """Connect, and return once the server has accepted the subscription. Idempotent.

        Without this call the iteration connects.

        Raises:
            StreamingError: If the server refuses the subscription for good, or the attempts are used up.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close the subscription; a loop over it ends. Idempotent."""

    @abstractmethod
    async def _receive(self) -> list[StreamUpdate] | None:
        """Return the next updates that the tracker accepted; None after the end.

        Raises:
            StreamingError: If the subscription fails.
        """

    async def batches(self) -> AsyncGenerator[list[StreamUpdate]]:
        """Iterate over lists of updates that arrived together.

        Raises:
            StreamingError: If the server refuses the subscription for good, or the attempts are used up.
            GapError: If updates are missing and `on_gap` is `fail`.
            TimeoutError: If reading has not ended `timeout` seconds after it began.
        """
        async with aclosing(self._dispatched_batches()) as batches:
            async for batch in batches:
                self._position = next((each.position for each in reversed(batch) if each.type != "gap"), self._position)
                yield batch

    async def _dispatched_batches(self) -> AsyncGenerator[list[StreamUpdate]]:
        self._guard.check()
        if self._begun:
            raise RuntimeError("a subscription is read once: subscribe again, with after=subscription.position")
        self._begun = True
        deadline, stopped = Deadline(self._request.timeout, f"execution {self.execution_id!r}"), False
        try:
            while not stopped:
                async with deadline:
                    batch = await self._receive()
                if batch is None:
                    break
                self._guard.check()
                if self._request.until_interrupted:
                    batch, stopped = _up_to_interruption(batch)
                if batch:
                    self._context.dispatch(batch)
                    yield batch
            if self._ended:
                self._position = self._tracker.position
        finally:
            await self.aclose()

    async def _updates(self) -> AsyncGenerator[StreamUpdate]:
        async with aclosing(self._dispatched_batches()) as batches:
            async for batch in batches:
                for update in batch:
                    if update.type != "gap":
                        self._position = update.position
                    yield update

    def __aiter__(self) -> AsyncIterator[StreamUpdate]:
        return self._updates()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _on_accepted(self, head: Position | None) -> None:
        """Note that the server has accepted the subscription.

        Args:
            head: Position of the server's newest update; a subscription from `"latest"` begins there.
        """
        self._tracker.head = head
        if not self._starts_at_latest:
            return
        self._starts_at_latest = False
        if head is not None:
            self._tracker.start_at(head)
        else:
            # The execution is empty: after a reconnect, updates from its start are needed.
            self._request = self._request.from_start()
