"""REST routes: executions, their updates page by page, control over them, tickets, links, and the server's health."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from starlette.routing import Route

from lg_streaming.errors import BadRequestError, ForbiddenError
from lg_streaming.filters import FILTER_LISTS, FILTER_TEXTS
from lg_streaming.gateway.http.endpoint import (
    Endpoint,
    ExecutionRoute,
    execution_id_of,
    json_body,
)
from lg_streaming.gateway.http.executions import Cursors, execution_info, list_executions
from lg_streaming.gateway.http.queries import HistoryReader, fleet_info
from lg_streaming.gateway.http.query_params import query_payload
from lg_streaming.gateway.http.state_routes import StateRoutes
from lg_streaming.gateway.protocol.http_models import (
    HistoryQuery,
    InputBody,
    LinkRequest,
    ListQuery,
    PromptResponse,
    TicketRequest,
)
from lg_streaming.gateway.protocol.inbound import (
    CancelExecution,
    InjectInput,
    PauseExecution,
    Respond,
    ResumeExecution,
    StartExecution,
)
from lg_streaming.gateway.protocol.outbound import PROTOCOL_VERSION
from lg_streaming.gateway.protocol.registry import parse
from lg_streaming.gateway.protocol.responses import json_response
from lg_streaming.gateway.session.handlers import HANDLERS
from lg_streaming.gateway.session.session import Session, format_time
from lg_streaming.gateway.session.starting import execution_url, list_graphs, start_run

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Router

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext

__all__ = ["FLEET_ID", "RestRoutes"]

logger: logging.Logger = logging.getLogger(__name__)

FLEET_ID: Final = "lg_streaming/fleet"
"""The id that a caller must be allowed to read, like an execution: a grant on `**` covers it, one on `*` does not."""
_LOG_TIMEOUT: Final = 1.0
_KEY_LENGTH: Final = 256


class RestRoutes:
    """The REST side of a gateway.

    Args:
        context: Services that the routes share.
    """

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._pages = HistoryReader()
        self._states = StateRoutes(context, self._enter)
        self._cursors = Cursors(context.gateway.hub.log.fleet)

    def add_health(self, router: Router) -> None:
        """Add the routes that do not depend on the transports: health, and tickets."""
        context, prefix = self._context, self._context.gateway.settings.gateway.prefix
        router.routes += [
            Route(f"{prefix}/health", Endpoint(context, GET=self._ready)),
            Route(f"{prefix}/health/live", Endpoint(context, GET=self._live)),
            Route(f"{prefix}/health/ready", Endpoint(context, GET=self._ready)),
            Route(f"{prefix}/tickets", Endpoint(context, POST=self._ticket)),
        ]

    def add_routes(self, router: Router) -> None:
        """Add the routes to `router`; those of an execution itself come last, as its id matches any text."""
        context, prefix = self._context, self._context.gateway.settings.gateway.prefix
        router.routes += [
            Route(f"{prefix}/fleet", Endpoint(context, GET=self._fleet)),
            Route(f"{prefix}/graphs", Endpoint(context, GET=self._graphs)),
            Route(f"{prefix}/executions", Endpoint(context, GET=self._list, POST=self._start)),
            ExecutionRoute(prefix, "updates", Endpoint(context, GET=self._updates)),
            ExecutionRoute(prefix, "responses", Endpoint(context, POST=self._respond)),
            ExecutionRoute(prefix, "pause", Endpoint(context, POST=self._pause)),
            ExecutionRoute(prefix, "resume", Endpoint(context, POST=self._resume)),
            ExecutionRoute(prefix, "inputs", Endpoint(context, POST=self._inject)),
            ExecutionRoute(prefix, "links", Endpoint(context, POST=self._link)),
        ]
        self._states.add_routes(router)
        router.routes += [
            ExecutionRoute(prefix, "", Endpoint(context, GET=self._execution, DELETE=self._cancel)),
        ]

    async def shutdown(self) -> None:
        """End all waits for updates; their requests get the present page."""
        self._pages.shutdown()

    # ------------------------------------------------------------ how the server is
    async def _live(self, _request: Request, _peer: Peer) -> Response:
        """Return 200 while the process answers. Public, as the response has no secret."""
        return json_response(self._health("ok"))

    async def _ready(self, _request: Request, _peer: Peer) -> Response:
        """Return 200 if the process is ready for requests, else 503."""
        status = await self._status()
        return json_response(self._health(status), 200 if status == "ok" else 503)

    def _health(self, status: str) -> dict[str, object]:
        warnings = self._context.gateway.processes.warnings
        return {"status": status, "protocol": PROTOCOL_VERSION, **({"warnings": warnings} if warnings else {})}

    async def _status(self) -> str:
        if self._context.gateway.lifecycle.draining:
            return "draining"
        if self._context.gateway.hub.health().status == "closed":
            return "closed"
        return "ok" if await self._log_answers() else "log_unavailable"

    async def _log_answers(self) -> bool:
        try:
            async with asyncio.timeout(_LOG_TIMEOUT):
                await self._context.gateway.hub.describe("health")
        except Exception as error:  # noqa: BLE001 (any failure would affect requests too)
            logger.debug("not ready: %r", error)
            return False
        return True

    async def _fleet(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        if not await session.policy.allows(session.principal, "read", FLEET_ID, None, address=peer.address):
            raise ForbiddenError(f"the processes are for those who may read {FLEET_ID!r}")
        return json_response(fleet_info(await session.hub.metrics.fleet()))

    # ------------------------------------------------------------ executions
    async def _list(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        if session.principal.source == "link":
            raise ForbiddenError("a link is for one execution, and not for the list")
        payload = query_payload(
            request, lists={"state"}, texts={"owner", "cursor", "order", "text"}, numbers={"limit"}, repeated={"id"}
        )
        return json_response(await list_executions(session, parse(ListQuery, payload), self._cursors))

    async def _execution(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        execution_id = execution_id_of(request)
        state = await session.check("read", execution_id)
        if state is None:
            raise ForbiddenError(execution_id=execution_id)
        return json_response(execution_info(execution_id, state))

    async def _updates(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        payload = query_payload(
            request,
            lists=FILTER_LISTS,
            texts={*FILTER_TEXTS, "after", "on_gap"},
            flags={"follow"},
            numbers={"limit", "wait"},
        )
        query = parse(HistoryQuery, {**payload, "execution_id": execution_id_of(request)})
        return json_response(await self._pages.read(session, query, request.receive))

    # ------------------------------------------------------------ starts
    async def _graphs(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        return json_response(await list_graphs(session))

    async def _start(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        body = await self._body(request, self._context.gateway.settings.limits.start_bytes)
        query = _with_key(parse(StartExecution, body), request.headers.get("idempotency-key"))
        root = str(request.scope.get("root_path", ""))
        started = await start_run(session, query, root=root)
        response = json_response(started, 201)
        prefix = self._context.gateway.settings.gateway.prefix
        response.headers["Location"] = execution_url(root + prefix, started["execution_id"])
        return response

    # ------------------------------------------------------------ control
    async def _respond(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        execution_id = execution_id_of(request)
        answer = parse(PromptResponse, await self._body(request))
        query = Respond(execution_id=execution_id, prompt_id=answer.prompt_id, response=answer.response)
        return json_response((await HANDLERS["respond"](session, query)).answer)

    async def _cancel(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        payload = {**query_payload(request, texts={"reason"}), "execution_id": execution_id_of(request)}
        query = parse(CancelExecution, payload)
        return json_response((await HANDLERS["cancel_execution"](session, query)).answer, 202)

    async def _pause(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        payload = {**query_payload(request, texts={"reason"}), "execution_id": execution_id_of(request)}
        query = parse(PauseExecution, payload)
        return json_response((await HANDLERS["pause_execution"](session, query)).answer, 202)

    async def _resume(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        query = ResumeExecution(execution_id=execution_id_of(request))
        return json_response((await HANDLERS["resume_execution"](session, query)).answer, 202)

    async def _inject(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        execution_id = execution_id_of(request)
        body = parse(InputBody, await self._body(request, self._context.gateway.settings.limits.start_bytes))
        query = InjectInput(execution_id=execution_id, input=body.input, as_node=body.as_node)
        return json_response((await HANDLERS["inject_input"](session, query)).answer, 202)

    async def _ticket(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        query = parse(TicketRequest, await self._body(request))
        ticket, expires_in = await session.policy.issue_ticket(session.principal, execution_id=query.execution_id)
        return json_response({"ticket": ticket, "expires_in_s": round(expires_in, 3)}, 201)

    async def _link(self, request: Request, peer: Peer) -> Response:
        session = await self._enter(peer)
        query_payload(request)
        execution_id = execution_id_of(request)
        query = parse(LinkRequest, await self._body(request))
        if await session.check("read", execution_id) is None:
            raise ForbiddenError(execution_id=execution_id)
        link = await session.policy.issue_link(session.principal, execution_id, expires_in=query.expires_in_s)
        answer = {
            "link": link.text,
            "expires_in_s": round(link.expires_in, 3),
            "expires_at": format_time(link.expires_at),
        }
        return json_response(answer, 201)

    # ------------------------------------------------------------ every request
    async def _enter(self, peer: Peer) -> Session:
        session = Session(peer=peer, context=self._context.gateway, transport="rest")
        await session.authenticate_request()
        return session

    async def _body(self, request: Request, limit: int | None = None) -> object:
        return await json_body(request, limit or self._context.gateway.settings.limits.inbound_bytes)


def _with_key(query: StartExecution, header: str | None) -> StartExecution:
    """Return the start with the key of the request's header.

    Raises:
        BadRequestError: If the key is too long, or the body has another one.
    """
    if header is None:
        return query
    key = header.strip()
    if not 0 < len(key) <= _KEY_LENGTH:
        raise BadRequestError(f"Idempotency-Key has 1 to {_KEY_LENGTH} characters")
    if query.idempotency_key not in {None, key}:
        raise BadRequestError("idempotency_key differs from the header Idempotency-Key: send one of them")
    return query.model_copy(update={"idempotency_key": key})
