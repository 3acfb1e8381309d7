"""One Socket.IO connection, from its login to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import aiohttp
import orjson
import socketio
from engineio import base_client as engineio_clients
from socketio import packet as socketio_packet
from socketio.exceptions import SocketIOError

from lg_streaming.client.failures import InterruptedStreamError, connection_failure, error_from_payload, http_failure
from lg_streaming.client.rest import to_json
from lg_streaming.errors import ConnectionLostError, DeadPeerError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from lg_streaming.client.config import ClientConfig

__all__ = ["SocketIOConnection"]

# The library tells of every packet and every lost connection, which is told here in our own words.
_PACKET_LOGGER: Final = logging.getLogger(f"{__name__}.packets")
if _PACKET_LOGGER.level == logging.NOTSET:
    _PACKET_LOGGER.setLevel(logging.CRITICAL)

_SECONDS_PER_MESSAGE: Final = 0.06
_BURST: Final = 30
"""A little less than the server's `limits.messages_per_second` and `limits.message_burst` allow by default."""
_CLOSE_TIMEOUT: Final = 1.0
_CONNECT_ERRORS: Final = (
    SocketIOError,
    aiohttp.ClientError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)
"""What python-socketio raises where there is no server, or where one says what it should not."""


class _OrjsonModule:
    """What python-socketio wants of a JSON module."""

    @staticmethod
    def dumps(value: object, **_: object) -> str:
        return orjson.dumps(value).decode()

    @staticmethod
    def loads(text: str) -> Any:
        return orjson.loads(text)


class _OrjsonPacket(socketio_packet.Packet):
    # not the library's argument `json`, which is for the whole process
    json = _OrjsonModule


class _TolerantClient(socketio.AsyncClient):
    """python-socketio's client, which is told of what it cannot read rather than failing in a task of its own."""

    unreadable: Callable[[object, Exception], None]

    async def _handle_eio_message(self, data: object) -> None:
        try:
            await super()._handle_eio_message(data)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            self.unreadable(data, error)


