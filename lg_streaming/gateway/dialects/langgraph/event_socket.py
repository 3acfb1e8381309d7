"""A thread's commands and events over one WebSocket."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import orjson

from lg_streaming.errors import (
    BadRequestError,
    ServerRestartError,
    SlowReaderError,
    StreamingError,
    TooLargeError,
    TooManySubscriptionsError,
)
from lg_streaming.gateway.auth.url_credentials import take_credentials
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.langgraph.channels import Selection
from lg_streaming.gateway.dialects.langgraph.event_commands import Command, failed
from lg_streaming.gateway.dialects.langgraph.event_shapes import as_text
from lg_streaming.gateway.dialects.langgraph.refusals import RefusedError
from lg_streaming.gateway.dialects.langgraph.segments import segment_id
from lg_streaming.gateway.dialects.langgraph.tape import Tape
from lg_streaming.gateway.protocol.registry import check_nesting
from lg_streaming.gateway.session.timers import SessionTimers, TimerEvent
from lg_streaming.gateway.transports.open_sockets import OpenSockets
from lg_streaming.gateway.transports.packets import size_of
from lg_streaming.gateway.transports.websocket_connection import WebSocketConnection
from lg_streaming.hub.carry import DEFAULT_LIMIT, read_when_available

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from starlette.types import Receive, Scope, Send

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.delivery.ticker import BatchTicker
    from lg_streaming.gateway.dialects.langgraph.event_states import StateLoader
    from lg_streaming.gateway.protocol.inbound import SubscribeExecution
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.gateway.transports.base import TransportLimits
    from lg_streaming.gateway.transports.deflate import Framer
    from lg_streaming.hub import Page, Subscription
    from lg_streaming.log.base import LogState

__all__ = ["EventSockets", "SocketServices", "close_code"]

logger: logging.Logger = logging.getLogger(__name__)

_MOST_SUBSCRIPTIONS: Final = 128
_CODES: Final = 4_000
_LONGEST_REASON: Final = 100
_COME_BACK: Final = 4_408
"""Code of a close after which clients connect again: 4000 + the HTTP status 408."""


def close_code(error: StreamingError) -> int:
    """Return the code of a close: 4000 and the HTTP status, as clients read it.

    Clients take a code between 4400 and 4499 as final, other than 4408 and 4429.
    """
    return _COME_BACK if isinstance(error, SlowReaderError) else _CODES + error.http_status


class ThreadService(Protocol):
    """Functions of the wire that a connection needs."""

    def new_session(self, peer: Peer) -> Any:
        """Return a session that is not logged in."""
        ...

    async def event_query(self, session: Any, thread_id: str) -> SubscribeExecution:
        """Return the subscription to a thread. Raises RefusedError if the caller may neither read nor create it."""
        ...

    async def carry_out(self, session: Any, thread_id: str, command: Command) -> dict[str, Any]:
        """Carry out a command; return its response."""
        ...

    def states_of(self, thread_id: str, state: LogState | None) -> StateLoader:
        """Return a reader of a thread's states."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketServices:
    """Services that all connections share."""

    context: GatewayContext
    ticker: BatchTicker
    framer: Framer
    limits: TransportLimits
    threads: ThreadService


