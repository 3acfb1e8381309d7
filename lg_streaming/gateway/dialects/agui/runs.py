"""Runs of AG-UI's requests, and replays of their threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lg_streaming.errors import ExecutionExistsError, ForbiddenError, PromptError, StreamingError
from lg_streaming.events import Position
from lg_streaming.fork import restart_after_fork
from lg_streaming.gateway.dialects.agui.conversation import Conversation, open_prompts
from lg_streaming.gateway.dialects.agui.encoder import AgUiEncoder
from lg_streaming.gateway.dialects.agui.messages import Json, id_of, members, messages_in
from lg_streaming.gateway.dialects.agui.reading import Reading
from lg_streaming.gateway.dialects.agui.request import Answer, read_input
from lg_streaming.gateway.dialects.agui.responses import describe_error, empty_stream
from lg_streaming.gateway.dialects.wire import Wire
from lg_streaming.gateway.http.endpoint import Endpoint
from lg_streaming.gateway.http.event_stream import StreamOptions, open_stream
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.session.starting import forbidden_id, start_graph
from lg_streaming.runs import RemoteStart
from lg_streaming.runs.opening import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.dialects.agui.conversation import Turn
    from lg_streaming.gateway.dialects.agui.request import RunInput
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.log.base import LogState
    from lg_streaming.runs import GraphRun
    from lg_streaming.types import WireName

    ReadBody = Callable[[], Awaitable[object]]

__all__ = ["AgentWire"]

logger: logging.Logger = logging.getLogger(__name__)

_CANCELLED: Final = {"cancelled": True}
"""Answer to an interrupt that the page has cancelled."""
_LEFT: Final = "disconnected"
_LOOKS: Final = 20
"""Looks at a thread until a server has noticed that the client of its open run has left."""
_LOOK_INTERVAL: Final = 0.02
_END_TIMEOUT: Final = 5.0
"""Seconds to wait for the end of a run whose client has left, before its thread's next run."""


