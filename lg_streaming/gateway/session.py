"""The rules of one connection, without a transport: who it is, what it may ask, what it watches, when it has to go.

A transport hands messages to :meth:`Session.handle` and does what the :class:`Reply` says.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import (
    BadRequestError,
    MessageRateError,
    StreamingError,
    TooManySubscriptionsError,
    UnauthorizedError,
)
from lg_streaming.filters import UpdateFilter
from lg_streaming.gateway.auth import ANONYMOUS
from lg_streaming.gateway.limits import TokenBucket
from lg_streaming.gateway.messages import (
    PROTOCOL_VERSION,
    Authenticate,
    Inbound,
    SubscribeExecution,
    UnsubscribeExecution,
)
from lg_streaming.gateway.protocol import failure, parse_message

if TYPE_CHECKING:
    from lg_streaming.gateway.auth import Policy, Principal
    from lg_streaming.gateway.limits import Census
    from lg_streaming.gateway.peer import Peer
    from lg_streaming.hub import Attached, StreamHub, Subscription
    from lg_streaming.settings import LimitSettings

__all__ = ["Reply", "Session", "Watch", "attach", "now_text"]

_STRIKES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watch:
    """One execution a connection watches."""

    execution_id: str
    subscription: Subscription
    batch: bool
    follow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a transport does after a message, in this order."""

    answer: dict[str, Any]
    """The acknowledgement; where none was asked for, an error in it is sent as ``error``."""
    stop: Sequence[Watch] = ()
    """No longer delivered."""
    forbidden: Sequence[Watch] = ()
    """No longer delivered, because the fresh token does not allow it; the client is told."""
    start: Watch | None = None
    """Delivered from now on."""
    close: StreamingError | None = None
    """Then the connection ends."""


