"""Event streaming: the events and the commands of threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import BadRequestError
from lg_streaming.gateway.dialects.langgraph.channels import Selection
from lg_streaming.gateway.dialects.langgraph.event_commands import Command, Commands, failed
from lg_streaming.gateway.dialects.langgraph.event_shapes import epoch_number, members, parse_event_id
from lg_streaming.gateway.dialects.langgraph.event_socket import EventSockets, SocketServices
from lg_streaming.gateway.dialects.langgraph.event_states import StateLoader, graph_of
from lg_streaming.gateway.dialects.langgraph.event_stream import EventTape, sse_frame
from lg_streaming.gateway.dialects.langgraph.refusals import RefusedError, no_thread
from lg_streaming.gateway.dialects.langgraph.segments import segment_id
from lg_streaming.gateway.dialects.langgraph.tape import SLOTS, Tape
from lg_streaming.gateway.http.event_stream import StreamOptions, open_stream
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.protocol.responses import json_response
from lg_streaming.gateway.session.session import Session
from lg_streaming.gateway.transports.base import TransportLimits
from lg_streaming.gateway.transports.deflate import Framer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.auth.policy import Principal
    from lg_streaming.gateway.dialects.langgraph.services import Services
    from lg_streaming.gateway.dialects.wire import Wire
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.gateway.http.stream_encoder import EventStreamEncoder
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.log.base import LogState

__all__ = ["EventRoutes", "ThreadSession"]

HEARTBEAT: Final = 5.0
"""Most seconds between two comments: clients measure the time between them, to find a dead connection."""
_HEADERS: Final = {"Cache-Control": "no-store, no-transform"}


@dataclass(slots=True, kw_only=True, eq=False)
class ThreadSession(Session):
    """Session of a reader that may wait for a thread's first run."""

    expected: str | None = None
    """Thread that the caller may read as long as it has no run; then the owner of the run decides."""

    async def may_read(self, execution_id: str, principal: Principal | None = None) -> bool:
        """See `Session.may_read`."""
        if execution_id == self.expected and await self.hub.describe(execution_id) is None:
            return True
        return await Session.may_read(self, execution_id, principal)


class EventRoutes:
    """Routes of event streaming.

    Args:
        wire: The wire, which admits callers and reads bodies.
        context: Services that all HTTP routes share.
        services: What the routes of the wire share.
    """

    def __init__(self, wire: Wire, context: HttpContext, services: Services) -> None:
        self._wire = wire
        self._context = context
        self._services = services
        self._commands = Commands(services)
        settings = context.gateway.settings
        self.sockets: EventSockets = EventSockets(
            SocketServices(
                context=context.gateway,
                ticker=context.ticker,
                framer=Framer(settings.gateway.compression),
                limits=TransportLimits.from_settings(settings),
                threads=self,
            )
        )
        """Connections over WebSocket."""

    # --- HTTP -----------------------------------------------------------------------------------------------

    async def command(self, request: Request, peer: Peer) -> Response:
        """Carry out a command."""
        session = await self._wire.enter(peer)
        try:
            command = Command.parse(await self._wire.body(request))
        except BadRequestError as error:
            return json_response(failed(None, "invalid_argument", error.message), 400)
        return json_response(await self.carry_out(session, request.path_params["thread_id"], command))

    async def stream(self, request: Request, peer: Peer) -> Response:
        """Stream the events of a thread: all that are kept, and then each new one."""
        session = self.new_session(peer)
        await session.login()
        try:
            body = members(await self._wire.body(request))
            try:
                selection = Selection.parse(body)
            except BadRequestError as error:
                raise RefusedError(400, error.message) from None
            return await self._open(request, session, body, selection)
        except BaseException:
            session.close()
            raise

    async def _open(
        self, request: Request, session: ThreadSession, body: Mapping[str, Any], selection: Selection
    ) -> Response:
        thread_id = request.path_params["thread_id"]
        query = await self.event_query(session, thread_id)
        state = await session.hub.describe(thread_id)
        since = _since(request, body, state)
        states = self.states_of(thread_id, state)

        def make(_: Session, __: ActiveSubscription) -> EventStreamEncoder:
            return EventTape(Tape(sse_frame, [selection], segment_id, since=since), states)

        limit = self._context.gateway.settings.gateway.max_stream_duration
        options = StreamOptions(encoder=make, headers=_HEADERS, max_duration=limit)
        return await open_stream(self._context, session, query, options)

    # --- see `ThreadService` --------------------------------------------------------------------------------

    def new_session(self, peer: Peer) -> ThreadSession:
        """Return the session of a reader; the caller logs it in."""
        gateway = self._context.gateway
        interval = gateway.settings.gateway.heartbeat_interval
        return ThreadSession(
            peer=peer,
            context=gateway,
            transport=self._wire.name,
            heartbeat_interval=None if interval is None else min(interval, HEARTBEAT),
        )

    async def event_query(self, session: ThreadSession, thread_id: str) -> SubscribeExecution:
        """Return the subscription to a thread, which may have no run yet.

        Raises:
            RefusedError: If the caller may neither read nor create the thread.
        """
        view = await self._services.threads.look(session, thread_id)
        if view is None and not await self._services.threads.may_create(session, thread_id):
            raise no_thread(thread_id)
        session.expected = thread_id if view is None or view.state is None else None
        return SubscribeExecution(execution_id=thread_id, follow=True, on_gap="oldest")

    async def carry_out(self, session: Session, thread_id: str, command: Command) -> dict[str, Any]:
        """Carry out a command; return its response."""
        return await self._commands.carry_out(session, thread_id, command)

    def states_of(self, thread_id: str, state: LogState | None) -> StateLoader:
        """Return a reader of a thread's states."""
        return StateLoader(self._services, thread_id, graph_of(state))


def _since(request: Request, body: Mapping[str, Any], state: LogState | None) -> int:
    """Return the number of the last event that a reader has; -1 if it has none of this thread."""
    since = body.get("since")
    if isinstance(since, int) and not isinstance(since, bool):
        return since if state is not None and since < (state.head + 1) * SLOTS else -1
    named = body.get("since_event_id") or request.query_params.get("since_event_id")
    parsed = parse_event_id(str(named or request.headers.get("last-event-id", "")))
    if parsed is None or state is None:
        return -1
    epoch, number = parsed
    known = epoch in {None, epoch_number(state.epoch)} and number < (state.head + 1) * SLOTS
    return number if known else -1
