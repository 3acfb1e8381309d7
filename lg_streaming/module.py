"""The composition root: settings in, wired parts out; installs itself in a FastAPI app."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from starlette.applications import Starlette

from lg_streaming.capture import (
    CallOptions,
    GraphPlan,
    Selection,
    current_call,
    graph_config,
    options_in,
    surrounding_namespace,
)
from lg_streaming.errors import StreamingConfigError, describe_error
from lg_streaming.events import check_execution_id, parse_priority, run_metadata
from lg_streaming.gateway import Gateway, InitialData
from lg_streaming.hub import StreamHub
from lg_streaming.hub.open_options import owner_text
from lg_streaming.pipeline import EventOptions, EventStreamProcessor, NodeOptions, ProgressOptions, TokenOptions
from lg_streaming.publisher import (
    Block,
    ExecutionContext,
    RunOutcome,
    block_var,
    current_block,
    new_id,
    position,
    publishers,
    reset_in_context,
)
from lg_streaming.settings import StreamingSettings, settings_from

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextvars import Token
    from types import TracebackType

    from opentelemetry.trace import TracerProvider
    from starlette.types import Lifespan

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.codec import Redact
    from lg_streaming.emitter import Emitter
    from lg_streaming.events import Priority
    from lg_streaming.gateway.auth.policy import Authorize, Revoked
    from lg_streaming.hub.options import Owner
    from lg_streaming.log import EventLog
    from lg_streaming.observability.events import Observer
    from lg_streaming.pipeline import TokenStreamingService
    from lg_streaming.publisher import Trace
    from lg_streaming.settings import StreamingSettings

__all__ = ["ExecutionBlock", "StreamingModule"]

_SWEEP_INTERVAL = 30.0
_SWEEP_SLICE = 200


class ExecutionBlock:
    """One run of an execution, for as long as the block lasts; use it with ``with`` or ``async with``.

    What decorated nodes do inside belongs to the execution. The run ends by how the block ends: completed,
    failed with the exception that leaves it, cancelled, or interrupted when a node waits for a human. Blocks of
    one execution that overlap share a run, which the last one to end ends. Exceptions are never swallowed.

    When the run is cancelled (`hub.cancel`, or by a reader who may), the asyncio task that entered the block is
    cancelled. A block in a thread of its own cannot be: its run ends as cancelled at once, and what it still publishes
    is dropped.
    """

    def __init__(
        self,
        hub: StreamHub,
        execution_id: str,
        owner: str | None,
        metadata: Mapping[str, Any] | None,
        priority: Priority | None,
    ) -> None:
        self.execution_id = execution_id
        self._hub = hub
        self._owner = owner
        self._metadata = metadata
        self._priority: Priority | None = priority
        self._run_id = ""
        self._block: Block | None = None
        self._token: Token[Block | None] | None = None
        self._stop_listening: Callable[[], None] | None = None

    @property
    def emitter(self) -> Emitter:
        """A write handle on the run."""
        return self._hub.emitter(self.execution_id)

    def __enter__(self) -> Self:
        if self._block is not None:
            raise StreamingConfigError("this execution block is entered already: make one for each use")
        self._hub.open(self.execution_id, owner=self._owner, metadata=self._metadata, priority=self._priority)
        self._run_id = self._hub.runs.join_run(self.execution_id, owner=self._owner)
        binding = ExecutionContext(self._hub.publisher, self.execution_id, self._run_id)
        self._block = Block(
            binding,
            frame=position().frame,
            call=current_call(),
            namespace=surrounding_namespace(),
            outer=current_block(),
        )
        self._token = block_var.set(self._block)
        self._stop_listening = self._listen()
        return self

    def _listen(self) -> Callable[[], None] | None:
        """Has the task of this block cancelled when the run is; a block without a task cannot be."""
        try:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
        except RuntimeError:
            return None
        if task is None:
            return None

        def cancel(reason: str | None) -> None:
            # On the task's own loop: between its steps, so either it is inside the block or this comes too late.
            if self._block is not None and not self._block.left:
                task.cancel(reason)

        return self._hub.on_cancel(self.execution_id, lambda reason: _on_loop(loop, cancel, reason))

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._block is None or not self._block.leave():
            return
        try:
            if self._token is not None:
                reset_in_context(block_var, self._token)
            if self._stop_listening is not None:
                self._stop_listening()
        finally:
            self._hub.runs.leave_run(self.execution_id, self._run_id, self._outcome(exc))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def _outcome(self, error: BaseException | None) -> RunOutcome:
        if error is None:
            return RunOutcome("workflow_complete", {})
        if isinstance(error, (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)):
            return RunOutcome("workflow_cancelled", {})
        return RunOutcome("workflow_error", {"error": describe_error(error, debug=self._hub.publisher.debug)})


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[str | None], None], reason: str | None) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: its tasks are over
        loop.call_soon_threadsafe(call, reason)


class StreamingModule:
    """Everything wired together.

    ```python
    streaming = StreamingModule()
    app = FastAPI()
    streaming.install(app)
    await graph.ainvoke(inputs, streaming.config(execution_id="exec-1"))
    ```

    Args:
        settings: Everything that can be set, as `StreamingSettings` or as a mapping of its fields, such as
            ``{"gateway": {"prefix": "/streaming"}}``. What is left out comes from the environment (``LG_STREAMING_…``)
            and the defaults.
        log: Where executions are kept; in this process's memory when not given.
        redact: ``redact(type, data) -> data``, applied to every update before it leaves.
        authorize: ``authorize(principal, action, execution_id, owner) -> bool``, sync or async: lets callers in
            beside the owner and those whose token allows it.
        revoked: `revoked(principal) -> bool`, sync or async: refuses tokens that have not expired, at every login and
            at every heartbeat of an open connection. An exception, or no answer in 10 seconds, counts as revoked.
        initial_data: `initial_data(execution_id)`, sync or async: the first event of every event stream. The reader's
            place is fixed before it is called, so what happens meanwhile follows it.
        observer: A plain function that is told what happens on connections, as values of `GatewayEvent`; it must be
            quick.
        tracing: Makes OpenTelemetry spans of runs and nodes: ``True`` with the program's own tracer provider, or with
            the one that is given.

    Raises:
        StreamingConfigError: ``settings`` is neither of the two, or a setting cannot be used.
        MissingExtraError: ``tracing`` needs ``pip install 'lg-streaming[tracing]'``.

    A module used without a server is closed with `aclose`; one installed in an app starts and stops with the app.
    """

    def __init__(
        self,
        settings: StreamingSettings | Mapping[str, Any] | None = None,
        *,
        log: EventLog | None = None,
        redact: Redact | None = None,
        authorize: Authorize | None = None,
        revoked: Revoked | None = None,
        initial_data: InitialData | None = None,
        observer: Observer | None = None,
        tracing: TracerProvider | bool = False,
    ) -> None:
        self.settings: StreamingSettings = settings_from(settings)
        self.hub: StreamHub = StreamHub(self.settings, log=log, redact=redact)
        self.hub.publisher.capture_plan = _plan_of(self.settings.capture)
        if tracing is not False:
            self.hub.publisher.trace = _trace(None if tracing is True else tracing)
        self.events: EventStreamProcessor = EventStreamProcessor(self.hub)
        """Works on updates: batches, groups, filters, replay and statistics."""
        self._authorize = authorize
        self._revoked = revoked
        self._initial_data = initial_data
        self._observer = observer
        self._gateway: Gateway | None = None
        self._sweeping: asyncio.Task[None] | None = None

    @property
    def tokens(self) -> TokenStreamingService:
        """The token streams: open ones, their statistics, and streams of your own."""
        return self.hub.tokens

    @property
    def gateway(self) -> Gateway:
        """The network edge: what tells one client, everybody who watches an execution, or a room.

        Raises:
            StreamingConfigError: The module is not installed in an app.
        """
        if self._gateway is None:
            raise StreamingConfigError("there is no gateway: install the module in an app first")
        return self._gateway

    def install(self, app: Starlette) -> None:
        """Adds the routes, the Socket.IO mount and the lifespan to ``app``; once for each module.

        Works with an app that has a lifespan of its own, and with one that is mounted in another app, whose lifespan
        does not run: there the module starts with the first request, and stops with the server.

        When the server stops, the module closes its connections and forgets its executions. The app may start again
        in the same process, as often as you like; it then begins without executions.

        Args:
            app: A FastAPI or Starlette application. Several modules may share one, each with a ``gateway.prefix`` of
                its own.

        Raises:
            StreamingConfigError: The module is installed already, the app has a module whose paths would meet these,
                the authentication settings cannot be used, or ``app`` is no application.
        """
        if self._gateway is not None:
            raise StreamingConfigError("this module is installed already: make one module for each app")
        if not isinstance(app, Starlette):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StreamingConfigError(
                f"install takes a FastAPI or Starlette application, not {type(app).__name__}: pass the app itself"
            )
        gateway = Gateway(
            self.hub,
            self.settings,
            authorize=self._authorize,
            revoked=self._revoked,
            initial_data=self._initial_data,
            observer=self._observer,
        )
        gateway.install(app)
        gateway.on_start(self._start_sweeping)
        gateway.on_stop(self._stop)
        app.router.lifespan_context = _with_lifespan(app.router.lifespan_context, self.hub, gateway)
        self._gateway = gateway

    def _start_sweeping(self) -> None:
        self._sweeping = asyncio.create_task(self._sweep(), name="lg-streaming sweep")

    async def _stop(self) -> None:
        """Closes everything, ready to start again."""
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is not None and sweeping.get_loop() is asyncio.get_running_loop():
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
        await self.hub.lifespan.restart()

    def revoke(self, *, jti: str | None = None, subject: Owner | None = None, expires_at: float | None = None) -> None:
        """Revokes the token with this `jti`, or all tokens of a subject that were issued (`iat`) until now, or both.

        At once, in this process, until it ends: other processes do not know; `revoked` is for what all have to know.
        A token without `iat` counts as issued before.

        Args:
            jti: The token's id.
            subject: The tokens' `sub`; a whole number or a UUID counts as its text.
            expires_at: When the last of these tokens expires, in seconds since 1970, so that it can be forgotten then.

        Raises:
            StreamingConfigError: The module is not installed in an app, or neither `jti` nor `subject` is given.
        """
        if self._gateway is None:
            raise StreamingConfigError("there is nothing to revoke: install the module in an app first")
        self._gateway.policy.revoke(jti=jti, subject=owner_text(subject), expires_at=expires_at)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL)
            while self.hub.registry.sweep(_SWEEP_SLICE):  # noqa: ASYNC110 (others have their turn between two slices)
                await asyncio.sleep(0)

    def execution(
        self,
        execution_id: str | None = None,
        *,
        owner: Owner | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
    ) -> ExecutionBlock:
        """A run of an execution as a block: ``async with streaming.execution("exec-1", owner="alice"): …``.

        Args:
            execution_id: 1 to 256 printable characters without spaces; a new UUID when not given.
            owner: Who may read it; compared with a token's ``sub``. A whole number or a UUID counts as its text.
            metadata: Kept with the run, and sent with ``workflow_start``.
            priority: Of updates for which neither their publisher nor their type names one; see `StreamHub.open`.

        Raises:
            BadRequestError: The owner cannot be one.

        Raises (on entry):
            BadRequestError: The id cannot name an execution, or the priority is none.
            ForbiddenError: The execution has another owner.
            ExecutionLimitError: ``limits.max_executions`` executions are running.
        """
        return ExecutionBlock(self.hub, execution_id or new_id(), owner_text(owner), metadata, priority)

    def config(
        self,
        config: RunnableConfig | str | None = None,
        *,
        execution_id: str | None = None,
        owner: Owner | None = None,
        thread_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        capture: Literal["decorated", "all"] | None = None,
    ) -> RunnableConfig:
        """Return the config to call a graph with, so that its run is the execution ``execution_id``.

        A call that names an execution of its own is that execution's run wherever it is made: inside a node or a tool
        of another execution, in a worker, through a queue. ``graph.with_config(streaming.config())`` makes every call
        of a graph an execution, named by the call's ``thread_id``. One config may serve several calls, also at once.

        Args:
            config: The execution's id, or a config of your own to add to, whose callbacks and values are kept. Of a
                config that this method made, the owner, metadata, priority and capture stay where not given again.
            execution_id: The execution; when not given, the config's ``configurable.execution_id``, its
                ``thread_id``, or else the run's id.
            owner: Who may read it; compared with a token's ``sub``. A whole number or a UUID counts as its text.
            thread_id: LangGraph's thread; where neither this nor ``config`` names one, the execution's id.
            metadata: Kept with the run, and sent with its ``workflow_start``.
            priority: Of the execution's updates for which neither their publisher nor their type names one.
            capture: ``"decorated"`` captures decorated nodes and graphs, ``"all"`` every node of the call's graph;
                ``settings.capture`` when not given.

        Raises:
            StreamingConfigError: Two ids are given, ``config`` is neither an id nor a config, or there is no such
                ``capture``.
            BadRequestError: The id cannot name an execution, or the owner, the metadata or the priority cannot be used.
        """
        if isinstance(config, str):
            if execution_id is not None and execution_id != config:
                raise StreamingConfigError(f"two executions are named, {config!r:.80} and {execution_id!r:.80}")
            config, execution_id = None, config
        elif config is not None and not isinstance(config, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StreamingConfigError(f"config is an execution's id or a config, not {config!r:.80}")
        known = options_in(config, self.hub.publisher) or CallOptions(plan=self.hub.publisher.capture_plan)
        options = CallOptions(
            execution_id=None if execution_id is None else check_execution_id(execution_id),
            owner=known.owner if owner is None else owner_text(owner),
            metadata={**known.metadata, **run_metadata(metadata)},
            priority=known.priority if priority is None else parse_priority(priority),
            plan=known.plan if capture is None else _plan_of(capture),
        )
        return graph_config(config, self.hub.publisher, options, thread_id=thread_id)

    def activate(self) -> AbstractContextManager[StreamingModule]:
        """Makes this module the process default: from now on a plain ``graph.invoke(inputs)`` streams too.

        Used as a context manager it is taken back at the end of the block, else with `deactivate`.
        """
        publishers.activate(self.hub.publisher, self)
        return _Activation(self)

    @classmethod
    def active(cls) -> Self | None:
        """The module that was activated last and is still active, the process's default; None when there is none."""
        module = publishers.default_owner
        return module if isinstance(module, cls) else None

    def deactivate(self) -> None:
        """Takes back one `activate`; a no-op when there is none."""
        publishers.deactivate(self.hub.publisher)

    async def aclose(self) -> None:
        """Closes the hub and frees everything. Harmless when repeated."""
        await self.hub.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def _plan_of(capture: str) -> GraphPlan | None:
    """What to capture beside decorated nodes.

    Raises:
        StreamingConfigError: There is no such way to capture.
    """
    if capture == "decorated":
        return None
    if capture == "all":
        return GraphPlan(
            [Selection(NodeOptions(token=TokenOptions(), event=EventOptions(), progress=ProgressOptions()))]
        )
    raise StreamingConfigError(f"capture is 'decorated' or 'all', not {capture!r:.80}")


def _with_lifespan(inner: Lifespan[Any], hub: StreamHub, gateway: Gateway) -> Lifespan[Any]:
    """An application's lifespan with that of a module inside it."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[Mapping[str, Any] | None]:
        hub.lifespan.reopen()
        async with inner(app) as state:
            await gateway.start()
            try:
                yield state
            finally:
                await gateway.shutdown()

    return cast("Lifespan[Any]", lifespan)


def _trace(provider: TracerProvider | None) -> Trace:
    from lg_streaming.observability.tracing import Tracing  # noqa: PLC0415 (needs the extra `tracing`)

    return Tracing(provider)


class _Activation(AbstractContextManager[StreamingModule]):
    def __init__(self, module: StreamingModule) -> None:
        self._module = module

    def __enter__(self) -> StreamingModule:
        return self._module

    def __exit__(self, *_: object) -> None:
        self._module.deactivate()
