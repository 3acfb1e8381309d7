"""A Socket.IO client that follows one execution and picks up where it was when the connection breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Self, cast

import socketio
from socketio.exceptions import ConnectionError as ConnectError

Message = Mapping[str, Any]

_TIMEOUT = 10.0
"""Seconds for the server to answer."""


class WatchError(Exception):
    """The server cannot be reached, refused us, or left for good."""


class Watcher:
    """Follows one execution at `url` and hands over each of its updates once, in order.

    An async context manager: inside it the subscription is in force. A broken connection is made again, and goes on
    after the last update that arrived.

    Raises:
        WatchError: on entry, when the server cannot be reached or refuses the subscription.
    """

    def __init__(
        self,
        url: str,
        execution_id: str,
        *,
        on_update: Callable[[Message], None],
        on_gap: Callable[[Message], None],
    ) -> None:
        self._url = url
        self._execution_id = execution_id
        self._on_update = on_update
        self._on_gap = on_gap
        self._position: str | None = None
        loop = asyncio.get_running_loop()
        self._subscribed: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._refusal = ""
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            client = await self._make_client(opening)
            try:
                await client.connect(self._url, transports=["websocket"], wait_timeout=_TIMEOUT)
                await asyncio.wait_for(self._subscribed, _TIMEOUT)
            except ConnectError as error:
                raise WatchError(f"no connection to {self._url}: {self._refusal or error}") from error
            except TimeoutError as error:
                raise WatchError(f"{self._url} did not answer within {_TIMEOUT:g} s") from error
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._open.aclose()

    async def _make_client(self, opening: AsyncExitStack) -> Any:
        import aiohttp

        # The session is ours, because the client leaves its own one open when it is refused.
        session = await opening.enter_async_context(aiohttp.ClientSession())
        client: Any = socketio.AsyncClient(http_session=session, handle_sigint=False)
        opening.push_async_callback(client.shutdown)
        client.on("connect_error", self._note_refusal)
        client.on("connection_status", self._subscribe)
        client.on("updates", self._receive)
        client.on("gap", self._miss)
        client.on("subscription_closed", self._close)
        self._client = client
        return client

    async def ended(self) -> None:
        """Return once the run's final update has arrived; raises WatchError when it never will.

        Raises what `on_update` raised, too: after that, no update is handed over any more.
        """
        await asyncio.shield(self._ended)

    async def _subscribe(self, _status: Message) -> None:
        request: dict[str, object] = {"execution_id": self._execution_id, "batch": True}
        if self._position is not None:
            request["after"] = self._position
        # Not `call`: this handler runs in the loop that would read the answer.
        await self._client.emit("subscribe_execution", request, callback=self._answered)

    def _note_refusal(self, reason: Any) -> None:
        told = cast("Message", reason) if isinstance(reason, dict) else {"message": reason}
        self._refusal = str(told.get("message", told))

    def _answered(self, answer: Message) -> None:
        if answer["ok"]:
            _settle(self._subscribed)
            return
        error = WatchError(f"{self._url} refused the subscription: {answer['error']['message']}")
        _settle(self._ended if self._subscribed.done() else self._subscribed, error)

    def _receive(self, message: Message) -> None:
        for update in message["updates"]:
            if self._ended.done():
                return
            metadata = update["metadata"]
            self._position = f"{metadata['epoch']}:{metadata['sequence_number']}"
            try:
                self._on_update(update)
            except Exception as error:  # noqa: BLE001 (it belongs to whoever waits for the end, not to the client)
                _settle(self._ended, error)

    def _miss(self, gap: Message) -> None:
        self._on_gap(gap)

    def _close(self, message: Message) -> None:
        reason = message["reason"]
        _settle(self._ended, None if reason == "ended" else WatchError(f"the subscription was closed: {reason}"))


def _settle(future: asyncio.Future[None], error: Exception | None = None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
