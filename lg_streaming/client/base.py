"""Base of the clients, independent of the transport."""

from __future__ import annotations

import random as _random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self

from typing_extensions import Unpack

from lg_streaming.client.config import ClientConfig, ClientOptions, TokenSource
from lg_streaming.client.events import ClientState, Listeners
from lg_streaming.client.outage import Outage
from lg_streaming.client.request import SubscriptionRequest
from lg_streaming.client.rest import RestClient, execution_path
from lg_streaming.client.run import ClientRun, StartOptions
from lg_streaming.client.subscription import ClientContext, ClientSubscription
from lg_streaming.client.text_options import TextOptions, split_text_options
from lg_streaming.filters import FilterOptions, UpdateFilter
from lg_streaming.fork import restart_after_fork
from lg_streaming.texts import TEXT_EVENTS, MessageText, TextAssembly
from lg_streaming.types import OnGap

if TYPE_CHECKING:
    from reactivex import Observable

    from lg_streaming.events import Position, StreamUpdate

__all__ = ["ClientStatistics", "StreamClient", "utc_now"]


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientStatistics:
    """Counters of a client."""

    subscriptions: int
    """Open subscriptions."""
    connections: int
    """Connections that the server has accepted."""
    updates: int
    """Updates delivered to readers."""
    duplicates: int
    """Updates that arrived a second time and were dropped."""
    gaps: int
    """Gaps in all subscriptions."""
    parse_errors: int
    """Messages that could not be parsed."""


