"""What the clients have in common, whatever they connect by."""

from __future__ import annotations

import random as _random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import Unpack

from lg_streaming.client.config import ClientConfig, ClientOptions, TokenSource
from lg_streaming.client.events import ClientState, Listeners
from lg_streaming.client.outage import Outage
from lg_streaming.client.request import SubscriptionRequest
from lg_streaming.client.rest import RestClient, execution_path
from lg_streaming.client.subscription import ClientContext, ClientSubscription
from lg_streaming.client.text_options import TextOptions, split_text_options
from lg_streaming.filters import FilterOptions, UpdateFilter
from lg_streaming.fork import restart_after_fork
from lg_streaming.texts import TEXT_EVENTS, MessageText, TextAssembly
from lg_streaming.types import OnGap

if TYPE_CHECKING:
    from types import TracebackType

    from reactivex import Observable

    from lg_streaming.events import Position, StreamUpdate

__all__ = ["ClientStatistics", "StreamClient", "utc_now"]


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatistics:
    """What a client has done so far."""

    subscriptions: int
    """Open now."""
    connections: int
    """Times the server let us in."""
    updates: int
    """Handed over to readers."""
    duplicates: int
    """Came a second time and were dropped."""
    gaps: int
    parse_errors: int
    """Messages that could not be read."""


