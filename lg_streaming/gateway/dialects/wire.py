"""Base of the routes for clients of other systems."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from lg_streaming.errors import BadRequestError, StreamingError
from lg_streaming.gateway.http.endpoint import json_body
from lg_streaming.gateway.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from lg_streaming.gateway.auth.peer import Peer
    from lg_streaming.gateway.http.context import HttpContext
    from lg_streaming.types import WireName

__all__ = ["Wire", "output_of", "results_of_stopped"]

_NO_RESULT: Final = "the call was stopped and has no result"


def results_of_stopped(call_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Return a result for each tool call of a stopped run that has none: models refuse a thread without them."""
    return [{"type": "tool", "tool_call_id": each, "content": _NO_RESULT, "status": "error"} for each in call_ids]


def output_of(value: Any, call_id: str) -> Any:
    """Return the output of a tool. Of a `Command` it is the content of the call's message, if there is one."""
    update = _members(_members(value).get("update"))
    messages: Any = update.get("messages") if "goto" in _members(value) else None
    for each in map(_members, cast("list[Any]", messages) if isinstance(messages, list) else ()):
        if each.get("type") == "tool" and each.get("tool_call_id") == call_id and "content" in each:
            return each["content"]
    return value


def _members(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


class Wire(ABC):
    """Routes for the clients of one other system.

    Args:
        context: Services that the routes share.
    """

    name: ClassVar[WireName]
    needs_states: ClassVar[bool] = False
    """True if the clients need the graph's state after each step."""

    def __init__(self, context: HttpContext) -> None:
        self._context = context
        settings = context.gateway.settings
        self._settings = settings.wires.below(settings.gateway.prefix)

    @property
    @abstractmethod
    def paths(self) -> tuple[str, ...]:
        """Paths under which the routes are; no other wire of the app may have them."""

    @abstractmethod
    def routes(self) -> list[BaseRoute]:
        """Return the routes."""

    async def open_session(self, peer: Peer) -> Session:
        """Admit a caller that opens a stream. The session has to be closed.

        Raises:
            StreamingError: If `Session.login` raises it.
        """
        session = Session(peer=peer, context=self._context.gateway, transport=self.name)
        try:
            await session.login()
        except BaseException as error:
            if isinstance(error, StreamingError):
                session.instrumentation.refused(error)
            session.close()
            raise
        return session

    async def enter(self, peer: Peer) -> Session:
        """Admit a caller for one request.

        Raises:
            StreamingError: If `Session.authenticate_request` raises it.
        """
        session = Session(peer=peer, context=self._context.gateway, transport=self.name)
        await session.authenticate_request()
        return session

    async def body(self, request: Request) -> object:
        """Read and parse a request's body, of up to ``wires.body_bytes``. Raises like `json_body`."""
        return await json_body(request, self._settings.body_bytes)

    def graph_name(self, named: str | None = None) -> str:
        """Return the name of the graph to start: the one named, that of the settings, or the only one.

        Raises:
            BadRequestError: If there are several, and none is named. If the settings name one that does not exist.
        """
        runner = self._context.gateway.remote_runner
        graphs = list(runner.graphs) if runner is not None else []
        name = named or self._settings.graph or (graphs[0] if len(graphs) == 1 else None)
        if name is None:
            raise BadRequestError(
                "the request names no graph: set wires.graph to one of streaming.graphs"
                if graphs
                else "no graph is registered: set streaming.graphs[name] = graph"
            )
        if not named and name not in graphs:
            raise BadRequestError(f"wires.graph is {name!r:.80}, which is not in streaming.graphs: register it")
        return name