class StreamClient(ABC):
    """A client of one gateway. Use it as an async context manager, on one event loop.

    A client connects for its first subscription, and disconnects with `aclose`. It replaces a lost connection, and
    every subscription resumes from its position.

    Args:
        url: Address of the gateway, such as `"http://127.0.0.1:8000"`, with its prefix where it has one.
        random: Returns numbers from 0 (included) to 1 (excluded), for the pauses between attempts.
        now: Returns the time, in UTC.
        options: See `ClientOptions`.

    Raises:
        ValueError: If the url or an option is not valid.
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
        """Connect anew in a forked process; existing connections and subscriptions belong to the parent."""

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
        **filters: Unpack[FilterOptions],
    ) -> ClientSubscription:
        """Subscribe to an execution: `async for update in client.subscribe("exec-1"): …`. Reading connects.

        Args:
            execution_id: The execution; it need not have started.
            after: Begin after this position. `"latest"`: begin with new updates. None: begin at the start.
            follow: Whether to continue after a run's final update, with the next run.
            on_gap: Where to continue after a gap: at the `"oldest"` update that is kept, or at the `"tail"`. `"fail"`
                raises an error.
            batch: Whether updates travel in lists of up to about 64 KiB, which costs less at high rates. Readers see
                no difference. The server repeats a list that a broken connection cut short.
            merge: Whether the server may merge token deltas and progress while this reader lags.
            timeout: Seconds from the first wait for an update to the end; None: no limit. After them a loop over the
                subscription raises TimeoutError.
            filters: `events`, `node_ids`, `agent_types`, `namespaces`, `categories`, `min_priority`, `since` and
                `until`, see `FilterOptions`. With `until="interrupted"` reading also ends after the next
                `workflow_interrupted`, so that a run which waits for a human does not hold its reader.

        Raises:
            BadRequestError: If the id, a filter, the position or the timeout is not valid.
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
                filters=filters,
            )
        )

    def observe(self, execution_id: str, **options: Any) -> Observable[StreamUpdate]:
        """Return a cold reactivex `Observable` of an execution.

        Each subscriber has a separate subscription, which a task of the running event loop reads. An observer that
        raises is detached, and receives its own error through `on_error`.

        Args:
            execution_id: The execution.
            options: Options of `subscribe`.
        """
        from lg_streaming.client.observe import observable  # noqa: PLC0415 (few programs need reactivex)

        return observable(lambda: self.subscribe(execution_id, **options))

    async def text(self, execution_id: str, **options: Unpack[TextOptions]) -> str:
        """Wait for the end of a run, and return the text of its models, joined in order.

        Retracted text is left out: that of a failed model call, and that of a node before its retry. See
        `TextAssembly`.

        Args:
            execution_id: The execution.
            options: Whose text, where to begin and how long to wait; see `TextOptions`.

        Raises:
            StreamingError: If the subscription fails; see `ClientSubscription`.
            TimeoutError: If the run has not ended after `timeout` seconds.
        """
        return "".join(message.text for message in await self.texts(execution_id, **options))

    async def texts(self, execution_id: str, **options: Unpack[TextOptions]) -> list[MessageText]:
        """Return the messages of `text` one by one, with agent and node path, in the order of their first tokens.

        Raises:
            StreamingError: If the subscription fails; see `ClientSubscription`.
            TimeoutError: If the run has not ended after `timeout` seconds.
        """
        subscribe_options, is_selected = split_text_options(options)
        assembly = TextAssembly()
        async with self.subscribe(execution_id, events=TEXT_EVENTS, **subscribe_options) as updates:
            async for update in updates:
                assembly.add(update)
        return [message for message in assembly.messages if is_selected(message)]

    # ------------------------------------------------------------ starts
    async def start(self, graph: str, input: Any, **options: Unpack[StartOptions]) -> ClientRun:
        """Start a run of a graph that the server has registered, and return its handle.

        ```python
        run = await client.start("research", {"question": "Why?"})
        async for update in run:
            ...
        ```

        Args:
            graph: The name of the graph.
            input: The graph's input, as JSON: messages are ``{"role": ..., "content": ...}``.
            options: See `StartOptions`.

        Raises:
            BadRequestError: If the server refuses an argument. The message names the field.
            ForbiddenError: If the caller may not start the graph, or not in this execution.
            ExecutionExistsError: If the execution has an open run.
            StreamingError: If the server refuses the start for another reason.
            ConnectionLostError: If no confirmation arrives. The run may have started: repeat the start with the same
                ``idempotency_key``.
        """
        started = await self._command("start_execution", {"graph": graph, "input": input, **options})
        return ClientRun(
            execution_id=started["execution_id"],
            run_id=started["run_id"],
            thread_id=started["thread_id"],
            state=started["state"],
            position=started["position"],
            client=self,
        )

    async def graphs(self) -> list[dict[str, Any]]:
        """Return the graphs that the caller may start: ``name``, ``input_schema`` and ``context_schema`` of each.

        Raises:
            StreamingError: If the server refuses the request or does not answer.
        """
        return (await self._rest.request("GET", "/graphs"))["graphs"]

    # ------------------------------------------------------------ requests
    async def executions(
        self,
        *,
        state: Iterable[str] = (),
        owner: str | None = None,
        text: str | None = None,
        order: Literal["id", "newest"] = "id",
        limit: int = 50,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """Return a page of the executions that the caller may read.

        The page has `executions` and `next_cursor`, which is None on the last page.

        Args:
            state: Only executions in one of these states.
            owner: Only executions of this owner.
            text: Part of the id, the title, the owner or the graph's name, in upper or lower case.
            order: ``"newest"``: the last start of a run first.
            limit: Largest number of executions, 1 to 200.
            cursor: `next_cursor` of the previous page.

        Raises:
            StreamingError: If the server refuses the request or does not answer.
        """
        query = {
            "state": ",".join(state),
            "owner": owner or "",
            "text": text or "",
            "order": order,
            "cursor": cursor or "",
            "limit": str(limit),
        }
        return await self._rest.request(
            "GET", "/executions", query={name: value for name, value in query.items() if value}
        )

    async def execution(self, execution_id: str) -> dict[str, Any]:
        """Return state, owner, position, times and progress of an execution.

        Raises:
            StreamingError: If the server refuses the request or does not answer.
        """
        return await self._rest.request("GET", execution_path(execution_id))

    @abstractmethod
    async def respond(self, execution_id: str, prompt_id: str, response: object) -> None:
        """Answer a `human_prompt` of the open run.

        Raises:
            PromptError: If no prompt of that id is open.
            StreamingError: If the server refuses the answer.
            ConnectionLostError: If no confirmation arrives; the server may have received the answer.
        """

    @abstractmethod
    async def cancel(self, execution_id: str, *, reason: str | None = None) -> bool:
        """Cancel the open run; return whether one was open. The run ends with its own final update.

        Raises:
            StreamingError: If the server refuses the request.
            ConnectionLostError: If no confirmation arrives; the run may have been cancelled.
        """

    async def pause(self, execution_id: str, *, reason: str | None = None) -> bool:
        """Pause the open run after the nodes that are at work; return whether a run was open.

        Raises:
            TransitionError: If the graph has no checkpointer.
            StreamingError: If the server refuses the request.
        """
        payload = {"execution_id": execution_id, **({} if reason is None else {"reason": reason})}
        return (await self._command("pause_execution", payload))["paused"] is True

    async def resume(self, execution_id: str) -> bool:
        """Continue a paused run; return whether it was paused. Raises like `pause`."""
        return (await self._command("resume_execution", {"execution_id": execution_id}))["resumed"] is True

    async def inject(self, execution_id: str, input: Any, *, as_node: str | None = None) -> bool:
        """Update the state of the open run before its next step; return whether a run was open.

        Args:
            execution_id: The execution.
            input: The update, as a node returns it.
            as_node: Node that seems to have made the update; the graph continues behind it.

        Raises:
            BadRequestError: If the state has no such field, or the graph no such node.
            TransitionError: If the graph has no checkpointer. If it waits for answers, and ``as_node`` is passed.
            StreamingError: If the server refuses the request.
        """
        node = {} if as_node is None else {"as_node": as_node}
        payload = {"execution_id": execution_id, "input": input, **node}
        return (await self._command("inject_input", payload))["injected"] is True

    # ------------------------------------------------------------ state and events
    @property
    @abstractmethod
    def state(self) -> ClientState:
        """State of the connection; of several connections the worst state."""

    @property
    def connected(self) -> bool:
        """True if the server has accepted the connections, and none is known to be lost."""
        return self.state == "connected"

    def on(self, name: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """Call `callback(event)` with each `ClientEvent` of a name.

        Args:
            name: `connecting`, `connected`, `disconnected`, `reconnecting`, `state`, `error`, `parse_error`, `gap`,
                `initial`, `message`, or `"*"` for all.
            callback: A plain function, called on the event loop; its errors are logged.

        Returns:
            A function that removes the callback.

        Raises:
            ValueError: If no event has that name.
        """
        return self._context.listeners.on(name, callback)

    def on_update(
        self, callback: Callable[[StreamUpdate], object], *, events: Iterable[str] | None = None
    ) -> Callable[[], None]:
        """Call `callback(update)` with each update of any subscription, before its reader receives it.

        Args:
            callback: A plain function, called on the event loop; its errors are logged.
            events: Kinds, types and globs; all by default.

        Returns:
            A function that removes the callback.
        """
        return self._context.listeners.on_update(UpdateFilter.of(events=events).accepts_type, callback)

    def statistics(self) -> ClientStatistics:
        """Return the counters of this client."""
        context, open_now = self._context, self._open_subscriptions
        return ClientStatistics(
            subscriptions=len(open_now),
            connections=self._connection_count,
            updates=context.updates,
            duplicates=context.duplicates + sum(each.duplicates for each in open_now),
            gaps=context.gaps + sum(each.gaps for each in open_now),
            parse_errors=context.parse_errors,
        )

    def configure(self, **options: Unpack[ClientOptions]) -> None:
        """Change options, for connections that are made from now on.

        Over HTTP, connections are reused for later requests, so `ssl_context` and `with_credentials` keep the values of
        the first request.

        Raises:
            ValueError: If a value is not valid.
        """
        self._config = self._config.with_options(options)
        if "token" in options:
            self._tokens.replace(options["token"])

    # ------------------------------------------------------------ close
    async def aclose(self) -> None:
        """Close every subscription and connection; loops over them end. Idempotent."""
        for subscription in list(self._open_subscriptions):
            await subscription.aclose()
        await self._rest.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # ------------------------------------------------------------ implemented by each transport
    @property
    @abstractmethod
    def _open_subscriptions(self) -> list[ClientSubscription]: ...

    @property
    @abstractmethod
    def _connection_count(self) -> int: ...

    @abstractmethod
    async def _command(self, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send a message of the protocol, and return its answer."""

    @abstractmethod
    def _make_subscription(self, request: SubscriptionRequest) -> ClientSubscription: ...
