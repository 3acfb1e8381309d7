"""Assistants: one for each graph that the caller may start."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.dialects.langgraph.refusals import RefusedError
from lg_streaming.gateway.session.session import format_time
from lg_streaming.gateway.session.starting import log_refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.gateway.dialects.langgraph.bodies import SearchAssistants
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.gateway.session.session import Session

__all__ = ["Assistants", "assistant_id"]

_NAMES: Final = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


def assistant_id(graph: str) -> str:
    """Return the id of a graph's assistant: the same in each process."""
    return str(uuid.uuid5(_NAMES, graph))


class Assistants:
    """The graphs, as assistants.

    Args:
        context: The graphs, and the rules of access.
    """

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        self._created_at = format_time(context.clock.wall())

    async def allowed(self, session: Session) -> list[str]:
        """Return the names of the graphs that the caller may start."""
        runner = self._context.remote_runner
        allows = session.policy.allows_start
        names = list(runner.graphs) if runner is not None else []
        return [name for name in names if await allows(session.principal, name, session.peer)]

    async def graph(self, session: Session, named: str, *, status: int = 422) -> str:
        """Return the graph of an assistant's id, or of a graph's name.

        Raises:
            RefusedError: If it does not exist, or the caller may not start it, with ``status``.
        """
        for name in await self.allowed(session):
            if named in {name, assistant_id(name)}:
                return name
        log_refusal(session, f"the assistant {named!r:.80} is no graph of streaming.graphs that the caller may start")
        detail = (
            f"Assistant '{named:.200}' not found"
            if status == 404  # noqa: PLR2004 (the status itself)
            else f"Invalid assistant: '{named:.200}'. Must be the id of an assistant or the name of a graph."
        )
        raise RefusedError(status, detail)

    async def search(self, session: Session, query: SearchAssistants) -> list[dict[str, Any]]:
        """Return all assistants that match."""
        found = [self.describe(name) for name in await self.allowed(session)]
        return [each for each in found if _matches(each, query)]

    def describe(self, graph: str) -> dict[str, Any]:
        """Return a graph as an assistant."""
        return {
            "assistant_id": assistant_id(graph),
            "graph_id": graph,
            "name": graph,
            "description": None,
            "config": {},
            "context": {},
            "metadata": {"created_by": "system"},
            "version": 1,
            "created_at": self._created_at,
            "updated_at": self._created_at,
        }


def _matches(assistant: Mapping[str, Any], query: SearchAssistants) -> bool:
    return (
        query.graph_id in {None, assistant["graph_id"]}
        and (query.name is None or query.name.casefold() in assistant["name"].casefold())
        and (query.metadata or {}).items() <= assistant["metadata"].items()
    )