@dataclass(slots=True, kw_only=True)
class Session:
    """One connection.

    Args:
        peer: The caller.
        hub: Where executions are.
        policy: Who may come in and see what.
        limits: What one connection may use.
        census: The connections of the gateway; entered at login.
        wall: Seconds since 1970.
        monotonic: Seconds.
    """

    peer: Peer
    hub: StreamHub
    policy: Policy
    limits: LimitSettings
    census: Census
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    connection_id: str = ""
    principal: Principal = ANONYMOUS
    watches: dict[str, Watch] = field(default_factory=dict[str, Watch])
    _logged_in: bool = field(default=False, init=False)
    _began: float = field(init=False)
    _bucket: TokenBucket = field(init=False)
    _strikes: Counter[str] = field(default_factory=Counter[str], init=False)

    def __post_init__(self) -> None:
        self._began = self.monotonic()
        self._bucket = TokenBucket(self.limits.messages_per_second, self.limits.message_burst, self.monotonic)

    # ------------------------------------------------------------ coming and going
    async def login(self, auth: object) -> None:
        """Lets the caller in. ``auth`` is the handshake's payload: ``{"token": …}``, or nothing.

        Raises:
            StreamingError: Not this caller, not with this token, or not now.
        """
        if auth is not None and not isinstance(auth, dict):
            raise BadRequestError("the handshake's auth is an object: {'token': …}")
        token = cast("dict[str, object]", auth or {}).get("token")
        if token is not None and not isinstance(token, str):
            raise UnauthorizedError("the token is a string")
        self.principal = await self.policy.admit(self.peer, token or None)
        self.census.enter()
        self._logged_in = True

    def end(self) -> list[Watch]:
        """The connection is over. Returns what it watched, closed. Harmless when repeated."""
        if self._logged_in:
            self._logged_in = False
            self.census.leave()
        watches = list(self.watches.values())
        for watch in watches:
            self.drop(watch)
        return watches

    def drop(self, watch: Watch) -> None:
        """Stops watching; harmless when that has happened."""
        watch.subscription.close()
        if self.watches.get(watch.execution_id) is watch:
            del self.watches[watch.execution_id]

    @property
    def expires_in(self) -> float | None:
        """Seconds until the token has expired; None: it never does."""
        expires_at = self.principal.expires_at
        return None if expires_at is None else expires_at - self.wall()

    # ------------------------------------------------------------ messages
    async def handle(self, name: str, arguments: Sequence[object]) -> Reply:
        """Carries out one message; nothing a client sends makes it raise."""
        try:
            self._spend()
            return await self._carry_out(parse_message(name, arguments), name)
        except StreamingError as error:
            return Reply(answer=failure(error), close=error if self.strike(error) else None)

    def strike(self, error: StreamingError) -> bool:
        """Counts an error against the connection; whether it has to be closed for it."""
        if error.closes == "third":
            self._strikes[error.name] += 1
            return self._strikes[error.name] >= _STRIKES
        return error.closes == "yes"

    def _spend(self) -> None:
        wait = self._bucket.take()
        if wait:
            raise MessageRateError(
                f"at most {self.limits.messages_per_second:g} messages a second: slow down", retry_after=wait
            )

    async def _carry_out(self, message: Inbound, name: str) -> Reply:
        match message:
            case SubscribeExecution():
                return await self._subscribe(message)
            case UnsubscribeExecution():
                return self._unsubscribe(message)
            case Authenticate():
                return await self._authenticate(message)
            case _ if name == "ping":
                return Reply(answer={"ok": True, "timestamp": now_text(self.wall())})
            case _:
                return Reply(answer={"ok": True, **self.status()})

    async def _subscribe(self, wanted: SubscribeExecution) -> Reply:
        execution_id = wanted.execution_id
        limit = self.limits.subscriptions_per_connection
        if limit is not None and len(self.watches) >= limit and execution_id not in self.watches:
            raise TooManySubscriptionsError(
                f"a connection may watch {limit} executions: unsubscribe first", execution_id=execution_id
            )
        subscription, attached = await attach(self.hub, self.policy, self.principal, wanted)
        previous = self.watches.get(execution_id)
        if previous is not None:
            self.drop(previous)
        watch = Watch(execution_id=execution_id, subscription=subscription, batch=wanted.batch, follow=wanted.follow)
        self.watches[execution_id] = watch
        return Reply(answer=subscribed(attached), stop=(previous,) if previous is not None else (), start=watch)

    def _unsubscribe(self, wanted: UnsubscribeExecution) -> Reply:
        watch = self.watches.get(wanted.execution_id)
        if watch is not None:
            self.drop(watch)
        return Reply(
            answer={"ok": True, "execution_id": wanted.execution_id}, stop=(watch,) if watch is not None else ()
        )

    async def _authenticate(self, wanted: Authenticate) -> Reply:
        if self.policy.requires_token:
            principal = await self.policy.verify(wanted.token)
            if principal.subject != self.principal.subject:
                raise UnauthorizedError("a fresh token must be of the same subject: reconnect to change it")
            self.principal = principal
        forbidden = [watch for watch in list(self.watches.values()) if not await self._still_allowed(watch)]
        for watch in forbidden:
            self.drop(watch)
        expires_in = self.expires_in
        return Reply(
            answer={"ok": True, "expires_in_s": None if expires_in is None else round(expires_in, 3)},
            forbidden=forbidden,
        )

    async def _still_allowed(self, watch: Watch) -> bool:
        state = await self.hub.describe(watch.execution_id)
        return await self.policy.allows(
            self.principal, "read", watch.execution_id, state.owner if state is not None else None
        )

    # ------------------------------------------------------------ what it tells
    def greeting(self, heartbeat_interval: float) -> dict[str, Any]:
        """``connection_status``."""
        return {
            "status": "connected",
            "connection_id": self.connection_id,
            "server_time": now_text(self.wall()),
            "heartbeat_interval_s": heartbeat_interval,
            "protocol": PROTOCOL_VERSION,
        }

    async def heartbeat(self) -> dict[str, Any]:
        """``heartbeat``: where each watched execution stands."""
        positions: dict[str, str] = {}
        for execution_id in list(self.watches):
            state = await self.hub.describe(execution_id)
            if state is not None:
                positions[execution_id] = f"{state.epoch}:{state.head}"
        return {"timestamp": now_text(self.wall()), "positions": positions}

    def status(self) -> dict[str, Any]:
        """The answer to ``get_status``."""
        connection: dict[str, Any] = {
            "connection_id": self.connection_id,
            "uptime_s": round(self.monotonic() - self._began, 3),
        }
        if self.principal.subject is not None:
            connection["subject"] = self.principal.subject
        if self.expires_in is not None:
            connection["expires_in_s"] = round(self.expires_in, 3)
        return {
            "connection": connection,
            "subscriptions": [
                {
                    "execution_id": watch.execution_id,
                    "position": _text(watch.subscription.position),
                    "batch": watch.batch,
                    "follow": watch.follow,
                }
                for watch in self.watches.values()
            ],
            "server": {
                "protocol": PROTOCOL_VERSION,
                "server_time": now_text(self.wall()),
                "connections": self.census.connections,
            },
        }


async def attach(
    hub: StreamHub, policy: Policy, principal: Principal, wanted: SubscribeExecution
) -> tuple[Subscription, Attached]:
    """Opens a subscription for ``principal``, if it may.

    Raises:
        ForbiddenError: It may not, or there is no such execution.
        GapError: Updates are missing and ``on_gap`` is ``fail``.
        StreamingError: The filter is wrong, a limit is reached, or the log cannot be reached.
    """
    state = await hub.describe(wanted.execution_id)
    await policy.check(principal, "read", wanted.execution_id, state.owner if state is not None else None)
    chosen = UpdateFilter.of(
        events=wanted.events,
        node_ids=wanted.node_ids,
        agent_types=wanted.agent_types,
        categories=wanted.categories,
        min_priority=wanted.min_priority,
    )
    subscription = hub.subscribe(
        wanted.execution_id, after=wanted.after, filter=chosen, follow=wanted.follow, on_gap=wanted.on_gap
    )
    try:
        return subscription, await subscription.start()
    except BaseException:
        subscription.close()
        raise


def subscribed(attached: Attached) -> dict[str, Any]:
    """The answer to ``subscribe_execution``."""
    answer: dict[str, Any] = {
        "ok": True,
        "execution_id": attached.execution_id,
        "state": attached.state,
        "position": _text(attached.position),
        "oldest": attached.oldest,
        "recovered": attached.recovered,
    }
    if attached.reason is not None:
        answer["reason"] = attached.reason
    return answer


def now_text(seconds: float) -> str:
    """A time as it travels: ``2026-11-20T20:00:00.123Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(position: object) -> str | None:
    return None if position is None else str(position)