class AgentWire(Wire):
    """Runs and replays, for the routes of AG-UI's client and of CopilotKit's pages."""

    name: ClassVar[WireName] = "ag-ui"
    needs_states: ClassVar[bool] = True

    def __init__(self, context: HttpContext) -> None:
        super().__init__(context)
        self._leaving: dict[str, asyncio.Task[None]] = {}  # cancels of runs whose clients have left, by thread
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the tasks of the parent process."""
        self._leaving = {}

    def has_graph(self, name: str) -> bool:
        """Return whether a graph of this name is registered."""
        runner = self._context.gateway.remote_runner
        return runner is not None and name in runner.graphs

    def endpoint(self, method: str, handle: Callable[[Request, Peer], Awaitable[Response]]) -> Endpoint:
        """Return a route of one method, with errors in AG-UI's form."""
        methods: dict[str, Any] = {method: handle}
        return Endpoint(self._context, describe_error=describe_error, **methods)

    # ---------------------------------------------------------------- a run
    async def run(self, peer: Peer, read: ReadBody, graph: str | None, *, cancels_on_leave: bool) -> Response:
        """Start a run, or answer the interrupts of one; return its events.

        Args:
            peer: The caller.
            read: Reads the request's body, once the caller is known.
            graph: Name of the graph; None for that of the settings, or the only one.
            cancels_on_leave: Whether the run is cancelled when the client closes its connection.

        Raises:
            BadRequestError: If the body cannot be used.
            StreamingError: If `start_graph` raises it.
        """
        session = await self.open_session(peer)
        try:
            request = read_input(await read())
            name = self.graph_name(graph)
            if not await session.policy.allows_start(session.principal, name, peer) or not self.has_graph(name):
                raise ForbiddenError("there is no such graph, or you may not start it")
            state = await session.find(request.thread_id, latest=True)
            if state is not None and not await session.may_read(request.thread_id):
                raise forbidden_id(request.thread_id)
            if request.resumes:
                return await self._resume(session, request, name, state, cancels_on_leave=cancels_on_leave)
            if state is not None and state.state == "interrupted":
                prompts = await open_prompts(session.hub, request.thread_id, state)
                if prompts:
                    return await self._ask_again(session, request, name, state, prompts)
            return await self._start(session, request, name, cancels_on_leave=cancels_on_leave)
        except BaseException as error:
            if isinstance(error, StreamingError):
                session.instrumentation.refused(error)
            session.close()
            raise

    async def _start(self, session: Session, request: RunInput, graph: str, *, cancels_on_leave: bool) -> Response:
        conversation, turn, run = await self._begin(session, request, graph, waits=cancels_on_leave)
        asked, answered = conversation.calls()
        before = messages_in(conversation.shown)
        reading = self._reading(
            request,
            log_run_id=run.run_id,
            known=conversation.message_ids,
            known_calls={name: each for name, each in asked.items() if name not in answered},
            first_messages=(before, [*before, *turn.messages]) if turn.is_of_new_page else (),
        )
        after = None if run.after is None else str(run.after)
        leave = self._canceller(session, run.execution_id, run.run_id) if cancels_on_leave else None
        return await self._stream(session, reading, graph, after=after, on_leave=leave)

    async def _begin(
        self, session: Session, request: RunInput, graph: str, *, waits: bool
    ) -> tuple[Conversation, Turn, GraphRun]:
        """Start the run of a request, after the one that its client has just left."""
        await self._wait_for_left(request.thread_id)
        while True:
            conversation = await self.conversation(graph, request.thread_id)
            turn = conversation.turn(request)
            start = await self._remote_start(graph, request, conversation, turn)
            try:
                return conversation, turn, await start_graph(session, start)
            except ExecutionExistsError:
                if not (waits and await self._is_left(session, request.thread_id)):
                    raise

    async def _remote_start(self, graph: str, request: RunInput, conversation: Conversation, turn: Turn) -> RemoteStart:
        runner = self._context.gateway.remote_runner
        if runner is None:
            raise ForbiddenError("there is no such graph, or you may not start it")
        checkpoint_id = None
        if turn.replaced is not None:
            checkpoint_id = await runner.threads.checkpoint_before(graph, request.thread_id, turn.replaced)
        from_start = turn.replaced is not None and checkpoint_id is None
        schema: Mapping[str, Any] = runner.schemas(graph).describe()["input_schema"] or {}
        values = conversation.input(request, turn, schema.get("properties", ()), from_start=from_start)
        goes_on = checkpoint_id is not None and not turn.messages
        return RemoteStart(
            graph=graph,
            input=None if goes_on else values,
            execution_id=request.thread_id,
            checkpoint_id=checkpoint_id,
        )

    # ---------------------------------------------------------------- interrupts
    async def _resume(
        self, session: Session, request: RunInput, graph: str, state: LogState | None, *, cancels_on_leave: bool
    ) -> Response:
        """Answer interrupts, and return the events from there on."""
        thread_id = request.thread_id
        if state is None:
            raise forbidden_id(thread_id)
        await session.check("control", thread_id)
        prompts = await open_prompts(session.hub, thread_id, state)
        answers = request.resume or _answers_of(request.command, prompts or {})
        conversation = await self.conversation(graph_of(state) or graph, thread_id)
        await self._answer(session, thread_id, answers, prompts or {})
        remaining = {
            name: each for name, each in (prompts or {}).items() if name not in {a.interrupt_id for a in answers}
        }
        asked, answered = conversation.calls()
        reading = self._reading(
            request,
            log_run_id=run_id_of(state),
            known=conversation.message_ids,
            known_calls=asked,
            known_results=answered,
            values=conversation.shown if conversation.is_known else None,
            waiting=list(remaining.values()) or None,
        )
        after = str(Position(state.epoch, state.head))
        leave = self._canceller(session, thread_id, run_id_of(state)) if cancels_on_leave and not remaining else None
        return await self._stream(session, reading, graph_of(state), after=after, on_leave=leave)

    async def _answer(
        self, session: Session, thread_id: str, answers: Sequence[Answer], prompts: Mapping[str, Json]
    ) -> None:
        """Pass the answers on. The first answer to an interrupt counts; a page may repeat it with others.

        Raises:
            PromptError: If none of the interrupts waits for an answer.
            BadRequestError: If an answer does not fit.
        """
        accepted, responder = 0, session.principal.subject
        for answer in answers:
            value = answer.payload
            if answer.status == "cancelled":
                if self._settings.ag_ui_on_cancelled == "cancel_run":
                    await session.hub.cancel(thread_id, "an interrupt was cancelled")
                    return
                is_approval = prompts.get(answer.interrupt_id, {}).get("type") in ("approval", "confirmation")
                value = False if is_approval else _CANCELLED
            with contextlib.suppress(PromptError):
                await session.hub.respond(thread_id, answer.interrupt_id, value, responder=responder)
                accepted += 1
        if not accepted:
            raise PromptError(execution_id=thread_id)

    async def _ask_again(
        self, session: Session, request: RunInput, graph: str, state: LogState, prompts: Mapping[str, Json]
    ) -> Response:
        """Return the interrupts of a waiting run to a request without answers, which may come from a reloaded page."""
        conversation = await self.conversation(graph_of(state) or graph, request.thread_id)
        values = conversation.shown if conversation.is_known else None
        reading = self._reading(request, log_run_id=run_id_of(state), values=values, waiting=list(prompts.values()))
        return await self._stream(session, reading, None, after=str(Position(state.epoch, state.head)))

    # ---------------------------------------------------------------- a replay
    async def connect(self, peer: Peer, read: ReadBody) -> Response:
        """Return the state of a thread, and the events of its open run; an empty stream for an unknown thread.

        Raises:
            BadRequestError: If the body cannot be used.
            StreamingError: If the caller is refused, or the log cannot be reached.
        """
        session = await self.open_session(peer)
        try:
            request = read_input(await read())
            state = await session.find(request.thread_id, latest=True)
            try:
                await session.check("read", request.thread_id)
            except ForbiddenError:
                state = None
            if state is None:
                session.close()
                return empty_stream()
            return await self._replay(session, request, state)
        except BaseException as error:
            if isinstance(error, StreamingError):
                session.instrumentation.refused(error)
            session.close()
            raise

    async def _replay(self, session: Session, request: RunInput, state: LogState) -> Response:
        graph = graph_of(state)
        conversation = await self.conversation(graph, request.thread_id)
        asked, answered = conversation.calls()
        reading = self._reading(
            request,
            log_run_id=run_id_of(state),
            known=conversation.message_ids,
            known_calls=asked,
            known_results=answered,
            replays=True,
            values=conversation.shown if conversation.is_known else None,
            checkpoint_id=conversation.checkpoint_id,
        )
        start = state.start_record
        seq = state.head - 1 if state.ended and conversation.is_known else start.seq - 1 if start is not None else 0
        return await self._stream(session, reading, graph, after=str(Position(state.epoch, max(0, seq))))

    # ---------------------------------------------------------------- streams
    async def conversation(self, graph: str | None, thread_id: str) -> Conversation:
        """Return the present state of a thread of a graph."""
        return await Conversation.load(self._context.gateway.remote_runner, graph, thread_id)

    def _reading(self, request: RunInput, **facts: Any) -> Reading:
        return Reading(
            thread_id=request.thread_id,
            run_id=request.run_id,
            is_modern=request.is_modern,
            parent_run_id=request.parent_run_id,
            own=frozenset(each["id"] for each in request.messages if each.get("id")),
            custom_interrupts=self._settings.ag_ui_custom_interrupts,
            **facts,
        )

    async def _stream(
        self,
        session: Session,
        reading: Reading,
        graph: str | None,
        *,
        after: str | None,
        on_leave: Callable[[], Awaitable[object]] | None = None,
    ) -> Response:
        made: list[AgUiEncoder] = []

        def make(_session: Session, subscription: ActiveSubscription) -> AgUiEncoder:
            made.append(AgUiEncoder(reading, subscription.source))
            return made[0]

        async def read_large_state() -> None:
            if not made or not made[0].needs_state:
                return
            try:
                conversation = await self.conversation(graph, reading.thread_id)
            except Exception:
                logger.exception("the state of thread %r cannot be read", reading.thread_id)
                return
            if conversation.is_known:
                made[0].use_state(conversation.shown)

        options = StreamOptions(
            encoder=make,
            keep_alive_header=True,
            max_duration=self._context.gateway.settings.gateway.max_stream_duration,
            on_leave=on_leave,
            before_end=read_large_state,
        )
        query = SubscribeExecution(execution_id=reading.thread_id, after=after)
        return await open_stream(self._context, session, query, options)

    def _canceller(self, session: Session, thread_id: str, run_id: str | None) -> Callable[[], Awaitable[object]]:
        """Return what cancels a run after its client has left."""
        hub = session.hub

        async def cancel() -> None:
            with contextlib.suppress(StreamingError, TimeoutError):
                async with asyncio.timeout(_END_TIMEOUT):
                    await hub.cancel(thread_id, _LEFT, run_id=run_id)
                    await wait_for_end(hub, thread_id)

        async def leave() -> None:
            task = self._leaving[thread_id] = asyncio.create_task(cancel(), name="lg_streaming.agui.leave")
            try:
                await task
            finally:
                if self._leaving.get(thread_id) is task:
                    del self._leaving[thread_id]

        return leave

    async def _wait_for_left(self, thread_id: str) -> None:
        """Wait for the end of a run whose client has left the thread just now."""
        if (task := self._leaving.get(thread_id)) is not None:
            await asyncio.wait({task})

    async def _is_left(self, session: Session, thread_id: str) -> bool:
        """Return whether the thread's open run ends because its client leaves: a page may abort it, and start another.

        The server notices the closed connection a moment after the request.
        """
        for _ in range(_LOOKS):
            if thread_id in self._leaving:
                await self._wait_for_left(thread_id)
                return True
            state = await session.hub.describe(thread_id, latest=True)
            if state is not None and state.state == "cancelled":  # in another process
                return True
            await asyncio.sleep(_LOOK_INTERVAL)
        return False


def graph_of(state: LogState) -> str | None:
    """Return the name of the graph of an execution's last run."""
    data = state.start_record.update.data if state.start_record is not None else None
    return id_of(members(data).get("name")) or None


def run_id_of(state: LogState) -> str | None:
    """Return the id of an execution's last run."""
    return state.start_record.scope.run_id if state.start_record is not None else None


def _answers_of(command: Any, prompts: Mapping[str, Json]) -> list[Answer]:
    """Return the answers of an older page: by interrupt, or one to the first interrupt that is open."""
    if not prompts:
        raise PromptError
    by_id = members(command)
    if by_id and by_id.keys() <= prompts.keys():
        return [Answer(name, "resolved", value) for name, value in by_id.items()]
    return [Answer(next(iter(prompts)), "resolved", command)]
