"""Blocking clients for programs without an event loop: scripts, notebooks, threads."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal
from typing_extensions import Unpack

from lg_streaming.client.config import ClientOptions
from lg_streaming.client.extra import import_name
from lg_streaming.client.run import ClientRun, StartOptions
from lg_streaming.client.text_options import TextOptions
from lg_streaming.fork import ForkGuard, bury, new_lock, restart_after_fork
from lg_streaming.texts import MessageText

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import AsyncGeneratorType

    from lg_streaming.client.base import ClientStatistics, StreamClient
    from lg_streaming.client.events import ClientState
    from lg_streaming.client.subscription import ClientSubscription
    from lg_streaming.events import Position, StreamUpdate

__all__ = ["SyncClient", "SyncRun", "SyncSubscription"]

T = TypeVar("T")


class _ClosedError(RuntimeError):
    """The client was closed, possibly by another thread."""


class SyncClient:
    """A client without `await`. Use it as a context manager.

    An asynchronous client runs on an event loop in a background thread, which also calls the listeners. Every method
    raises the same errors as that client's. A `SyncClient` is thread-safe.

    Args:
        url: Address of the gateway, such as `"http://127.0.0.1:8000"`, with its prefix where it has one.
        transport: Protocol of the connection.
        options: See `ClientOptions`.

    Raises:
        ValueError: If the url or an option is not valid.
        MissingExtraError: If the extra `client` is not installed.
    """

    def __init__(
        self, url: str, *, transport: Literal["sse", "socketio"] = "sse", **options: Unpack[ClientOptions]
    ) -> None:
        self._client = _client_class(transport)(url, **options)
        self._open = ExitStack()
        self._portal: BlockingPortal | None = None
        self._closed = False
        self._forked = False
        self._reopening = new_lock()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Start a new thread with the next call in a forked process; the existing one belongs to the parent."""
        bury(self._portal, self._open)
        self._forked = self._portal is not None
        self._portal, self._open = None, ExitStack()

    def subscribe(self, execution_id: str, **options: Any) -> SyncSubscription:
        """Subscribe to an execution: `for update in client.subscribe("exec-1"): …`.

        Args:
            execution_id: What to read; it need not have started.
            options: Options of `StreamClient.subscribe`.
        """
        return SyncSubscription(self._run, lambda: self._client.subscribe(execution_id, **options))

    def text(self, execution_id: str, **options: Unpack[TextOptions]) -> str:
        """See `StreamClient.text`."""
        return self._run(lambda: self._client.text(execution_id, **options))

    def texts(self, execution_id: str, **options: Unpack[TextOptions]) -> list[MessageText]:
        """See `StreamClient.texts`."""
        return self._run(lambda: self._client.texts(execution_id, **options))

    def executions(self, **options: Any) -> dict[str, Any]:
        """See `StreamClient.executions`."""
        return self._run(lambda: self._client.executions(**options))

    def execution(self, execution_id: str) -> dict[str, Any]:
        """See `StreamClient.execution`."""
        return self._run(lambda: self._client.execution(execution_id))

    def respond(self, execution_id: str, prompt_id: str, response: object) -> None:
        """See `StreamClient.respond`."""
        self._run(lambda: self._client.respond(execution_id, prompt_id, response))

    def cancel(self, execution_id: str, *, reason: str | None = None) -> bool:
        """See `StreamClient.cancel`."""
        return self._run(lambda: self._client.cancel(execution_id, reason=reason))

    def start(self, graph: str, input: Any, **options: Unpack[StartOptions]) -> SyncRun:
        """See `StreamClient.start`; the handle is for `for` loops."""
        return SyncRun(self, self._run(lambda: self._client.start(graph, input, **options)))

    def graphs(self) -> list[dict[str, Any]]:
        """See `StreamClient.graphs`."""
        return self._run(self._client.graphs)

    def pause(self, execution_id: str, *, reason: str | None = None) -> bool:
        """See `StreamClient.pause`."""
        return self._run(lambda: self._client.pause(execution_id, reason=reason))

    def resume(self, execution_id: str) -> bool:
        """See `StreamClient.resume`."""
        return self._run(lambda: self._client.resume(execution_id))

    def inject(self, execution_id: str, input: Any, *, as_node: str | None = None) -> bool:
        """See `StreamClient.inject`."""
        return self._run(lambda: self._client.inject(execution_id, input, as_node=as_node))

    def on(self, name: str, callback: Callable[[Any], object]) -> Callable[[], None]:
        """See `StreamClient.on`. Listeners are called in the client's thread."""
        return self._client.on(name, callback)

    @property
    def state(self) -> ClientState:
        """See `StreamClient.state`."""
        return self._client.state

    def statistics(self) -> ClientStatistics:
        """See `StreamClient.statistics`."""
        return self._client.statistics()

    def close(self) -> None:
        """Close every subscription and connection, and end the thread. Idempotent."""
        self._closed = True
        self._forked = False
        self._portal = None
        self._open.close()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            portal = opening.enter_context(start_blocking_portal("asyncio", name="lg-streaming-client"))
            opening.callback(portal.call, self._client.aclose)
            self._portal = portal
            self._closed = False
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reopen_after_fork(self) -> BlockingPortal | None:
        """Return a thread of this process after a fork; None if the client was not open before."""
        with self._reopening:
            if self._forked:
                self._forked = False
                self.__enter__()
            return self._portal

    def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        portal = self._portal
        if self._closed:
            raise _ClosedError("the client was closed")
        if portal is None:
            portal = self._reopen_after_fork()
        if portal is None:
            raise RuntimeError("use the client as a context manager: with SyncClient(…) as client: …")

        async def run() -> T:
            return await work()

        result = portal.start_task_soon(run)
        try:
            return result.result()
        except BaseException:
            result.cancel()  # after Ctrl-C; after an error of the work this has no effect
            raise


