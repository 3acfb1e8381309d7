"""States that are too large for an update, read from the checkpointer before the updates are encoded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.errors import StreamingError
from lg_streaming.gateway.dialects.langgraph.event_shapes import as_text, data_of, members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.gateway.dialects.langgraph.services import Services
    from lg_streaming.gateway.dialects.langgraph.tape import Tape
    from lg_streaming.hub import Page
    from lg_streaming.log.base import LogState, StoredUpdate

__all__ = ["StateLoader", "graph_of"]

logger: logging.Logger = logging.getLogger(__name__)

_HAS_VALUES: Final = b'"data":{"values":'
_MOST_BYTES: Final = 4_194_304
"""Bytes of the states of one page. Older states of the page are left out: each later one has all of the thread."""


def graph_of(state: LogState | None) -> str:
    """Return the name of the graph of an execution's last run; an empty text if it is not known."""
    record = state.start_record if state is not None else None
    return "" if record is None else as_text(members(data_of(record)).get("name"))


class StateLoader:
    """Reader of the states of one thread.

    Args:
        services: What the routes of the wire share.
        thread_id: The thread.
        graph: Name of the thread's graph, for updates after a gap; empty if it is not known.
    """

    def __init__(self, services: Services, thread_id: str, graph: str) -> None:
        self._services = services
        self._thread_id = thread_id
        self._graph = graph

    async def prepare(self, page: Page, tape: Tape) -> bytes:
        """Load the states that the updates of a page do not have; return the newest state as events after a gap."""
        words, graph = b"", tape.graph_name or self._graph
        if page.gap is not None:
            tape.note_gap()
            newest = await self._newest(graph) if page.records else None
            words = tape.snapshot(page.records[0], newest) if newest is not None else b""
        await self._load(page.records, tape, graph)
        return words

    async def _load(self, records: Sequence[StoredUpdate], tape: Tape, graph: str) -> None:
        room, load = _MOST_BYTES, None
        for record in reversed(records):
            if record.type != "state" or _HAS_VALUES in record.json[:64]:
                continue
            load = load or self._services.loader(self._thread_id, graph)
            checkpoint_id = members(data_of(record)).get("checkpoint_id")
            if load is None or room <= 0 or not isinstance(checkpoint_id, str):
                return
            values = await load(record.scope.namespace or "", checkpoint_id)
            if values is not None:
                tape.states[checkpoint_id] = json = orjson.dumps(values)
                room -= len(json)

    async def _newest(self, graph: str) -> dict[str, Any] | None:
        context = self._services.context
        runner = context.remote_runner
        if runner is None or graph not in runner.graphs:
            return None
        try:
            found = await runner.threads.state(graph, self._thread_id)
        except StreamingError as error:
            logger.debug("the state of thread %r cannot be loaded now: %s", self._thread_id, error)
            return None
        return found
