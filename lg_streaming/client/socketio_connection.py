"""One Socket.IO connection, from login to close."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import aiohttp
import socketio
from engineio import base_client as engineio_clients
from socketio import packet as socketio_packet
from socketio.exceptions import SocketIOError

from lg_streaming.client.failures import InterruptedStreamError, connection_failure, error_from_payload, http_failure
from lg_streaming.client.rest import to_json
from lg_streaming.codec import OrjsonModule
from lg_streaming.errors import ConnectionLostError, DeadPeerError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from lg_streaming.client.config import ClientConfig

__all__ = ["SocketIOConnection"]

# python-socketio logs every packet and every lost connection; this package reports losses itself.
_PACKET_LOGGER: Final = logging.getLogger(f"{__name__}.packets")
if _PACKET_LOGGER.level == logging.NOTSET:
    _PACKET_LOGGER.setLevel(logging.CRITICAL)

_SECONDS_PER_MESSAGE: Final = 0.06
_BURST: Final = 30
"""Rate and burst a little below the server's defaults, `limits.messages_per_second` and `limits.message_burst`."""
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
"""Errors of python-socketio without a server, or with one that breaks the protocol."""


class _OrjsonPacket(socketio_packet.Packet):
    # python-socketio's argument `json` would change the whole process
    json = OrjsonModule


class _TolerantClient(socketio.AsyncClient):
    """python-socketio's client, which reports messages that it cannot parse instead of failing in a task."""

    on_unreadable: Callable[[object, Exception], None]

    async def _handle_eio_message(self, data: object) -> None:
        try:
            await super()._handle_eio_message(data)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            self.on_unreadable(data, error)