class StreamClient(ABC):
    """A client of one gateway. Use it as an async context manager, on one event loop.

    It connects when there is something to read, and leaves with `aclose`. A connection that is lost is made again, and
    every subscription goes on where it was.

    Args:
        url: Where the gateway is, such as `"http://127.0.0.1:8000"`, with its prefix where it has one.
        random: Gives numbers from 0 (included) to 1 (excluded), for the pauses between tries.
        now: Gives the time, in UTC.
        options: See `ClientOptions`.

    Raises:
        ValueError: The url or an option cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        random: Callable[[], float] = _random.random,
        now: Callable[[], datetime] = utc_now,
        **options: Unpack[ClientOptions],
    ) -> None:
        self._config = ClientConfig(url=url, **options)  # pyright: ignore[reportArgumentType]
        self._random = random
        self._context = ClientContext(listeners=Listeners(), now=now)
        self._tokens = TokenSource(self._config.token)
        self._outage = Outage()
        restart_after_fork(self)
        self._rest = RestClient(lambda: self._config, self._tokens)

    @abstractmethod
    def after_fork(self) -> None:
        """Connect anew in a forked process: connections and subscriptions there are belong to the parent."""

    # ------------------------------------------------------------ reading
    def subscribe(
        self,
        execution_id: str,
        *,
        after: Position | str | None = None,
        follow: bool = False,
        on_gap: OnGap = "oldest",
        batch: bool = True,
        merge: bool = False,
        timeout: float | None = None,
        **wanted: Unpack[FilterOptions],
    ) -> ClientSubscription:
        """A reader of an execution: `async for update in client.subscribe("exec-1"): …`. It connects when it is read.

        Args:
            execution_id: What to read; it need not have started.
            after: Begin behind this position; `"latest"`: with what comes from now on; None: at the start.
            follow: Whether to stay after a run's final update, for the next run.
            on_gap: Where to go on when updates are gone: at the `"oldest"` kept, at the `"tail"`, or `"fail"`.
            batch: Whether updates travel in lists of up to about 64 KiB, which costs less at high rates; what is read
                is the same. A list that a broken connection cut short comes again as a whole.
            merge: Whether the server may merge token deltas and progress while this reader lags.
            timeout: Seconds in all, from the first wait for an update to the end; None: no limit. After them a loop
                over the subscription raises TimeoutError.
            wanted: `events`, `node_ids`, `agent_types`, `namespaces`, `categories`, `min_priority`, `since` and
                `until`, see `FilterOptions`. With `until="interrupted"` reading also ends after the next
                `workflow_interrupted`, so that a run which waits for a human does not hold its reader.

        Raises:
            BadRequestError: The id, a filter, the position or the timeout cannot be used.
        """
        return self._make_subscription(
            SubscriptionRequest.from_arguments(
                execution_id,
                after=after,
                follow=follow,
                on_gap=on_gap,
                batch=batch,
                merge=merge,
                timeout=timeout,
                wanted=wanted,
            )
        )

    def observe(self, execution_id: str, **wanted: Any) -> Observable[StreamUpdate]:
        """The same as a cold reactivex `Observable`: each subscriber reads for itself, on the running event loop.

        An observer that raises is detached, and hears its own error through `on_error`.

        Args:
            execution_id: What to read.
            wanted: As for `subscribe`.
        """
        from lg_streaming.client.observe import observable  # noqa: PLC0415 (few programs need reactivex)

        return observable(lambda: self.subscribe(execution_id, **wanted))

    async def text(self, execution_id: str, **options: Unpack[TextOptions]) -> str:
        """The text that the models of a run write, joined in order, once the run is over.

        Text that was taken back is left out: of a model call that failed and was made again, and of a node before it
        was tried again. See `TextAssembly`.

        Args:
            execution_id: What to read.
            options: Whose text, where to begin and how long to wait; see `TextOptions`.

        Raises:
            StreamingError: See `ClientSubscription`.
            TimeoutError: The run is not over after `timeout` seconds.
        """
        return "".join(message.text for message in await self.texts(execution_id, **options))

    async def texts(self, execution_id: str, **options: Unpack[TextOptions]) -> list[MessageText]:
        """The same message by message, in the order in which they began: each knows its agent and its node path.

        Raises like `text`.
        """
        read, is_wanted = split_text_options(options)
        assembly = TextAssembly()
        async with self.subscribe(execution_id, events=TEXT_EVENTS, **read) as updates:
            async for update in updates:
                assembly.add(update)
        return [message for message in assembly.messages if is_wanted(message)]

    # ------------------------------------------------------------ asking
    async def executions(
        self, *, state: Iterable[str] = (), owner: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of the executions we may see: `executions` and `next_cursor`, which is None on the last page.

        Args:
            state: Only those in one of these states.
            owner: Only those of this owner.
            limit: How many at most, 1 to 200.
            cursor: `next_cursor` of the page before.

        Raises:
            StreamingError: The server refused it, or there is no connection.
        """
        query = {"state": ",".join(state), "owner": owner or "", "cursor": cursor or "", "limit": str(limit)}
        return await self._rest.request(
            "GET", "/executions", query={name: value for name, value in query.items() if value}
        )

    async def execution(self, execution_id: str) -> dict[str, Any]:
        """What is known of an execution: state, owner, position, times, progress. Raises like `executions`."""
        return await self._rest.request("GET", execution_path(execution_id))

    @abstractmethod
    async def respond(self, execution_id: str, prompt_id: str, response: object) -> None:
        """Answers a `human_prompt` of the open run.

        Raises:
            PromptError: Nothing waits for this answer.
            StreamingError: We may not.
            ConnectionLostError: No confirmation came; the answer may have arrived.
        """

    @abstractmethod
    async def cancel(self, execution_id: str, *, reason: str | None = None) -> bool:
        """Asks for the end of the open run; whether one was open. It ends with its own final update.

        Raises:
            StreamingError: We may not.
            ConnectionLostError: No confirmation came; the run may have been cancelled.
        """

    # ------------------------------------------------------------ hearing how it fares
    @property
    @abstractmethod
    def state(self) -> ClientState:
        """How the connection fares; of several the one that fares worst."""

    @property
    def connected(self) -> bool:
        """Whether the server has let us in and no connection is known to be lost."""
        return self.state == "connected"

    def on(self, name: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """Calls `callback(event)` with each `ClientEvent` of that name.

        Args:
            name: `connecting`, `connected`, `disconnected`, `reconnecting`, `state`, `error`, `parse_error`, `gap`,
                `initial`, `message`, or `"*"` for all.
            callback: A plain function, called on the event loop; what it raises is logged.

        Returns:
            What takes the listener away again.

        Raises:
            ValueError: There is no such event.
        """
        return self._context.listeners.on(name, callback)

    def on_update(
        self, callback: Callable[[StreamUpdate], object], *, events: Iterable[str] | None = None
    ) -> Callable[[], None]:
        """Calls `callback(update)` with each update of any subscription, right before its reader gets it.

        Args:
            callback: A plain function, called on the event loop; what it raises is logged.
            events: Kinds, types and globs; all when not given.

        Returns:
            What takes the listener away again.
        """
        return self._context.listeners.on_update(UpdateFilter.of(events=events).accepts_type, callback)

    def statistics(self) -> ClientStatistics:
        """What it has done so far."""
        hearing, open_now = self._context, self._open_subscriptions
        return ClientStatistics(
            subscriptions=len(open_now),
            connections=self._connection_count,
            updates=hearing.updates,
            duplicates=hearing.duplicates + sum(each.duplicates for each in open_now),
            gaps=hearing.gaps + sum(each.gaps for each in open_now),
            parse_errors=hearing.parse_errors,
        )

    def configure(self, **options: Unpack[ClientOptions]) -> None:
        """Changes options. Connections that stand are left alone; each option counts from the next one on.

        Over HTTP, connections are kept for later requests: there `ssl_context` and `with_credentials` stay as they were
        at the first one.

        Raises:
            ValueError: A value cannot be used.
        """
        self._config = self._config.with_options(options)
        if "token" in options:
            self._tokens.replace(options["token"])

    # ------------------------------------------------------------ the end
    async def aclose(self) -> None:
        """Closes every subscription and connection; loops over them end. Harmless when repeated."""
        for subscription in list(self._open_subscriptions):
            await subscription.aclose()
        await self._rest.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # ------------------------------------------------------------ what a transport is
    @property
    @abstractmethod
    def _open_subscriptions(self) -> list[ClientSubscription]: ...

    @property
    @abstractmethod
    def _connection_count(self) -> int: ...

    @abstractmethod
    def _make_subscription(self, wanted: SubscriptionRequest) -> ClientSubscription: ...
