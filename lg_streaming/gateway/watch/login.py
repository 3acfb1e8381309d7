"""Login of the watch page: `/watch-session` describes the caller, keeps a token in a cookie, and removes it.

The path is not below `/watch/`, where each name is an execution's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from lg_streaming.errors import BadRequestError, ForbiddenError, OriginError, TokenExpiredError, UnauthorizedError
from lg_streaming.gateway.auth.links import is_link
from lg_streaming.gateway.http.endpoint import Endpoint, json_body
from lg_streaming.gateway.http.query_params import query_payload
from lg_streaming.gateway.protocol.http_models import WatchLogin, WatchSessionQuery
from lg_streaming.gateway.protocol.registry import parse
from lg_streaming.gateway.protocol.responses import json_response
from lg_streaming.gateway.session.session import Session, format_time
from lg_streaming.gateway.session.starting import may_start_any

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Router

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.auth.policy import Principal
    from lg_streaming.gateway.http.context import HttpContext

__all__ = ["SESSION_PATH", "PageLogin"]

SESSION_PATH: Final = "/watch-session"
"""Path of the login, below `gateway.prefix`."""
_COOKIE_BYTES: Final = 4_000
"""Most bytes of name and value: browsers drop a cookie of more than 4,096."""


class PageLogin:
    """Login of the watch page by a token, which a cookie then carries.

    Only pages of this server may log in and out: a page of another origin could otherwise log its visitor in to
    a foreign account.

    Args:
        context: Services that the routes share.
    """

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._gateway = context.gateway
        self._policy = context.gateway.policy
        self._settings = context.gateway.settings

    def add_routes(self, router: Router) -> None:
        """Add the route to `router`."""
        path = f"{self._settings.gateway.prefix}{SESSION_PATH}"
        endpoint = Endpoint(self._context, GET=self._describe, POST=self._login, DELETE=self._logout)
        router.routes.append(Route(path, endpoint))

    async def _describe(self, request: Request, peer: Peer) -> Response:
        query = parse(WatchSessionQuery, query_payload(request, texts={"execution_id"}))
        session, reason = self._session(peer), None
        try:
            principal = await session.authenticate_request(lambda: self._policy.find_principal(peer))
        except TokenExpiredError as error:
            principal, reason = None, error
        except UnauthorizedError as error:
            if not self._policy.requires_token:  # no login helps
                raise
            principal, reason = None, error
        if principal is None:
            return json_response(self._needed(reason))
        return json_response(await self._described(session, query.execution_id))

    async def _login(self, request: Request, peer: Peer) -> Response:
        _check_own_page(peer)
        query_payload(request)
        name = self._cookie_name()
        token = parse(WatchLogin, await json_body(request, self._settings.limits.inbound_bytes)).token.strip()
        if is_link(token):
            raise BadRequestError("this is a link, which opens one run: put it into the address of that run")
        session = self._session(peer)
        principal = await session.authenticate_request(lambda: self._policy.verify(token, address=peer.address))
        if len(name) + len(token) > _COOKIE_BYTES:
            raise BadRequestError("the token is too long for a cookie: log in with one of fewer claims")
        response = json_response(await self._described(session, None), HTTPStatus.CREATED)
        expires_in = session.expires_in
        response.set_cookie(
            name,
            token,
            max_age=None if principal is None or expires_in is None else max(0, int(expires_in)),
            **self._cookie_place(request, peer, name),
        )
        return response

    async def _logout(self, request: Request, peer: Peer) -> Response:
        _check_own_page(peer)
        query_payload(request)
        name = self._cookie_name()
        response = json_response({"ok": True})
        response.delete_cookie(name, **self._cookie_place(request, peer, name))
        return response

    def _session(self, peer: Peer) -> Session:
        return Session(peer=peer, context=self._gateway, transport="rest")

    def _cookie_name(self) -> str:
        """Return the name of the cookie that carries a token.

        Raises:
            ForbiddenError: If no cookie may carry one, or no token is checked here.
        """
        name = self._settings.auth.cookie
        if not self._policy.checks_tokens:
            raise ForbiddenError("no token is checked here: log in to the application, if it has a login")
        if name is None:
            raise ForbiddenError("pages cannot log in with a token: auth.cookie is None")
        return name

    def _cookie_place(self, request: Request, peer: Peer, name: str) -> dict[str, Any]:
        """Return where a browser sends the cookie: to this gateway, from its own pages, over TLS if the page has it."""
        is_host_only = name.startswith("__Host-")
        path = f"{request.scope.get('root_path', '')}{self._settings.gateway.prefix}"
        return {
            "path": "/" if is_host_only else path or "/",
            "secure": name.startswith("__") or peer.may_be_secure or (peer.origin or "").startswith("https:"),
            "httponly": True,
            "samesite": "strict",
        }

    # ------------------------------------------------------------ answers
    def _needed(self, reason: UnauthorizedError | None) -> dict[str, Any]:
        return {
            "login": "needed",
            "form": self._policy.checks_tokens and self._settings.auth.cookie is not None,
            "login_url": self._settings.gateway.login_url,
            "reason": None if reason is None else reason.to_dict(),
        }

    async def _described(self, session: Session, execution_id: str | None) -> dict[str, Any]:
        principal = session.principal
        is_link_holder = principal.source == "link"
        can = {"list": not is_link_holder, "start": await may_start_any(session)}
        if execution_id is not None:
            can |= await self._may(session, execution_id)
        longest = {"max_link_age_s": self._settings.auth.max_link_age} if can.get("share") else {}
        return {
            "login": "in" if self._policy.requires_token else "off",
            "by": principal.source,
            "subject": principal.account,
            "expires_at": None if principal.expires_at is None else format_time(principal.expires_at),
            "can": can,
            **longest,
        }

    async def _may(self, session: Session, execution_id: str) -> dict[str, bool]:
        principal: Principal = session.principal
        state = await session.find(execution_id)
        owner = state.owner if state is not None else None
        allows, address = self._policy.allows, session.peer.address
        reads = await allows(principal, "read", execution_id, owner, address=address)
        shares = reads and self._policy.issues_links and principal.source != "link"
        controls = await allows(principal, "control", execution_id, owner, address=address)
        return {"read": reads, "control": controls, "share": shares}


def _check_own_page(peer: Peer) -> None:
    if peer.is_cross_site or (peer.origin is not None and not peer.is_same_origin):
        raise OriginError("only a page of this server may log in and out here")
