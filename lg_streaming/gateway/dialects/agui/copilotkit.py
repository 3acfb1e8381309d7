"""The routes of CopilotKit's runtime, which its pages call in place of a Node server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from lg_streaming.errors import BadRequestError, ForbiddenError, GraphNotFoundError
from lg_streaming.events import check_execution_id
from lg_streaming.gateway.dialects.agui.messages import Json, id_of, members
from lg_streaming.gateway.protocol.responses import json_response
from lg_streaming.gateway.session.starting import list_graphs

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.dialects.agui.runs import AgentWire, ReadBody

__all__ = ["CopilotKit"]

_VERSION: Final = "1.75.0"
"""Version of the runtime whose routes these are."""
_DEFAULT: Final = "default"
"""Agent that a page asks for which names none."""


class CopilotKit:
    """Routes of CopilotKit's runtime.

    Args:
        wire: Runs and replays.
    """

    def __init__(self, wire: AgentWire) -> None:
        self._wire = wire

    def routes(self, path: str) -> list[BaseRoute]:
        """Return the routes below a path."""
        endpoint = self._wire.endpoint
        agent = f"{path}/agent/{{agent:path}}"
        return [
            Route(path or "/", endpoint("POST", self._single)),
            Route(f"{path}/", endpoint("POST", self._single)),
            Route(f"{path}/info", endpoint("GET", self._info)),
            Route(f"{agent}/run", endpoint("POST", self._run)),
            Route(f"{agent}/connect", endpoint("POST", self._connect)),
            Route(f"{agent}/stop/{{thread:path}}", endpoint("POST", self._stop)),
        ]

    async def _info(self, request: Request, peer: Peer) -> Response:  # noqa: ARG002 (nothing in it counts)
        return await self.info(peer)

    async def _run(self, request: Request, peer: Peer) -> Response:
        return await self.run(peer, request.path_params["agent"], lambda: self._wire.body(request))

    async def _connect(self, request: Request, peer: Peer) -> Response:
        return await self._wire.connect(peer, lambda: self._wire.body(request))

    async def _stop(self, request: Request, peer: Peer) -> Response:
        return await self.stop(peer, request.path_params["thread"])

    async def _single(self, request: Request, peer: Peer) -> Response:
        """Answer a page in single-route mode, whose body names the route."""
        session = await self._wire.enter(peer)
        session.close()
        call = members(await self._wire.body(request))
        params = members(call.get("params"))

        async def body() -> object:
            return call.get("body")

        match call.get("method"):
            case "info":
                return await self.info(peer)
            case "agent/run":
                return await self.run(peer, id_of(params.get("agentId")), body)
            case "agent/connect":
                return await self._wire.connect(peer, body)
            case "agent/stop":
                return await self.stop(peer, id_of(params.get("threadId")))
            case other:
                raise BadRequestError(f"method: {other!r:.40} is unknown: info, agent/run, agent/connect or agent/stop")

    async def info(self, peer: Peer) -> Response:
        """Return the agents: the graphs that the caller may start."""
        session = await self._wire.enter(peer)
        try:
            listed = await list_graphs(session)
        finally:
            session.close()
        names: list[str] = [each["name"] for each in listed["graphs"]]
        agents = {name: _agent(name) for name in names}
        try:
            default = self._wire.graph_name()
        except BadRequestError:
            default = None
        if default in agents:
            agents.setdefault(_DEFAULT, _agent(_DEFAULT))
        return json_response(
            {"version": _VERSION, "agents": agents, "audioFileTranscriptionEnabled": False, "mode": "sse"}
        )

    async def run(self, peer: Peer, agent: str, read: ReadBody) -> Response:
        """Start a run. It goes on when the page leaves; `stop` ends it.

        Raises:
            GraphNotFoundError: If there is no such agent, or the caller may not start it.
            StreamingError: If `AgentWire.run` raises it.
        """
        graph = None if agent == _DEFAULT and not self._wire.has_graph(agent) else agent
        try:
            return await self._wire.run(peer, read, graph, cancels_on_leave=False)
        except ForbiddenError as error:
            if error.execution_id is not None:
                raise
            raise GraphNotFoundError(f"there is no agent {agent!r:.80}, or you may not start it") from None

    async def stop(self, peer: Peer, thread_id: str) -> Response:
        """Cancel the open run of a thread."""
        check_execution_id(thread_id)
        session = await self._wire.enter(peer)
        try:
            await session.check("control", thread_id)
            stopped = await session.hub.cancel(thread_id, "stopped")
        except ForbiddenError:
            stopped = False
        finally:
            session.close()
        answer: Json = {"stopped": True, "threadId": thread_id}
        return json_response(answer if stopped else {"stopped": False, "message": "no run of this thread is open"})


def _agent(name: str) -> dict[str, Any]:
    return {"name": name, "description": "", "className": "LangGraphAgent"}
