"""`GET /metrics`: the counts of the hub and the gateway, for Prometheus."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

from lg_streaming.errors import ForbiddenError, MissingExtraError
from lg_streaming.gateway.http.endpoint import Endpoint
from lg_streaming.gateway.session.session import Session

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Router

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.hub import StreamHub
    from lg_streaming.observability.gateway_metrics import GatewayMetrics

MetricsText = Callable[["StreamHub", "GatewayMetrics", str], Awaitable[tuple[str, bytes]]]

__all__ = ["METRICS_ID", "Metrics"]

METRICS_ID: Final = "lg_streaming/metrics"
"""The id that a caller must be allowed to read, like an execution: a grant on `**` covers it, one on `*` does not."""


class Metrics:
    """The route.

    Args:
        context: Services that the routes share.

    Raises:
        MissingExtraError: If `gateway.metrics` is true, and the extra `metrics` is not installed.
    """

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        self._text = _writer(context.gateway.settings.gateway.metrics)

    def add_routes(self, router: Router) -> None:
        """Add the route to `router`, where metrics are served."""
        if self._text is not None:
            prefix = self._context.gateway.settings.gateway.prefix
            router.routes.append(Route(f"{prefix}/metrics", Endpoint(self._context, GET=self._metrics)))

    async def _metrics(self, request: Request, peer: Peer) -> Response:
        gateway = self._context.gateway
        session = Session(peer=peer, context=gateway, transport="rest")
        await session.authenticate_request()
        if self._text is None or not await gateway.policy.allows(session.principal, "read", METRICS_ID, None):
            raise ForbiddenError(f"metrics are for those who may read {METRICS_ID!r}")
        content_type, body = await self._text(gateway.hub, gateway.metrics, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def _writer(setting: bool | None) -> MetricsText | None:  # noqa: FBT001 (the setting)
    """Return the writer of metrics; None if metrics are not served."""
    if setting is False:
        return None
    try:
        return importlib.import_module("lg_streaming.observability.metrics").metrics_text
    except MissingExtraError:
        if setting:
            raise
        return None
