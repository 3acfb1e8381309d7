"""States that are too large for an update, read from the checkpointer before the updates are encoded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.gateway.dialects.langgraph.event_shapes import as_text, data_of, members

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.gateway.dialects.langgraph.tape import Tape
    from lg_streaming.hub import Page
    from lg_streaming.log.base import LogState, StoredUpdate
    from lg_streaming.runs.threads import RemoteThreads

__all__ = ["StateLoader", "graph_of"]

logger: logging.Logger = logging.getLogger(__name__)

_HAS_VALUES: Final = b'"data":{"values":'
_MOST_BYTES: Final = 4_194_304
"""Bytes of the states of one page. Older states of the page are left out: each of its states has all of the thread."""


def graph_of(state: LogState | None) -> str:
    """Return the name of the graph of an execution's last run; an empty text if it is not known."""
    record = state.start_record if state is not None else None
    return "" if record is None else as_text(members(data_of(record)).get("name"))


class StateLoader:
    """Reader of the states of one thread.

    Args:
        threads: Threads of the registered graphs; None without any.
        thread_id: The thread.
    """

    def __init__(self, threads: RemoteThreads | None, thread_id: str) -> None:
        self._threads = threads
        self._thread_id = thread_id

    async def prepare(self, page: Page, tape: Tape, graph: str) -> bytes:
        """Load the states of a page that its updates do not have; return the newest state as events after a gap."""
        words = b""
        if page.gap is not None:
            tape.note_gap()
            newest = await self._read(graph, None, "") if page.records else None
            words = tape.snapshot(page.records[0], newest) if newest is not None else b""
        await self._load(page.records, tape, graph)
        return words

    async def _load(self, records: Sequence[StoredUpdate], tape: Tape, graph: str) -> None:
        room = _MOST_BYTES
        for record in reversed(records):
            if record.type != "state" or _HAS_VALUES in record.json[:64]:
                continue
            checkpoint_id = members(data_of(record)).get("checkpoint_id")
            if not isinstance(checkpoint_id, str) or room <= 0:
                continue
            state = await self._read(graph, checkpoint_id, record.scope.namespace or "")
            if state is not None:
                values = orjson.dumps(state["values"])
                room -= len(values)
                tape.states[checkpoint_id] = values

    async def _read(self, graph: str, checkpoint_id: str | None, namespace: str) -> dict[str, Any] | None:
        if self._threads is None or not as_text(graph):
            return None
        try:
            return await self._threads.state(graph, self._thread_id, checkpoint_id, namespace=namespace)
        except Exception:
            logger.warning("a state of thread %r could not be read", self._thread_id, exc_info=True)
            return None
