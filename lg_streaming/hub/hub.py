"""The hub: write and read executions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from lg_streaming.hub.attachments import SinkManager
from lg_streaming.hub.callbacks import CallbackRunner
from lg_streaming.hub.cancellation import RunCanceller
from lg_streaming.hub.fleet import HubFleet
from lg_streaming.hub.lifespan import HubLifespan
from lg_streaming.hub.metrics import HubMetrics
from lg_streaming.hub.options import AttachOptions, EmitOptions, PublishOptions, RunOptions, SubscribeOptions
from lg_streaming.hub.prompts import PromptManager
from lg_streaming.hub.publisher import HubPublisher
from lg_streaming.hub.readers import SubscriptionRegistry
from lg_streaming.hub.registry import ExecutionRegistry
from lg_streaming.hub.run_control import RunControl
from lg_streaming.hub.runs import RunManager
from lg_streaming.hub.statistics import Counters
from lg_streaming.hub.writer import UpdateWriter
from lg_streaming.log.factory import make_log
from lg_streaming.publisher import new_id
from lg_streaming.settings import settings_from
from lg_streaming.token_streams import OpenTokenStreams

if TYPE_CHECKING:
    from reactivex import Observable

    from lg_streaming.codec import Redact
    from lg_streaming.emitter import Emitter
    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub.attachment import Attachment
    from lg_streaming.hub.callbacks import CancelHandler, ResponseHandler
    from lg_streaming.hub.metrics import ExecutionInfo, HubHealth
    from lg_streaming.hub.sink import AnySink
    from lg_streaming.hub.statistics import HubStatistics
    from lg_streaming.hub.subscription import Subscription
    from lg_streaming.log.base import EventLog, ExecutionState, LogState
    from lg_streaming.publisher import OnMissingRun
    from lg_streaming.settings import StreamingSettings

__all__ = ["StreamHub"]


class StreamHub:
    """Hub of executions: programs publish updates to it, and readers subscribe to them.

    Args:
        settings: Limits and retention, or a mapping of the settings; the defaults and the environment when not given.
        log: The log that keeps the executions; the one of ``settings.log`` when not given. `aclose` closes it.
        redact: ``redact(type, data) -> data``, applied to every update before it is encoded.
        clock: Seconds since 1970, for timestamps.
        monotonic: Seconds that never go back, for durations: retention, rates, sweeps.
        new_id: Makes the ids of runs, and of executions that are created without one; a UUID when not given.

    Raises:
        StreamingConfigError: If a setting cannot be used.
        MissingExtraError: If ``settings.log`` needs ``pip install 'lg-streaming[redis]'``.

    Publishing is synchronous and thread-safe, and never waits for I/O. The log gives the updates of an execution one
    order, which every reader gets. Readers never slow a producer down.

    The hub is made of parts. A part calls only the parts before it:

    - `registry`: executions by id, their lock, retention and sweep.
    - `writer`: encodes updates and appends them to the log.
    - `runs`: opens, joins, leaves and ends runs.
    - `publisher`: publishes updates and makes emitters.
    - `readers`: subscriptions and observers.
    - `sinks`: attached sinks.
    - `prompts`: opens prompts, checks and publishes their answers.
    - `control`: requests to runs, in this process and in others.
    - `metrics`: lists executions, reports health and statistics.
    - `lifespan`: shuts down, closes, reopens and restarts the hub.
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
        self.settings: StreamingSettings = settings_from(settings)
        self.log: EventLog = make_log(self.settings, clock=clock, monotonic=monotonic) if log is None else log
        self.registry: ExecutionRegistry = ExecutionRegistry(self.settings, self.log, clock=clock, monotonic=monotonic)
        self.writer: UpdateWriter = UpdateWriter(
            self.settings, self.log, Counters(), redact=redact, clock=clock, monotonic=monotonic
        )
        self.runs: RunManager = RunManager(self.registry, self.writer, new_id=new_id)
        self.publisher: HubPublisher = HubPublisher(self.runs)
        self.readers: SubscriptionRegistry = SubscriptionRegistry(
            self.log,
            max_per_execution=self.settings.limits.max_subscribers_per_execution,
            before_subscribe=self.registry.maybe_sweep,
        )
        self.sinks: SinkManager = SinkManager(
            self.readers, self.writer.flush, position_ttl=self.settings.retention.record_ttl
        )
        self.metrics: HubMetrics = HubMetrics(self.registry, self.writer, self.readers, self.sinks)
        callbacks = CallbackRunner()
        self._canceller = RunCanceller(self.runs, callbacks)
        self.writer.on_refused = self._canceller.abandon
        self.prompts: PromptManager = PromptManager(self.registry, self.writer, callbacks)
        self.runs.on_interrupt = self.prompts.watch
        fleet = self.log.fleet
        control = self.publisher, self._canceller, self.prompts
        self.control: RunControl = RunControl(*control) if fleet is None else HubFleet(fleet, *control)
        """Requests to runs, in this process and in others."""
        self.lifespan: HubLifespan = HubLifespan(self.publisher, self.readers, self.sinks, self._canceller, callbacks)
        streams = self.publisher.token_streams = OpenTokenStreams(monotonic)
        self.runs.run_listeners.add(streams)

    # --- runs ---------------------------------------------------------------------------------------------

    def open(self, execution_id: str, **options: Unpack[RunOptions]) -> str:
        """Open a run, unless one is open; return the run's id. The first update of a run is its ``workflow_start``.

        Args:
            execution_id: 1 to 256 printable characters without spaces.

        Keyword Args:
            owner: The reader that may read it, in addition to those the application allows; compared with a token's
                ``sub``. A whole number or a UUID counts as its text.
            metadata: Kept with the run, and sent with ``workflow_start``. A run that is open keeps its own.
            priority: The priority of the execution's updates for which neither their publisher nor their type names
                one; ``medium`` by default.
            idle_timeout: Seconds without any activity after which the run ends as abandoned; None or 0 for never,
                ``"default"`` for ``limits.idle_timeout``.

        The owner, the priority and the idle timeout belong to the execution. They hold at once, and for later runs.

        Raises:
            BadRequestError: If the id cannot name an execution, or the owner, the priority or the timeout cannot be
                used.
            ForbiddenError: If the execution has another owner.
            ExecutionLimitError: If ``limits.max_executions`` executions are running.
            HubClosedError: If the hub was closed.
        """
        return self.runs.open(execution_id, **options)

    def create(self, execution_id: str | None = None, **options: Unpack[RunOptions]) -> str:
        """Open a run of an execution that has no open run; return the execution's id.

        Args:
            execution_id: 1 to 256 printable characters without spaces; a new UUID when not given.
            options: The options of `open`.

        Raises:
            ExecutionExistsError: If the execution has an open run, which stays unchanged.
            StreamingError: If `open` raises it.
        """
        return self.runs.create(execution_id, **options)

    async def close(self, execution_id: str, result: object = None, *, reason: str | None = None) -> None:
        """End the open run with ``workflow_complete``; return when the log has it. A no-op without an open run.

        Args:
            execution_id: The execution.
            result: The result of the run, sent as ``result``.
            reason: The reason for the end, sent as ``reason``.
        """
        await self.runs.close_run(execution_id, result, reason=reason)

    async def fail(self, execution_id: str, error: BaseException | str, *, terminate: bool = True) -> None:
        """Publish an error; return when the log has it. A no-op without an open run.

        Args:
            execution_id: The execution.
            error: The error. Readers get its message, its type, and its ``code`` if it has one.
            terminate: Whether the error ends the run. True: ``workflow_error`` with the error as its ``error``. False:
                an ``error`` update, whose data is the error; the run continues.
        """
        await self.runs.fail_run(execution_id, error, terminate=terminate)

    async def cancel(self, execution_id: str, reason: str | None = None, *, run_id: str | None = None) -> bool:
        """Cancel the open run; return whether one was open.

        Graph calls of the run, its `execution(...)` blocks and the handlers of `on_cancel` are called, once for each
        run. They stop their work, and the run ends with its own outcome. After `limits.cancel_grace` seconds it ends as
        cancelled in any case, and its later updates are dropped. Its `still_running` then has the nodes at work. A run
        without any of them ends at once, and this method returns when the log has the end.

        A run that another process holds is cancelled there, with its handlers. This method waits up to
        `redis.request_timeout` seconds for the answer. A run whose process is dead ends as cancelled at once. Handlers
        of further processes that publish to the run are called too, as far as they receive the message.

        Args:
            execution_id: The execution.
            reason: The reason, passed to handlers and readers.
            run_id: The run; a later run of the execution is then left alone. When not given, any open run.

        Raises:
            NoAnswerError: If the process that holds the run is alive, and did not answer in time. It may still cancel
                the run.
            LogUnavailableError: If this process has no such run, and the log cannot be reached.
        """
        return await self.control.cancel(execution_id, reason, run_id=run_id)

    def on_cancel(self, execution_id: str, handler: CancelHandler) -> Callable[[], None]:
        """Call `handler(reason)` when a run of the execution is cancelled; return a function that removes the handler.

        The handler, which may be a coroutine function, makes the run stop. It is called on the event loop on which it
        was registered, if that runs, or else on the one of `cancel`. It is called at most once for each run, and must
        not block. Its exceptions are logged. It stays until it is removed, or the hub forgets the execution
        (`retention.ttl` seconds after its last update). Register it in the process that runs the graph; any process may
        cancel.

        Raises:
            BadRequestError: If the id cannot name an execution.
        """
        return self._canceller.on_cancel(execution_id, handler)

    async def respond(
        self, execution_id: str, prompt_id: str, response: object, *, responder: str | None = None
    ) -> None:
        """Answer a prompt of the open run: a `human_prompt` update with this `prompt_id` in its data.

        The first valid response wins. It is published as `human_response` `{prompt_id, response, responded_by}` with
        the scope of the prompt, and passed to the handlers of `on_response`. The method returns when the log has it.
        When all prompts of an interrupted run have answers, the handlers of `prompts.on_answers` get them: a run of
        ``streaming.runs`` goes on. A run keeps its newest 1,000 open prompts, until it resumes or ends, in the process
        that runs the graph.

        A prompt of another process is answered there, within `redis.request_timeout` seconds. Handlers there get the
        JSON form of the response. Of several processes that answer a prompt, exactly one succeeds.

        Args:
            execution_id: The execution.
            prompt_id: The prompt.
            response: The answer. It has to fit the prompt's type, choices and schema.
            responder: The person who answers, such as a token's ``sub``; readers get it as ``responded_by``.

        Raises:
            BadRequestError: If the response does not fit the prompt, which stays open. Its details have ``allowed``.
            PromptError: If the prompt does not exist, was answered, or its run has ended.
            NoAnswerError: If the process that holds the run is gone, or did not answer in time. In the second case it
                may still have taken the response: read the execution to see it.
            LogUnavailableError: If this process has no such prompt, and the log cannot be reached.
            UpdateTooLargeError: If the response exceeds `limits.update_bytes`; the prompt stays open.
            HubClosedError: If the hub was closed.
        """
        await self.control.respond(execution_id, prompt_id, response, responder=responder)

    def on_response(self, execution_id: str, handler: ResponseHandler) -> Callable[[], None]:
        """Call `handler(prompt_id, response)` when a prompt of the execution is answered; like `on_cancel`."""
        return self.prompts.on_response(execution_id, handler)

    # --- writing ------------------------------------------------------------------------------------------

    def publish(self, execution_id: str, type: str, data: object = None, **options: Unpack[PublishOptions]) -> None:
        """Append one update.

        After the end of its run an execution accepts nothing until it is opened again: updates are dropped and counted.

        Args:
            execution_id: The execution to write to.
            type: A type of `StreamEventType`, or a name of your own.
            data: The data of the update.

        Keyword Args:
            scope: The scope of the update: its node, task, message and so on.
            priority: See `Emitter.event`.
            delivery: See `Emitter.event`.
            key: See `Emitter.event`.
            missing: What to do if the execution had no run yet: `open` one, `drop` the update (which is counted), or
                `raise`. None: the value of `settings.auto_open`.
            large: What to do with an update over ``limits.update_bytes``: `refuse` it, or `shorten` it. None: the value
                of ``limits.large_updates``. A text (`token`, `thinking`, `tool_args`) is always published, in several
                updates that join to the same text.

        Raises:
            BadRequestError: If an argument cannot be used, or the key is missing. If only the hub may publish the type,
                such as a run's start or its final update.
            UpdateTooLargeError: If the encoded update exceeds ``limits.update_bytes``, and `large` is `refuse`.
            ExecutionNotFoundError: If the execution had no run yet, and none shall be opened.
            ExecutionLimitError: If it would open more than ``limits.max_executions`` executions.
            HubClosedError: If the hub was closed.
        """
        self.publisher.publish(execution_id, type, data, **options)

    def emit(self, execution_id: str, type: str, data: object = None, **options: Unpack[EmitOptions]) -> None:
        """Publish one update from any place: `hub.emit("doc-7", "saved", {"pages": 4}, category="document")`.

        In a decorated node of the execution it belongs to the node, like all updates of `current_emitter`. A run that
        nothing else ends is ended with `hub.close` or `hub.fail`. Later updates are dropped and counted, until a run is
        open again. Raises like `publish`.

        Args:
            execution_id: The execution to write to.
            type: A type of `StreamEventType`, or a name of your own.
            data: The data of the update.

        Keyword Args:
            category: A free word that readers may filter by.
            priority: See `Emitter.event`.
            delivery: See `Emitter.event`.
            key: See `Emitter.event`.
            missing: See `publish`.
            large: See `publish`.
        """
        self.publisher.emit(execution_id, type, data, **options)

    def emitter(self, execution_id: str | None = None, *, missing: OnMissingRun | None = None, **scope: Any) -> Emitter:
        """Return an emitter of an execution.

        In a decorated node of this execution it has the scope of the node, parts of which your arguments replace. Its
        text and events go through the node's pipeline. In an `execution(...)` block it writes to the run of the block.

        Args:
            execution_id: The execution to write to; the one of the context when not given.
            missing: What its first update does without an open run: `open` one, `drop` the updates until a run is open
                (which is counted), or `raise`. None: the value of `settings.auto_open`.
            scope: The scope of the updates: `node_id`, `agent_type`, `task_id`, `request_id`, `tool_call_id`,
                `message_id`, `category`, and `extra` for keys of your own.

        Raises:
            BadRequestError: If the id cannot name an execution, or neither an id nor a context names one.
            HubClosedError: If the hub was closed.
        """
        return self.publisher.emitter(execution_id, missing=missing, **scope)

    def configure(
        self,
        execution_id: str,
        *,
        token: Mapping[str, Any] | None = None,
        event: Mapping[str, Any] | None = None,
        progress: Mapping[str, Any] | None = None,
    ) -> None:
        """Change the decorators' defaults of one execution: of nodes that start, and of those that run.

        An option of the decorator itself has precedence. Earlier changes of other options stay.

        With a log of several processes, the change holds in all of them, within milliseconds where the execution runs.
        A process where a run of it begins later applies the change soon after the start, for up to
        ``retention.record_ttl`` seconds. Of two changes of one option the later wins.

        Args:
            execution_id: The execution; it need not have started.
            token: Options of ``@stream_token``, as in ``settings.token_defaults``.
            event: Options of ``@stream_event``.
            progress: Options of ``@stream_progress``.

        Raises:
            BadRequestError: If the id cannot name an execution.
            pydantic.ValidationError: If an option is unknown, or its value cannot be used.
        """
        self.control.configure(execution_id, token=token, event=event, progress=progress)

    # --- reading ------------------------------------------------------------------------------------------

    def subscribe(self, execution_id: str, **options: Unpack[SubscribeOptions]) -> Subscription:
        """Subscribe to an execution: history first, then live. Allowed before the execution starts.

        Args:
            execution_id: The execution to read.
            options: The options below, and the conditions of `FilterOptions`: ``events``, ``node_ids``,
                ``agent_types``, ``namespaces``, ``categories``, ``min_priority``, ``since`` and ``until``. With
                ``until="interrupted"`` reading also ends after the next ``workflow_interrupted``, even if the filter
                drops that update.

        Keyword Args:
            after: Position after which reading begins; ``"latest"`` for new updates only; None for all.
            filter: The filter; or pass ``types`` and the conditions of `FilterOptions`.
            types: Exact types and globs.
            follow: Whether to stay after a run's final update and read the next run.
            on_gap: What to do when updates after ``after`` are gone: continue at the ``"oldest"`` that is kept, or at
                the ``"tail"``, or ``"fail"`` with `GapError`. The first two give the reader a ``gap``.
            timeout: The maximum of seconds from the first wait for an update to the end; None: no limit. Beyond it, a
                loop over the subscription raises TimeoutError.

        Raises:
            BadRequestError: If the id, the filter, ``on_gap`` or ``timeout`` cannot be used.
            BadPositionError: If ``after`` is not a position.
            SubscriberLimitError: If ``limits.max_subscribers_per_execution`` are reading.
            HubClosedError: If the hub was closed.
        """
        return self.readers.subscribe(execution_id, **options)

    def observe(
        self, execution_id: str, *, in_thread: bool = False, **options: Unpack[SubscribeOptions]
    ) -> Observable[StreamUpdate]:
        """Return the execution as a reactivex ``Observable``, with the options of `subscribe`.

        The options are checked at each subscription to it. A ``timeout`` ends it with TimeoutError.

        Each subscriber reads at its own pace. One that raises is detached and logged. A subscriber on an event loop
        gets its updates on that loop. Elsewhere, or with ``in_thread``, each has a thread. The observable completes
        after the final update.
        """
        return self.readers.observe(execution_id, in_thread=in_thread, **options)

    async def describe(self, execution_id: str, *, latest: bool = False) -> LogState | None:
        """Return state, owner and positions of an execution from the log, or None if the log does not have it.

        Args:
            execution_id: The execution.
            latest: Whether an append of another process counts before its notification has arrived here, some
                milliseconds later. A log of several processes then asks its server each time.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        return await self.readers.describe(execution_id, latest=latest)

    # --- sinks --------------------------------------------------------------------------------------------

    def attach(self, execution_id: str, sink: AnySink, **options: Unpack[AttachOptions]) -> Attachment:
        """Send an execution to a sink: history first, then live. Allowed before the execution starts.

        The sink has its own position and task, so a slow, hanging or failing sink delays neither other sinks nor
        publishers. It is called on the running event loop; without one, on a loop in a thread that all such sinks of
        the hub share. After the final update its ``closed(reason)`` is called, and it is closed.

        Args:
            execution_id: The execution.
            sink: The sink. Attaching the same object again returns the existing attachment.
            options: The options below, and the conditions of `FilterOptions`. ``until`` is a time here: a sink stays
                attached while the run waits for a human.

        Keyword Args:
            after: As in `subscribe`, like ``filter``, ``types`` and ``follow``.
            filter: The filter.
            types: Exact types and globs.
            follow: Whether to stay after a run's final update and read the next run.
            on_error: What to do after the attempts of ``policy`` have failed. ``"log"``: log it, skip the updates and
                continue; ``"detach"``: log it and detach the sink; ``"raise"``: the same, and raise `SinkError` from
                `Attachment.wait` and `SinkManager.flush`.
            policy: Batch size, interval, timeout and attempts; the sink's own when not given.
            send_timeout: Replaces ``policy.timeout``, which is 10 seconds by default.
            replace: Whether another sink with the same id is detached first, instead of an error.
            shared: Whether the sink serves other executions as well: at the end it is neither notified nor closed.
            claim: Whether only one of the processes that attach a sink with this id to the execution serves it. None:
                yes, unless the id is random or the sink is a `QueueSink`. No effect with a log of one process.

        A claimed sink waits while another process serves its id. It takes over, from the position of the other, when
        that is detached, or its process ends or dies. After a death up to a second of updates is sent again. A process
        that was paused so long that its claim was taken stops at once, with the reason ``"replaced"``. Where no process
        serves the id, the stored position holds as well, unless ``after`` is passed.

        Raises:
            BadRequestError: If an argument cannot be used, or the sink is closed. If another sink with its id is
                attached, without ``replace``. If the sink is attached to another execution, without ``shared`` at both.
            BadPositionError: If ``after`` is not a position.
            SubscriberLimitError: If ``limits.max_subscribers_per_execution`` are reading.
            HubClosedError: If the hub was closed.
        """
        return self.sinks.attach(execution_id, sink, **options)

    def detach(self, execution_id: str, sink: AnySink | str, *, strict: bool = False) -> bool:
        """Detach a sink, or the sink of an id; return whether it was attached. See `Attachment.detach`.

        Raises:
            BadRequestError: If it is not attached, and ``strict`` is set.
        """
        return self.sinks.detach(execution_id, sink, strict=strict)

    # --- the hub itself -----------------------------------------------------------------------------------

    def executions(self, state: ExecutionState | Iterable[ExecutionState] | None = None) -> list[ExecutionInfo]:
        """List the executions that this hub has written to and not forgotten, oldest first.

        The hub forgets an execution without an open run `retention.ttl` seconds after its last update. `describe`
        returns its state in the log, and ``hub.log.executions()`` lists the executions of the log.

        The cost grows with the executions: with the open ones only, if ``state`` includes no others.

        Args:
            state: Only executions in this state, or in one of these; None for all.

        Raises:
            BadRequestError: If a state is unknown.
        """
        return self.metrics.executions(state)

    def info(self, execution_id: str) -> ExecutionInfo | None:
        """Return an execution that this hub writes to; None if it has written nothing to it, or forgotten it."""
        return self.metrics.info(execution_id)

    def health(self) -> HubHealth:
        """Return the health of the hub, at once and without a request to the log; `describe` tests the log."""
        return self.metrics.health()

    def statistics(self) -> HubStatistics:
        """Return the counts since the hub was made, and the present numbers."""
        return self.metrics.statistics()

    async def shutdown(self, reason: str = "shutdown") -> None:
        """End all open runs, then close the hub. Harmless when repeated.

        Every open run is cancelled, as by `cancel`. Runs with handlers share ``limits.cancel_grace`` seconds to end
        with their own outcome. The others end at once with ``workflow_cancelled`` and the reason. No run begins any
        more. Readers in this process have a second to read to the end. An error of one execution is logged and does not
        delay the others. Afterwards the hub raises `HubClosedError`.

        Use `aclose` at the end of a process whose log outlives it.
        """
        await self.lifespan.shutdown(reason)

    async def aclose(self) -> None:
        """Append the buffered updates (for up to 5 s), end all readers, free all resources. Harmless when repeated.

        Sinks first receive the updates in the log, for up to 5 s, and are then closed. Open runs stay open: another
        process may continue them. In a log that processes share, the runs that this process holds end as abandoned.
        Those that wait for a human, or have participants in other processes, stay open.
        """
        await self.lifespan.aclose()