class SyncRun:
    """A `ClientRun` for `for` loops: ``for update in client.start("research", {...}): ...``.

    Args:
        client: The client.
        run: The run.
    """

    def __init__(self, client: SyncClient, run: ClientRun) -> None:
        self._client = client
        self._run = run
        self.execution_id: str = run.execution_id
        self.run_id: str = run.run_id
        self.thread_id: str = run.thread_id
        self.state: str = run.state
        """State at the start: ``running``, or ``queued``."""
        self.position: str | None = run.position
        """Position before the run; None for the beginning of its execution."""

    def updates(self, **options: Any) -> SyncSubscription:
        """See `ClientRun.updates`."""
        options.setdefault("after", self.position)
        return self._client.subscribe(self.execution_id, **options)

    def __iter__(self) -> Iterator[StreamUpdate]:
        return iter(self.updates())

    def respond(self, prompt_id: str, response: object) -> None:
        """See `StreamClient.respond`."""
        self._client.respond(self.execution_id, prompt_id, response)

    def cancel(self, *, reason: str | None = None) -> bool:
        """See `StreamClient.cancel`."""
        return self._client.cancel(self.execution_id, reason=reason)


class SyncSubscription(AbstractContextManager["SyncSubscription"]):
    """A `ClientSubscription` for `for` loops. Leaving the loop closes it.

    Args:
        run: Runs a coroutine function on the client's event loop, and returns its result.
        subscribe: Creates the subscription.
    """

    def __init__(
        self, run: Callable[[Callable[[], Awaitable[Any]]], Any], subscribe: Callable[[], ClientSubscription]
    ) -> None:
        self._run = run
        self._subscription = subscribe()
        self._position = self._subscription.position
        self._guard = ForkGuard(f"this subscription of {self.execution_id!r}", "subscribe again in this process")

    @property
    def execution_id(self) -> str:
        """The execution's id."""
        return self._subscription.execution_id

    @property
    def position(self) -> Position | None:
        """Position of the last delivered update; None before the first. Resume with `after=subscription.position`."""
        return self._position

    @property
    def state(self) -> ClientState:
        """See `ClientSubscription.state`."""
        return self._subscription.state

    def connect(self) -> None:
        """See `ClientSubscription.connect`."""
        self._guard.check()
        self._run(self._subscription.connect)

    def batches(self) -> Iterator[list[StreamUpdate]]:
        """Iterate over lists of updates that arrived together; see `ClientSubscription.batches`."""
        for batch in self._batches():
            self._advance_to(batch)
            yield batch

    def __iter__(self) -> Iterator[StreamUpdate]:
        for batch in self._batches():
            for update in batch:
                self._advance_to([update])
                yield update

    def close(self) -> None:
        """Close the subscription. Idempotent and thread-safe."""
        if self._guard.forked:
            return
        with contextlib.suppress(_ClosedError):  # a closed client has closed its subscriptions
            self._run(self._subscription.aclose)

    def __exit__(self, *_: object) -> None:
        self.close()

    def _batches(self) -> Iterator[list[StreamUpdate]]:
        batches = cast("AsyncGeneratorType[list[StreamUpdate]]", self._subscription.batches())
        try:
            self._guard.check()
            while (batch := self._run(lambda: anext(batches, None))) is not None:
                yield batch
                self._guard.check()
            self._position = self._subscription.position
        except _ClosedError:
            return
        finally:
            if not self._guard.forked:
                with contextlib.suppress(_ClosedError):
                    self._run(lambda: self._close_reader(batches))

    async def _close_reader(self, batches: AsyncGeneratorType[list[StreamUpdate]]) -> None:
        # Ctrl-C may have interrupted the wait for the next batch: closing ends that wait first.
        await self._subscription.aclose()
        while batches.ag_running:  # noqa: ASYNC110 (a generator has no event to await)
            await asyncio.sleep(0)
        await batches.aclose()

    def _advance_to(self, updates: list[StreamUpdate]) -> None:
        self._position = next((each.position for each in reversed(updates) if each.type != "gap"), self._position)


def _client_class(transport: str) -> type[StreamClient]:
    if transport == "sse":
        return import_name("SSEClient", "sse")
    if transport == "socketio":
        return import_name("SocketIOClient", "socketio")
    raise ValueError(f"transport is 'sse' or 'socketio', not {transport!r}")
