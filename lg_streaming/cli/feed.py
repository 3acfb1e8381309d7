"""Updates of all executions, over any number of connections.

A server sends them over `/ws` from the moment of the subscription on. After a lost connection the feed subscribes
again, and reads over REST what it missed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from lg_streaming.cli.access import open_rest
from lg_streaming.cli.executions import patient_request
from lg_streaming.cli.outcome import UsageError
from lg_streaming.client.config import ClientConfig, TokenSource
from lg_streaming.client.failures import InterruptedStreamError, connection_failure, error_from_payload, http_failure
from lg_streaming.client.reconnect import Reconnect
from lg_streaming.client.rest import fetch_token
from lg_streaming.errors import (
    ConnectionLostError,
    DeadPeerError,
    ServerRestartError,
    StreamingError,
    UnauthorizedError,
)
from lg_streaming.events import Position, format_timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from websockets.asyncio.client import ClientConnection

    from lg_streaming.cli.access import Access
    from lg_streaming.client.rest import RestClient

__all__ = ["Feed"]

_MAX_KNOWN: Final = 100_000
_PAGE: Final = "1000"
_LIST_PAGE: Final = "200"
_ID: Final = 1
"""Id of the one request of a connection."""


class _Connect(connect):
    """Connection attempt that follows no redirect, which would pass on the token."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Return the error: the attempt fails."""
        return exc


