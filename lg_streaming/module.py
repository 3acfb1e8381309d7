"""Composition root: make hub and gateway from settings, and install them in an application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from starlette.applications import Starlette

from lg_streaming.capture import (
    BlockCanceller,
    CallOptions,
    configured_plan,
    current_call,
    describe_failure,
    graph_config,
    options_in,
    surrounding_namespace,
)
from lg_streaming.context import Block, ExecutionContext, block_var, code_position, current_block, reset_in_context
from lg_streaming.decorators import plan_of
from lg_streaming.errors import GraphCancelledError, StreamingConfigError
from lg_streaming.eventloop import running_task
from lg_streaming.events import check_execution_id, parse_priority, run_metadata
from lg_streaming.gateway import Gateway, InitialData
from lg_streaming.gateway.auth.principal import Grant, Principal
from lg_streaming.hub import StreamHub
from lg_streaming.hub.open_options import owner_text
from lg_streaming.notebook import RunDisplay
from lg_streaming.publisher import RunOutcome, new_id, publishers
from lg_streaming.runs import GraphRegistry, GraphRunner, RemoteRunner
from lg_streaming.settings import StreamingSettings, settings_from
from lg_streaming.views import EventStreamProcessor, TokenStreamingService

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextvars import Token

    from opentelemetry.trace import TracerProvider
    from starlette.types import Lifespan

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.codec import Redact
    from lg_streaming.emitter import Emitter
    from lg_streaming.events import Priority
    from lg_streaming.gateway.auth.policy import Authenticate, Authorize, Revoked
    from lg_streaming.hub.callbacks import AnswersHandler
    from lg_streaming.hub.options import Owner
    from lg_streaming.log import EventLog
    from lg_streaming.observability.events import Observer
    from lg_streaming.publisher import Trace
    from lg_streaming.types import WireName

__all__ = ["ExecutionBlock", "StreamingModule"]

_SWEEP_INTERVAL = 30.0
_SWEEP_SLICE = 200


class ExecutionBlock:
    """One run of an execution, as a ``with`` or ``async with`` block.

    Updates of decorated nodes inside belong to the execution. The run ends with the outcome of the block: completed,
    cancelled, or failed with its exception. It is interrupted when a node waits for a human. Overlapping blocks of one
    execution share a run, which ends with the last one. Exceptions are never swallowed.

    A cancelled run (by `hub.cancel`, or by an authorized reader) cancels the asyncio task that entered the block. In
    sync code, `GraphCancelledError` is raised where a node, a model or a tool begins next, or a model's next token
    arrives. After ``limits.cancel_grace`` seconds the run ends in any case, and later updates are dropped.
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
        self._canceller: BlockCanceller | None = None

    @property
    def emitter(self) -> Emitter:
        """An emitter of the run."""
        return self._hub.emitter(self.execution_id)

    def __enter__(self) -> Self:
        if self._block is not None:
            raise StreamingConfigError("this execution block is entered already: make one for each use")
        self._run_id = self._hub.runs.join_run(
            self.execution_id, owner=self._owner, metadata=self._metadata, priority=self._priority
        )
        context = ExecutionContext(self._hub.publisher, self.execution_id, self._run_id)
        self._block = Block(
            context,
            frame=code_position().frame,
            call=current_call(),
            namespace=surrounding_namespace(),
            outer=current_block(),
        )
        self._token = block_var.set(self._block)
        self._canceller = BlockCanceller(self._block, running_task())
        self._canceller.join(context, if_abandoned=True)
        return self

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if self._block is None or not self._block.leave():
            return
        try:
            if self._token is not None:
                reset_in_context(block_var, self._token)
            if self._canceller is not None:
                self._canceller.end()
        finally:
            self._hub.runs.leave_run(self.execution_id, self._run_id, self._outcome(exc))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, _: object, exc: BaseException | None, __: object) -> None:
        self.__exit__(None, exc, None)

    def _outcome(self, error: BaseException | None) -> RunOutcome:
        if error is None:
            return RunOutcome("workflow_complete", {})
        if isinstance(error, (asyncio.CancelledError, GraphCancelledError, GeneratorExit, KeyboardInterrupt)):
            nodes = self._canceller.left_running() if self._canceller is not None else ()
            return RunOutcome("workflow_cancelled", {"still_running": nodes} if nodes else {})
        return RunOutcome("workflow_error", {"error": describe_failure(error, debug=self._hub.publisher.debug)})


