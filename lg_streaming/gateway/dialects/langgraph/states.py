"""States of threads, as clients know them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.dialects.langgraph.segments import data_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.hub import StreamHub

__all__ = ["EMPTY_STATE", "shown_state", "state_of_log"]

EMPTY_STATE: Final[Mapping[str, Any]] = {
    "values": {},
    "next": [],
    "tasks": [],
    "metadata": None,
    "created_at": None,
    "checkpoint": None,
    "parent_checkpoint": None,
    "interrupts": [],
    "checkpoint_id": None,
    "parent_checkpoint_id": None,
}
"""State of a thread without a run."""

_RUN_KEY: Final = "lg_streaming_run_id"
_OWN: Final = "lg_streaming"
_PAGE: Final = 1_000


def shown_state(state: Mapping[str, Any] | None, *, busy: bool = False) -> dict[str, Any]:
    """Return a state of a checkpointer as clients know it.

    Args:
        state: The state; None for a thread without one.
        busy: Whether a run works: then its newest state has a next node, so that a page attaches to the run.
    """
    if state is None:
        return {**EMPTY_STATE, "next": ["__start__"] if busy else []}
    metadata: dict[str, Any] | None = state["metadata"]
    if metadata is not None:
        own = {"run_id": metadata[_RUN_KEY]} if _RUN_KEY in metadata else {}
        metadata = {**{name: each for name, each in metadata.items() if not name.startswith(_OWN)}, **own}
    checkpoint, parent = state["checkpoint"], state["parent_checkpoint"]
    return {
        **state,
        "next": state["next"] or (["__start__"] if busy else []),
        "metadata": metadata,
        "checkpoint_id": None if checkpoint is None else checkpoint["checkpoint_id"],
        "parent_checkpoint_id": None if parent is None else parent["checkpoint_id"],
    }


async def state_of_log(hub: StreamHub, thread_id: str, begin: int) -> dict[str, Any] | None:
    """Return the newest state after an update's number, for a graph without a checkpointer; None without one."""
    found, after = None, begin
    while True:
        read = await hub.log.read(thread_id, after, _PAGE)
        if read is None or not read.records:
            break
        for record in read.records:
            if record.type == "state" and not record.scope.namespace and "values" in (data := data_of(record)):
                found = data
        after = read.records[-1].seq
    if found is None:
        return None
    return {**EMPTY_STATE, "values": found["values"], "next": found.get("next") or []}