class Feed:
    """Updates of all executions that the caller may read, from the first connection on.

    Guarantees: each update comes once, and those of an execution come in order, over any number of connections.
    Updates that the server no longer keeps are reported as an update of the type ``gap``.

    Args:
        access: The server.
        filters: Lists of names, ``events`` and ``node_ids``.
        announce: Called with a line for a person when the connection is lost, and when it is back.
    """

    def __init__(
        self, access: Access, filters: Mapping[str, Sequence[str]], *, announce: Callable[[str], None]
    ) -> None:
        try:
            self._config = ClientConfig(url=access.url, **access.options)
        except ValueError as error:
            raise UsageError(str(error)) from error
        self._access = access
        self._filters = {name: list(names) for name, names in filters.items() if names}
        self._print = announce
        self._tokens = TokenSource(access.token)
        logging.getLogger("lg_streaming.client").addHandler(logging.NullHandler())  # `announce` gets the outages
        self._reconnect = Reconnect(lambda: self._config, self._tokens, notify=lambda _: None, random=random.random)
        self._positions: OrderedDict[str, Position] = OrderedDict()
        self._since: str | None = None
        """Server's time of the first subscription, or of the newest update of an execution that is forgotten."""
        self._is_lost = False
        self._silence: float | None = None
        self._connection: ClientConnection | None = None
        self._open = AsyncExitStack()

    async def connect(self) -> None:
        """Connect and subscribe. Updates from now on are delivered.

        Raises:
            StreamingError: If the server cannot be reached or refuses the subscription.
        """
        self._reconnect.on_connecting()
        try:
            await self._subscribe()
        except InterruptedStreamError as failure:
            self._reconnect.on_failure(failure)
            raise failure.error from failure.__cause__
        finally:
            if self._connection is None:
                await self.aclose()
        self._config = self._config.with_options({"auto_reconnect": True})

    async def aclose(self) -> None:
        """Close the connection. Idempotent."""
        stack, self._open, self._connection = self._open, AsyncExitStack(), None
        await stack.aclose()

    async def updates(self) -> AsyncGenerator[dict[str, Any]]:
        """Yield updates, each as the object of the wire, without end.

        Raises:
            StreamingError: If the server refuses to go on.
        """
        if self._connection is None:
            await self.connect()
        try:
            while True:
                try:
                    if self._connection is None:
                        self._reconnect.on_connecting()
                        await self._subscribe()
                        self._announce("Connected again.", lost=False)
                        async for update in self._missed():
                            yield update
                    async for update in self._received():
                        yield update
                except InterruptedStreamError as failure:
                    await self.aclose()
                    delay = self._reconnect.on_failure(failure)
                    self._announce(f"Not connected: {failure.error.message}. Trying again.", lost=True)
                    await asyncio.sleep(delay)
        finally:
            await self.aclose()

    # ------------------------------------------------------------ the connection
    async def _subscribe(self) -> None:
        try:
            async with asyncio.timeout(self._config.connect_timeout):
                connection = await self._open.enter_async_context(await self._make_connection())
                status = await self._receive_of_type(connection, "connection_status")
                if status["status"] == "authentication_required":
                    raise InterruptedStreamError(UnauthorizedError("a valid token is required"))
                request = {"type": "subscribe_events", "payload": {**self._filters, "batch": True}, "id": _ID}
                await connection.send(orjson.dumps(request).decode())
                reply = await self._receive_of_type(connection, "reply")
                if reply.get("ok") is not True:
                    raise error_from_payload(reply.get("error"))
        except ConnectionClosed as error:
            raise connection_failure(error, self._config.address) from error
        except InvalidStatus as error:
            response = error.response
            headers = {name.lower(): value for name, value in response.headers.raw_items()}
            raise http_failure(response.status_code, None, headers, self._config.address) from error
        except (OSError, TimeoutError, InvalidHandshake, WebSocketException) as error:
            raise connection_failure(error, self._config.address) from error
        self._silence = self._config.silence_limit(status.get("heartbeat_interval_s"))
        self._since = self._since or str(status.get("server_time") or "") or None
        self._reconnect.on_connected(status.get("connection_id"))
        self._connection = connection

    async def _make_connection(self) -> _Connect:
        token = await fetch_token(self._tokens, self._config.connect_timeout)
        address = self._config.url.replace("http", "ws", 1) + "/ws"
        return _Connect(
            address,
            additional_headers={} if token is None else {"Authorization": f"Bearer {token}"},
            ssl=(self._config.ssl_context or True) if address.startswith("wss:") else None,
            open_timeout=self._config.connect_timeout,
            close_timeout=1,
            max_size=self._config.max_event_bytes,
            user_agent_header=None,
        )

    async def _receive_of_type(self, connection: ClientConnection, kind: str) -> Any:
        while True:
            message = await _receive(connection)
            if message["type"] == kind:
                return message["payload"]
            if message["type"] == "error":
                raise error_from_payload(message["payload"])

    async def _received(self) -> AsyncGenerator[dict[str, Any]]:
        """Yield the updates of the open connection until it is lost."""
        failure: InterruptedStreamError | None = None
        connection = self._connection
        assert connection is not None  # noqa: S101 (only called with a connection)
        while True:
            try:
                async with asyncio.timeout(self._silence):
                    message = await _receive(connection)
            except TimeoutError:
                raise InterruptedStreamError(DeadPeerError(f"no sign of life in {self._silence:g} s")) from None
            except (ConnectionClosed, OSError) as error:
                raise failure or connection_failure(error, self._config.address) from error
            self._reconnect.on_healthy()
            payload = message["payload"]
            match message["type"]:
                case "updates":
                    for update in payload["updates"]:
                        if self._is_new(update):
                            yield update
                case "gap":
                    yield self._gap(payload["execution_id"], payload)
                case "server_restart":
                    restart = ServerRestartError(retry_after=payload["retry_ms"] / 1000)
                    failure = InterruptedStreamError(restart)
                case "error":
                    failure = error_from_payload(payload)
                case _:
                    pass  # heartbeats, and messages of a later version

    def _announce(self, line: str, *, lost: bool) -> None:
        if lost != self._is_lost:
            self._is_lost = lost
            self._print(line)

    # ------------------------------------------------------------ positions
    def _is_new(self, update: Mapping[str, Any]) -> bool:
        """Return whether an update was not delivered before, and note its position."""
        metadata = update["metadata"]
        execution_id, position = metadata["execution_id"], Position(metadata["epoch"], metadata["sequence_number"])
        known = self._positions.get(execution_id)
        if known is not None and known.epoch == position.epoch and position.seq <= known.seq:
            return False
        self._positions[execution_id] = position
        self._positions.move_to_end(execution_id)
        if len(self._positions) > _MAX_KNOWN:
            self._positions.popitem(last=False)
            # Earlier updates of executions without a position may have been delivered.
            self._since = str(metadata["timestamp"])
        return True

    def _gap(self, execution_id: str, gap: Mapping[str, Any]) -> dict[str, Any]:
        data = {name: gap.get(name) for name in ("from", "to", "reason")}
        metadata = {"timestamp": format_timestamp(datetime.now(UTC)), "execution_id": execution_id}
        return {"type": "gap", "data": data, "metadata": metadata}

    # ------------------------------------------------------------ missed updates
    async def _missed(self) -> AsyncGenerator[dict[str, Any]]:
        """Yield the updates that came between the last connection and this one."""
        async with open_rest(self._access) as rest:
            try:
                cursor: dict[str, str] = {}
                while True:
                    page = await patient_request(rest, "/executions", {"limit": _LIST_PAGE, **cursor})
                    for each in cast("list[dict[str, Any]]", page["executions"]):
                        if self._may_have_missed(each):
                            async for update in self._missed_of(rest, each["execution_id"]):
                                yield update
                    if page["next_cursor"] is None:
                        return
                    cursor = {"cursor": page["next_cursor"]}
            except StreamingError as error:
                is_lost = isinstance(error, ConnectionLostError)
                raise InterruptedStreamError(error, retryable=True if is_lost else None) from error

    def _may_have_missed(self, execution: Mapping[str, Any]) -> bool:
        known = self._positions.get(execution["execution_id"])
        if known is not None:
            return str(known) != execution["position"]
        return self._since is None or execution["updated_at"] >= self._since

    async def _missed_of(self, rest: RestClient, execution_id: str) -> AsyncGenerator[dict[str, Any]]:
        known = self._positions.get(execution_id)
        query = {name: ",".join(names) for name, names in self._filters.items()}
        query |= {"limit": _PAGE, **({"since": self._since} if known is None and self._since else {})}
        position = None if known is None else str(known)
        while True:
            after = {} if position is None else {"after": position}
            path = f"/executions/{quote(execution_id, safe='')}/updates"
            page = await patient_request(rest, path, {**query, **after})
            if page.get("gap") is not None:
                yield self._gap(execution_id, page["gap"])
            for update in cast("list[dict[str, Any]]", page["updates"]):
                if self._is_new(update):
                    yield update
            position = page["position"]
            if not page["more"] or position is None:
                return


async def _receive(connection: ClientConnection) -> dict[str, Any]:
    """Return the next message.

    Raises:
        ConnectionClosed: If the connection is closed.
        InterruptedStreamError: If the message is not of the protocol.
    """
    content = await connection.recv(decode=False)
    try:
        message: object = orjson.loads(content)
    except ValueError:
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("payload"), dict):  # pyright: ignore[reportUnknownMemberType]
        wrong = ConnectionLostError("the server sent what is no message of the protocol: is the url right?")
        raise InterruptedStreamError(wrong, retryable=False)
    return cast("dict[str, Any]", {"type": "", **message})