class StreamingModule:
    """A hub, its gateway and its views, made from one set of settings.

    ```python
    streaming = StreamingModule()
    app = FastAPI()
    streaming.install(app)
    await graph.ainvoke(inputs, streaming.config(execution_id="exec-1"))
    ```

    Args:
        settings: All settings, as `StreamingSettings` or as a mapping of its fields, such as
            ``{"gateway": {"prefix": "/streaming"}}``. Omitted ones come from the environment (``LG_STREAMING_…``) and
            the defaults.
        log: The log that keeps the executions; the one of ``settings.log`` when not given. `aclose` closes it.
        redact: ``redact(type, data) -> data``, applied to every update before it is encoded.
        authenticate: `authenticate(request) -> Principal | None`, sync or async: logs callers in by cookies, API keys
            or tokens of the application, on all transports. None: not logged in; then a JWT counts. It turns
            authentication on. An exception, or 10 seconds without a result, refuses the caller.
        authorize: ``authorize(principal, action, execution_id, owner) -> bool``, sync or async: allows callers in
            addition to the owner, and to those whose token allows it.
        revoked: `revoked(principal) -> bool`, sync or async: refuses tokens that have not expired. Called at every
            login and at every heartbeat of a connection. An exception, or 10 seconds without a result, means revoked.
        initial_data: `initial_data(execution_id)`, sync or async: the first event of every event stream. The reader's
            position is fixed before the call, so updates during the call follow the event.
        observer: A plain function that gets each `GatewayEvent` of the connections; it must be quick.
        tracing: Makes OpenTelemetry spans of runs and nodes. ``True``: with the program's tracer provider; or a
            provider.
        resume: `resume(execution_id, answers)`, sync or async: called when all prompts of an interrupted run have
            answers, for graphs that the program runs itself. It calls the graph with ``Command(resume=answers)``. It
            runs on the event loop on which the graph was interrupted. Runs of ``runs`` go on without it.

    Raises:
        StreamingConfigError: If ``settings`` is of another type, or a setting cannot be used.
        MissingExtraError: If ``tracing`` needs ``pip install 'lg-streaming[tracing]'``, or ``settings.log`` needs
            ``pip install 'lg-streaming[redis]'``.

    A module used without a server is closed with `aclose`; one installed in an app starts and stops with the app.
    """

    def __init__(
        self,
        settings: StreamingSettings | Mapping[str, Any] | None = None,
        *,
        log: EventLog | None = None,
        redact: Redact | None = None,
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        revoked: Revoked | None = None,
        initial_data: InitialData | None = None,
        observer: Observer | None = None,
        tracing: TracerProvider | bool = False,
        resume: AnswersHandler | None = None,
    ) -> None:
        self.settings: StreamingSettings = settings_from(settings)
        self.hub: StreamHub = StreamHub(self.settings, log=log, redact=redact)
        self.hub.publisher.capture_plan = plan_of(self.settings.capture)
        if tracing is not False:
            self.hub.publisher.trace = _trace(None if tracing is True else tracing)
        if resume is not None:
            self.hub.prompts.resume = resume
        self.events: EventStreamProcessor = EventStreamProcessor(self.hub)
        """The processor of updates: batches, groups, filters, replay and statistics."""
        self.tokens: TokenStreamingService = TokenStreamingService(self.hub)
        """The token streams: open ones, their statistics, and streams of your own."""
        self.graphs: GraphRegistry = GraphRegistry()
        """The graphs that may be started by name: ``streaming.graphs["research"] = graph``."""
        self.runs: GraphRunner = GraphRunner(self.hub, self.graphs)
        """The runner of graphs: starts runs that live apart from any connection."""
        self._authenticate = authenticate
        self._authorize = authorize
        self._revoked = revoked
        self._initial_data = initial_data
        self._observer = observer
        self._gateway: Gateway | None = None
        self._sweeping: asyncio.Task[None] | None = None

    @property
    def gateway(self) -> Gateway:
        """The gateway, which sends messages to one client, to the readers of an execution, or to a room.

        Raises:
            StreamingConfigError: If the module is not installed in an app.
        """
        if self._gateway is None:
            raise StreamingConfigError("there is no gateway: install the module in an app first")
        return self._gateway

    def install(self, app: Starlette, wires: Iterable[WireName] = (), *, ui: bool | None = None) -> None:
        """Add the routes, the Socket.IO mount and the lifespan to ``app``; once for each module.

        The app may have another lifespan, or be mounted in another app. A mounted app has no lifespan: its module
        starts with the first request, and stops with the server.

        When the server stops, the module closes its connections and forgets its executions. The app may start again
        in the same process, any number of times; it then begins without executions.

        Args:
            app: A FastAPI or Starlette application. Several modules may share one, with different ``gateway.prefix``.
            wires: Protocols of other systems' clients, whose routes are added too. ``"ai-sdk"``: Vercel AI SDK and
                assistant-ui. ``"langgraph"``: LangGraph SDK and ``useStream``. ``"ag-ui"``: AG-UI and CopilotKit.
                ``"durable-streams"``: read only. Their paths are in ``settings.wires``.
            ui: Whether the watch page is served at ``/watch/``; ``gateway.ui`` when not given.

        Raises:
            StreamingConfigError: If the module is installed, its paths conflict with those of another module, or a
                wire is unknown. If the authentication settings cannot be used, or ``app`` is no application.
        """
        if self._gateway is not None:
            raise StreamingConfigError(
                "this module is installed already: call install once, with all wires, and make one module for each app"
            )
        if not isinstance(app, Starlette):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StreamingConfigError(
                f"install takes a FastAPI or Starlette application, not {type(app).__name__}: pass the app itself"
            )
        gateway = Gateway(
            self.hub,
            self.settings,
            authenticate=self._authenticate,
            authorize=self._authorize,
            revoked=self._revoked,
            initial_data=self._initial_data,
            observer=self._observer,
            remote_runner=RemoteRunner(self.runs, self.graphs, self.settings.runs.max_recursion_limit),
        )
        gateway.install(app, wires, ui=ui)
        gateway.on_start(self._start_sweeping)
        gateway.on_stop(self._stop)
        app.router.lifespan_context = _with_lifespan(app.router.lifespan_context, self.hub, gateway)
        self._gateway = gateway

    def show(self, execution_id: str) -> RunDisplay:
        """Return the picture of an execution's last run for a notebook.

        As the last expression of a cell it shows the run as it is now; ``await streaming.show("exec-1")`` shows it live
        until it ends. Outside of a notebook both are text.

        Raises:
            BadRequestError: If the id cannot name an execution.
        """
        return RunDisplay(self.hub, check_execution_id(execution_id))

    def _start_sweeping(self) -> None:
        self._sweeping = asyncio.create_task(self._sweep(), name="lg-streaming sweep")
        self.runs.recovery.start()

    async def _stop(self) -> None:
        """Close everything, ready to start again."""
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is not None and sweeping.get_loop() is asyncio.get_running_loop():
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
        await self.runs.aclose(grace=self.settings.runs.shutdown_grace)
        await self.hub.lifespan.restart()

    def revoke(self, *, jti: str | None = None, subject: Owner | None = None, expires_at: float | None = None) -> None:
        """Revoke the token with this `jti`, or all tokens of a subject that were issued (`iat`) until now, or both.

        The revocation holds at once in this process, until it ends. With a log of several processes it holds in all of
        them: within milliseconds, or within a heartbeat in a process that was disconnected or has just started. It is
        then kept until ``expires_at``, or for a year. A token without `iat` counts as issued before.

        Args:
            jti: The id of the token.
            subject: The `sub` of the tokens; a whole number or a UUID counts as its text.
            expires_at: The time at which the last of these tokens expires, in seconds since 1970. The revocation is
                forgotten then.

        Raises:
            StreamingConfigError: If the module is not installed in an app, or neither `jti` nor `subject` is passed.
        """
        if self._gateway is None:
            raise StreamingConfigError("there is nothing to revoke: install the module in an app first")
        self._gateway.policy.revoke(jti=jti, subject=owner_text(subject), expires_at=expires_at)

    async def link(self, execution_id: str, *, expires_in: float = 3600.0, subject: Owner | None = None) -> str:
        """Return a read-only credential for one execution, which many readers may use until its end.

        A client sends the link where it sends a token. The watch page takes it in its address:
        ``/watch/exec-1#link=…``.

        Args:
            execution_id: The execution. It may start later.
            expires_in: Seconds until the link's end; at most ``auth.max_link_age``.
            subject: The account whose right to read the link has; the execution's owner when not given. A link to an
                execution without an owner needs no other right. ``revoke(subject=…)`` voids the links of a subject.

        Raises:
            StreamingConfigError: If the module is not installed in an app.
            ForbiddenError: If authentication is off, or there are no links.
            BadRequestError: If the id cannot name an execution, or the time is too long.
            LogUnavailableError: If the log cannot be reached.
        """
        check_execution_id(execution_id)
        state = await self.hub.describe(execution_id)
        holder = owner_text(subject) or (state.owner if state is not None else None)
        grants = (Grant(actions=frozenset({"read"}), executions=(execution_id,)),) if holder is None else ()
        principal = Principal(subject=holder, grants=grants, claims={"iat": time.time()})
        return (await self.gateway.policy.issue_link(principal, execution_id, expires_in=expires_in)).text

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL)
            while self.hub.registry.sweep(_SWEEP_SLICE):  # noqa: ASYNC110 (other tasks run between two slices)
                await asyncio.sleep(0)

    def execution(
        self,
        execution_id: str | None = None,
        *,
        owner: Owner | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
    ) -> ExecutionBlock:
        """Return a run of an execution as a block: ``async with streaming.execution("exec-1", owner="alice"): …``.

        Args:
            execution_id: 1 to 256 printable characters without spaces; a new UUID when not given.
            owner: The reader that may read it; compared with a token's ``sub``. A whole number or a UUID counts as its
                text.
            metadata: Kept with the run, and sent with ``workflow_start``.
            priority: The priority of updates for which neither their publisher nor their type names one; see
                `StreamHub.open`.

        Raises:
            BadRequestError: If the owner cannot be used.

        Raises (on entry):
            BadRequestError: If the id cannot name an execution, or the priority is unknown.
            ForbiddenError: If the execution has another owner.
            ExecutionLimitError: If ``limits.max_executions`` executions are running.
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

        A call that names an execution is a run of that execution, also in a node of another execution, or in
        a worker. ``graph.with_config(streaming.config())`` makes every call of a graph
        an execution, named by the call's ``thread_id``. One config may serve several calls, also at once.

        Args:
            config: The execution's id, or a config to extend, whose callbacks and values are kept. Owner, metadata,
                priority and capture of a config that this method made stay, unless they are passed again.
            execution_id: The execution; when not given, the config's ``configurable.execution_id``, its
                ``thread_id``, or else the run's id.
            owner: The reader that may read it; compared with a token's ``sub``. A whole number or a UUID counts as its
                text.
            thread_id: LangGraph's thread; where neither this nor ``config`` names one, the execution's id.
            metadata: Kept with the run, and sent with its ``workflow_start``.
            priority: The priority of updates for which neither their publisher nor their type names one.
            capture: ``"decorated"`` captures decorated nodes and graphs, ``"all"`` every node of the call's graph;
                ``settings.capture`` when not given.

        Raises:
            StreamingConfigError: If two ids are passed, ``config`` is neither an id nor a config, or ``capture`` is
                unknown.
            BadRequestError: If the id cannot name an execution, or the owner, the metadata or the priority cannot be
                used.
        """
        if isinstance(config, str):
            if execution_id is not None and execution_id != config:
                raise StreamingConfigError(f"two executions are named, {config!r:.80} and {execution_id!r:.80}")
            config, execution_id = None, config
        elif config is not None and not isinstance(config, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StreamingConfigError(f"config is an execution's id or a config, not {config!r:.80}")
        earlier = options_in(config, self.hub.publisher) or CallOptions(plan=configured_plan(self.hub.publisher))
        options = CallOptions(
            execution_id=None if execution_id is None else check_execution_id(execution_id),
            owner=earlier.owner if owner is None else owner_text(owner),
            metadata={**earlier.metadata, **run_metadata(metadata)},
            priority=earlier.priority if priority is None else parse_priority(priority),
            plan=earlier.plan if capture is None else plan_of(capture),
        )
        return graph_config(config, self.hub.publisher, options, thread_id=thread_id)

    def activate(self) -> AbstractContextManager[StreamingModule]:
        """Make this module the default of the process: from now on a plain ``graph.invoke(inputs)`` streams too.

        As a context manager it is undone at the end of the block, otherwise by `deactivate`.
        """
        publishers.activate(self.hub.publisher, self)
        return _Activation(self)

    @classmethod
    def active(cls) -> Self | None:
        """Return the module that was activated last and is still active, or None."""
        module = publishers.default_owner
        return module if isinstance(module, cls) else None

    def deactivate(self) -> None:
        """Undo one `activate`; a no-op without one."""
        publishers.deactivate(self.hub.publisher)

    async def aclose(self) -> None:
        """Cancel the runs of ``runs``, close the hub and free everything. Harmless when repeated."""
        await self.runs.aclose()
        await self.hub.aclose()

    async def __aenter__(self) -> Self:
        self.runs.recovery.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _with_lifespan(inner: Lifespan[Any], hub: StreamHub, gateway: Gateway) -> Lifespan[Any]:
    """Return an application's lifespan, extended by that of a module."""

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
