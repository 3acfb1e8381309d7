"""The routes of AG-UI: its endpoint, the replay of a thread, and those of CopilotKit's runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route
from typing_extensions import override

from lg_streaming.gateway.dialects.agui.copilotkit import CopilotKit
from lg_streaming.gateway.dialects.agui.runs import AgentWire

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from lg_streaming.gateway.auth.peer import Peer

__all__ = ["AgUi"]


class AgUi(AgentWire):
    """Routes of AG-UI's own client, and of CopilotKit's pages."""

    @property
    @override
    def paths(self) -> tuple[str, ...]:
        """See `Wire.paths`."""
        return (self._settings.ag_ui_path, self._settings.copilotkit_path)

    @override
    def routes(self) -> list[BaseRoute]:
        """See `Wire.routes`."""
        path = self._settings.ag_ui_path
        return [
            Route(f"{path}/connect", self.endpoint("POST", self._connect)),
            Route(path or "/", self.endpoint("POST", self._run)),
            Route(f"{path}/{{graph:path}}", self.endpoint("POST", self._run)),
            *CopilotKit(self).routes(self._settings.copilotkit_path),
        ]

    async def _run(self, request: Request, peer: Peer) -> Response:
        leaves = self._settings.ag_ui_on_disconnect == "cancel"
        return await self.run(
            peer, lambda: self.body(request), request.path_params.get("graph"), cancels_on_leave=leaves
        )

    async def _connect(self, request: Request, peer: Peer) -> Response:
        return await self.connect(peer, lambda: self.body(request))
