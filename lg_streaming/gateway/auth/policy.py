"""Rules of access: authentication, and rights on executions.

Identity comes only from the claims of a signed token, or from the application's `authenticate`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import (
    ForbiddenError,
    MessageRateError,
    OriginError,
    ServerRestartError,
    StreamingConfigError,
    UnauthorizedError,
)
from lg_streaming.gateway.auth.claims import ClaimsReader
from lg_streaming.gateway.auth.jwks import RemoteKeys
from lg_streaming.gateway.auth.keys import static_keys
from lg_streaming.gateway.auth.links import Link, Links, is_link
from lg_streaming.gateway.auth.own_sessions import Authenticate, OwnSessions
from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.auth.principal import ANONYMOUS, CLAIM, Action, Grant, Principal, grants_of
from lg_streaming.gateway.auth.revocation import Revocations, Revoked
from lg_streaming.gateway.auth.shared_revocations import SharedRevocations
from lg_streaming.gateway.auth.shared_tickets import SharedTickets
from lg_streaming.gateway.auth.tickets import Tickets
from lg_streaming.gateway.limits.rates import address_key
from lg_streaming.gateway.limits.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.gateway.auth.keys import Keys
    from lg_streaming.gateway.auth.tickets import UsedTicket
    from lg_streaming.log.fleet import Fleet
    from lg_streaming.settings import AuthSettings

__all__ = [
    "ANONYMOUS",
    "Action",
    "Authenticate",
    "Authorize",
    "Grant",
    "Policy",
    "Principal",
    "Revoked",
    "caller_of",
]

logger: logging.Logger = logging.getLogger(__name__)

_OWN_HEADERS: Final = ("Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "Last-Event-ID")
GRAPH_PREFIX: Final = "graph:"
"""Beginning of the id with which `authorize` is asked about a graph."""
_MAX_SOURCES: Final = 64
"""Maximum of id prefixes in a caller's grants; with more, a list checks all executions."""
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_MAX_HEADERS: Final = 100

Authorize = Callable[[Principal, Action, str, str | None], bool | Awaitable[bool]]
"""`authorize(principal, action, execution_id, owner) -> bool`, sync (run in one of the gateway's own threads) or async.

Called when neither ownership nor a grant allows the action; without authentication, it decides alone. Answers are not
cached. `owner` is None if the execution has none or does not exist yet. A room has the id `room:<room_id>`. An
exception, or no answer within 10 seconds, denies the action.

A start asks `authorize(principal, "start", "graph:<name>", None)`: may the caller start this graph? Where the caller
chose the id of an execution or a thread that is not its own, it also asks with that id.
"""


