"""State and rules of one connection, without a transport: its principal, rights, limits and subscriptions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lg_streaming.errors import (
    BadRequestError,
    ForbiddenError,
    MessageRateError,
    StreamingError,
    TooManySubscriptionsError,
    UnauthorizedError,
)
from lg_streaming.events import format_timestamp
from lg_streaming.filters import INTERRUPTED
from lg_streaming.gateway.auth.policy import ANONYMOUS, caller_of
from lg_streaming.gateway.auth.url_credentials import token_refused
from lg_streaming.gateway.delivery.pump import DeliveryOptions
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.session.instrumentation import ConnectionInstrumentation
from lg_streaming.gateway.session.rooms import ROOM_FILTER
from lg_streaming.gateway.session.subscriptions import ActiveSubscription, ClientStats, PatternSubscription
from lg_streaming.hub import Vetting
from lg_streaming.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lg_streaming.filters import UpdateFilter
    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.auth.policy import Action, Policy, Principal
    from lg_streaming.gateway.auth.tickets import UsedTicket
    from lg_streaming.gateway.limits.fleet_limits import FleetLease
    from lg_streaming.gateway.limits.rates import Lease
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.hub import StreamHub, SubscribeResult, Subscription
    from lg_streaming.log.base import LogState
    from lg_streaming.types import ProtocolName

__all__ = ["Session", "attach", "format_time"]

P = TypeVar("P")

_MAX_VIOLATIONS: Final = 3


@dataclass(slots=True, kw_only=True, eq=False)
class Session:
    """One connection, or one request.

    Args:
        peer: The caller.
        context: Hub, rules and counters.
        transport: How the caller is connected.
        heartbeat_interval: Seconds; the setting when not given.
        trusted: Whether the application admitted the caller itself: the caller may read, and needs no token.
    """

    peer: Peer
    context: GatewayContext
    transport: ProtocolName
    heartbeat_interval: float | None = None
    connection_id: str = ""
    principal: Principal = ANONYMOUS
    authenticated: bool = False
    trusted: bool = False
    subscriptions: dict[str, ActiveSubscription] = field(default_factory=dict[str, ActiveSubscription])
    """Subscriptions by execution; rooms are executions too."""
    events: PatternSubscription | None = None
    _token: str | None = field(default=None, init=False, repr=False)
    """The token of a message that the application accepted, for its next check."""
    _lease: Lease | None = field(default=None, init=False)
    _fleet_lease: FleetLease | None = field(default=None, init=False)
    _began: float = field(init=False)
    _bucket: TokenBucket | None = field(init=False)
    """None where messages have no limit."""
    _violations: Counter[str] = field(default_factory=Counter[str], init=False)
    instrumentation: ConnectionInstrumentation = field(init=False)

    def __post_init__(self) -> None:
        context = self.context
        limits, clock = context.settings.limits, context.clock.monotonic
        self.heartbeat_interval = self.heartbeat_interval or context.settings.gateway.heartbeat_interval
        self._began = clock()
        self.instrumentation = ConnectionInstrumentation(context.metrics, context.events, self.transport)
        rate = limits.messages_per_second
        self._bucket = None if rate is None else TokenBucket(rate, limits.message_burst, self._began)

    @property
    def hub(self) -> StreamHub:
        """The hub that has the executions."""
        return self.context.hub

    @property
    def caller(self) -> str:
        """The account that pays for the connection's use: its subject, else its address."""
        return caller_of(self.principal, self.peer.address)

    @property
    def policy(self) -> Policy:
        """Rules of access."""
        return self.context.policy

    # ------------------------------------------------------------ coming and going
    async def login(self, token: str | None = None, *, takes_tickets: bool = False, defer_auth: bool = False) -> None:
        """Admit the caller.

        Args:
            token: A token from a message; without it the request's header and cookie count.
            takes_tickets: Whether a ticket in the address may replace a token.
            defer_auth: Whether a caller without a token is admitted for now, to `authenticate` later.

        Raises:
            StreamingError: If the caller or its token is refused, or the server is full or shuts down.
        """
        context = self.context
        context.lifecycle.ensure_open()
        context.admission.rates.connect(self.peer.address)
        # Counted from here on: the caller may wait while its token is checked.
        self._lease = context.admission.connections.enter(self.peer.address)
        try:
            await self._log_in(token, takes_tickets=takes_tickets, defer_auth=defer_auth)
            if context.admission.fleet is not None:
                self._fleet_lease = await context.admission.fleet.admit(self.peer.address, self.principal.account)
        except BaseException:
            self._lease.release()
            raise

    async def _log_in(self, token: str | None, *, takes_tickets: bool, defer_auth: bool) -> None:
        if self.trusted:
            self.authenticated = True
            return
        ticket = self._ticket(takes_tickets=takes_tickets)
        find = self.policy.find_principal if defer_auth else self.policy.authenticate
        principal = await self._count_failure(find(self.peer, token, ticket=ticket))
        if principal is not None:
            self.set_principal(principal, token)

    async def authenticate_request(
        self, find: Callable[[], Awaitable[Principal | None]] | None = None
    ) -> Principal | None:
        """Admit the caller for one request. It counts as a message of the caller, and not as a connection.

        Args:
            find: Finds the principal; default: the request's credentials, which it then has to have.

        Returns:
            The principal; None if `find` returned None. The caller is then anonymous.

        Raises:
            StreamingError: If the caller is refused, or the server is full or shuts down.
        """
        context = self.context
        context.lifecycle.ensure_open()
        context.admission.rates.check_logins(self.peer.address)
        self._ticket(takes_tickets=False)
        lease = context.admission.visitors.enter(self.peer.address)
        try:
            principal = await (self.identify(None) if find is None else self._count_failure(find()))
        finally:
            lease.release()
        if context.admission.fleet is not None:
            await context.admission.fleet.check_logins(self.peer.address)
        if principal is not None:
            self.set_principal(principal)
        context.admission.requests.acquire(self.caller)
        return principal

    def _ticket(self, *, takes_tickets: bool) -> UsedTicket | None:
        """Return the ticket in the address, if there is one.

        Raises:
            BadRequestError: If this address may not have a ticket, or has a token.
        """
        if self.peer.url_token is not None:
            raise token_refused(self.peer.url_token)
        if self.peer.ticket is not None and not takes_tickets:
            raise BadRequestError("a ticket opens an event stream or /ws, and nothing else")
        return self.peer.ticket

    async def identify(self, token: str | None, ticket: UsedTicket | None = None) -> Principal:
        """Return the caller's principal; count a failure. Raises like `Policy.authenticate`."""
        return await self._count_failure(self.policy.authenticate(self.peer, token, ticket=ticket))

    async def _count_failure(self, login: Awaitable[P]) -> P:
        try:
            return await login
        except UnauthorizedError:
            admission = self.context.admission
            admission.rates.login_failed(self.peer.address)
            if admission.fleet is not None:
                await admission.fleet.login_failed(self.peer.address)
            raise

    async def claim_subject(self, principal: Principal) -> None:
        """Count the connection for the principal's subject over all processes, at a login after the connection.

        Raises:
            TooManyConnectionsError: If the subject has too many connections.
        """
        if self._fleet_lease is not None and self.context.admission.fleet is not None:
            await self.context.admission.fleet.claim_subject(self._fleet_lease, principal.account)

    def opened(self, connection_id: str) -> None:
        """Register the admitted caller under the id of its connection."""
        self.connection_id = connection_id
        self.context.sessions[connection_id] = self
        self.instrumentation.opened(connection_id)

    def set_principal(self, principal: Principal, token: str | None = None) -> None:
        """Set the caller's principal.

        Args:
            principal: The principal.
            token: The token of the message that the principal comes from; None if it comes from the request.

        Raises:
            TooManyConnectionsError: If the principal's subject has too many connections.
        """
        if self._lease is not None and principal.account is not None:
            self._lease.set_subject(principal.account)
        self.principal, self.authenticated = principal, True
        self._token = token if principal.source == "application" else None
        self.instrumentation.subject = principal.account

    def close(self, code: int | None = None) -> None:
        """Release everything the connection holds; `code` if the gateway closed it. Harmless when repeated."""
        self.context.sessions.pop(self.connection_id, None)
        if self._lease is not None:
            self._lease.release()
        if self._fleet_lease is not None:
            self._fleet_lease.release()
        for subscription in list(self.subscriptions.values()):
            self.remove_subscription(subscription)
        if self.events is not None:
            self.remove_subscription(self.events)
        self.instrumentation.closed(code, self.uptime)

    def remove_subscription(
        self, subscription: ActiveSubscription | PatternSubscription, reason: str | None = None
    ) -> None:
        """End a subscription, for the `reason` that the client is sent. Harmless when repeated."""
        if isinstance(subscription, PatternSubscription):
            subscription.follower.close()
            self.events = None if self.events is subscription else self.events
            return
        subscription.source.close()
        if self.subscriptions.get(subscription.execution_id) is not subscription:
            return
        del self.subscriptions[subscription.execution_id]
        self.instrumentation.unsubscribed(subscription, reason)
        if subscription.room_id is not None:
            self.context.rooms.leave(subscription.room_id, self)
        if self.events is not None:
            self.events.follower.skip_to(subscription.execution_id, subscription.position)

    @property
    def expires_in(self) -> float | None:
        """Seconds until the token expires; None for a token without expiry."""
        expires_at = self.principal.expires_at
        return None if expires_at is None else expires_at - self.context.clock.wall()

    @property
    def has_expired(self) -> bool:
        """Return whether the token has expired."""
        expires_in = self.expires_in
        return expires_in is not None and expires_in <= 0

    @property
    def uptime(self) -> float:
        """Seconds since the connection began."""
        return self.context.clock.monotonic() - self._began

    async def recheck_token(self) -> bool:
        """Check the login again, at every heartbeat and after a wait for a page. Return whether its expiry has changed.

        The application's `authenticate` may then return other rights and another expiry.

        Raises:
            UnauthorizedError: If the token was revoked, or the application no longer accepts the caller.
        """
        if self.principal.source == "application":
            return await self._authenticate_again(self.principal)
        try:
            is_valid = await self.policy.still_valid(self.principal, address=self.peer.address)
        except MessageRateError:  # the caller itself overloads the check: no reason to keep it
            is_valid = False
        if not is_valid:
            raise UnauthorizedError("the token is not valid any more")
        return False

    async def _authenticate_again(self, before: Principal) -> bool:
        fresh, refused = None, UnauthorizedError("the login is not valid any more")
        try:
            fresh = await self.policy.find_principal(self.peer, self._token, known=before)
        except UnauthorizedError as error:
            refused = error
        except MessageRateError:  # as above
            pass
        if self.principal is not before:
            return False  # the client has logged in again
        if fresh is None or fresh.subject != before.subject:
            if self.has_expired:
                return False  # the connection has its time of grace
            raise refused
        self.set_principal(fresh, self._token)
        return fresh.expires_at != before.expires_at

    # ------------------------------------------------------------ limits
    def count_violation(self, error: StreamingError) -> bool:
        """Count an error against the connection; return whether the connection has to close."""
        if error.closes == "third":
            self._violations[error.name] += 1
            return self._violations[error.name] >= _MAX_VIOLATIONS
        return error.closes == "yes"

    def charge_rate(self, now: float) -> None:
        """Count one message at `now`.

        Raises:
            MessageRateError: If the messages arrive too fast.
        """
        bucket = self._bucket
        if bucket is not None and not bucket.take(now):
            limits = self.context.settings.limits
            raise MessageRateError(
                f"at most {limits.messages_per_second:g} messages a second: slow down",
                retry_after=bucket.seconds_until(),
            )

    async def subscribe(
        self, request: SubscribeExecution, *, room_id: str | None = None
    ) -> tuple[ActiveSubscription, SubscribeResult]:
        """Subscribe to an execution, in place of a former subscription to it.

        Raises:
            TooManySubscriptionsError: If the connection has as many subscriptions as it may.
            StreamingError: If `attach` raises it.
        """
        execution_id = request.execution_id
        limit = self.context.settings.limits.subscriptions_per_connection
        if limit is not None and len(self.subscriptions) >= limit and execution_id not in self.subscriptions:
            raise TooManySubscriptionsError(
                f"a connection may watch {limit} executions: unsubscribe first", execution_id=execution_id
            )
        chosen = ROOM_FILTER if room_id is not None else request.filter()
        source, attached = await attach(self, request, chosen)
        previous = self.subscriptions.get(execution_id)
        if previous is not None:
            self.remove_subscription(previous)
        subscription = self.subscriptions[execution_id] = ActiveSubscription(
            execution_id=execution_id,
            source=source,
            options=DeliveryOptions(
                merge=request.merge,
                batch=request.batch,
                live_after=attached.position.seq if attached.position is not None else 0,
            ),
            by_type=request.event == "type",
            follow=request.follow,
            room_id=room_id,
        )
        self.instrumentation.subscribed(subscription, attached, resumes=request.after not in {None, "latest"})
        if self.events is not None:
            self.events.follower.skip_to(execution_id, None)
        return subscription, attached

    async def check(self, action: Action, execution_id: str) -> LogState | None:
        """Return the state of an execution, if the caller may do `action`.

        Raises:
            ForbiddenError: If the caller may not.
            LogUnavailableError: If the log cannot be reached.
        """
        state = await self.find(execution_id, latest=action != "read")
        owner = state.owner if state is not None else None
        try:
            await self.policy.check(self.principal, action, execution_id, owner, address=self.peer.address)
        except ForbiddenError:
            await self._look_up(execution_id, state)
            raise
        return state

    async def _look_up(self, execution_id: str, state: LogState | None) -> None:
        """Take as long to refuse a known execution as `find` takes for an unknown one."""
        look_up = self.hub.control.look_up
        if state is not None and look_up is not None:
            await look_up(execution_id)

    async def find(self, execution_id: str, *, latest: bool = False) -> LogState | None:
        """Return the state of an execution, also of one that waits for a human since before a restart.

        Takes and raises the same as `StreamHub.describe`.
        """
        state = await self.hub.describe(execution_id, latest=latest)
        if state is None and await self.hub.control.restore(execution_id):
            state = await self.hub.describe(execution_id, latest=latest)
        return state

    async def may_read(self, execution_id: str, principal: Principal | None = None) -> bool:
        """Return whether the caller, or `principal` in its place, may read an execution.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        if self.trusted:
            return True
        state = await self.hub.describe(execution_id)
        allowed = await self.policy.allows(
            principal or self.principal,
            "read",
            execution_id,
            state.owner if state is not None else None,
            address=self.peer.address,
        )
        if not allowed:
            await self._look_up(execution_id, state)
        return allowed

    def vetting(self, execution_id: str, state: LogState | None) -> Vetting:
        """Return a check that the caller may still read an execution, whose state at subscribing was `state`."""
        return Vetting(execution_id, state, self._may_go_on)

    async def _may_go_on(self, execution_id: str, owner: str | None, now: LogState) -> bool:
        if self.trusted:  # the application decided about this owner's run only
            return owner in {None, now.owner}
        return await self.may_read(execution_id)

    # ------------------------------------------------------------ messages to the client
    def now(self) -> str:
        """Return the time in the format of the wire."""
        return format_time(self.context.clock.wall())

    async def heartbeat(self) -> dict[str, Any]:
        """Return the payload of `heartbeat`: the head of each execution the client subscribed to."""
        positions: dict[str, str] = {}
        for execution_id, subscription in list(self.subscriptions.items()):
            state = await self.hub.describe(execution_id)
            if state is not None and subscription.source.is_vetted(state):
                positions[execution_id] = f"{state.epoch}:{state.head}"
        return {"timestamp": self.now(), "positions": positions}

    def stats(self) -> ClientStats:
        """Return the connection's row for operators."""
        return ClientStats(
            connection_id=self.connection_id,
            transport=self.transport,
            subject=self.principal.account,
            address=self.peer.address,
            uptime_s=round(self.uptime, 3),
            executions=tuple(
                subscription.execution_id
                for subscription in self.subscriptions.values()
                if subscription.room_id is None
            ),
            rooms=tuple(
                subscription.room_id for subscription in self.subscriptions.values() if subscription.room_id is not None
            ),
        )


async def attach(
    session: Session, request: SubscribeExecution, filter: UpdateFilter
) -> tuple[Subscription, SubscribeResult]:
    """Open a subscription for the session's caller, if the caller may read the execution.

    Raises:
        ForbiddenError: If the caller may not, or the execution does not exist.
        GapError: If updates are missing and `on_gap` is `fail`.
        StreamingError: If the filter is wrong, a limit is reached, or the log cannot be reached.
    """
    execution_id = request.execution_id
    state = await session.find(execution_id)
    if not await session.may_read(execution_id):
        raise ForbiddenError(execution_id=execution_id)
    subscription = session.hub.subscribe(
        execution_id,
        after=request.after,
        filter=filter,
        until=INTERRUPTED if request.until_interrupted else None,
        follow=request.follow,
        on_gap=request.on_gap,
    )
    subscription.vetting = session.vetting(execution_id, state)
    try:
        return subscription, await subscription.start()
    except BaseException:
        subscription.close()
        raise


def format_time(seconds: float) -> str:
    """Return a time in the format of the wire: ``2026-11-20T20:00:00.123Z``."""
    return format_timestamp(datetime.fromtimestamp(seconds, UTC))