class SocketIOConnection:
    """One connection to a gateway.

    Args:
        config: Address, headers and limits.
        namespace: The gateway's namespace.
        on_message: Called with name and payload of each message, in order.
        on_unreadable: Called with each message that cannot be parsed, and the error.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        namespace: str,
        on_message: Callable[[SocketIOConnection, str, Any], None],
        on_unreadable: Callable[[object, Exception], None],
    ) -> None:
        self._config = config
        self._namespace = namespace
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._session: aiohttp.ClientSession | None = None
        self._response: aiohttp.ClientResponse | None = None  # python-socketio may not close it
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
        self._client.on_unreadable = on_unreadable
        self._client.on("connect_error", self._on_refused, namespace=namespace)
        self._client.on("*", self._on_event, namespace=namespace)
        self.last_received_at: float = self._loop.time()
        """Time of the last message, by the event loop's clock."""
        self.cause: InterruptedStreamError | None = None
        """Failure with which the server announced the end of the connection."""

    @property
    def lost(self) -> bool:
        """True if the connection has ended."""
        return self._lost.done()

    # ------------------------------------------------------------ open
    async def open(self, token: str | None) -> dict[str, Any]:
        """Connect, and return the payload of `connection_status`.

        Raises:
            InterruptedStreamError: If the attempt fails.
        """
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                await self._connect(token)
                # The server sends `connection_status` or closes the connection.
                await asyncio.wait({self._connected, self._lost}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            error = ConnectionLostError(
                f"no connection to {self._config.address} in {self._config.connect_timeout:g} s"
            )
            raise InterruptedStreamError(error) from None
        except _CONNECT_ERRORS as error:
            raise _find_failure(error, self._config.address) from error
        if not self._connected.done():
            raise self._lost.result()
        status = self._connected.result()
        if status.get("status") != "connected":
            raise InterruptedStreamError(UnauthorizedError("this gateway requires a token: give the client one"))
        self._sender = asyncio.create_task(self._send_queued(), name="lg_streaming.client.sender")
        return status

    async def _connect(self, token: str | None) -> None:
        config = self._config
        headers = dict(config.headers)
        # python-engineio would move a cookie to the jar, which may take none.
        cookies = {name: headers.pop(name) for name in list(headers) if name.lower() == "cookie"}
        # python-socketio would leave a session that it created open after a refusal.
        self._session = self._client.eio.http = aiohttp.ClientSession(
            headers=cookies,
            cookie_jar=aiohttp.CookieJar(unsafe=True) if config.with_credentials else aiohttp.DummyCookieJar(),
            connector=aiohttp.TCPConnector(ssl=config.ssl_context or True),
            trace_configs=[self._make_trace_config()],
        )
        await self._client.connect(
            config.url,
            headers=headers,
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
        """Refuse redirects, which would pass on the token; aiohttp's WebSocket has no option for it."""

        async def refuse(_session: object, _context: object, params: aiohttp.TraceRequestRedirectParams) -> None:
            response = params.response
            raise aiohttp.ClientResponseError(
                response.request_info, (), status=response.status, headers=cast("Any", response.headers)
            )

        async def keep(_session: object, _context: object, params: aiohttp.TraceRequestEndParams) -> None:
            self._response = params.response

        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(refuse)
        tracing.on_request_end.append(keep)
        return tracing

    def _on_refused(self, reason: object = None) -> None:
        details: object = cast("Mapping[str, object]", reason).get("data") if isinstance(reason, dict) else None
        if isinstance(details, dict):
            self._fail(error_from_payload(cast("object", details)))
        elif not self._lost.done():
            self._fail(
                InterruptedStreamError(ConnectionLostError(f"the server refused the connection: {reason!r:.200}"))
            )

    def _on_event(self, name: str, *arguments: Any) -> None:
        self.last_received_at = self._loop.time()
        payload = arguments[0] if arguments else None
        if name == "connection_status" and isinstance(payload, dict) and not self._connected.done():
            self._connected.set_result(cast("dict[str, Any]", payload))
        self._on_message(self, name, payload)

    # ------------------------------------------------------------ send
    def emit(
        self, name: str, payload: Mapping[str, Any], *, on_accepted: Callable[[dict[str, Any]], None] | None = None
    ) -> asyncio.Future[Any]:
        """Send a message, after those before it; return the future of its answer.

        Args:
            name: Name of the message.
            payload: Payload of the message.
            on_accepted: Called with an answer that is no refusal, before later messages are handled.

        Raises:
            BadRequestError: If JSON cannot hold the payload.
        """
        to_json(payload)  # the sender's task would fail without a caller
        answer: asyncio.Future[Any] = self._loop.create_future()
        answer.add_done_callback(_mark_retrieved)
        self._pending.add(answer)
        answer.add_done_callback(self._pending.discard)

        def on_answer(content: object = None) -> None:
            if on_accepted is not None and isinstance(content, dict) and content.get("ok") is True:  # pyright: ignore[reportUnknownMemberType]
                on_accepted(cast("dict[str, Any]", content))
            if not answer.done():
                answer.set_result(content)

        async def send() -> None:
            await self._client.emit(name, dict(payload), namespace=self._namespace, callback=on_answer)

        if self._lost.done():
            answer.set_exception(self._lost.result())
        else:
            self._outbox.put_nowait(send)
        return answer

    async def call(
        self, name: str, payload: Mapping[str, Any], *, on_accepted: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        """Send a message, and return its answer. The arguments are those of `emit`.

        Raises:
            InterruptedStreamError: If the server refuses the message, or does not answer.
        """
        answer = self.emit(name, payload, on_accepted=on_accepted)
        timeout = self._config.connect_timeout + self._outbox.qsize() * _SECONDS_PER_MESSAGE
        try:
            async with asyncio.timeout(timeout):
                content: object = await answer
        except TimeoutError:
            dead = DeadPeerError(f"no answer to {name} in {timeout:g} s")
            self.mark_lost(dead)
            raise InterruptedStreamError(dead) from None
        if not isinstance(content, dict) or content.get("ok") is not True:  # pyright: ignore[reportUnknownMemberType]
            error: object = cast("Mapping[str, object]", content).get("error") if isinstance(content, dict) else None
            raise error_from_payload(error)
        return cast("dict[str, Any]", content)

    async def _send_queued(self) -> None:
        """Send queued messages, within the server's rate limit."""
        free_at = 0.0
        with contextlib.suppress(SocketIOError, aiohttp.ClientError, OSError):
            while True:
                send = await self._outbox.get()
                now = self._loop.time()
                free_at = max(free_at, now - _BURST * _SECONDS_PER_MESSAGE) + _SECONDS_PER_MESSAGE
                await asyncio.sleep(max(0.0, free_at - now))
                await send()
        self.mark_lost(ConnectionLostError("the connection broke off"))

    # ------------------------------------------------------------ close
    def mark_lost(self, error: ConnectionLostError | DeadPeerError) -> None:
        """End the connection with the failure that the server announced, or else with `error`."""
        self._fail(self.cause or InterruptedStreamError(error))

    def _fail(self, failure: InterruptedStreamError) -> None:
        if self._lost.done():
            return
        self._lost.set_result(failure)
        for answer in list(self._pending):
            if not answer.done():
                answer.set_exception(failure)

    async def wait_lost(self, seconds: float | None) -> InterruptedStreamError | None:
        """Wait for the end of the connection, and return its failure; None if it is open after `seconds`."""
        await asyncio.wait({self._lost}, timeout=seconds)
        return self._lost.result() if self._lost.done() else None

    async def aclose(self) -> None:
        """Close the connection and all its tasks, with a disconnect packet if the server is connected."""
        is_open = not self._lost.done() and self._connected.done()
        self._fail(InterruptedStreamError(ConnectionLostError("the connection was closed")))
        engine = cast("Any", self._client.eio)
        try:
            if is_open:
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
    """Return the failure for an error of python-socketio. Only the cause of the error has the HTTP status."""
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
    """Retrieve the exception of an answer, which possibly nothing awaits."""
    if not answer.cancelled():
        answer.exception()