class Policy:
    """The rules of admission.

    Args:
        settings: Keys and switches.
        cors_origins: Browser origins that are admitted in addition to the server's; `*` means all.
        cors_headers: Additional request headers that pages of these origins may send; None: all they ask for.
        authenticate: The application's login of callers, before tokens count.
        authorize: The application's decision on a caller's actions.
        revoked: The application's decision on whether a token is revoked.
        clock: Seconds since 1970.
        answer_timeout: Seconds after which a missing answer of the application counts as a denial.
        keys: Source of the keys of tokens; default: the keys of the settings.
        fleet: The processes that share revocations and tickets; None for this process alone.

    Raises:
        StreamingConfigError: If authentication is on without a key and `authenticate`, or off with `authenticate`. If
            the key cannot be read.
    """

    def __init__(
        self,
        settings: AuthSettings,
        *,
        cors_origins: tuple[str, ...] = (),
        cors_headers: tuple[str, ...] | None = None,
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        revoked: Revoked | None = None,
        clock: Callable[[], float] = time.time,
        answer_timeout: float = 10.0,
        keys: Keys | None = None,
        fleet: Fleet | None = None,
    ) -> None:
        self._settings = settings
        self._origins = frozenset(origin.lower().rstrip("/") for origin in cors_origins)
        self._headers = cors_headers
        self._authorize = authorize
        self._revoked = revoked
        self._answer_timeout = answer_timeout
        self._workers = Workers("rights")
        self._own = (
            None if authenticate is None else OwnSessions(authenticate, self._workers, clock, timeout=answer_timeout)
        )
        self._clock = clock
        self._revocations = Revocations(clock, leeway=settings.leeway)
        self.shared_revocations: SharedRevocations | None = (
            None if fleet is None else SharedRevocations(fleet, self._revocations, clock)
        )
        """The exchange of revocations with other processes."""
        self.tickets: Tickets = Tickets(clock=clock)
        """Unused tickets that this process has issued."""
        self._shared_tickets = None if fleet is None else SharedTickets(self.tickets, fleet)
        self._links = Links(settings.max_link_age, clock=clock, fleet=fleet)
        keys = None if settings.enabled is False else keys or _keys(settings)
        self._remote_keys = keys if isinstance(keys, RemoteKeys) else None
        self._reader = None if keys is None else ClaimsReader(settings, keys, clock)
        has_logins = self._reader is not None or self._own is not None
        self.requires_token: bool = has_logins if settings.enabled is None else settings.enabled
        """True if callers need a login: `auth.enabled`; if that is unset, a key in the settings or `authenticate`."""
        self.checks_tokens: bool = self.requires_token and self._reader is not None
        """True if a JWT may log a caller in."""
        self.issues_links: bool = self.requires_token and settings.max_link_age != 0
        """True if callers may issue links."""
        self.local_only: bool = settings.enabled is None and not self.requires_token
        """True if only callers from this machine are admitted, because authentication is not set up."""
        self.exposed: str | None = None
        """Why all callers are refused without authentication: the server listens beyond this machine."""
        if self.requires_token and not has_logins:
            raise StreamingConfigError("auth.enabled needs a key: set auth.secret, auth.public_key or auth.jwks_url")
        if self._own is not None and not self.requires_token:
            raise StreamingConfigError("auth.enabled=False admits every caller: leave it unset, or drop authenticate=")

    # ------------------------------------------------------------ coming in
    def peer_of(self, scope: Mapping[str, Any]) -> Peer:
        """Return the caller of a request, with the request if the application checks it."""
        return Peer.from_scope(scope, keep=self._own is not None)

    def check_origin(self, peer: Peer) -> None:
        """Check that a browser's page is this server's, or of `gateway.cors_origins`.

        A request that a browser marks as cross-site or same-site comes from another page, with or without an origin.
        `*` admits every page that sends its origin, but not in local mode: there every web page could act for the
        user of this machine.

        Raises:
            OriginError: If the request comes from another page.
        """
        if self._origin_is_trusted(peer) or (self._star and peer.origin is not None):
            return
        if peer.origin is None:
            raise OriginError(
                "a page of another site may not send this request: add its origin to gateway.cors_origins"
            )
        star = " ('*' does not count while authentication is not set up)" if "*" in self._origins else ""
        raise OriginError(f"origin {peer.origin!r:.200} is not allowed: add it to gateway.cors_origins{star}")

    def trusts_origin(self, peer: Peer) -> bool:
        """Return whether the caller's cookies may count: its page is not of another site, or admitted only by `*`."""
        return self._origin_is_trusted(peer)

    def _origin_is_trusted(self, peer: Peer) -> bool:
        if peer.origin is None and not peer.is_cross_site:
            return True
        return peer.is_same_origin or (peer.page_origin or "").lower().rstrip("/") in self._origins

    @property
    def _star(self) -> bool:
        return "*" in self._origins and not self.local_only

    def cors_headers(self, peer: Peer) -> dict[str, str]:
        """Return the response headers with which a page of an allowed origin may read the response."""
        if peer.origin is None or peer.is_same_origin:
            return {}
        if self.trusts_origin(peer):
            return {
                "Access-Control-Allow-Origin": peer.origin,
                "Access-Control-Allow-Credentials": "true",
                "Vary": "Origin",
            }
        return {"Access-Control-Allow-Origin": "*"} if self._star else {}

    def cors_request_headers(self, peer: Peer) -> list[str]:
        """Return the request headers that a page of the caller's origin may send: the gateway's and the application's.

        `gateway.cors_headers` lists the application's. If it is unset, they are all headers that a browser asks for
        on behalf of an allowed origin.
        """
        allowed = [*_OWN_HEADERS, *self._settings.headers, *(self._headers or ())]
        if self._headers is None and self.cors_headers(peer):
            known = {name.lower() for name in allowed}
            asked = (name.strip() for name in peer.headers.get("access-control-request-headers", "").split(","))
            allowed += [name for name in asked if _HEADER_NAME.fullmatch(name) and name.lower() not in known]
        return allowed[:_MAX_HEADERS]

    async def authenticate(
        self, peer: Peer, token: str | None = None, *, ticket: str | UsedTicket | None = None
    ) -> Principal:
        """Return the caller's principal. Raises like `find_principal`.

        Raises:
            UnauthorizedError: If the caller has no credentials.
        """
        principal = await self.find_principal(peer, token, ticket=ticket)
        if principal is None:
            raise UnauthorizedError("a token is required" if self._reader is not None else "log in to the application")
        return principal

    async def find_principal(
        self,
        peer: Peer,
        token: str | None = None,
        *,
        ticket: str | UsedTicket | None = None,
        known: Principal = ANONYMOUS,
    ) -> Principal | None:
        """Return the caller's principal; None for a caller without credentials.

        A ticket wins, then a link. Then the application's `authenticate` decides; if it does not know the caller, a
        token counts.

        Args:
            peer: The caller.
            token: The token or link of a message; default: the bearer header, those of `auth.headers`, then the cookie.
            ticket: A ticket, which is void afterwards.
            known: The principal at the last check; its subject is charged for the answer, else the caller's address.

        Raises:
            OriginError: If the request is of a browser page from another origin.
            UnauthorizedError: If no token, link or ticket is valid, or `authenticate` failed. If authentication is not
                set up and the request does not show that its caller is on this machine.
            TokenExpiredError: If the token or link was valid once.
            KeysUnavailableError: If the token's key cannot be fetched now.
            LogUnavailableError: If the key of links cannot be read now.
            MessageRateError: If too many questions of the caller wait for an answer of `authenticate`.
        """
        used = await self.use_ticket(ticket) if isinstance(ticket, str) else ticket  # first: it is void once it came
        self.check_origin(peer)
        if self.local_only and (reason := self.exposed or peer.why_not_local) is not None:
            raise UnauthorizedError(
                f"authentication is not set up, so only direct callers from this machine are admitted: {reason}. Set "
                "LG_STREAMING_AUTH__SECRET or LG_STREAMING_AUTH__PUBLIC_KEY (or LG_STREAMING_AUTH__ENABLED=false "
                "to let everybody in)"
            )
        if used is not None:
            holder = used.holder()
            source = "link" if holder.source == "link" else "ticket"
            return await self._checked(replace(holder, source=source), peer.address)
        if not self.requires_token:
            return ANONYMOUS
        presented = token or self.token_of(peer)
        if presented is not None and is_link(presented):
            return await self._checked(await self._links.open(presented), peer.address)
        if self._own is not None:
            caller, with_cookies = caller_of(known, peer.address), self.trusts_origin(peer)
            own = await self._own.find(peer, token, caller=caller, with_cookies=with_cookies)
            if own is not None:
                return await self._checked(own, peer.address)
        return None if presented is None else await self.verify(presented, address=peer.address)

    async def issue_ticket(self, principal: Principal, *, execution_id: str | None = None) -> tuple[str, float]:
        """Issue a ticket, which each process of the fleet accepts; see `Tickets.issue`.

        Raises:
            LogUnavailableError: If the fleet cannot be reached.
        """
        tickets = self._shared_tickets
        if tickets is None:
            return self.tickets.issue(principal, execution_id=execution_id)
        return await tickets.issue(principal, execution_id=execution_id)

    async def issue_link(self, principal: Principal, execution_id: str, *, expires_in: float) -> Link:
        """Issue a link to an execution that `principal` may read; see `Links.issue`.

        Raises:
            ForbiddenError: If authentication is off: a link would then restrict no caller.
        """
        if not self.requires_token:
            raise ForbiddenError(
                "links need authentication, which is off here: every caller who is admitted may read everything",
                execution_id=execution_id,
            )
        return await self._links.issue(principal, execution_id, expires_in=expires_in)

    async def use_ticket(self, ticket: str) -> UsedTicket:
        """Void a ticket, and return it. It never fails: see `UsedTicket.holder`."""
        return self.tickets.use(ticket) if self._shared_tickets is None else await self._shared_tickets.use(ticket)

    def token_of(self, peer: Peer) -> str | None:
        """Return the token of a request's headers, or of its cookie if the request's origin is trusted."""
        token = peer.bearer
        for header in self._settings.headers:
            token = token or peer.token_in(header)
        name = self._settings.cookie
        return token or (peer.cookie(name) if name is not None and self.trusts_origin(peer) else None)

    async def verify(self, token: str, *, address: str | None = None) -> Principal:
        """Return the principal of a token that came from `address`.

        Raises:
            UnauthorizedError: If the token is not valid. Only the debug log has the reason.
            TokenExpiredError: If the token was valid once.
            KeysUnavailableError: If the token's key cannot be fetched now.
        """
        if self._reader is None:
            reason = "the token is not valid" if self.requires_token else "authentication is off: no token holds"
            raise UnauthorizedError(reason)
        claims = await self._reader.read(token)
        return await self._checked(
            Principal(
                subject=claims["sub"],
                grants=grants_of(claims.get(CLAIM)),
                claims=claims,
                expires_at=claims["exp"] + self._settings.leeway,
                source="token",
            ),
            address,
        )

    async def _checked(self, principal: Principal, address: str | None) -> Principal:
        if not await self.still_valid(principal, address=address):
            logger.debug("a login of %r was refused: it is revoked", principal.subject)
            raise UnauthorizedError("the token is not valid")
        return principal

    # ------------------------------------------------------------ leaving again
    def revoke(self, *, jti: str | None = None, subject: str | None = None, expires_at: float | None = None) -> None:
        """Revoke the token with this `jti`, or all tokens of a subject that were issued (`iat`) until now, or both.

        Revoked tokens open no connection and no subscription; open connections end at their next heartbeat. With a
        fleet, the rule holds in all its processes. See `Revocations.add` for the arguments. The rule also covers links
        that were issued with these tokens, and is kept until the last one can have ended.

        Raises:
            StreamingConfigError: If neither `jti` nor `subject` is given.
        """
        rules = self._revocations.add(jti=jti, subject=subject, expires_at=self._last_end(expires_at))
        if self.shared_revocations is not None:
            self.shared_revocations.share(rules)

    def _last_end(self, expires_at: float | None) -> float | None:
        """Return the end of the last link whose issuer's tokens expire at `expires_at`."""
        if expires_at is None or self._settings.max_link_age is None:
            return None
        return max(expires_at, self._clock() + self._settings.max_link_age) if self.requires_token else expires_at

    async def still_valid(self, principal: Principal, *, address: str | None = None) -> bool:
        """Return whether the principal's token is not revoked, by `revoke` or by the application.

        For expiry see `Principal.expires_at`. A caller without a token has nothing that can be revoked.

        Raises:
            MessageRateError: If too many questions of the caller wait for an answer.
        """
        if principal.subject is None and principal.source != "link":
            return True
        if self._revocations.is_revoked(principal):
            return False
        if self._revoked is None:
            return True
        return await self._answer("revoked", caller_of(principal, address), self._revoked, principal) is False

    # ------------------------------------------------------------ seeing things
    def sources(self, principal: Principal, owner: str | None) -> list[tuple[str | None, str]]:
        """Return where a list looks for executions that `principal` may read: owners (None: any) and prefixes of ids.

        All other executions are unreadable, so a list skips them. `allows` decides about each candidate.

        Args:
            principal: The caller.
            owner: The owner to which the list is restricted; None: no restriction.
        """
        if self._authorize is not None or not self.requires_token:
            return [(owner, "" if principal.restricted_to is None else principal.restricted_to)]
        prefixes = {
            glob.partition("*")[0] for grant in principal.grants if "read" in grant.actions for glob in grant.executions
        }
        ordered: list[str] = []
        for prefix in sorted(prefixes if len(prefixes) <= _MAX_SOURCES else {""}):
            if not (ordered and prefix.startswith(ordered[-1])):  # else it is covered
                ordered.append(prefix)
        own: list[tuple[str | None, str]] = []
        if principal.subject is not None and owner in {None, principal.subject}:
            own.append((principal.subject, ""))
        return [*own, *((None, prefix) for prefix in ordered)]

    async def check(
        self, principal: Principal, action: Action, execution_id: str, owner: str | None, *, address: str | None = None
    ) -> None:
        """Check that `principal`, at `address`, may do `action`.

        Raises:
            ForbiddenError: If the caller may not. An execution that does not exist gets the same answer.
            MessageRateError: If too many questions of the caller wait for an answer.
        """
        if not await self.allows(principal, action, execution_id, owner, address=address):
            raise ForbiddenError(execution_id=execution_id)

    async def allows(
        self, principal: Principal, action: Action, execution_id: str, owner: str | None, *, address: str | None = None
    ) -> bool:
        """Return whether `principal`, at `address`, may do `action` on the execution of `owner`.

        Raises:
            MessageRateError: If too many questions of the caller wait for an answer.
        """
        if principal.is_outside_scope(action, execution_id) or self._revocations.is_revoked(principal):
            return False
        if self.requires_token:
            if owner is not None and principal.subject == owner:
                return True
            if any(grant.allows(action, execution_id) for grant in principal.grants):
                return True
        elif self._authorize is None:
            return True
        return await self._allows_by_application(principal, action, execution_id, owner, address)

    def only_owns(self, principal: Principal, action: Action, execution_id: str, owner: str | None) -> bool:
        """Return whether `principal`, who may do `action`, may do so only as the owner, and not by a grant."""
        is_owner = self.requires_token and owner is not None and principal.subject == owner
        return is_owner and not any(grant.allows(action, execution_id) for grant in principal.grants)

    async def allows_start(self, principal: Principal, graph: str, peer: Peer) -> bool:
        """Return whether `principal` may start the graph of this name. The graph need not exist.

        Without authentication and without `authorize`, only a caller on this machine may.

        Raises:
            MessageRateError: If too many questions of the caller wait for an answer.
        """
        if principal.restricted_to is not None or self._revocations.is_revoked(principal):
            return False
        if self.requires_token:
            if any(grant.allows_graph(graph) for grant in principal.grants):
                return True
        elif self._authorize is None:
            return peer.why_not_local is None
        return await self._allows_by_application(principal, "start", f"{GRAPH_PREFIX}{graph}", None, peer.address)

    async def allows_start_in(
        self, principal: Principal, graph: str, execution_id: str, owner: str | None, *, address: str | None = None
    ) -> bool:
        """Return whether `principal`, who may start the graph, may start it in an execution or thread of this id.

        The owner may. For an id without an owner a grant or the application decides. For another's id the same
        questions are asked, so that the refusal takes the same work.

        Raises:
            MessageRateError: If too many questions of the caller wait for an answer.
        """
        if not self.requires_token and self._authorize is None:
            return True
        if owner is not None and principal.subject == owner:
            return True
        allowed = self.requires_token and any(
            grant.allows_graph(graph) and grant.allows("start", execution_id) for grant in principal.grants
        )
        allowed = allowed or await self._allows_by_application(principal, "start", execution_id, owner, address)
        return allowed and owner is None

    async def _allows_by_application(
        self, principal: Principal, action: Action, execution_id: str, owner: str | None, address: str | None
    ) -> bool:
        if self._authorize is None:
            return False
        caller = caller_of(principal, address)
        return await self._answer("authorize", caller, self._authorize, principal, action, execution_id, owner) is True

    async def _answer(self, name: str, caller: str, ask: Callable[..., object], *arguments: object) -> object:
        """Return the application's answer; None if it fails or takes too long."""
        patience = asyncio.timeout(self._answer_timeout)
        try:
            async with patience:
                return await self._workers.answer(caller, ask, *arguments)
        except (MessageRateError, ServerRestartError):
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                raise
            # The caller chose these words: logged as data, never as lines of the log.
            subject = arguments[1:] or "a token"
            if patience.expired():
                logger.error("%s failed for %r: denied, no answer in %g s", name, subject, self._answer_timeout)  # noqa: TRY400 (the trace is ours alone)
            else:
                logger.exception("%s failed for %r: denied", name, subject)
            return None

    # ------------------------------------------------------------ ending
    def close(self) -> None:
        """End the threads that call the application. New threads start on demand."""
        self._workers.close()
        if self._remote_keys is not None:
            self._remote_keys.close()


def caller_of(principal: Principal, address: str | None) -> str:
    """Return the account to which a caller's use is charged: its subject, else its address."""
    return f"address {address_key(address)}" if principal.account is None else f"subject {principal.account}"


def _keys(settings: AuthSettings) -> Keys | None:
    if settings.jwks_url is not None:
        return RemoteKeys(settings.jwks_url, settings.algorithms)
    return static_keys(settings)
