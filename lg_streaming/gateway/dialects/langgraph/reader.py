"""The updates of one segment of a run: its begin, its end, its newest state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from lg_streaming.codec import decode_data
from lg_streaming.events import FINAL_TYPES
from lg_streaming.gateway.dialects.langgraph.segments import resumes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.gateway.dialects.langgraph.view import RunView
    from lg_streaming.hub import Page
    from lg_streaming.log.base import StoredUpdate

__all__ = ["LoadValues", "RunReader", "data_of", "with_interrupts"]

LoadValues = Callable[[str, str | None], Awaitable[Any]]
"""``await load(namespace, checkpoint_id)`` returns the values of a state, by default the newest; None without one."""


class RunReader:
    """Reader of one segment's updates: it finds the begin and the end, and keeps the newest state.

    Args:
        view: The segment.
        load: Loads states that are too large for the log; None if they are not needed.
    """

    def __init__(self, view: RunView, load: LoadValues | None) -> None:
        self.view = view
        self.begun: bool = False
        self.is_complete: bool = False
        """True when the segment has ended."""
        self.values: bytes | None = None
        """Newest state of the root graph, as JSON."""
        self._load = load
        self._loaded: dict[int, Any] = {}
        self._at_gap: Any = None

    async def prepare(self, page: Page) -> None:
        """Load the states that the updates of a page name, and the newest one if updates are missing."""
        load = self._load
        if load is None:
            return
        if page.gap is not None:
            self._at_gap = await load("", None)
        for record in page.records:
            if record.type == "state" and b'"data":{"values":' not in record.json[:64]:
                data = data_of(record)
                if "values" not in data:
                    self._loaded[record.seq] = await load(record.scope.namespace or "", data.get("checkpoint_id"))

    def take_gap(self) -> Any:
        """Return the newest state, at a gap; None without one."""
        values, self._at_gap = self._at_gap, None
        return values

    def accepts(self, record: StoredUpdate) -> bool:
        """Return whether an update is of the segment; note its begin and its end."""
        view = self.view
        if self.is_complete or (record.seq <= view.begin and view.epoch in {"", record.epoch}):
            return False
        if record.scope.run_id != view.own_run:
            self.is_complete = self.begun and record.type == "workflow_start"
            return False
        if not self.begun:
            self.begun = resumes(record) if view.resumed else record.type == "workflow_start"
        return self.begun

    def ends(self, record: StoredUpdate, data: Any) -> bool:
        """Return whether an update ends the segment."""
        ended, paused = record.type in FINAL_TYPES, record.type == "workflow_interrupted"
        self.is_complete = ended or (paused and not data.get("paused"))
        return self.is_complete

    def values_of(self, record: StoredUpdate, data: Mapping[str, Any]) -> Any:
        """Return the values of a ``state`` update; None if they are not known."""
        return data["values"] if "values" in data else self._loaded.pop(record.seq, None)


def data_of(record: StoredUpdate) -> Any:
    """Return the data of an update."""
    return decode_data(record.json) if record.scope.extra is None else record.update.data


def with_interrupts(values: bytes | None, interrupts: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a state, as JSON, with the interrupts that it waits for."""
    added = orjson.dumps({"__interrupt__": interrupts})
    if values is None or not values.startswith(b"{") or values == b"{}":
        return added
    return b"%b,%b" % (values[:-1], added[1:])