class EventSockets:
    """The WebSocket server of a wire.

    Args:
        services: Services that all connections share.
    """

    def __init__(self, services: SocketServices) -> None:
        self._services = services
        self._open = OpenSockets[_Socket]()
        lifecycle = services.context.lifecycle
        lifecycle.on_start.append(self._open.begin)
        lifecycle.closables.append(self)
        lifecycle.closers.append(self._open.wait_closed)

    def close_for_restart(self) -> None:
        """See `Closable.close_for_restart`."""
        for socket in self._open:
            socket.close_with(ServerRestartError())

    async def serve(self, thread_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of a thread."""
        policy = self._services.context.policy
        await take_credentials(policy.use_ticket, scope)
        self._services.context.lifecycle.wake()
        await receive()
        await send({"type": "websocket.accept"})
        socket = _Socket(self._services, policy.peer_of(scope), thread_id, send)
        with self._open.keep(socket):
            await socket.serve(receive)


@dataclass(slots=True)
class _Request:
    """Subscription that a client asks for, or the end of one."""

    id: int
    selection: Selection | None
    name: str


class _Socket:
    """One connection."""

    def __init__(self, services: SocketServices, peer: Peer, thread_id: str, send: Send) -> None:
        self._services = services
        self._thread_id = thread_id
        self._websocket = WebSocketConnection(send, services.limits, services.framer, self.close_with, self.close_with)
        self._session: Session = services.threads.new_session(peer)
        self._timers = SessionTimers(self._session, self._on_due, self._beat)
        self._requests: deque[_Request] = deque()
        self._asked = asyncio.Event()
        self._selections: dict[str, Selection] = {}
        self._names = 0
        self._pump: asyncio.Task[None] | None = None

    def close_with(self, error: StreamingError) -> None:
        """Close the connection for a reason. Never waits."""
        if not self._websocket.closing:
            self._websocket.close(close_code(error), error.name)

    # ------------------------------------------------------------ from the client
    async def serve(self, receive: Receive) -> None:
        """Handle the client's messages until the connection closes."""
        try:
            if await self._log_in():
                self._session.opened(secrets.token_urlsafe(15))
                self._timers.start()
                self._pump = asyncio.create_task(self._deliver(), name="lg_streaming.pump")
            while (message := await receive())["type"] != "websocket.disconnect":
                await self._handle(message)
        except asyncio.CancelledError:
            if not await self._websocket.was_closing():
                raise
        finally:
            self._websocket.stop()
            self._session.close(self._websocket.close_code)
            await self._timers.close()
            if self._pump is not None:
                self._pump.cancel()
                await asyncio.gather(self._pump, return_exceptions=True)

    async def _log_in(self) -> bool:
        session = self._session
        try:
            await session.login(takes_tickets=True)
            await self._services.threads.event_query(session, self._thread_id)
        except StreamingError as error:
            session.instrumentation.refused(error)
            self.close_with(error)
            return False
        except RefusedError as error:
            self._websocket.close(_CODES + error.status, error.detail[:_LONGEST_REASON])
            return False
        return True

    async def _handle(self, message: MutableMapping[str, Any]) -> None:
        if self._websocket.closing:
            return
        text = message.get("text")
        limit = self._services.limits.inbound_bytes
        if isinstance(text, str) and size_of(text) > limit:
            self.close_with(TooLargeError(f"a message may have {limit} bytes, not {size_of(text)}"))
            return
        clock, session = self._services.context.clock.monotonic, self._session
        began, refused, command = clock(), None, None
        try:
            session.charge_rate(began)
            command = Command.parse(_parse(text))
            await self._carry_out(command)
        except StreamingError as error:
            refused = error
            number = None if command is None else command.id
            self._answer(failed(number, "invalid_argument", error.message))
            if session.count_violation(error):
                self.close_with(error)
        except Exception:
            logger.exception("a command on connection %s failed", session.connection_id)
            self.close_with(StreamingError("the server failed on this command"))
        finally:
            session.instrumentation.handled("command", clock() - began, refused)

    async def _carry_out(self, command: Command) -> None:
        match command.method:
            case "subscription.subscribe":
                selection = Selection.parse(command.params)
                if len(self._selections) + len(self._requests) >= _MOST_SUBSCRIPTIONS:
                    raise TooManySubscriptionsError(f"a connection has at most {_MOST_SUBSCRIPTIONS} subscriptions")
                self._names += 1
                self._ask(_Request(command.id, selection, f"sub-{self._names}"))
            case "subscription.unsubscribe":
                self._ask(_Request(command.id, None, as_text(command.params.get("subscription_id"))))
            case _:
                self._answer(await self._services.threads.carry_out(self._session, self._thread_id, command))

    def _ask(self, request: _Request) -> None:
        self._requests.append(request)
        self._asked.set()

    def _answer(self, message: Mapping[str, Any]) -> None:
        self._websocket.put_text(orjson.dumps(message))

    # ------------------------------------------------------------ to the client
    async def _deliver(self) -> None:
        """Serve subscriptions, one after the other, and send live events in between."""
        reader: _Reader | None = None
        try:
            while True:
                while self._requests:
                    reader = await self._serve_request(reader)
                self._asked.clear()
                if reader is None:
                    await self._asked.wait()
                elif await self._wait_ready(reader):
                    await self._services.ticker.turn(reader.sent_at)
                    await self._send(reader, await reader.read())
        except StreamingError as error:
            self.close_with(error)
        except RefusedError as error:
            self._websocket.close(_CODES + error.status, error.detail[:_LONGEST_REASON])
        except Exception:
            logger.exception("delivery of thread %r failed", self._thread_id)
            self.close_with(StreamingError())

    async def _wait_ready(self, reader: _Reader) -> bool:
        """Wait for updates or for a request; return whether there are updates."""
        ready, asked = asyncio.ensure_future(reader.source.ready()), asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait({ready, asked}, return_when=asyncio.FIRST_COMPLETED)
            return not self._requests
        finally:
            for each in (ready, asked):
                each.cancel()
            await asyncio.gather(ready, asked, return_exceptions=True)

    async def _serve_request(self, reader: _Reader | None) -> _Reader | None:
        """Serve the oldest request, and with a subscription all that follow it: their past events come in one order."""
        if self._requests[0].selection is None:
            return self._unsubscribe(self._requests.popleft(), reader)
        return await self._subscribe(reader)

    def _taken(self) -> list[_Request]:
        taken: list[_Request] = []
        while self._requests and self._requests[0].selection is not None:
            taken.append(self._requests.popleft())
        return taken

    def _unsubscribe(self, request: _Request, reader: _Reader | None) -> _Reader | None:
        if self._selections.pop(request.name, None) is None:
            self._answer(failed(request.id, "no_such_subscription", "there is no such subscription"))
        else:
            self._answer({"type": "success", "id": request.id, "result": {}})
        if reader is not None:
            reader.tape.select(list(self._selections.values()))
        return reader

    async def _subscribe(self, before: _Reader | None) -> _Reader:
        """Send all past events of subscriptions, then the answers, and return the reader of live events.

        The past ends where the live events of the other subscriptions have arrived.
        """
        services, session = self._services, self._session
        query = await services.threads.event_query(session, self._thread_id)
        subscription, attached = await session.subscribe(query)
        states = services.threads.states_of(self._thread_id, await session.hub.describe(self._thread_id))
        requests = self._taken()
        new = {each.name: each.selection for each in requests if each.selection is not None}
        tape = Tape(self._frame, list(new.values()), segment_id)
        reader = _Reader(subscription.source, tape, states)
        sent = attached.position if before is None else before.source.position
        end = sent.seq if sent is not None else 0
        while (position := subscription.source.position) is not None and position.seq < end:
            await self._send(reader, await reader.read(end - position.seq))
        self._selections |= new
        for each in requests:
            result = {"subscription_id": each.name, "replayed_events": tape.written}
            meta = {"applied_through_seq": tape.last}
            self._answer({"type": "success", "id": each.id, "result": result, "meta": meta})
        tape.select(list(self._selections.values()))
        return reader

    def _frame(self, method: bytes, event_id: bytes, json: bytes) -> bytes:  # noqa: ARG002 (the JSON has both)
        return self._websocket.frame(json)

    async def _send(self, reader: _Reader, page: Page | None) -> None:
        """Send a page, as soon as the client reads."""
        if page is None:
            return
        if page.ended:
            raise ServerRestartError
        words = await reader.states.prepare(page, reader.tape)
        if page.gap is not None:
            self._session.instrumentation.gap(self._thread_id, page.gap)
        for start in range(0, len(page.records), _PIECE):
            records = page.records[start : start + _PIECE]
            frames = reader.tape.encode(self._thread_id, records)
            if not self._websocket.buffer.writable.is_set():
                await self._websocket.buffer.drain()
            if words or frames.wire:
                self._websocket.buffer.put(Frames(words + frames.wire, count=frames.count + bool(words)))
            words = b""
        if page.records:
            newest = page.records[-1].timestamp
            self._session.instrumentation.sent(self._thread_id, len(page.records), 0, newest)
        reader.sent_at = asyncio.get_running_loop().time()

    # ------------------------------------------------------------ time
    def _on_due(self, event: TimerEvent) -> None:
        if event.close is not None:
            self.close_with(event.close)

    async def _beat(self) -> None:
        """Send nothing: the server's pings find a dead connection. The timer checks the token."""


_PIECE: Final = 100
"""Updates that are encoded before the next wait for the client."""


@dataclass(slots=True)
class _Reader:
    """Reader of a thread's updates, and the encoder of its events."""

    source: Subscription
    tape: Tape
    states: StateLoader
    sent_at: float = float("-inf")

    async def read(self, limit: int = DEFAULT_LIMIT) -> Page | None:
        """Return a page, or None; wait while the log is unavailable."""
        return await read_when_available(self.source.poll, min(limit, DEFAULT_LIMIT))


def _parse(text: object) -> Mapping[str, Any]:
    if not isinstance(text, str):
        raise BadRequestError("binary messages are not accepted")
    check_nesting(text)
    try:
        message: object = orjson.loads(text)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise BadRequestError('a command is JSON: {"id": 1, "method": …, "params": {…}}')
    return cast("Mapping[str, Any]", message)
