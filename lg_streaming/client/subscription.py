"""A reader of an execution in another process."""

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
    from types import TracebackType

    from lg_streaming.client.events import ClientState, Listeners
    from lg_streaming.client.request import SubscriptionRequest
    from lg_streaming.events import Position, StreamUpdate

__all__ = ["ClientContext", "ClientSubscription"]

_SHOWN: Final = 1_000


@dataclass(slots=True, kw_only=True)
class ClientContext:
    """What the subscriptions of one client share: who hears of what, and counts."""

    listeners: Listeners
    now: Callable[[], datetime]
    """The time, in UTC."""
    updates: int = 0
    """Updates that were handed over."""
    duplicates: int = 0
    gaps: int = 0
    parse_errors: int = 0

    def read(self, contents: Iterable[Any], execution_id: str) -> list[StreamUpdate]:
        """The updates that parsed JSON describes; what describes none is passed over and told of."""
        updates: list[StreamUpdate] = []
        for content in contents:
            try:
                updates.append(_checked(parse_update(content), execution_id))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                self.unreadable(content, error, execution_id)
        return updates

    def unreadable(self, content: object, error: Exception, execution_id: str | None) -> None:
        """Something came that cannot be read."""
        self.parse_errors += 1
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else repr(content)
        self.listeners.tell(ParseFailed(execution_id=execution_id, content=text[:_SHOWN], reason=repr(error)))

    def hand_over(self, updates: list[StreamUpdate]) -> None:
        """These go to their reader now."""
        self.updates += len(updates)
        self.listeners.tell_updates(updates)


def _up_to_interruption(batch: list[StreamUpdate]) -> tuple[list[StreamUpdate], bool]:
    """The updates up to an interruption, and whether there is one.

    The server ends the subscription there itself, unless the connection broke at that moment.
    """
    for index, update in enumerate(batch):
        if update.type == "workflow_interrupted":
            return batch[: index + 1], True
    return batch, False


def _checked(update: StreamUpdate, execution_id: str) -> StreamUpdate:
    """The update, if it may stand in this execution. Raises TypeError or ValueError."""
    metadata = update.metadata
    if (type(update.type), type(metadata.epoch), type(metadata.sequence_number)) != (str, str, int):
        raise TypeError("an update has a type, a sequence number and an epoch")
    if metadata.execution_id != execution_id:
        raise ValueError(f"an update of {execution_id!r} was asked for, and this is of {metadata.execution_id!r:.300}")
    return update


class ClientSubscription(ABC):
    """Reads one execution over as many connections as it takes, history first and then live.

    Use it as `async for update in subscription` or as `async for batch in subscription.batches()`; once, and by one
    reader. It ends after the final update of the run that was open (or, where none was, of the last one), unless it
    follows; with `until="interrupted"` also after the first `workflow_interrupted` that it comes to. Leaving the loop
    closes it; to go on later, subscribe again with `after=subscription.position`.

    Guarantees: every update comes once and in order, whatever happens to connections. What cannot be had is told as an
    update of the type `gap`, with `data` `{from, to, reason}`. A slow reader is not sent more than it takes: nothing
    piles up here.
    """

    def __init__(self, wanted: SubscriptionRequest, hearing: ClientContext) -> None:
        self._wanted = wanted
        self._hearing = hearing
        after = wanted.after if wanted.after != "latest" else None
        self._place = PositionTracker(
            wanted.execution_id,
            after,
            complete=wanted.complete,
            tail=wanted.options.get("on_gap") == "tail",
            now=hearing.now,
            tell=hearing.listeners.tell,
        )
        self._position = after
        self._begun = False
        self._guard = ForkGuard(f"this subscription of {wanted.execution_id!r}", "subscribe again in this process")
        self._at_latest = wanted.after == "latest"
        self._ended = False
        """Whether the server has said that nothing more comes."""

    @property
    def execution_id(self) -> str:
        """What it reads."""
        return self._wanted.execution_id

    @property
    def position(self) -> Position | None:
        """The last update that was handed over; None before the first. Resume with `after=subscription.position`."""
        return self._position

    @property
    @abstractmethod
    def state(self) -> ClientState:
        """The state of the connection it reads over."""

    @property
    def connected(self) -> bool:
        """Whether the server has let us in and the connection is not known to be lost."""
        return self.state == "connected"

    @property
    def waiting(self) -> int:
        """Updates that have come and wait for the reader; none where the network holds them back."""
        return 0

    @property
    def duplicates(self) -> int:
        """Updates that came a second time and were dropped."""
        return self._place.duplicates

    @property
    def gaps(self) -> int:
        """Gaps there were."""
        return self._place.gaps

    @abstractmethod
    async def connect(self) -> None:
        """Returns once the server has accepted the subscription. Iterating does it when it was not done before.

        Harmless when repeated.

        Raises:
            StreamingError: It was refused for good, or there were as many tries as may be.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Leaves; a loop over it ends. Harmless when repeated."""

    @abstractmethod
    async def _receive(self) -> list[StreamUpdate] | None:
        """What came, as the place let it through; None after the end. Raises StreamingError like iterating."""

    async def batches(self) -> AsyncGenerator[list[StreamUpdate]]:
        """What came together, as one list at a time; ends like the iteration does.

        Raises:
            StreamingError: It was refused for good, or there were as many tries as may be; `GapError` where updates are
                missing and `on_gap` is `fail`.
            TimeoutError: Reading has not ended `timeout` seconds after it began.
        """
        async with aclosing(self._handed_over()) as batches:
            async for batch in batches:
                self._position = next((each.position for each in reversed(batch) if each.type != "gap"), self._position)
                yield batch

    async def _handed_over(self) -> AsyncGenerator[list[StreamUpdate]]:
        self._guard.check()
        if self._begun:
            raise RuntimeError("a subscription is read once: subscribe again, with after=subscription.position")
        self._begun = True
        deadline, stopped = Deadline(self._wanted.timeout, f"execution {self.execution_id!r}"), False
        try:
            while not stopped:
                async with deadline:
                    batch = await self._receive()
                if batch is None:
                    break
                self._guard.check()
                if self._wanted.until_interrupted:
                    batch, stopped = _up_to_interruption(batch)
                if batch:
                    self._hearing.hand_over(batch)
                    yield batch
            if self._ended:
                self._position = self._place.position
        finally:
            await self.aclose()

    async def _updates(self) -> AsyncGenerator[StreamUpdate]:
        async with aclosing(self._handed_over()) as batches:
            async for batch in batches:
                for update in batch:
                    if update.type != "gap":
                        self._position = update.position
                    yield update

    def __aiter__(self) -> AsyncIterator[StreamUpdate]:
        return self._updates()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _attached(self, head: Position | None) -> None:
        """The server has accepted; its last update is `head`. Reading from the latest on begins there, for good."""
        self._place.head = head
        if not self._at_latest:
            return
        self._at_latest = False
        if head is not None:
            self._place.begin(head)
        else:
            # There is nothing yet: whatever comes while we are away is wanted too.
            self._wanted = self._wanted.from_the_start()
