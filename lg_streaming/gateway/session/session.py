"""The rules of one connection, without a transport: who it is, what it may ask, what it watches, when it has to go.

A transport hands messages to `Session.handle` and does what the `Reply` says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import (
    BadRequestError,
    ForbiddenError,
    MessageRateError,
    StreamingError,
    TokenExpiredError,
    TooManySubscriptionsError,
    UnauthorizedError,
)
from lg_streaming.filters import INTERRUPTED
from lg_streaming.gateway.auth.policy import ANONYMOUS, caller_of
from lg_streaming.gateway.auth.url_credentials import token_refused
from lg_streaming.gateway.protocol.messages import (
    PROTOCOL_VERSION,
    SubscribeExecution,
)
from lg_streaming.gateway.protocol.registry import failure, parse_message
from lg_streaming.gateway.session.handlers import HANDLERS
from lg_streaming.gateway.session.instrumentation import ConnectionInstrumentation
from lg_streaming.gateway.session.rooms import ROOM_FILTER
from lg_streaming.gateway.session.subscriptions import ActiveSubscription, ClientStats, PatternSubscription, Reply
from lg_streaming.gateway.session.timers import SessionTimers
from lg_streaming.hub import Vetting
from lg_streaming.token_bucket import TokenBucket

if TYPE_CHECKING:
    from lg_streaming.filters import UpdateFilter
    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.auth.policy import Action, Policy, Principal
    from lg_streaming.gateway.auth.tickets import UsedTicket
    from lg_streaming.gateway.limits.rates import Lease
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.gateway.session.timers import TimerEvent
    from lg_streaming.hub import StreamHub, SubscribeResult, Subscription
    from lg_streaming.log.base import LogState
    from lg_streaming.settings import TransportName

__all__ = ["Session", "attach", "utc_now_iso"]

_STRIKES: Final = 3
_BEFORE_LOGIN: Final = frozenset({"authenticate", "ping"})
_AFTER_EXPIRY: Final = _BEFORE_LOGIN | {
    "get_status",
    "leave_room",
    "unsubscribe_events",
    "unsubscribe_execution",
}
"""What a caller may still say while its token has expired: nothing that takes a right."""


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One connection.

    Args:
        peer: The caller.
        edge: Hub, rules and counters.
        transport: How it is connected.
        expiry_grace: Seconds between the end of the token and that of the connection, for a fresh one to come.
    """

    peer: Peer
    edge: GatewayContext
    transport: TransportName
    expiry_grace: float
    heartbeat_interval: float | None = None
    """Seconds; as in the settings when not given."""
    connection_id: str = ""
    principal: Principal = ANONYMOUS
    authenticated: bool = False
    trusted: bool = False
    """Whether the application itself has let the caller in: it may read, and no token is asked for."""
    watches: dict[str, ActiveSubscription] = field(default_factory=dict[str, ActiveSubscription])
    """By execution; rooms are executions too."""
    events: PatternSubscription | None = None
    _lease: Lease | None = field(default=None, init=False)
    _began: float = field(init=False)
    _bucket: TokenBucket | None = field(init=False)
    """None where messages have no limit."""
    _strikes: Counter[str] = field(default_factory=Counter[str], init=False)
    _deadlines: SessionTimers = field(init=False)
    report: ConnectionInstrumentation = field(init=False)
    """Tells what happens."""

    def __post_init__(self) -> None:
        limits, clock = self.edge.settings.limits, self.edge.monotonic
        self.heartbeat_interval = self.heartbeat_interval or self.edge.settings.gateway.heartbeat_interval
        self._began = clock()
        self.report = ConnectionInstrumentation(self)
        rate = limits.messages_per_second
        self._bucket = None if rate is None else TokenBucket(rate, limits.message_burst, self._began)
        self._deadlines = SessionTimers(clock, self.heartbeat_interval, self.expiry_grace)

    @property
    def hub(self) -> StreamHub:
        """Where executions are."""
        return self.edge.hub

    @property
    def caller(self) -> str:
        """The account that the connection's use is charged to: its subject, else its address."""
        return caller_of(self.principal, self.peer.address)

    @property
    def policy(self) -> Policy:
        """Who may come in and see what."""
        return self.edge.policy

    # ------------------------------------------------------------ coming and going
    async def login(self, token: str | None = None, *, takes_tickets: bool = False, may_wait: bool = False) -> None:
        """Lets the caller in.

        Args:
            token: What a message carried; without it the request's header and cookie are looked at.
            takes_tickets: Whether a ticket in the address may stand in for a token.
            may_wait: Whether a caller without any token is let in for the time being, to `authenticate` later.

        Raises:
            StreamingError: Not this caller, not with this token, or not now.
        """
        edge = self.edge
        edge.check_open()
        edge.rates.connect(self.peer.address)
        # Counted from here on: a caller may have to wait until it is known who it is.
        self._lease = edge.census.enter(self.peer.address)
        try:
            await self._log_in(token, takes_tickets=takes_tickets, may_wait=may_wait)
        except BaseException:
            self._lease.release()
            raise

    async def _log_in(self, token: str | None, *, takes_tickets: bool, may_wait: bool) -> None:
        if self.trusted:
            self.authenticated = True
            return
        ticket = self._ticket(takes_tickets=takes_tickets)
        anonymous = token is None and ticket is None
        if may_wait and anonymous and self.policy.requires_token and not self.policy.token_of(self.peer):
            self.policy.check_origin(self.peer)
            return
        self.become(await self.identify(token, ticket))

    async def visit(self) -> None:
        """Lets the caller in for one request. It counts as a message of the caller, and not as a connection.

        Raises:
            StreamingError: Not this caller, or not now.
        """
        edge = self.edge
        edge.check_open()
        edge.rates.check_logins(self.peer.address)
        self._ticket(takes_tickets=False)
        lease = edge.visitors.enter(self.peer.address)
        try:
            principal = await self.identify(None)
        finally:
            lease.release()
        self.become(principal)
        edge.requests.spend(self.caller)

    def _ticket(self, *, takes_tickets: bool) -> UsedTicket | None:
        """Return the ticket in the address. Raises BadRequestError where an address may hold none, or holds a token."""
        if self.peer.url_token is not None:
            raise token_refused(self.peer.url_token)
        if self.peer.ticket is not None and not takes_tickets:
            raise BadRequestError("a ticket opens an event stream or /ws, and nothing else")
        return self.peer.ticket

    async def identify(self, token: str | None, ticket: UsedTicket | None = None) -> Principal:
        """Who a token or a ticket stands for; a failure counts against the address. Raises like `Policy.admit`."""
        try:
            return await self.policy.admit(self.peer, token, ticket=ticket)
        except UnauthorizedError:
            self.edge.rates.login_failed(self.peer.address)
            raise

    def opened(self, connection_id: str) -> None:
        """The caller is in, and its connection has a name."""
        self.connection_id = connection_id
        self.edge.sessions[connection_id] = self
        self.report.opened()

    def become(self, principal: Principal) -> None:
        """The caller is `principal` from now on. Raises TooManyConnectionsError when it has too many already."""
        if self._lease is not None and principal.subject is not None:
            self._lease.name(principal.subject)
        self.principal, self.authenticated = principal, True
        self._deadlines.renew()

    def end(self, code: int | None = None) -> None:
        """The connection is over, with `code` where it was closed from this side. Harmless when repeated."""
        self.edge.sessions.pop(self.connection_id, None)
        if self._lease is not None:
            self._lease.release()
        for watch in list(self.watches.values()):
            self.drop(watch)
        if self.events is not None:
            self.drop(self.events)
        self.report.closed(code)

    def drop(self, watch: ActiveSubscription | PatternSubscription, reason: str | None = None) -> None:
        """Stops watching, for the `reason` the client is told; harmless when that has happened."""
        if isinstance(watch, PatternSubscription):
            watch.follower.close()
            self.events = None if self.events is watch else self.events
            return
        watch.subscription.close()
        if self.watches.get(watch.execution_id) is not watch:
            return
        del self.watches[watch.execution_id]
        self.report.unsubscribed(watch, reason)
        if watch.room_id is not None:
            self.edge.rooms.leave(watch.room_id, self)
        if self.events is not None:
            self.events.follower.stand(watch.execution_id, watch.position)

    @property
    def expires_in(self) -> float | None:
        """Seconds until the token has expired; None: it never does."""
        expires_at = self.principal.expires_at
        return None if expires_at is None else expires_at - self.edge.wall()

    @property
    def _has_expired(self) -> bool:
        expires_in = self.expires_in
        return expires_in is not None and expires_in <= 0

    @property
    def uptime(self) -> float:
        """Seconds since it began."""
        return self.edge.monotonic() - self._began

    # ------------------------------------------------------------ time
    def next_due(self) -> float:
        """Seconds until `advance` has something to say; infinite where it never has."""
        return self._deadlines.next_due(self.expires_in)

    def advance(self) -> TimerEvent:
        """What has to be done now, as time has passed."""
        return self._deadlines.advance(self.expires_in)

    async def check_welcome(self) -> None:
        """Called at every heartbeat, and when a page was waited for.

        Raises:
            UnauthorizedError: The caller's token has been revoked meanwhile.
        """
        try:
            is_welcome = await self.policy.still_valid(self.principal, address=self.peer.address)
        except MessageRateError:  # it asks so much itself that no answer comes, and that is no reason to keep it
            is_welcome = False
        if not is_welcome:
            raise UnauthorizedError("the token is not valid any more")

    # ------------------------------------------------------------ messages
    async def handle(self, name: str, arguments: Sequence[object]) -> Reply:
        """Carries out one message; nothing a client sends makes it raise."""
        began, refused = self.edge.monotonic(), None
        try:
            self._spend(began)
            message = parse_message(name, arguments)
            if not self.authenticated and name not in _BEFORE_LOGIN:
                raise UnauthorizedError("send authenticate with a valid token first")
            if self._has_expired and name not in _AFTER_EXPIRY:
                # The connection has its time of grace, in which a fresh token may come.
                refused = TokenExpiredError("the token has expired: send authenticate with a fresh one first")
                return Reply(answer=failure(refused))
            return await HANDLERS[name](self, message)
        except StreamingError as error:
            refused = error
            return Reply(answer=failure(error), close=error if self.count_violation(error) else None)
        finally:
            self.report.handled(name, self.edge.monotonic() - began, refused)

    def count_violation(self, error: StreamingError) -> bool:
        """Counts an error against the connection; whether it has to be closed for it."""
        if error.closes == "third":
            self._strikes[error.name] += 1
            return self._strikes[error.name] >= _STRIKES
        return error.closes == "yes"

    def _spend(self, now: float) -> None:
        bucket = self._bucket
        if bucket is not None and not bucket.take(now):
            limits = self.edge.settings.limits
            raise MessageRateError(
                f"at most {limits.messages_per_second:g} messages a second: slow down",
                retry_after=bucket.seconds_until(),
            )

    async def subscribe(
        self, wanted: SubscribeExecution, *, room_id: str | None = None
    ) -> tuple[ActiveSubscription, SubscribeResult]:
        """Begins to watch an execution, in place of what watched it before.

        Raises like :func:`attach`, and TooManySubscriptionsError.
        """
        execution_id = wanted.execution_id
        limit = self.edge.settings.limits.subscriptions_per_connection
        if limit is not None and len(self.watches) >= limit and execution_id not in self.watches:
            raise TooManySubscriptionsError(
                f"a connection may watch {limit} executions: unsubscribe first", execution_id=execution_id
            )
        chosen = ROOM_FILTER if room_id is not None else wanted.filter()
        subscription, attached = await attach(self, wanted, chosen)
        previous = self.watches.get(execution_id)
        if previous is not None:
            self.drop(previous)
        watch = self.watches[execution_id] = ActiveSubscription(
            execution_id=execution_id,
            subscription=subscription,
            batch=wanted.batch,
            by_type=wanted.event == "type",
            follow=wanted.follow,
            merge=wanted.merge,
            room_id=room_id,
            live_after=attached.position.seq if attached.position is not None else 0,
        )
        self.report.subscribed(watch, attached, resumes=wanted.after not in {None, "latest"})
        if self.events is not None:
            self.events.follower.stand(execution_id, None)
        return watch, attached

    async def check(self, action: Action, execution_id: str) -> LogState | None:
        """What is known of an execution, once it is clear that the caller may do `action`.

        Raises:
            ForbiddenError: It may not.
            LogUnavailableError: The log cannot be reached.
        """
        state = await self.hub.describe(execution_id)
        owner = state.owner if state is not None else None
        await self.policy.check(self.principal, action, execution_id, owner, address=self.peer.address)
        return state

    async def may_read(self, execution_id: str, principal: Principal | None = None) -> bool:
        """Whether the caller, or `principal` in its place, may read an execution. Raises LogUnavailableError."""
        if self.trusted:
            return True
        state = await self.hub.describe(execution_id)
        return await self.policy.allows(
            principal or self.principal,
            "read",
            execution_id,
            state.owner if state is not None else None,
            address=self.peer.address,
        )

    def vetting(self, execution_id: str, state: LogState | None) -> Vetting:
        """What asks again whether the caller may read an execution, which was let in to it as `state` describes."""
        return Vetting(execution_id, state, self._may_go_on)

    async def _may_go_on(self, execution_id: str, owner: str | None, now: LogState) -> bool:
        if self.trusted:  # the application has decided about this owner's run, and about no other
            return owner in {None, now.owner}
        return await self.may_read(execution_id)

    # ------------------------------------------------------------ what it tells
    def now(self) -> str:
        """The time, as it travels."""
        return utc_now_iso(self.edge.wall())

    def greeting(self) -> dict[str, Any]:
        """`connection_status`."""
        settings = self.edge.settings
        told: dict[str, Any] = {
            "status": "connected" if self.authenticated else "authentication_required",
            "connection_id": self.connection_id,
            "server_time": self.now(),
            "heartbeat_interval_s": self.heartbeat_interval,
            "protocol": PROTOCOL_VERSION,
        }
        if not self.authenticated:
            told["login_timeout_s"] = settings.limits.login_timeout
        return told

    async def heartbeat(self) -> dict[str, Any]:
        """`heartbeat`: where each watched execution stands."""
        positions: dict[str, str] = {}
        for execution_id, watch in list(self.watches.items()):
            state = await self.hub.describe(execution_id)
            if state is not None and watch.subscription.is_vetted(state):
                positions[execution_id] = f"{state.epoch}:{state.head}"
        return {"timestamp": self.now(), "positions": positions}

    def figures(self) -> ClientStats:
        """What there is to say about the connection."""
        return ClientStats(
            connection_id=self.connection_id,
            transport=self.transport,
            subject=self.principal.subject,
            address=self.peer.address,
            uptime_s=round(self.uptime, 3),
            executions=tuple(watch.execution_id for watch in self.watches.values() if watch.room_id is None),
            rooms=tuple(watch.room_id for watch in self.watches.values() if watch.room_id is not None),
        )

    def status(self) -> dict[str, Any]:
        """The answer to `get_status`."""
        connection: dict[str, Any] = {
            "connection_id": self.connection_id,
            "uptime_s": round(self.uptime, 3),
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
                "server_time": self.now(),
                "connections": self.edge.census.connections,
            },
        }


async def attach(
    session: Session, wanted: SubscribeExecution, filter: UpdateFilter
) -> tuple[Subscription, SubscribeResult]:
    """Opens a subscription for the session's caller, if it may read the execution.

    Raises:
        ForbiddenError: It may not, or there is no such execution.
        GapError: Updates are missing and `on_gap` is `fail`.
        StreamingError: The filter is wrong, a limit is reached, or the log cannot be reached.
    """
    execution_id = wanted.execution_id
    state = await session.hub.describe(execution_id)
    if not await session.may_read(execution_id):
        raise ForbiddenError(execution_id=execution_id)
    subscription = session.hub.subscribe(
        execution_id,
        after=wanted.after,
        filter=filter,
        until=INTERRUPTED if wanted.until_interrupted else None,
        follow=wanted.follow,
        on_gap=wanted.on_gap,
    )
    subscription.vetting = session.vetting(execution_id, state)
    try:
        return subscription, await subscription.start()
    except BaseException:
        subscription.close()
        raise


def utc_now_iso(seconds: float) -> str:
    """A time as it travels: ``2026-11-20T20:00:00.123Z``."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(position: object) -> str | None:
    return None if position is None else str(position)