class SocketIOConnection:
    """A connection.

    Args:
        config: Address, headers and limits.
        namespace: The gateway's namespace.
        received: Called with each message's name and payload, in the order in which they came.
        unreadable: Called with what could not be read.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        namespace: str,
        received: Callable[[SocketIOConnection, str, Any], None],
        unreadable: Callable[[object, Exception], None],
    ) -> None:
        self._config = config
        self._namespace = namespace
        self._on_message = received
        self._loop = asyncio.get_running_loop()
        self._session: aiohttp.ClientSession | None = None
        self._response: aiohttp.ClientResponse | None = None  # python-socketio may lose sight of it
        self._connected: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._lost: asyncio.Future[InterruptedStreamError] = self._loop.create_future()
        self._outbox: asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]] = asyncio.Queue()
        self._pending: set[asyncio.Future[Any]] = set()
        self._sender: asyncio.Task[None] | None = None
        self._client = _TolerantClient(
            reconnection=False,
            handle_sigint=False,
            logger=cast("Any", _PACKET_LOGGER),
            engineio_logger=_PACKET_LOGGER,
            serializer=cast("Any", _OrjsonPacket),
            request_timeout=_CLOSE_TIMEOUT,
            websocket_extra_options={"max_msg_size": config.max_event_bytes},
        )
        self._client.unreadable = unreadable
        self._client.on("connect_error", self._on_refused, namespace=namespace)
        self._client.on("*", self._on_event, namespace=namespace)
        self.last_received_at: float = self._loop.time()
        """When something last came."""
        self.cause: InterruptedStreamError | None = None
        """What the server said would end the connection."""

    @property
    def lost(self) -> bool:
        """Whether it is over."""
        return self._lost.done()

    # ------------------------------------------------------------ coming
    async def open(self, token: str | None) -> dict[str, Any]:
        """Connects; returns `connection_status`. Raises InterruptedStreamError."""
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await self._connect(token)
                # Whichever comes first: the greeting, or the end.
                await asyncio.wait({self._connected, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            late = ConnectionLostError(f"no connection to {self._config.address} in {self._config.connect_timeout:g} s")
            raise InterruptedStreamError(late) from None
        except _CONNECT_ERRORS as error:
            raise _find_failure(error, self._config.address) from error
        if not self._connected.done():
            raise self._lost.result()
        greeting = self._connected.result()
        if greeting.get("status") != "connected":
            raise InterruptedStreamError(UnauthorizedError("this gateway wants a token: give the client one"))
        self._sender = asyncio.create_task(self._send_queued(), name="lg_streaming.client.sender")
        return greeting

    async def _connect(self, token: str | None) -> None:
        config = self._config
        # The session is ours, because the client leaves its own one open when it is refused.
        self._session = self._client.eio.http = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True) if config.with_credentials else aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(ssl=config.ssl_context or True),
            trace_configs=[self._make_trace_config()],
        )
        await self._client.connect(
            config.url,
            headers=dict(config.headers),
            auth=None if token is None else {"token": token},
            transports=["websocket"],
            namespaces=[self._namespace],
            socketio_path=f"{urlsplit(config.url).path}/socket.io",
            wait=False,
        )
        reading = cast("asyncio.Task[None] | None", self._client.eio.read_loop_task)
        if reading is not None:
            reading.add_done_callback(lambda _: self.mark_lost(ConnectionLostError("the connection broke off")))

    def _make_trace_config(self) -> aiohttp.TraceConfig:
        """Has redirects refused, as the token would go wherever they lead; a WebSocket has no option for it."""

        async def refuse(_session: object, _context: object, told: aiohttp.TraceRequestRedirectParams) -> None:
            answer = told.response
            raise aiohttp.ClientResponseError(
                answer.request_info, (), status=answer.status, headers=cast("Any", answer.headers)
            )

        async def keep(_session: object, _context: object, told: aiohttp.TraceRequestEndParams) -> None:
            self._response = told.response

        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(refuse)
        tracing.on_request_end.append(keep)
        return tracing

    def _on_refused(self, told: object = None) -> None:
        details: object = cast("Mapping[str, object]", told).get("data") if isinstance(told, dict) else None
        if isinstance(details, dict):
            self._fail(error_from_payload(cast("object", details)))
        elif not self._lost.done():
            self._fail(InterruptedStreamError(ConnectionLostError(f"the server refused the connection: {told!r:.200}")))

    def _on_event(self, name: str, *arguments: Any) -> None:
        self.last_received_at = self._loop.time()
        payload = arguments[0] if arguments else None
        if name == "connection_status" and isinstance(payload, dict) and not self._connected.done():
            self._connected.set_result(cast("dict[str, Any]", payload))
        self._on_message(self, name, payload)

    # ------------------------------------------------------------ asking
    def emit(
        self, name: str, payload: Mapping[str, Any], *, accepted: Callable[[dict[str, Any]], None] | None = None
    ) -> asyncio.Future[Any]:
        """Sends a message after those before it; the future is its answer.

        Args:
            name: The message's name.
            payload: What it says.
            accepted: Called with an answer that is no refusal, before anything that comes after it.

        Raises:
            BadRequestError: JSON cannot hold the payload.
        """
        to_json(payload)  # what cannot be sent would fail where nobody sees it
        answer: asyncio.Future[Any] = self._loop.create_future()
        answer.add_done_callback(_mark_retrieved)
        self._pending.add(answer)
        answer.add_done_callback(self._pending.discard)

        def arrived(told: object = None) -> None:
            if accepted is not None and isinstance(told, dict) and told.get("ok") is True:  # pyright: ignore[reportUnknownMemberType]
                accepted(cast("dict[str, Any]", told))
            if not answer.done():
                answer.set_result(told)

        async def send() -> None:
            await self._client.emit(name, dict(payload), namespace=self._namespace, callback=arrived)

        if self._lost.done():
            answer.set_exception(self._lost.result())
        else:
            self._outbox.put_nowait(send)
        return answer

    async def call(
        self, name: str, payload: Mapping[str, Any], *, accepted: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """The answer to a message. Raises InterruptedStreamError: it was refused, or none came."""
        answer = self.emit(name, payload, accepted=accepted)
        waiting = self._config.connect_timeout + self._outbox.qsize() * _SECONDS_PER_MESSAGE
        try:
            async with asyncio.timeout(waiting):
                told: object = await answer
        except TimeoutError:
            error = DeadPeerError(f"no answer to {name} in {waiting:g} s")
            self.mark_lost(error)
            raise InterruptedStreamError(error) from None
        if not isinstance(told, dict) or told.get("ok") is not True:  # pyright: ignore[reportUnknownMemberType]
            error_told: object = cast("Mapping[str, object]", told).get("error") if isinstance(told, dict) else None
            raise error_from_payload(error_told)
        return cast("dict[str, Any]", told)

    async def _send_queued(self) -> None:
        """Sends what is asked for, no faster than the server allows."""
        free_at = 0.0
        with contextlib.suppress(SocketIOError, aiohttp.ClientError, OSError):
            while True:
                send = await self._outbox.get()
                now = self._loop.time()
                free_at = max(free_at, now - _BURST * _SECONDS_PER_MESSAGE) + _SECONDS_PER_MESSAGE
                await asyncio.sleep(max(0.0, free_at - now))
                await send()
        self.mark_lost(ConnectionLostError("the connection broke off"))

    # ------------------------------------------------------------ going
    def mark_lost(self, error: ConnectionLostError | DeadPeerError) -> None:
        """It counts as lost from now on; what the server gave as the reason goes before `error`."""
        self._fail(self.cause or InterruptedStreamError(error))

    def _fail(self, failure: InterruptedStreamError) -> None:
        if self._lost.done():
            return
        self._lost.set_result(failure)
        for answer in list(self._pending):
            if not answer.done():
                answer.set_exception(failure)

    async def wait_lost(self, seconds: float | None) -> InterruptedStreamError | None:
        """The failure that ended it; None when it stands after `seconds`."""
        await asyncio.wait({self._lost}, timeout=seconds)
        return self._lost.result() if self._lost.done() else None

    async def aclose(self) -> None:
        """Ends it, with a goodbye where it stands; nothing is left of it."""
        well = not self._lost.done() and self._connected.done()
        self._fail(InterruptedStreamError(ConnectionLostError("the connection was closed")))
        engine = cast("Any", self._client.eio)
        try:
            if well:
                with contextlib.suppress(TimeoutError, SocketIOError, aiohttp.ClientError, OSError):
                    async with asyncio.timeout(_CLOSE_TIMEOUT):
                        await self._client.disconnect()
        finally:
            engine.state = "disconnected"
            if self._response is not None:
                self._response.close()
            if self._session is not None:
                await self._session.close()
            loops = cast("list[asyncio.Task[None] | None]", [engine.read_loop_task, engine.write_loop_task])
            tasks = [task for task in (self._sender, *loops) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(ValueError):  # a list of the whole process
                engineio_clients.connected_clients.remove(engine)


def _find_failure(error: BaseException, address: str) -> InterruptedStreamError:
    """The failure an error of python-socketio means; the HTTP status stands only in what it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientResponseError):  # a failed handshake is one, too
            headers = {str(name).lower(): value for name, value in (cause.headers or {}).items()}
            return http_failure(cause.status, None, headers, address)
        if isinstance(cause, aiohttp.ClientError | OSError) and str(cause):
            break
        cause = cause.__cause__ or cause.__context__
    return connection_failure(cause or error, address)


def _mark_retrieved(answer: asyncio.Future[Any]) -> None:
    """An answer nobody waits for may be a failure."""
    if not answer.cancelled():
        answer.exception()
