"""The client over Server-Sent Events."""

from __future__ import annotations

import random as _random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Unpack

import httpx2

from lg_streaming.client.base import StreamClient, utc_now
from lg_streaming.client.config import ClientOptions
from lg_streaming.client.failures import connection_failure
from lg_streaming.client.outage import Outage
from lg_streaming.client.reconnect import Reconnect
from lg_streaming.client.rest import execution_path
from lg_streaming.client.sse_subscription import SSESubscription
from lg_streaming.fork import bury

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from lg_streaming.client.config import ClientConfig
    from lg_streaming.client.events import ClientState
    from lg_streaming.client.request import SubscriptionRequest
    from lg_streaming.client.subscription import ClientSubscription
    from lg_streaming.events import Position

__all__ = ["SSEClient"]

_ROUTES: Final = {"pause_execution": "pause", "resume_execution": "resume", "inject_input": "inputs"}
_WORST_FIRST: Final[tuple[ClientState, ...]] = ("failed", "reconnecting", "connecting", "disconnected", "connected")


class SSEClient(StreamClient):
    """A client over Server-Sent Events, with one HTTP response for each subscription.

    The response of a slow reader waits in the network. After `limits.send_timeout` the server closes it; the
    subscription resumes from its position when the reader continues.

    Args:
        url: Address of the gateway, such as `"http://127.0.0.1:8000"`, with its prefix where it has one.
        random: Returns numbers from 0 (included) to 1 (excluded), for the pauses between attempts.
        now: Returns the time, in UTC.
        options: See `ClientOptions`.

    Raises:
        ValueError: If the url or an option is not valid.
    """

    def __init__(
        self,
        url: str,
        *,
        random: Callable[[], float] = _random.random,
        now: Callable[[], datetime] = utc_now,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(url, random=random, now=now, **options)
        self._streams: set[SSESubscription] = set()
        self._closed_connections = 0

    def after_fork(self) -> None:
        """See `StreamClient.after_fork`."""
        bury(self._streams)
        self._streams = set()
        self._outage = Outage()

    @property
    def state(self) -> ClientState:
        """The worst state of all streams; `disconnected` without streams."""
        states: set[ClientState] = {stream.state for stream in list(self._streams)}  # another thread may ask
        if not states:
            return "disconnected"
        return min(states, key=_WORST_FIRST.index)

    async def respond(self, execution_id: str, prompt_id: str, response: object) -> None:
        """See `StreamClient.respond`."""
        body = {"prompt_id": prompt_id, "response": response}
        await self._rest.request("POST", execution_path(execution_id, "responses"), body=body)

    async def cancel(self, execution_id: str, *, reason: str | None = None) -> bool:
        """See `StreamClient.cancel`."""
        query = {} if reason is None else {"reason": reason}
        answer = await self._rest.request("DELETE", execution_path(execution_id), query=query)
        return answer["cancelled"] is True

    async def _command(self, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        if name == "start_execution":
            return await self._rest.request("POST", "/executions", body=payload)
        fields = dict(payload)
        path = execution_path(fields.pop("execution_id"), _ROUTES[name])
        if name == "inject_input":
            return await self._rest.request("POST", path, body=fields)
        return await self._rest.request("POST", path, query=fields)

    @property
    def _open_subscriptions(self) -> list[ClientSubscription]:
        return list(self._streams)

    @property
    def _connection_count(self) -> int:
        return self._closed_connections + sum(stream.reconnect.connections for stream in self._streams)

    def _make_subscription(self, request: SubscriptionRequest) -> ClientSubscription:
        request.query(None)  # refuses now a name that a query cannot hold
        return SSESubscription(self, request, self._context)

    # ------------------------------------------------------------ used by subscriptions
    def register(self, stream: SSESubscription) -> None:
        """Add a subscription that connects."""
        self._streams.add(stream)

    def unregister(self, stream: SSESubscription) -> None:
        """Remove a closed subscription, and keep its counters."""
        if stream in self._streams:
            self._streams.discard(stream)
            self._closed_connections += stream.reconnect.connections
            self._context.duplicates += stream.duplicates
            self._context.gaps += stream.gaps

    def make_reconnect(self, execution_id: str) -> Reconnect:
        """Return the connection state of a new subscription."""
        return Reconnect(
            lambda: self._config,
            self._tokens,
            notify=self._context.listeners.notify,
            random=self._random,
            execution_id=execution_id,
            outage=self._outage,
        )

    @property
    def config(self) -> ClientConfig:
        """The current options."""
        return self._config

    async def open(
        self, request: SubscriptionRequest, position: Position | None
    ) -> tuple[httpx2.Response, AsyncExitStack]:
        """Send the request of a stream; return its response, and a stack that closes it.

        Raises:
            InterruptedStreamError: If the request fails.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Accept-Encoding": "identity"}
        headers |= await self._rest.headers()
        if position is not None:
            headers["Last-Event-ID"] = str(position)
        # A type may be named like an event of the protocol. With unnamed events this cannot be mixed up.
        query = {**request.query(position), "named": "false"}
        stream = (await self._rest.http()).stream(
            "GET",
            self._config.url + execution_path(request.execution_id, "stream"),
            params=query,
            headers=headers,
            timeout=httpx2.Timeout(self._config.connect_timeout, read=None),
        )
        async with AsyncExitStack() as closing:
            try:
                response = await closing.enter_async_context(stream)
            except httpx2.RequestError as error:
                raise connection_failure(error, self._config.address, request.execution_id) from error
            return response, closing.pop_all()
        raise AssertionError  # pragma: no cover (an exit stack swallows nothing here)
